//! The demo's records: generated from their numbers, so that nothing needs to be remembered to check them.
//!
//! Keys are 24 bytes in no order, so that every batch touches leaves all over the tree; values are 150 bytes.

use std::io::{self, Write};

use logwood_base::digest::{Digest, record_hash};

/// A record of the demo.
pub(super) struct Record {
    pub(super) key: [u8; 24],
    pub(super) value: [u8; 150],
}

/// The record of a number. Different numbers have different keys.
pub(super) fn record(number: u64) -> Record {
    let mixed = mix(number);
    let mut record = Record { key: *b"record--................", value: [0; 150] };
    hexadecimal(mixed, &mut record.key[8..]);
    let mut digits = [0; 16];
    hexadecimal(mix(mixed), &mut digits);
    for (byte, digit) in record.value.iter_mut().zip(digits.iter().cycle()) {
        *byte = *digit;
    }
    hexadecimal(number, &mut record.value[..16]);
    record.value[16] = b' ';
    record
}

/// Writes a range of records as `load` reads them.
pub(super) fn write(numbers: std::ops::Range<u64>, to: &mut impl Write) -> io::Result<()> {
    for number in numbers {
        let Record { key, value } = record(number);
        to.write_all(&key)?;
        to.write_all(b"\t")?;
        to.write_all(&value)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// The digest of the first `count` records, computed without any database.
pub(super) fn digest(count: u64) -> Digest {
    let mut digest = Digest::EMPTY;
    for number in 0..count {
        let Record { key, value } = record(number);
        digest.add_hash(record_hash(&key, &value));
    }
    digest
}

/// A permutation of the 64-bit numbers that looks random: the finalizer of splitmix64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn hexadecimal(number: u64, digits: &mut [u8]) {
    for (index, digit) in digits.iter_mut().rev().enumerate() {
        let nibble = if index < 16 { (number >> (4 * index)) & 15 } else { 0 };
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn records_are_lines_of_text_with_keys_of_their_own() {
        let mut text = Vec::new();
        write(0..1000, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let keys: HashSet<&str> = text.lines().map(|line| line.split_once('\t').unwrap().0).collect();
        assert_eq!(keys.len(), 1000);
        assert!(text.bytes().all(|byte| matches!(byte, b'\t' | b'\n' | 0x20..=0x7e)));
        assert!(text.lines().nth(255).unwrap().contains("\t00000000000000ff "));
    }
}
