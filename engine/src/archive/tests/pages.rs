//! Page segments in the archive that are not what their names say: who finds it, and who mends it.

use std::sync::Arc;

use super::rig::{Rig, fill, snapshots};
use crate::archive::layout::page_key;
use crate::archive::store::Store as _;
use crate::archive::{Archive, RestoreOptions};
use crate::{Database, Durability, Keyspace};

/// A database with a snapshot in its archive, and the key of one of its pages.
fn archived(rig: &Rig) -> (Database, Keyspace, String) {
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
    fill(&db, &keyspace, 0..300, 900, Durability::Durable);
    archiver.flush().unwrap();
    let newest = snapshots(rig, archiver.lineage()).into_values().next_back().unwrap();
    let key = page_key(&newest.pages()[0].hash);
    archiver.stop().unwrap();
    (db, keyspace, key)
}

fn rot(rig: &Rig, key: &str) {
    let mut body = rig.store.inner.peek(key).unwrap().to_vec();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    rig.store.inner.tamper(key, Some(&body));
}

fn named(listing: &crate::archive::Listing, key: &str) -> bool {
    let snapshots = listing.lineages.iter().flat_map(|lineage| &lineage.snapshots);
    snapshots.filter_map(|snapshot| snapshot.damage.as_ref()).any(|damage| damage.contains(key))
}

#[test]
fn rot_of_a_page_is_found_by_verifying_and_not_by_looking_at_heads() {
    let rig = Rig::new(1);
    let (_db, _, key) = archived(&rig);
    let archive = Archive::with_client(rig.client(), &rig.environment);
    assert_eq!(archive.verify().unwrap(), archive.list().unwrap());
    rot(&rig, &key);
    assert!(!named(&archive.list().unwrap(), &key), "its length is right");
    let listing = archive.verify().unwrap();
    assert!(named(&listing, &key), "{listing:?}");
    // A point is promised only as far as something else leads to it.
    rig.store.inner.tamper(&key, None);
    assert!(named(&archive.list().unwrap(), &key), "what is missing is seen either way");
}

#[test]
fn each_page_is_read_once_however_many_snapshots_name_it() {
    let rig = Rig::new(2);
    let (db, keyspace, _) = archived(&rig);
    let archiver = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
    for n in 0..4 {
        fill(&db, &keyspace, n..n + 1, 100, Durability::Durable);
        archiver.flush().unwrap();
    }
    let pages: std::collections::BTreeSet<_> = snapshots(&rig, archiver.lineage())
        .values()
        .flat_map(|snapshot| snapshot.pages().iter().map(|page| page.hash).collect::<Vec<_>>())
        .collect();
    let archive = Archive::with_client(rig.client_of(Arc::new(rig.store.clone())), &rig.environment);
    let before = rig.store.requests();
    archive.list().unwrap();
    let of_heads = rig.store.requests() - before;
    archive.verify().unwrap();
    assert_eq!(rig.store.requests() - before - 2 * of_heads, pages.len() as u64);
}

#[test]
fn an_archiver_that_verifies_puts_anew_what_has_rotted_and_every_other_one_trusts_its_length() {
    let rig = Rig::new(3);
    let (db, _, key) = archived(&rig);
    let whole = rig.store.inner.peek(&key).unwrap();
    rot(&rig, &key);
    let trusting = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
    db.keyspace("k").unwrap().put(b"one more", b"x").unwrap();
    trusting.flush().unwrap();
    assert_eq!(trusting.status().mended, 0);
    trusting.stop().unwrap();
    let archive = Archive::with_client(rig.client(), &rig.environment);
    assert!(named(&archive.verify().unwrap(), &key));

    // At once, although nothing was written since the last snapshot.
    let archiver = db.archive(rig.archive().verify_pages(true)).unwrap();
    archiver.flush().unwrap();
    assert_eq!(archiver.status().mended, 1, "{:?}", archiver.status());
    assert_eq!(rig.store.inner.peek(&key).as_deref(), Some(&*whole));
    assert!(!named(&archive.verify().unwrap(), &key));
    let options = RestoreOptions::new().database(rig.options());
    assert_eq!(archive.restore("restored", &options).unwrap().notes, Vec::<String>::new());
    // And once: what this archiver has read it does not read again.
    let before = rig.store.requests();
    db.keyspace("k").unwrap().put(b"another", b"x").unwrap();
    archiver.flush().unwrap();
    assert!(rig.store.requests() - before < 10, "{}", rig.store.requests() - before);
}

