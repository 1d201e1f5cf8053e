//! BYTES of the log: segment headers and batches.
//!
//! A segment is one file, `{number:020}.log`, of a fixed size, written with zeros (or recycled) before use:
//!
//! ```text
//! | header, padded to blocks of 4096 | batch | batch | 0… | batch | batch | 0…       | stale bytes or zeros … |
//! '----------------------------------'-------- one block or more ----'---- fresh block -'
//! ```
//!
//! A batch begins exactly where the one before it ended, or, when a sync was submitted in between, at the next block
//! boundary. All numbers are little-endian. The byte tables stand in [`header`] and [`batch`].
//!
//! # When bytes are valid
//! - A *header* is valid when its checksum, seeded with (log id, segment number, 0), holds, and its number is the one
//!   in the file's name.
//! - A *batch* is valid when its checksum, seeded with (log id, segment number, its offset), holds, and its body is
//!   well formed. Bytes of an earlier life of a recycled file, of another place, or of another log never verify.
//! - A batch *continues* the log when it also names the checksum of what stands before it: the preceding batch, or
//!   the segment's header for the first one. A header names the last checksum of its predecessor.
//!
//! Segment numbers are at most 2^62: a file with a greater one in its name is not of the log, a batch that names one is not
//! valid.
//!
//! # Versions
//! | version | written by | change |
//! |---|---|---|
//! | 1 | 0.1 | the first |

pub(crate) mod batch;
pub(crate) mod header;

use logwood_base::checksum::Seed;
use logwood_base::limits::BLOCK_BYTES;
use logwood_base::{FormatVersion, LogId, SegmentNo};

/// The version needed to read what this program writes.
pub(crate) const READ_VERSION: FormatVersion = FormatVersion(1);

/// The version of the program's format.
pub(crate) const WRITE_VERSION: FormatVersion = FormatVersion(1);

/// A block as the 32-bit width that offsets within a segment have.
pub(crate) const BLOCK: u32 = BLOCK_BYTES as u32;

const _: () = assert!(BLOCK as usize == BLOCK_BYTES && READ_VERSION.0 <= WRITE_VERSION.0);

/// Greatest segment number that a name, batch or seal may hold: there is always a next one.
pub(crate) const SEGMENT_MAX: SegmentNo = SegmentNo(1 << 62);

/// The first block boundary at or after `offset`. Segments are at most 1 GiB, so this cannot overflow for offsets
/// within one.
pub(crate) const fn block_up(offset: u32) -> u32 {
    offset.div_ceil(BLOCK) * BLOCK
}

/// What every checksum of a segment is bound to; batches add their offset.
pub(crate) fn segment_seed(log: LogId, segment: SegmentNo) -> Seed {
    Seed::new().u128(log.0).u64(segment.0)
}

/// The name of a segment's file.
pub(crate) fn file_name(segment: SegmentNo) -> String {
    format!("{:020}.log", segment.0)
}

/// The number in a segment's file name, or `None` for any other file.
pub(crate) fn parse_file_name(name: &str) -> Option<SegmentNo> {
    let digits = name.strip_suffix(".log")?;
    let canonical = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = digits.parse().ok().map(SegmentNo).filter(|number| *number <= SEGMENT_MAX);
    number.filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_come_back_and_others_are_ignored() {
        assert_eq!(parse_file_name(&file_name(SegmentNo(42))), Some(SegmentNo(42)));
        let endless = file_name(SegmentNo(u64::MAX));
        for other in ["LOCK", "42.log", "0000000000000000004x.log", "99999999999999999999.log", &endless] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn blocks_round_up_and_stay() {
        assert_eq!((block_up(0), block_up(1), block_up(4096), block_up(4097)), (0, 4096, 4096, 8192));
    }
}
