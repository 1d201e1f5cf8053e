//! Bodies of pages. The first byte of the input chooses what the rest is.
//!
//! | first byte mod 9 | the rest |
//! |---|---|
//! | 0–4 | a leaf, a delta block, an inner page, an overflow reference, a child's entry |
//! | 5 | a stored page: envelope and perhaps compressed body |
//! | 6–8 | a script of which records, changes or children are built, and must come back |
//!
//! Held for bytes that nobody wrote: a body that passes its check is read alike by walking and by looking up, its
//! keys ascend, and what it holds can be built again and is then the same. A body that does not pass gives errors.
//! Looking at either never makes more room than the input deserves.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Arbitrary, Unstructured};
use logwood_base::codec::Reader;
use logwood_base::limits::{KEY_BYTES_MAX, PAGE_BYTES_MAX};
use logwood_base::{Lsn, PageAddr, SegmentNo};
use logwood_btree::format::child::ChildEntry;
use logwood_btree::format::delta::{DeltaBuilder, DeltaReader};
use logwood_btree::format::inner::{InnerBuilder, InnerReader};
use logwood_btree::format::leaf::{LeafBuilder, LeafReader, LeafValue};
use logwood_btree::format::overflow::OverflowRef;
use logwood_btree::format::page::{self, Compression, PageKind, PageRef, checksum_at};

use crate::{allocation, samples};

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    match choice % 9 {
        0 => leaf(rest),
        1 => delta(rest),
        2 => inner(rest),
        3 => overflow(rest),
        4 => child(rest),
        5 => envelope(rest),
        6 => leaf_comes_back(rest),
        7 => delta_comes_back(rest),
        _ => inner_comes_back(rest),
    }
}

/// Most bytes of keys and values that are built again: prefixes make a small page stand for a great many bytes.
const REBUILT_BYTES_MAX: usize = PAGE_BYTES_MAX;

