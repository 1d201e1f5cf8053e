//! The bytes of every kind of object, pinned; and what is not such an object is named damage.

use logwood_base::digest::Digest;
use logwood_base::{Error, Generation, KeyspaceId, LogId, LogPosition, SegmentNo, Term};
use logwood_btree::store::Manifest;

use super::*;
use crate::archive::layout::{hold_key, log_key, snapshot_key, start_key};
use crate::entry::{Body, Entry, KeyRange};

const OWNER: Owner = Owner { database: DatabaseId(0x11), lineage: LineageId(0x22) };

fn payload(time_ms: u64) -> Vec<u8> {
    Entry { time_ms, request: None, body: Body::NoOp }.encode()
}

fn mark(time_ms: u64) -> Vec<u8> {
    let range = KeyRange { from: b"a", to: Some(b"b") };
    let digest = Digest { count: 3, sum: 4 };
    let body = Body::Mark { opened: Lsn(7), keyspace: KeyspaceId(1), range, digest };
    Entry { time_ms, request: None, body }.encode()
}

fn log() -> LogWriter {
    let mut log = LogWriter::new(OWNER, Lsn(8), (Term(1), 90));
    log.push(Lsn(8), Term(1), &payload(100)).unwrap();
    log.push(Lsn(9), Term(2), &mark(100)).unwrap();
    log.push(Lsn(10), Term(2), &payload(120)).unwrap();
    log
}

fn start(parent: bool) -> Start {
    let parent = parent.then_some(Parent { lineage: LineageId(0x21), fork_lsn: Lsn(7) });
    Start { owner: OWNER, first_lsn: Lsn(8), created_ms: 99, parent, parent_next: None }
}

fn noted() -> Start {
    Start { parent_next: Some(Lsn(30)), ..start(true) }
}

fn gap() -> Gap {
    let previous = Link([5; 32]);
    Gap { owner: OWNER, first_lsn: Lsn(11), last_lsn: Lsn(20), snapshot_lsn: Lsn(21), left_ms: 130, previous }
}

fn snapshot() -> SnapshotObject {
    let trees = Manifest {
        generation: Generation(3),
        database: OWNER.database,
        log: LogId(0x33),
        checkpoint_lsn: Lsn(10),
        replay_from: Lsn(9),
        log_durable_end: LogPosition::ZERO,
        next_segment: SegmentNo(1),
        engine_state: b"state".to_vec(),
        trees: [1, 2]
            .map(|n| logwood_btree::store::TreeEntry { keyspace: KeyspaceId(n), root: None })
            .to_vec(),
        detached: Vec::new(),
        segments: Vec::new(),
    };
    let digest = Some(Digest { count: 2, sum: 0x1234 });
    SnapshotObject {
        owner: OWNER,
        base_term: Term(1),
        term: Term(2),
        time_ms: 120,
        membership: b"m".to_vec(),
        entry: None,
        digests: vec![
            KeyspaceDigest { keyspace: KeyspaceId(1), digest },
            KeyspaceDigest { keyspace: KeyspaceId(2), digest: None },
        ],
        trees,
    }
}

fn proving() -> SnapshotObject {
    SnapshotObject { entry: Some([8; 32]), ..snapshot() }
}

fn hold() -> Hold {
    let (log, snapshot) = (Some((Lsn(9), Lsn(12))), Some(Lsn(10)));
    Hold { lineage: OWNER.lineage, placed_ms: 140, log, snapshot, pages: vec![[6; 32], [7; 32]] }
}

fn run() -> RetentionRun {
    let condemned = [log_key(OWNER.lineage, Lsn(1)), snapshot_key(OWNER.lineage, Lsn(1))].into();
    RetentionRun { id: 0x44, begun_ms: 150, condemned }
}

/// Name, key and bytes of a sample of each kind.
fn samples() -> Vec<(&'static str, String, Vec<u8>)> {
    let lineage = OWNER.lineage;
    vec![
        ("start", start_key(lineage), start(false).encode().bytes),
        ("forked", start_key(lineage), start(true).encode().bytes),
        ("log", log_key(lineage, Lsn(8)), log().finish(Link([4; 32])).1.bytes),
        ("gap", gap().key(), gap().encode().bytes),
        ("snapshot", snapshot_key(lineage, Lsn(10)), snapshot().encode().bytes),
        ("hold", hold_key(1), hold().encode().bytes),
        ("retention", run().key(), run().encode().bytes),
        ("noted", start_key(lineage), noted().encode().bytes),
        ("proving", snapshot_key(lineage, Lsn(10)), proving().encode().bytes),
    ]
}

