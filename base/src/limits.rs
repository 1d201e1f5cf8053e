//! Every limit of the formats, in one place, with their relations asserted when the program is compiled.
//!
//! Limits are checked once, at the door: a call that passes one is refused with
//! [`Error::LimitExceeded`] before anything is written. Options with defaults live with
//! the crate that they steer; what stands here cannot be configured away.

use crate::{Error, Result};

/// The unit in which durable bytes are never written again, and the alignment of direct writes.
pub const BLOCK_BYTES: usize = 4096;

/// What the disk is assumed to write whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Longest key.
pub const KEY_BYTES_MAX: usize = 65_535;

/// Longest value.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Longest name of a keyspace.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 255;

/// Most keyspaces of a database.
pub const KEYSPACES_MAX: usize = 4096;

/// Longest payload of a log entry, before the bound of a quarter segment.
pub const ENTRY_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Smallest log segment; tests use it.
pub const LOG_SEGMENT_BYTES_MIN: u32 = 64 << 10;

/// Log segment by default.
pub const LOG_SEGMENT_BYTES_DEFAULT: u32 = 16 << 20;

/// Largest log segment.
pub const LOG_SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Largest page segment; offsets inside are 32 bits wide.
pub const PAGE_SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Most bytes of one encoded page, before compression and after.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Most delta blocks behind one leaf image.
pub const DELTA_BLOCKS_MAX: usize = 3;

/// Most groups that share one log.
pub const GROUPS_MAX: usize = 256;

/// Most bytes of one group's membership, opaque to the log.
pub const MEMBERSHIP_BYTES_MAX: usize = 1024;

/// Most bytes of entries in one archived log object, before compression.
pub const ARCHIVE_ENTRIES_BYTES_MAX: usize = 16 << 20;

/// Most bytes of entries that are compressed together.
pub const ARCHIVE_FRAME_BYTES_MAX: usize = 4 << 20;

const _: () = {
    assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
    assert!(LOG_SEGMENT_BYTES_MIN as usize >= 4 * BLOCK_BYTES);
    assert!((LOG_SEGMENT_BYTES_MIN as usize).is_multiple_of(BLOCK_BYTES));
    assert!(LOG_SEGMENT_BYTES_MIN <= LOG_SEGMENT_BYTES_DEFAULT);
    assert!(LOG_SEGMENT_BYTES_DEFAULT <= LOG_SEGMENT_BYTES_MAX);
    assert!(KEY_BYTES_MAX == u16::MAX as usize);
    assert!(KEY_BYTES_MAX < PAGE_BYTES_MAX / 2, "a page holds at least two of the longest keys");
    assert!(ENTRY_PAYLOAD_BYTES_MAX <= LOG_SEGMENT_BYTES_DEFAULT as usize / 4);
    assert!(VALUE_BYTES_MAX <= u32::MAX as usize);
    assert!(ARCHIVE_ENTRIES_BYTES_MAX >= 2 * ENTRY_PAYLOAD_BYTES_MAX);
    assert!(ARCHIVE_FRAME_BYTES_MAX <= ARCHIVE_ENTRIES_BYTES_MAX);
};

/// Refuses `found` beyond `limit`.
///
/// ```
/// use logwood_base::{Error, limits};
/// limits::check("key bytes", 12, limits::KEY_BYTES_MAX)?;
/// let refused = limits::check("key bytes", 65_536, limits::KEY_BYTES_MAX);
/// assert!(matches!(refused, Err(Error::LimitExceeded { found: 65_536, .. })));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::LimitExceeded`], naming `what`.
pub fn check(what: &'static str, found: usize, limit: usize) -> Result<()> {
    if found <= limit {
        Ok(())
    } else {
        Err(Error::LimitExceeded { what, found: found as u64, limit: limit as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_admits_its_own_value() {
        assert!(check("key bytes", KEY_BYTES_MAX, KEY_BYTES_MAX).is_ok());
        let refused = check("key bytes", KEY_BYTES_MAX + 1, KEY_BYTES_MAX).unwrap_err();
        assert_eq!(refused.to_string(), "key bytes is 65536, more than the limit of 65535");
    }
}