fn leaf(bytes: &[u8]) {
    let checked = allocation::bounded("checking a leaf", bytes.len(), || {
        let reader = LeafReader::new(bytes)?;
        reader.check()?;
        Ok::<_, logwood_base::codec::CodecError>(reader)
    });
    let Ok(reader) = checked else {
        if let Ok(reader) = LeafReader::new(bytes) {
            for key in [&b""[..], reader.prefix(), b"account\0\x07", b"city/0001/street-", bytes] {
                let _ = reader.get(key);
            }
        }
        return;
    };
    let mut records: Vec<(Vec<u8>, LeafValue<'_>)> = Vec::new();
    let (mut count, mut total) = (0, 0);
    let mut last: Option<Vec<u8>> = None;
    let mut iter = reader.iter();
    while let Some((key, value)) = iter.next().expect("it was checked") {
        assert!(last.as_deref().is_none_or(|last| last < key), "keys ascend");
        assert!(key.len() <= KEY_BYTES_MAX && key.starts_with(reader.prefix()));
        last = Some(key.to_vec());
        count += 1;
        total += key.len() + bytes.len().min(64);
        if total <= REBUILT_BYTES_MAX {
            assert_eq!(reader.get(key).expect("it was checked"), Some(value.clone()), "walked but not found");
            records.push((key.to_vec(), value));
        }
    }
    assert_eq!(count, reader.len());
    if records.len() == count {
        let mut builder = LeafBuilder::default();
        records.iter().for_each(|(key, value)| builder.push(key, value));
        let rebuilt = builder.finish();
        let reader = LeafReader::new(&rebuilt).expect("it was just built");
        reader.check().expect("it was just built");
        let mut iter = reader.iter();
        for (key, value) in &records {
            assert_eq!(iter.next(), Ok(Some((&key[..], value.clone()))));
        }
        assert_eq!(iter.next(), Ok(None));
    }
}

fn delta(bytes: &[u8]) {
    let checked = allocation::bounded("checking a delta block", bytes.len(), || {
        let reader = DeltaReader::new(bytes)?;
        reader.check()?;
        Ok::<_, logwood_base::codec::CodecError>(reader)
    });
    let Ok(reader) = checked else {
        if let Ok(reader) = DeltaReader::new(bytes) {
            let _ = (reader.get(b""), reader.get(b"city/0001"), reader.get(bytes));
        }
        return;
    };
    assert!(reader.first_lsn() <= reader.last_lsn() && !reader.is_empty());
    let (mut builder, mut total) = (DeltaBuilder::default(), 0);
    let mut iter = reader.iter();
    while let Some((key, value)) = iter.next().expect("it was checked") {
        assert_eq!(reader.get(key).expect("it was checked"), Some(value.clone()));
        total += key.len() + 64;
        if total <= REBUILT_BYTES_MAX {
            builder.push(key, value.as_ref());
        }
    }
    if builder.len() == reader.len() {
        let rebuilt = builder.finish(reader.first_lsn(), reader.last_lsn());
        let again = DeltaReader::new(&rebuilt).expect("it was just built");
        again.check().expect("it was just built");
        let (mut left, mut right) = (reader.iter(), again.iter());
        while let Some(change) = left.next().expect("it was checked") {
            assert_eq!(right.next(), Ok(Some(change)));
        }
        assert_eq!(right.next(), Ok(None));
    }
}

fn inner(bytes: &[u8]) {
    let checked = allocation::bounded("checking an inner page", bytes.len(), || {
        let reader = InnerReader::new(bytes)?;
        reader.check()?;
        Ok::<_, logwood_base::codec::CodecError>(reader)
    });
    let Ok(reader) = checked else { return };
    let mut children: Vec<(Vec<u8>, ChildEntry)> = Vec::new();
    let (mut count, mut total) = (0, 0);
    let mut iter = reader.iter();
    while let Some((separator, entry)) = iter.next().expect("it was checked") {
        assert!(separator.len() <= KEY_BYTES_MAX);
        if let Some((last, _)) = children.last() {
            assert!(count > children.len() || last[..] < *separator, "separators ascend");
        }
        count += 1;
        total += separator.len();
        if total <= REBUILT_BYTES_MAX {
            children.push((separator.to_vec(), entry));
        }
    }
    assert_eq!(count, reader.len());
    if children.len() == count {
        let mut builder = InnerBuilder::new(reader.level());
        children.iter().for_each(|(separator, entry)| builder.push(separator, entry.clone()));
        let rebuilt = builder.finish();
        let reader = InnerReader::new(&rebuilt).expect("it was just built");
        let mut iter = reader.iter();
        for (separator, entry) in &children {
            assert_eq!(iter.next(), Ok(Some((&separator[..], entry.clone()))));
        }
        assert_eq!(iter.next(), Ok(None));
    }
}

fn overflow(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let taken = allocation::bounded("reading a reference", bytes.len(), || OverflowRef::take(&mut reader));
    if let Ok(reference) = taken {
        let mut out = Vec::new();
        reference.put(&mut out);
        assert_eq!(out, bytes[..reader.offset()], "a reference with a second encoding");
    }
}

fn child(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    if let Ok(entry) = ChildEntry::take(&mut reader) {
        let mut out = Vec::new();
        entry.put(&mut out);
        assert_eq!(out, bytes[..reader.offset()], "a child's entry with a second encoding");
    }
}

fn envelope(bytes: &[u8]) {
    let addr = PageAddr { segment: SegmentNo(3), offset: 64 };
    let right = PageRef { addr, bytes: bytes.len() as u32, crc: checksum_at(addr, bytes) };
    let unproven = page::open_unproven(bytes.to_vec());
    // A compressed body may be as long as a page; beyond that nothing may be made room for.
    let opened = allocation::bounded("opening a page", bytes.len() + PAGE_BYTES_MAX / 2, || {
        page::open(&right, bytes.to_vec())
    });
    assert_eq!(opened.is_ok(), unproven.is_ok());
    for wrong in
        [PageRef { crc: right.crc ^ 1, ..right }, PageRef { addr: PageAddr { offset: 65, ..addr }, ..right }]
    {
        assert!(page::open(&wrong, bytes.to_vec()).is_err(), "bytes that do not sum up were opened");
    }
    if let Ok(opened) = opened {
        assert!(opened.body().len() <= PAGE_BYTES_MAX.max(bytes.len()));
        comes_back(opened.kind(), opened.body());
    }
    comes_back(PageKind::Overflow, bytes);
}

/// A body comes back from its envelope, compressed or not.
fn comes_back(kind: PageKind, body: &[u8]) {
    if body.len() + page::ENVELOPE_BYTES > PAGE_BYTES_MAX {
        return;
    }
    let addr = PageAddr { segment: SegmentNo(5), offset: 4096 };
    for compression in [Compression::Auto, Compression::Off] {
        let mut stored = Vec::new();
        let bytes = page::seal(kind, body, compression, &mut stored);
        assert_eq!(bytes as usize, stored.len());
        assert!(stored.len() <= body.len() + page::ENVELOPE_BYTES, "compression that does not pay was kept");
        let reference = PageRef { addr, bytes, crc: checksum_at(addr, &stored) };
        let opened = page::open(&reference, stored).expect("it was just sealed");
        assert_eq!((opened.kind(), opened.body()), (kind, body));
    }
}

/// A key that shares much with the others, or nothing.
#[derive(Arbitrary, Debug)]
enum Key<'a> {
    Near(u8, u8),
    Repeated(u8, u16),
    Any(&'a [u8]),
}

impl Key<'_> {
    fn bytes(&self) -> Vec<u8> {
        match *self {
            Self::Near(high, low) => format!("city/{:03}/{}", high % 8, low % 64).into_bytes(),
            Self::Repeated(byte, length) => vec![byte; usize::from(length % 600)],
            Self::Any(bytes) => bytes[..bytes.len().min(KEY_BYTES_MAX)].to_vec(),
        }
    }
}

