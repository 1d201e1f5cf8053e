//! Lengths and checksums put right, so that mutated bytes reach what stands behind the checks.
//!
//! Written from the byte tables of the formats, not by their code: what a mended input is taken for also shows that
//! the tables and the code agree.

use logwood_base::checksum::{Seed, checksum};
use sha2::{Digest as _, Sha256};

/// Overwrites a little-endian number when the bytes reach that far.
pub(crate) fn put(bytes: &mut [u8], offset: usize, number: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..offset + number.len()) {
        place.copy_from_slice(number);
    }
}

/// The little-endian number at `offset`, if the bytes reach that far.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let number = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(number.try_into().expect("four bytes")))
}

/// The little-endian number at `offset`, if the bytes reach that far.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let number = bytes.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(number.try_into().expect("eight bytes")))
}

/// The head of an archived object (`logwood::archive::object`): magic, versions, lengths, hash, checksum.
#[must_use]
pub fn archived(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(out.len().max(64), 0);
    put(&mut out, 0, b"lwarchv1");
    put(&mut out, 8, &1u16.to_le_bytes());
    out[13..16].fill(0);
    let rest = out.len() - 64;
    let manifest = u32_at(&out, 16).map_or(rest, |stated| rest.min(stated as usize));
    put(&mut out, 16, &(manifest as u32).to_le_bytes());
    put(&mut out, 20, &((rest - manifest) as u64).to_le_bytes());
    let hash: [u8; 32] = Sha256::digest(&out[64..]).into();
    put(&mut out, 28, &hash);
    let head = checksum(Seed::new(), &out[..60]);
    put(&mut out, 60, &head.to_le_bytes());
    out
}

/// A manifest's head (`btree::format::manifest`): magic, versions, length, generation, both checksums.
#[must_use]
pub fn manifest(bytes: &[u8], generation: u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(out.len().max(32), 0);
    put(&mut out, 0, b"lwmanif1");
    put(&mut out, 8, &1u16.to_le_bytes());
    let body_bytes = out.len() as u32 - 32;
    put(&mut out, 12, &body_bytes.to_le_bytes());
    put(&mut out, 16, &generation.to_le_bytes());
    let body = checksum(Seed::new().u64(generation), &out[32..]);
    put(&mut out, 24, &body.to_le_bytes());
    let head = checksum(Seed::new(), &out[..28]);
    put(&mut out, 28, &head.to_le_bytes());
    out
}

/// A page segment's header, trailer and index (`btree::format::segment`), and the checksums of the pages that the
/// index names. The length becomes a multiple of 4 KiB.
#[must_use]
pub fn page_segment(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(out.len().max(128).next_multiple_of(4096), 0);
    put(&mut out, 0, b"lwpages1");
    put(&mut out, 8, &1u16.to_le_bytes());
    put(&mut out, 12, &[0]);
    out[13] %= 5;
    put(&mut out, 16, &number.to_le_bytes());
    close(&mut out[..64]);
    let end = out.len() - 64;
    put(&mut out, end, b"lwpagend");
    put(&mut out, end + 8, &number.to_le_bytes());
    let index_at = (u32_at(&out, end + 16).unwrap_or(0) as usize).clamp(64, end);
    // The trailer stands in the first block that has room for it behind the index.
    let room = end - index_at;
    let index_bytes = (u32_at(&out, end + 20).unwrap_or(0) as usize).clamp(room.saturating_sub(4095), room);
    put(&mut out, end + 16, &(index_at as u32).to_le_bytes());
    put(&mut out, end + 20, &(index_bytes as u32).to_le_bytes());
    mend_pages(&mut out, number, index_at, index_bytes);
    out[index_at + index_bytes..end].fill(0);
    let index = checksum(Seed::new().u64(number), &out[index_at..index_at + index_bytes]);
    put(&mut out, end + 28, &index.to_le_bytes());
    close(&mut out[end..]);
    out
}

/// The checksum at the end of a block of 64 bytes.
fn close(block: &mut [u8]) {
    let crc = checksum(Seed::new(), &block[..60]);
    block[60..].copy_from_slice(&crc.to_le_bytes());
}

/// Walks the index as far as it makes sense and writes the right checksum into each entry.
fn mend_pages(out: &mut [u8], number: u64, index_at: usize, index_bytes: usize) {
    let (mut at, mut page) = (index_at, 64usize);
    let end = index_at + index_bytes;
    while at < end {
        let Some(keyspace_bytes) = varint(&out[..end], at + 2).map(|(_, bytes)| bytes) else { return };
        let Some((page_bytes, bytes)) = varint(&out[..end], at + 2 + keyspace_bytes) else { return };
        let crc_at = at + 2 + keyspace_bytes + bytes;
        let Some((_, shared_bytes)) = varint(&out[..end], crc_at + 4) else { return };
        let Some((rest, rest_bytes)) = varint(&out[..end], crc_at + 4 + shared_bytes) else { return };
        let Some(stored) = page_bytes.checked_add(page).filter(|page_end| *page_end <= index_at) else {
            return;
        };
        let crc = checksum(Seed::new().u64(number).u64(page as u64), &out[page..stored]);
        put(out, crc_at, &crc.to_le_bytes());
        page = stored;
        at = (crc_at + 4 + shared_bytes + rest_bytes).saturating_add(rest);
    }
}

/// A log segment's header and every batch (`wal::format`): constants, lengths, the chain of checksums. Batches follow
/// each other; where none begins, the next block is tried.
#[must_use]
pub fn log_segment(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let size = out.len() as u32;
    put(&mut out, 8, b"LWLOGSEG");
    put(&mut out, 16, &1u16.to_le_bytes());
    put(&mut out, 20, &size.to_le_bytes());
    put(&mut out, 24, &4096u32.to_le_bytes());
    put(&mut out, 28, &0u32.to_le_bytes());
    put(&mut out, 64, &number.to_le_bytes());
    let mut header_bytes = 96;
    for _ in 0..u32_at(&out, 88).unwrap_or(0).min(256) {
        let membership = u32_at(&out, header_bytes + 80).unwrap_or(0) as usize;
        if membership > 1024 || header_bytes + 84 + membership > out.len() {
            break;
        }
        header_bytes += 84 + membership;
    }
    put(&mut out, 4, &(header_bytes as u32).to_le_bytes());
    let log = u128::from_le_bytes(out[32..48].try_into().expect("sixteen bytes"));
    let seed = Seed::new().u128(log).u64(number);
    let mut previous = checksum(seed.clone().u64(0), &out[4..header_bytes]);
    put(&mut out, 0, &previous.to_le_bytes());
    let mut at = header_bytes.next_multiple_of(4096);
    while at + 72 <= out.len() {
        let length = u32_at(&out, at + 4).unwrap_or(0) as usize;
        let is_batch = (1..=5).contains(&out[at + 8]) && length >= 72 && at + length <= out.len();
        if !is_batch {
            at = (at + 1).next_multiple_of(4096);
            continue;
        }
        put(&mut out, at + 12, &previous.to_le_bytes());
        previous = checksum(seed.clone().u64(at as u64), &out[at + 4..at + length]);
        put(&mut out, at, &previous.to_le_bytes());
        at += length;
    }
    out
}

/// A LEB128 number and its length, if there is one at `at`.
fn varint(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (n, byte) in bytes.get(at..)?.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, n + 1));
        }
    }
    None
}