/// Reads an object by its kind.
fn read(key: &str, bytes: &[u8]) -> Result<()> {
    match open(key, bytes)?.kind {
        Kind::Start => Start::decode(key, bytes).map(drop),
        Kind::Log => LogObject::decode(key, bytes).map(drop),
        Kind::Gap => Gap::decode(key, bytes).map(drop),
        Kind::Snapshot => SnapshotObject::decode(key, bytes).map(drop),
        Kind::Hold => Hold::decode(key, bytes).map(drop),
        Kind::Retention => RetentionRun::decode(key, bytes).map(drop),
    }
}

#[test]
fn the_bytes_of_every_kind_are_pinned() {
    let lines = samples().into_iter().map(|(name, _, bytes)| format!("{name} {}\n", hex(&bytes)));
    let found: String = lines.collect();
    assert_eq!(found, include_str!("object/golden.txt"));
}

#[test]
fn what_is_written_is_read() {
    let lineage = OWNER.lineage;
    for start in [start(false), start(true), noted()] {
        let encoded = start.encode();
        let read = Start::decode(&start_key(lineage), &encoded.bytes).unwrap();
        assert_eq!(read, (start, encoded.link));
    }
    let (manifest, encoded) = log().finish(Link([4; 32]));
    let object = LogObject::decode(&log_key(lineage, Lsn(8)), &encoded.bytes).unwrap();
    assert_eq!((&object.manifest, object.link), (&manifest, encoded.link));
    assert_eq!(manifest.marks, vec![(Lsn(9), mark(100))]);
    let entries: Vec<_> = object.entries().collect();
    assert_eq!(entries[0], (Lsn(8), Term(1), &payload(100)[..]));
    assert_eq!(entries[2], (Lsn(10), Term(2), &payload(120)[..]));
    assert_eq!(entries.len(), 3);
    assert_eq!(Gap::decode(&gap().key(), &gap().encode().bytes).unwrap().0, gap());
    for snapshot in [snapshot(), proving()] {
        let read = SnapshotObject::decode(&snapshot.key(), &snapshot.encode().bytes).unwrap();
        assert_eq!(read.0, snapshot);
    }
    assert_eq!(Hold::decode(&hold_key(1), &hold().encode().bytes).unwrap(), hold());
    for key in [run().key(), run().late_key()] {
        assert_eq!(RetentionRun::decode(&key, &run().encode().bytes).unwrap(), run());
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_named() {
    for (name, key, bytes) in samples() {
        for at in 0..bytes.len() {
            for mask in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= mask;
                let error = read(&key, &changed).expect_err(name);
                assert!(matches!(error, Error::ArchiveCorrupt(_)), "{name} byte {at}: {error}");
            }
            assert!(matches!(read(&key, &bytes[..at]), Err(Error::ArchiveCorrupt(_))), "{name} cut at {at}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(read(&key, &longer), Err(Error::ArchiveCorrupt(_))), "{name}");
    }
}

#[test]
fn an_object_under_another_name_is_damage() {
    let elsewhere = LineageId(0x23);
    let others = [
        start_key(elsewhere),
        start_key(elsewhere),
        log_key(OWNER.lineage, Lsn(9)),
        log_key(OWNER.lineage, Lsn(8)),
        snapshot_key(OWNER.lineage, Lsn(11)),
    ];
    for ((name, _, bytes), key) in samples().into_iter().zip(others) {
        assert!(matches!(read(&key, &bytes), Err(Error::ArchiveCorrupt(_))), "{name}");
    }
}

/// Puts a head that verifies in front of a changed rest.
fn mended(kind: Kind, manifest: &[u8], content: &[u8]) -> Vec<u8> {
    encode(kind, manifest, content).bytes
}

#[test]
fn a_newer_version_is_not_damage() {
    let (_, key, mut bytes) = samples().remove(2);
    bytes[8] = 2;
    let crc = checksum(Seed::new(), &bytes[..HEAD_BYTES - 4]);
    bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(read(&key, &bytes), Err(Error::UnsupportedFormat { .. })));
}

#[test]
fn whatever_stands_behind_a_valid_hash_is_read_or_named() {
    for (name, key, bytes) in samples() {
        let whole = open(&key, &bytes).unwrap();
        for at in 0..whole.manifest.len() {
            for mask in [1, 0x80, 0xff] {
                let mut manifest = whole.manifest.to_vec();
                manifest[at] ^= mask;
                let changed = mended(whole.kind, &manifest, whole.content);
                if let Err(error) = read(&key, &changed) {
                    assert!(matches!(error, Error::ArchiveCorrupt(_)), "{name} byte {at}: {error}");
                }
            }
        }
        for at in 0..whole.content.len() {
            let mut content = whole.content.to_vec();
            content[at] ^= 1;
            // A compressed frame may say the same in another way: then its entries are those of the hash.
            if let Err(error) = read(&key, &mended(whole.kind, whole.manifest, &content)) {
                let named = matches!(error, Error::ArchiveCorrupt(_) | Error::UnsupportedFormat { .. });
                assert!(named, "{name} content {at}: {error}");
            } else {
                assert_eq!(whole.kind, Kind::Log, "{name} content {at}");
            }
        }
    }
}

#[test]
fn the_writer_refuses_what_does_not_follow() {
    let mut log = log();
    assert!(log.push(Lsn(12), Term(2), &payload(130)).is_err(), "a hole");
    assert!(log.push(Lsn(10), Term(2), &payload(130)).is_err(), "again");
    assert!(log.push(Lsn(11), Term(1), &payload(130)).is_err(), "a term that goes back");
    assert!(log.push(Lsn(11), Term(2), &payload(119)).is_err(), "a time that goes back");
    assert!(log.push(Lsn(11), Term(2), b"\x01").is_err(), "no entry");
    log.push(Lsn(11), Term(2), &payload(120)).unwrap();
    assert_eq!(log.next_lsn(), Lsn(12));
    let mut first = LogWriter::new(OWNER, Lsn(8), (Term(3), 90));
    assert!(first.push(Lsn(8), Term(2), &payload(100)).is_err(), "behind the object before");
}

#[test]
fn large_objects_are_cut_into_frames_and_come_back() {
    let mut log = LogWriter::new(OWNER, Lsn(1), (Term::NONE, 0));
    let mut lsn = Lsn(1);
    let value: Vec<u8> = (0..60_000u32).flat_map(|n| (n % 500).to_le_bytes()).collect();
    loop {
        let mut bytes = Vec::new();
        let operation = crate::entry::Operation::Put {
            keyspace: KeyspaceId(1),
            key: &lsn.get().to_be_bytes(),
            value: &value,
        };
        operation.encode(&mut bytes);
        let body = Body::Commit(crate::entry::Operations::new(&bytes));
        let payload = Entry { time_ms: lsn.get(), request: None, body }.encode();
        if !log.has_room(payload.len()) {
            break;
        }
        log.push(lsn, Term(1), &payload).unwrap();
        lsn = lsn.next();
    }
    let (manifest, encoded) = log.finish(Link::default());
    assert!(encoded.bytes.len() < log.bytes());
    let object = LogObject::decode(&manifest.key(), &encoded.bytes).unwrap();
    assert_eq!(object.entries().count() as u64, object.manifest.last_lsn.get());
    assert!(object.entries_bytes() > 15 << 20);
}

#[test]
fn a_hold_says_what_it_needs() {
    let lineage = OWNER.lineage;
    let needs = |key: String| hold().needs_any_of(&[key].into());
    assert!(needs(log_key(lineage, Lsn(9))) && needs(log_key(lineage, Lsn(12))));
    assert!(!needs(log_key(lineage, Lsn(8))) && !needs(log_key(lineage, Lsn(13))));
    assert!(!needs(log_key(LineageId(1), Lsn(9))));
    assert!(needs(snapshot_key(lineage, Lsn(10))) && !needs(snapshot_key(lineage, Lsn(9))));
    assert!(needs(crate::archive::layout::page_key(&[7; 32])));
    assert!(!needs(crate::archive::layout::page_key(&[8; 32])));
}

#[test]
fn the_first_bytes_tell_the_same_as_the_whole_and_a_damaged_head_is_named() {
    let (manifest, log) = log().finish(Link([7; 32]));
    for encoded in [log.clone(), gap().encode(), start(true).encode(), snapshot().encode()] {
        let total = encoded.bytes.len() as u64;
        let whole = open("key", &encoded.bytes).unwrap();
        let heading = peek("key", &encoded.bytes, total).unwrap();
        assert_eq!((heading.kind, heading.link), (whole.kind, whole.link));
        assert_eq!(heading.manifest, Some(whole.manifest));
        let short = peek("key", &encoded.bytes[..HEAD_BYTES + 3], total).unwrap();
        assert!(short.manifest.is_none() && short.first_bytes == (HEAD_BYTES + whole.manifest.len()) as u64);
        for at in 0..HEAD_BYTES {
            let mut bytes = encoded.bytes.clone();
            bytes[at] ^= 1;
            assert!(peek("key", &bytes, total).is_err(), "byte {at}");
        }
        for length in [0, HEAD_BYTES - 1] {
            assert!(peek("key", &encoded.bytes[..length], length as u64).is_err());
        }
        assert!(peek("key", &encoded.bytes, total - 1).is_err(), "an object that was cut short");
    }
    let heading = peek("key", &log.bytes, log.bytes.len() as u64).unwrap();
    assert_eq!(LogManifest::peek(&manifest.key(), heading.manifest.unwrap()).unwrap(), manifest);
    assert!(LogManifest::peek(&log_key(OWNER.lineage, Lsn(9)), heading.manifest.unwrap()).is_err());
}
