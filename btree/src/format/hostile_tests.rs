//! Round trips of whatever records there may be, and bytes that nobody wrote.

use std::collections::BTreeMap;

use logwood_base::codec::CodecError;
use logwood_base::limits::BLOCK_BYTES;
use logwood_base::{FormatVersion, Generation, KeyspaceId, Lsn, PageAddr, SegmentNo};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::child::ChildEntry;
use super::delta::{DeltaBuilder, DeltaReader};
use super::inner::{InnerBuilder, InnerReader};
use super::leaf::{LeafBuilder, LeafReader, LeafValue};
use super::manifest::Manifest;
use super::page::{self, Compression, PageKind, PageRef, checksum_at};
use super::samples;
use super::segment::{HEADER_BYTES, HeaderFault, SegmentHeader, TRAILER_BYTES, Trailer, read_index};

type Owned = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Keys that share much and keys that share nothing.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(0u8..3, 0..12), vec(any::<u8>(), 0..40), vec(any::<u8>(), 24..=24)]
}

/// Records of one length or of many; `None` is a long value in a leaf and a deletion in a delta block.
fn records(count: usize) -> impl Strategy<Value = Owned> {
    prop_oneof![
        btree_map(keys(), proptest::option::weighted(0.9, vec(any::<u8>(), 0..60)), 0..count),
        btree_map(vec(any::<u8>(), 8..=8), vec(any::<u8>(), 5..=5).prop_map(Some), 1..count),
    ]
}

fn leaf_of(records: &Owned) -> Vec<u8> {
    let mut builder = LeafBuilder::default();
    for (key, value) in records {
        match value {
            Some(value) => builder.push(key, &LeafValue::Inline(value)),
            None => builder.push(key, &LeafValue::Overflow(samples::overflow())),
        }
    }
    builder.finish()
}

fn value_of<'a>(value: &'a Option<Vec<u8>>) -> LeafValue<'a> {
    value.as_ref().map_or_else(|| LeafValue::Overflow(samples::overflow()), |value| LeafValue::Inline(value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_leaf_gives_back_every_record_and_finds_each_key(records in records(80), others in vec(keys(), 0..20)) {
        let body = leaf_of(&records);
        let reader = LeafReader::new(&body).unwrap();
        prop_assert_eq!(reader.len(), records.len());
        reader.check().unwrap();
        let mut iter = reader.iter();
        for (key, value) in &records {
            prop_assert_eq!(iter.next().unwrap(), Some((&key[..], value_of(value))));
            prop_assert_eq!(reader.get(key).unwrap(), Some(value_of(value)));
        }
        prop_assert_eq!(iter.next().unwrap(), None);
        for key in others {
            prop_assert_eq!(reader.get(&key).unwrap(), records.get(&key).map(value_of));
        }
    }

    #[test]
    fn a_delta_block_gives_back_every_change(records in records(40), others in vec(keys(), 0..20)) {
        prop_assume!(!records.is_empty());
        let mut builder = DeltaBuilder::default();
        for (key, value) in &records {
            builder.push(key, value.as_ref().map(|value| LeafValue::Inline(value)).as_ref());
        }
        let body = builder.finish(Lsn(5), Lsn(9));
        let reader = DeltaReader::new(&body).unwrap();
        prop_assert_eq!((reader.first_lsn(), reader.last_lsn(), reader.len()), (Lsn(5), Lsn(9), records.len()));
        reader.check().unwrap();
        let mut iter = reader.iter();
        for (key, value) in &records {
            let value = value.as_ref().map(|value| LeafValue::Inline(value));
            prop_assert_eq!(iter.next().unwrap(), Some((&key[..], value.clone())));
            prop_assert_eq!(reader.get(key).unwrap(), Some(value));
        }
        for key in others.iter().filter(|key| !records.contains_key(*key)) {
            prop_assert_eq!(reader.get(key).unwrap(), None);
        }
    }

    #[test]
    fn an_inner_page_gives_back_every_child(
        separators in proptest::collection::btree_set(keys(), 1..60),
        level in 1u8..9,
    ) {
        let mut builder = InnerBuilder::new(level);
        for (n, separator) in separators.iter().enumerate() {
            builder.push(separator, samples::child(n as u64 % 4));
        }
        let body = builder.finish();
        let reader = InnerReader::new(&body).unwrap();
        prop_assert_eq!((reader.level(), reader.len()), (level, separators.len()));
        let mut iter = reader.iter();
        for (n, separator) in separators.iter().enumerate() {
            prop_assert_eq!(iter.next().unwrap(), Some((&separator[..], samples::child(n as u64 % 4))));
        }
        prop_assert_eq!(iter.next().unwrap(), None);
    }

    #[test]
    fn a_page_comes_back_from_its_envelope(body in vec(0u8..4, 0..9000), is_noise: bool) {
        let body: Vec<u8> = if is_noise {
            let mut random = fastrand::Rng::with_seed(body.len() as u64);
            body.iter().map(|_| random.u8(..)).collect()
        } else {
            body
        };
        let mut stored = Vec::new();
        let bytes = page::seal(PageKind::Leaf, &body, Compression::Auto, &mut stored);
        let addr = PageAddr { segment: SegmentNo(2), offset: 77 };
        let reference = PageRef { addr, bytes, crc: checksum_at(addr, &stored) };
        prop_assert_eq!(bytes as usize, stored.len());
        let opened = page::open(&reference, stored).unwrap();
        prop_assert_eq!(opened.body(), body);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..400)) {
        decode_everything(&bytes);
    }
}