/// A value, here or elsewhere; `None` deletes where that can be.
#[derive(Arbitrary, Debug)]
enum Payload<'a> {
    Bytes(&'a [u8]),
    Fill(u8, u16),
    Long(u8),
    None,
}

enum Owned {
    Bytes(Vec<u8>),
    Long(OverflowRef),
    None,
}

impl Owned {
    fn value(&self) -> Option<LeafValue<'_>> {
        match self {
            Self::Bytes(bytes) => Some(LeafValue::Inline(bytes)),
            Self::Long(reference) => Some(LeafValue::Overflow(reference.clone())),
            Self::None => None,
        }
    }
}

/// The records of a script, at most half a page of them.
fn records(bytes: &[u8]) -> BTreeMap<Vec<u8>, Owned> {
    let mut input = Unstructured::new(bytes);
    let (mut records, mut total) = (BTreeMap::new(), 0);
    while !input.is_empty() && total < PAGE_BYTES_MAX / 4 {
        let Ok((key, value)) = input.arbitrary::<(Key<'_>, Payload<'_>)>() else { break };
        let value = match value {
            Payload::Bytes(bytes) => Owned::Bytes(bytes.to_vec()),
            Payload::Fill(byte, length) => Owned::Bytes(vec![byte; usize::from(length % 300)]),
            Payload::Long(pieces) => Owned::Long(samples::overflow(u32::from(pieces % 5))),
            Payload::None => Owned::None,
        };
        let key = key.bytes();
        total += key.len() + 64;
        if let Owned::Bytes(bytes) = &value {
            total += bytes.len();
        }
        records.insert(key, value);
    }
    records
}

fn leaf_comes_back(script: &[u8]) {
    let mut records = records(script);
    records.retain(|_, value| !matches!(value, Owned::None));
    let mut builder = LeafBuilder::default();
    records.iter().for_each(|(key, value)| builder.push(key, &value.value().expect("no deletions are left")));
    let body = builder.finish();
    let reader = LeafReader::new(&body).expect("it was just built");
    reader.check().expect("it was just built");
    assert_eq!(reader.len(), records.len());
    let mut iter = reader.iter();
    for (key, value) in &records {
        assert_eq!(iter.next(), Ok(Some((&key[..], value.value().expect("as above")))));
        assert_eq!(reader.get(key), Ok(value.value()));
        let beside = [&key[..], b"\0"].concat();
        assert_eq!(reader.get(&beside), Ok(records.get(&beside).and_then(Owned::value)));
    }
    assert_eq!(iter.next(), Ok(None));
    comes_back(PageKind::Leaf, &body);
}

fn delta_comes_back(script: &[u8]) {
    let records = records(script);
    if records.is_empty() {
        return;
    }
    let mut builder = DeltaBuilder::default();
    records.iter().for_each(|(key, value)| builder.push(key, value.value().as_ref()));
    let body = builder.finish(Lsn(7), Lsn(7 + script.len() as u64));
    let reader = DeltaReader::new(&body).expect("it was just built");
    reader.check().expect("it was just built");
    assert_eq!((reader.first_lsn(), reader.last_lsn()), (Lsn(7), Lsn(7 + script.len() as u64)));
    for (key, value) in &records {
        assert_eq!(reader.get(key), Ok(Some(value.value())));
        let beside = [&key[..], b"\0"].concat();
        assert_eq!(reader.get(&beside), Ok(records.get(&beside).map(Owned::value)));
    }
}

fn inner_comes_back(script: &[u8]) {
    let Some((&level, script)) = script.split_first() else { return };
    let separators: BTreeSet<Vec<u8>> = records(script).into_keys().collect();
    if separators.is_empty() {
        return;
    }
    let mut builder = InnerBuilder::new(level % 64 + 1);
    for (n, separator) in separators.iter().enumerate() {
        builder.push(separator, samples::child(n as u64 % 4));
    }
    let body = builder.finish();
    let reader = InnerReader::new(&body).expect("it was just built");
    reader.check().expect("it was just built");
    assert_eq!((reader.level(), reader.len()), (level % 64 + 1, separators.len()));
    let mut iter = reader.iter();
    for (n, separator) in separators.iter().enumerate() {
        assert_eq!(iter.next(), Ok(Some((&separator[..], samples::child(n as u64 % 4)))));
    }
    assert_eq!(iter.next(), Ok(None));
}