#[test]
fn an_object_of_another_length_in_the_place_of_a_page_is_put_anew_by_any_archiver() {
    let rig = Rig::new(4);
    let (db, _, key) = archived(&rig);
    let whole = rig.store.inner.peek(&key).unwrap();
    for wrong in [&b""[..], b"short", &[0; 200_000]] {
        rig.store.inner.tamper(&key, Some(wrong));
        let archiver = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
        db.keyspace("k").unwrap().put(b"one more", wrong.get(..5).unwrap_or(b"")).unwrap();
        archiver.flush().unwrap();
        assert_eq!(archiver.status().mended, 1);
        assert_eq!(rig.store.inner.peek(&key).as_deref(), Some(&*whole));
        archiver.stop().unwrap();
    }
}

#[test]
fn a_page_that_only_comes_damaged_is_not_replaced() {
    use super::rig::Fault;
    let rig = Rig::new(5);
    let (db, _, key) = archived(&rig);
    for n in 1..40 {
        let archiver = db.archive(rig.archive().verify_pages(true)).unwrap();
        rig.store.set(n, Fault::Flip);
        archiver.flush().unwrap();
        rig.store.heal();
        assert_eq!(archiver.status().mended, 0, "request {n}");
        archiver.stop().unwrap();
    }
    assert!(rig.store.inner.peek(&key).is_some());
}

#[test]
fn a_mended_page_that_a_late_deletion_takes_again_is_seen_before_its_snapshot_is_put() {
    use logwood_base::sync::Mutex;
    let (mut taken, mut lost) = (0, 0);
    for k in 1..60 {
        let rig = Rig::new(6);
        let (db, _, key) = archived(&rig);
        let whole = rig.store.inner.peek(&key).unwrap();
        rot(&rig, &key);
        let archiver = db.archive(rig.archive().snapshot_log_bytes(0).verify_pages(true)).unwrap();
        db.keyspace("k").unwrap().put(b"one more", b"x").unwrap();
        let before = snapshots(&rig, archiver.lineage()).len();
        let was_taken = Arc::new(Mutex::new(false));
        let (found, at, page, lineage) =
            (Arc::clone(&was_taken), rig.clone(), key.clone(), archiver.lineage());
        rig.store.at(k, move || {
            let is_mended = at.store.inner.peek(&page).is_some_and(|body| body == whole);
            if is_mended && snapshots(&at, lineage).len() == before {
                at.store.inner.tamper(&page, None);
                *found.lock() = true;
            }
        });
        // It may go while it is read back.
        if archiver.flush().is_err() {
            archiver.flush().unwrap();
        }
        if rig.store.no_hook() {
            break;
        }
        let was_taken = *was_taken.lock();
        taken += u32::from(was_taken);
        lost += u32::from(was_taken && rig.store.inner.peek(&key).is_none());
    }
    // But for the one moment between the last look and the put.
    assert!(taken > 3 && lost <= 1, "{lost} of {taken}");
}

#[test]
fn an_upload_whose_hold_could_not_be_renewed_goes_on_where_it_was() {
    use super::rig::Fault;
    let rig = Rig::new(7);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
    fill(&db, &keyspace, 0..300, 900, Durability::Durable);
    let mut uploader = super::super::archiver::uploader_of(&archiver);
    while rig.store.inner.list("pages/").unwrap().len() < 2 {
        uploader.step(true).unwrap();
    }
    let pieces = uploader.snapshot.as_ref().unwrap().pieces();
    rig.clock.advance(std::time::Duration::from_secs(25 * 3600));
    rig.store.set(1, Fault::Dead);
    assert!(uploader.step(true).is_err());
    rig.store.heal();
    assert_eq!(uploader.snapshot.as_ref().map(|job| job.pieces()), Some(pieces), "nothing is sent again");
    drop(uploader);
    archiver.flush().unwrap();
    assert_eq!(snapshots(&rig, archiver.lineage()).len(), 1);
}

/// Keeps what counters were set to.
#[derive(Clone, Default)]
struct Counted(Arc<logwood_base::sync::Mutex<std::collections::BTreeMap<String, u64>>>);

struct Counter(Counted, String);

impl metrics::CounterFn for Counter {
    fn increment(&self, value: u64) {
        *self.0.0.lock().entry(self.1.clone()).or_default() += value;
    }

    fn absolute(&self, value: u64) {
        self.0.0.lock().insert(self.1.clone(), value);
    }
}

impl metrics::Recorder for Counted {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(Arc::new(Counter(self.clone(), key.name().to_owned())))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[test]
fn what_was_mended_and_compared_is_handed_to_the_metrics() {
    let rig = Rig::new(8);
    let (db, _, key) = archived(&rig);
    rot(&rig, &key);
    let archiver = db.archive(rig.archive().verify_pages(true)).unwrap();
    archiver.flush().unwrap();
    let counted = Counted::default();
    let status = metrics::with_local_recorder(&counted, || archiver.status());
    let counted = counted.0.lock().clone();
    assert_eq!(status.mended, 1);
    assert_eq!(counted.get("logwood_archive_mended_total"), Some(&1));
    assert_eq!(counted.get("logwood_archive_compared_total"), Some(&status.compared));
}