/// Hands bytes to every decoder and walks whatever it accepts.
fn decode_everything(bytes: &[u8]) {
    for_each_leaf(bytes);
    if let Ok(reader) = DeltaReader::new(bytes) {
        let _ = reader.check();
        let _ = reader.get(b"antelope");
    }
    if let Ok(reader) = InnerReader::new(bytes) {
        let _ = reader.check();
    }
    let _ = page::open_unproven(bytes.to_vec());
    let _ = ChildEntry::take(&mut logwood_base::codec::Reader::new(bytes));
    let _ = Manifest::decode(bytes, Generation(77));
    let _ = SegmentHeader::decode(bytes);
    let _ = Trailer::decode(bytes, SegmentNo(12), BLOCK_BYTES as u64);
    let _ = read_index(SegmentNo(12), bytes, 4000, |_, _| ());
}

fn for_each_leaf(bytes: &[u8]) {
    if let Ok(reader) = LeafReader::new(bytes) {
        let _ = reader.check();
        for key in [&b""[..], b"key\x03\xfe", b"user/002/namex", b"user/999"] {
            let _ = reader.get(key);
        }
    }
}

/// Every byte of `sample` set to 0x00, 0xFF and ^1, each handed to `judge` when it is a change.
fn for_every_damage(sample: &[u8], mut judge: impl FnMut(&[u8], usize)) {
    for at in 0..sample.len() {
        for value in [0x00, 0xff, sample[at] ^ 1] {
            if value != sample[at] {
                let mut damaged = sample.to_vec();
                damaged[at] = value;
                judge(&damaged, at);
            }
        }
    }
    for length in 0..sample.len() {
        judge(&sample[..length], length);
    }
}

#[test]
fn damaged_bodies_never_make_a_decoder_panic() {
    for sample in [samples::dense_leaf(), samples::variable_leaf(), samples::delta(), samples::inner()] {
        for_every_damage(&sample, |damaged, _| decode_everything(damaged));
    }
}

#[test]
fn every_damage_to_a_page_is_found_by_its_referrer() {
    let addr = PageAddr { segment: SegmentNo(2), offset: 640 };
    for body in [samples::variable_leaf(), b"much the same, ".repeat(30)] {
        let mut stored = Vec::new();
        let bytes = page::seal(PageKind::Leaf, &body, Compression::Auto, &mut stored);
        let reference = PageRef { addr, bytes, crc: checksum_at(addr, &stored) };
        for_every_damage(&stored, |damaged, at| {
            assert!(page::open(&reference, damaged.to_vec()).is_err(), "byte {at}");
        });
    }
}

#[test]
fn every_damage_to_a_manifest_is_damage_and_not_a_newer_format() {
    let bytes = samples::manifest().encode();
    for_every_damage(&bytes, |damaged, at| {
        let result = Manifest::decode(damaged, Generation(77));
        assert!(matches!(result, Err(HeaderFault::Damaged(_))), "byte {at}: {result:?}");
    });
    assert!(Manifest::decode(&bytes, Generation(78)).is_err(), "a copy under another generation's name");
}

