//! One object of an archive, as it is and with its head mended; by itself, and in the chain of a lineage, where a listing
//! looks at its head and manifest alone.
//!
//! Held:
//! 1. Decoding bounds what it allocates by the input, and by what a log object may hold uncompressed.
//! 2. Whatever decodes, but for a log object, encodes to the same bytes (the write versions aside, which decoding does not
//!    keep): every object has one encoding.
//! 3. A log object that decodes gives exactly the entries it states: dense, ascending, terms never going back.
//! 4. What does not decode is named damage, or of a newer format.
//! 5. A listing that looks at heads tells of everything that one tells of which reads all of it, of what it admits; neither
//!    fails but on a newer format.

use std::sync::Arc;

use logwood::archive::layout::{log_key, run_key, snapshot_key, start_key};
use logwood::archive::object::{
    self, Gap, HEAD_BYTES, Hold, Kind, LogObject, Owner, RetentionRun, SnapshotObject, Start,
};
use logwood::archive::store::{Memory, Retry};
use logwood::archive::{Archive, Client, Listing};
use logwood::{DatabaseId, Error, LineageId, Lsn, Term};
use logwood_base::disk::SimulatedDisk;
use logwood_base::limits::ARCHIVE_ENTRIES_BYTES_MAX;

use crate::{allocation, log_segment, mend};

/// Runs the target.
pub fn run(bytes: &[u8]) {
    judge(bytes);
    judge(&mend::archived(bytes));
}

fn judge(bytes: &[u8]) {
    let limit = bytes.len() + ARCHIVE_ENTRIES_BYTES_MAX / 2;
    let outcome = allocation::bounded("decoding an archived object", limit, || decode(bytes));
    if let Err(error) = outcome {
        let named = matches!(error, Error::ArchiveCorrupt(_) | Error::UnsupportedFormat { .. });
        assert!(named, "{error}");
    }
    list(bytes);
}

/// Puts the object into an archive of its own, at the place that it asks for, and lists that.
fn list(bytes: &[u8]) {
    let id =
        |at: usize| bytes.get(at..at + 16).and_then(|id| id.try_into().ok()).map_or(0, u128::from_le_bytes);
    let owner = Owner { database: DatabaseId(id(HEAD_BYTES)), lineage: LineageId(id(HEAD_BYTES + 16)) };
    let first_lsn = Lsn(mend::u64_at(bytes, HEAD_BYTES + 32).unwrap_or(1).clamp(1, 1 << 62));
    let start = Start { owner, first_lsn, created_ms: 5, parent: None, parent_next: None };
    let store = Memory::new();
    store.tamper(&start_key(owner.lineage), Some(&start.encode().bytes));
    store.tamper(&log_key(owner.lineage, first_lsn), Some(bytes));
    let environment = log_segment::environment(&SimulatedDisk::new(1));
    let retry = Retry { attempts: 1, ..Retry::default() };
    let archive = Archive::with_client(Client::new(Arc::new(store), &environment, retry), &environment);
    // A head states at most how long a manifest is, and no more than that is fetched of it.
    let limit = 2 * bytes.len() + (1 << 20);
    let heads = allocation::bounded("looking at a head", limit, || archive.list());
    let (heads, whole) = match (heads, archive.verify()) {
        (Ok(heads), Ok(whole)) => (heads, whole),
        (Err(error), _) | (_, Err(error)) => {
            assert!(matches!(error, Error::UnsupportedFormat { .. }), "{error}");
            return;
        }
    };
    let told = |listing: &Listing| {
        let lineage = &listing.lineages[0];
        (lineage.log_objects, lineage.holes.len(), lineage.superseded)
    };
    let ((heads, holes, _), (whole, damaged, _)) = (told(&heads), told(&whole));
    assert!(
        heads >= whole && holes <= damaged,
        "{heads} objects and {holes} holes, of {whole} and {damaged}"
    );
}

/// Decodes under the key that the manifest itself asks for.
fn decode(bytes: &[u8]) -> Result<(), Error> {
    let lineage = bytes.get(HEAD_BYTES + 16..HEAD_BYTES + 32).and_then(|id| id.try_into().ok());
    let lineage = LineageId(lineage.map_or(0, u128::from_le_bytes));
    let first = Lsn(mend::u64_at(bytes, HEAD_BYTES + 32).unwrap_or(0));
    let (again, write_versions) = match object::open("object", bytes)?.kind {
        Kind::Start => (Start::decode(&start_key(lineage), bytes)?.0.encode(), 1),
        Kind::Log => return check_log(&LogObject::decode(&log_key(lineage, first), bytes)?),
        Kind::Gap => (Gap::decode(&log_key(lineage, first), bytes)?.0.encode(), 1),
        Kind::Snapshot => (SnapshotObject::decode(&snapshot_key(lineage, first), bytes)?.0.encode(), 2),
        Kind::Hold => (Hold::decode("hold", bytes)?.encode(), 1),
        Kind::Retention => {
            let id = bytes.get(HEAD_BYTES..HEAD_BYTES + 16).and_then(|id| id.try_into().ok());
            (RetentionRun::decode(&run_key(id.map_or(0, u128::from_le_bytes)), bytes)?.encode(), 1)
        }
    };
    // The trees' manifest inside of a snapshot has a write version of its own, and so the hash differs.
    assert_eq!(again.bytes.len(), bytes.len(), "an object with a second encoding");
    if write_versions == 1 {
        assert_eq!(again.bytes[12..60], bytes[12..60], "an object with a second encoding");
        assert_eq!(again.bytes[HEAD_BYTES..], bytes[HEAD_BYTES..], "an object with a second encoding");
    }
    Ok(())
}

fn check_log(object: &LogObject) -> Result<(), Error> {
    let (mut next, mut term) = (object.manifest.first_lsn, Term::NONE);
    for (lsn, of, _) in object.entries() {
        assert!(lsn == next && of >= term, "entries of an object do not follow each other");
        (next, term) = (lsn.next(), of);
    }
    assert_eq!(next, object.manifest.last_lsn.next(), "an object with other entries than it states");
    Ok(())
}
