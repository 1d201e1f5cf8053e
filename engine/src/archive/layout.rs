//! The keys of an archive's objects, behind its prefix.
//!
//! | key | object |
//! |---|---|
//! | `lineage/{id}/start` | where a chain begins |
//! | `lineage/{id}/log/{first LSN}` | entries, or a gap, from that LSN on |
//! | `lineage/{id}/snapshot/{LSN}` | a checkpoint at that LSN |
//! | `pages/{SHA-256}` | a page segment |
//! | `hold/{id}` | what an upload or a restore needs |
//! | `run/{id}` | what the retention run at work condemns |
//! | `late/{id}` | what a run that has ended may yet have deleted |
//! | `probe/{id}` | nothing |
//!
//! Identities are 32, hashes 64 lowercase hexadecimal digits; LSNs 20 decimal digits, so that keys sort as numbers do.
//! Names that are listed and not exactly of this form are somebody else's: they are ignored, and never made a path.

use logwood_base::{LineageId, Lsn};

/// SHA-256, of a page segment or of a head.
pub type Sha256 = [u8; 32];

/// What the keys of all retention runs begin with.
pub const RUNS_PREFIX: &str = "run/";
/// What the keys of all deletions begin with that were not answered.
pub const LATE_PREFIX: &str = "late/";
/// What all lineages' keys begin with.
pub const LINEAGES_PREFIX: &str = "lineage/";
/// What all page objects' keys begin with.
pub const PAGES_PREFIX: &str = "pages/";
/// What all holds' keys begin with.
pub const HOLDS_PREFIX: &str = "hold/";
/// What the keys of all objects begin with that are put only to see what the store does.
pub const PROBES_PREFIX: &str = "probe/";

/// What all keys of a lineage begin with.
#[must_use]
pub fn lineage_prefix(lineage: LineageId) -> String {
    format!("{LINEAGES_PREFIX}{lineage}/")
}

/// Where a lineage begins.
#[must_use]
pub fn start_key(lineage: LineageId) -> String {
    format!("lineage/{lineage}/start")
}

/// The entries, or the gap, that begin at an LSN.
#[must_use]
pub fn log_key(lineage: LineageId, first: Lsn) -> String {
    format!("lineage/{lineage}/log/{:020}", first.get())
}

/// What all keys of a lineage's chain begin with.
#[must_use]
pub fn log_prefix(lineage: LineageId) -> String {
    format!("lineage/{lineage}/log/")
}

/// A snapshot.
#[must_use]
pub fn snapshot_key(lineage: LineageId, lsn: Lsn) -> String {
    format!("lineage/{lineage}/snapshot/{:020}", lsn.get())
}

/// What all keys of a lineage's snapshots begin with.
#[must_use]
pub fn snapshot_prefix(lineage: LineageId) -> String {
    format!("lineage/{lineage}/snapshot/")
}

/// A page segment.
#[must_use]
pub fn page_key(hash: &Sha256) -> String {
    format!("{PAGES_PREFIX}{}", hex(hash))
}

/// A hold.
#[must_use]
pub fn hold_key(id: u128) -> String {
    format!("{HOLDS_PREFIX}{id:032x}")
}

/// What a retention run condemns while it is at work. Each has a key of its own, so that nobody who takes away what a dead
/// one left behind can take away another one's.
#[must_use]
pub fn run_key(id: u128) -> String {
    format!("{RUNS_PREFIX}{id:032x}")
}

/// What a retention run that has ended asked for without an answer.
#[must_use]
pub fn late_key(id: u128) -> String {
    format!("{LATE_PREFIX}{id:032x}")
}

/// What is put only to see what the store does.
#[must_use]
pub fn probe_key(id: u128) -> String {
    format!("{PROBES_PREFIX}{id:032x}")
}

/// The LSN at the end of a log object's or a snapshot's key.
#[must_use]
pub fn parse_lsn(key: &str) -> Option<Lsn> {
    let digits = key.rsplit('/').next()?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Lsn)).flatten()
}

/// The lineage of a `start` key.
#[must_use]
pub fn parse_start(key: &str) -> Option<LineageId> {
    let id = key.strip_prefix(LINEAGES_PREFIX)?.strip_suffix("/start")?;
    parse_hex::<16>(id).map(|bytes| LineageId(u128::from_be_bytes(bytes)))
}

/// The lineage that any key of a lineage belongs to.
#[must_use]
pub fn parse_lineage(key: &str) -> Option<LineageId> {
    let (id, _) = key.strip_prefix(LINEAGES_PREFIX)?.split_once('/')?;
    parse_hex::<16>(id).map(|bytes| LineageId(u128::from_be_bytes(bytes)))
}

/// What sorts behind all keys of a lineage, and before those of the next: no key itself.
#[must_use]
pub fn behind_lineage(lineage: LineageId) -> String {
    // The character behind the slash.
    format!("{LINEAGES_PREFIX}{lineage}0")
}

/// The hash in a page object's key.
#[must_use]
pub fn parse_page(key: &str) -> Option<Sha256> {
    parse_hex(key.strip_prefix(PAGES_PREFIX)?)
}

/// Lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn parse_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let lowercase = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 2 * N || !digits.bytes().all(lowercase) {
        return None;
    }
    let mut bytes = [0u8; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_pinned_and_read_back() {
        let lineage = LineageId(0xab);
        assert_eq!(start_key(lineage), "lineage/000000000000000000000000000000ab/start");
        assert_eq!(parse_start(&start_key(lineage)), Some(lineage));
        for key in [start_key(lineage), log_key(lineage, Lsn::MAX), snapshot_key(lineage, Lsn::FIRST)] {
            assert_eq!(parse_lineage(&key), Some(lineage));
            assert!(key < behind_lineage(lineage) && behind_lineage(lineage) < start_key(LineageId(0xac)));
        }
        let key = log_key(lineage, Lsn(7));
        assert_eq!(key, "lineage/000000000000000000000000000000ab/log/00000000000000000007");
        assert_eq!(parse_lsn(&key), Some(Lsn(7)));
        assert_eq!(parse_lsn(&snapshot_key(lineage, Lsn::MAX)), Some(Lsn::MAX));
        assert_eq!(parse_page(&page_key(&[0xcd; 32])), Some([0xcd; 32]));
    }

    #[test]
    fn other_names_are_nobodys() {
        for name in
            ["lineage/x/log/7", "lineage/x/log/0000000000000000000a", "log/../../00000000000000000007/.."]
        {
            assert_eq!(parse_lsn(name), None, "{name}");
        }
        assert_eq!(parse_lsn("log/99999999999999999999"), None, "beyond 64 bits");
        let upper = page_key(&[0xcd; 32]).to_uppercase();
        assert_eq!(parse_page(&upper), None);
        assert_eq!(parse_start("lineage/../start"), None);
    }
}