#[test]
fn every_damage_to_a_segment_head_or_index_is_found() {
    let segment = samples::segment();
    let (number, size) = (SegmentNo(12), segment.len() as u64);
    for_every_damage(&segment[..HEADER_BYTES], |damaged, at| {
        let result = SegmentHeader::decode(damaged);
        assert!(matches!(result, Err(HeaderFault::Damaged(_))), "byte {at}: {result:?}");
    });
    let at = segment.len() - TRAILER_BYTES;
    let trailer = Trailer::decode(&segment[at..], number, size).unwrap();
    for_every_damage(&segment[at..], |damaged, at| {
        assert!(Trailer::decode(damaged, number, size).is_err(), "byte {at}");
    });
    let index = &segment[trailer.index_offset as usize..][..trailer.index_bytes as usize];
    trailer.check_index(number, index).unwrap();
    for_every_damage(index, |damaged, at| {
        assert!(trailer.check_index(number, damaged).is_err(), "byte {at}");
        let _ = read_index(number, damaged, trailer.index_offset, |_, _| ());
    });
}

#[test]
fn an_index_names_every_page_and_leaves_no_gap() {
    let segment = samples::segment();
    let number = SegmentNo(12);
    let trailer =
        Trailer::decode(&segment[segment.len() - TRAILER_BYTES..], number, segment.len() as u64).unwrap();
    let index = &segment[trailer.index_offset as usize..][..trailer.index_bytes as usize];
    let mut names = Vec::new();
    read_index(number, index, trailer.index_offset, |page, label| {
        let stored = &segment[page.addr.offset as usize..][..page.bytes as usize];
        page::open(page, stored.to_vec()).unwrap();
        names.push((label.kind, label.level, label.keyspace, label.low_key.to_vec()));
    })
    .unwrap();
    assert_eq!(names.len(), trailer.count as usize);
    assert_eq!(names[3], (PageKind::Overflow, 0, KeyspaceId(4), b"user/002/namex".to_vec()));
    let short = read_index(number, index, trailer.index_offset + 1, |_, _| ());
    assert!(short.is_err(), "a gap between the last page and the index");
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let mut header = samples::segment()[..HEADER_BYTES].to_vec();
    header[8] = 2;
    assert!(matches!(SegmentHeader::decode(&header), Err(HeaderFault::Damaged(_))));
    let crc = logwood_base::checksum::checksum(logwood_base::checksum::Seed::new(), &header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&header), Err(HeaderFault::Newer(FormatVersion(2))));

    let mut manifest = samples::manifest().encode();
    manifest[8] = 3;
    let crc = logwood_base::checksum::checksum(logwood_base::checksum::Seed::new(), &manifest[..28]);
    manifest[28..32].copy_from_slice(&crc.to_le_bytes());
    // A newer body is none of our business.
    manifest.truncate(40);
    assert_eq!(Manifest::decode(&manifest, Generation(77)), Err(HeaderFault::Newer(FormatVersion(3))));
}

#[test]
fn records_of_one_length_cost_nothing_but_the_head() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut records: Vec<([u8; 24], Vec<u8>)> = (0..90)
        .map(|_| (std::array::from_fn(|_| random.u8(..)), (0..150).map(|_| random.u8(..)).collect()))
        .collect();
    records.sort();
    let mut builder = LeafBuilder::default();
    for (key, value) in &records {
        builder.push(key, &LeafValue::Inline(value));
    }
    let body = builder.finish();
    assert!(body.len() <= 90 * 174 + 8, "{} bytes", body.len());
}

#[test]
fn keys_that_do_not_ascend_are_refused_in_every_form() {
    let mut dense = samples::dense_leaf();
    let last = dense.len() - 8;
    dense[last] = 0;
    assert_eq!(LeafReader::new(&dense).unwrap().check().unwrap_err().what, "key order");
    let body = leaf_of(&BTreeMap::from([(b"a".to_vec(), Some(vec![])), (b"bb".to_vec(), Some(vec![]))]));
    let swapped: Vec<u8> = body.iter().map(|byte| if *byte == b'a' { b'c' } else { *byte }).collect();
    let checked = LeafReader::new(&swapped).unwrap().check();
    assert!(matches!(checked, Err(CodecError { what: "key order", .. })), "{checked:?}");
}

#[test]
fn keys_that_share_more_than_they_say_are_refused() {
    // Variable, two records, no prefix: "ab", then "ac", which shares one byte, then the restart table.
    let leaf = |shared: u8, rest: &[u8]| {
        let mut body = vec![0, 2, 0, 0, 2, b'a', b'b', 0, shared, rest.len() as u8];
        body.extend_from_slice(rest);
        body.extend_from_slice(&[0, 0, 0, 0, 0]);
        LeafReader::new(&body).unwrap().check()
    };
    assert_eq!(leaf(1, b"c"), Ok(()));
    assert!(leaf(0, b"ac").is_err());
    assert!(leaf(1, b"b").is_err());
    assert!(leaf(2, b"").is_err());
    assert!(leaf(3, b"c").is_err());
}
