//! Values up to the longest one, whole and piece by piece.

use std::io::{ErrorKind, Read, Seek, SeekFrom};

use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::limits::VALUE_BYTES_MAX;

use super::world::World;
use crate::{Error, Keyspace, Options};

/// What memory a read of a long value may take beside what the database holds anyhow: less than one piece in a hundred.
const MEMORY_BYTES_MAX: usize = 2 << 20;

/// A value that does not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    fastrand::Rng::with_seed(seed).fill(&mut value);
    value
}

/// A world with options as applications have them.
fn world() -> World {
    let mut world = World::new(1);
    let environment = world.environment();
    world.options = Options::new().environment(environment).cache_bytes(8 << 20);
    world.open(0).unwrap();
    world
}

fn keyspace(world: &World) -> Keyspace {
    world.db().ensure_keyspace("k").unwrap()
}

/// Closes and opens without a model; nothing is left to be replayed.
fn reopen(world: &mut World) {
    world.db().checkpoint().unwrap();
    world.db().close().unwrap();
    world.db = None;
    world.db = Some(crate::Database::open(super::world::DIR, world.options.clone()).unwrap());
}

#[test]
fn the_longest_value_is_read_in_pieces_without_being_held_and_a_longer_one_is_refused() {
    let mut world = world();
    let ks = keyspace(&world);
    let mut value = noise(1, VALUE_BYTES_MAX);
    ks.put(b"neighbour", b"short").unwrap();
    ks.put(b"long", &value).unwrap();
    value.push(0);
    let lsn = world.db().visible_lsn();
    assert!(matches!(ks.put(b"long", &value), Err(Error::LimitExceeded { what: "value bytes", .. })));
    assert!(matches!(world.db().batch().put(&ks, b"long", &value), Err(Error::LimitExceeded { .. })));
    assert_eq!(world.db().visible_lsn(), lsn, "nothing was written");
    value.pop();
    drop(ks);
    reopen(&mut world);

    let ks = keyspace(&world);
    assert_eq!(ks.get(b"neighbour").unwrap().as_deref(), Some(&b"short"[..]));
    assert!(ks.contains(b"long").unwrap() && world.db().snapshot().contains(&ks, b"long").unwrap());
    assert!(world.db().transaction().contains(&ks, b"long").unwrap());
    assert_eq!(ks.count_all().unwrap(), 2);
    let before = world.db().statistics();
    assert_eq!(before.trees.overflow_reads, 0, "nobody has asked for the value");
    assert!(before.memory_bytes < 16 << 20, "{} bytes", before.memory_bytes);
    let mut reader = ks.value_reader(b"long").unwrap().unwrap();
    assert_eq!(reader.len(), VALUE_BYTES_MAX as u64);
    let (mut part, mut read, mut most) = (vec![0; 100_000], 0, 0);
    loop {
        let count = reader.read(&mut part).unwrap();
        if count == 0 {
            break;
        }
        assert!(part[..count] == value[read..read + count]);
        read += count;
        most = most.max(world.db().statistics().memory_bytes);
    }
    assert_eq!(read, VALUE_BYTES_MAX);
    assert!(most <= before.memory_bytes + MEMORY_BYTES_MAX, "{most} bytes, before {}", before.memory_bytes);
    let reads = world.db().statistics().trees.overflow_reads;
    assert_eq!(reads - before.trees.overflow_reads, (VALUE_BYTES_MAX as u64).div_ceil(256 << 10));
    reader.seek(SeekFrom::End(-5)).unwrap();
    let mut end = Vec::new();
    reader.read_to_end(&mut end).unwrap();
    assert_eq!(end, value[VALUE_BYTES_MAX - 5..]);
    assert!(ks.get(b"long").unwrap().as_deref() == Some(&value));
    assert!(world.db().statistics().memory_bytes <= before.memory_bytes + MEMORY_BYTES_MAX, "it is not kept");
}

#[test]
fn a_snapshot_and_a_reader_outlive_overwriting_checkpoints_and_compaction() {
    let world = world();
    let ks = keyspace(&world);
    let db = world.db();
    let (old, new) = (noise(2, 3_000_000), noise(3, 2_000_000));
    ks.put(b"long", &old).unwrap();
    db.checkpoint().unwrap();
    // From disk only: everything is evicted by what follows.
    for n in 0..25u64 {
        ks.put(&n.to_be_bytes(), &noise(n, 400_000)).unwrap();
        db.checkpoint().unwrap();
    }
    let snapshot = db.snapshot();
    let mut latest = ks.value_reader(b"long").unwrap().unwrap();
    ks.put(b"long", &new).unwrap();
    let mut of_snapshot = snapshot.value_reader(&ks, b"long").unwrap().unwrap();
    for _ in 0..3 {
        db.compact().unwrap();
    }
    assert!(snapshot.get(&ks, b"long").unwrap().as_deref() == Some(&old));
    drop(snapshot);
    db.compact().unwrap();
    for reader in [&mut latest, &mut of_snapshot] {
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert!(found == old);
    }
    drop((latest, of_snapshot));
    assert!(ks.get(b"long").unwrap().as_deref() == Some(&new));
    // Also when the keyspace goes under a reader.
    let mut reader = ks.value_reader(b"long").unwrap().unwrap();
    db.drop_keyspace("k").unwrap();
    db.compact().unwrap();
    assert!(matches!(ks.value_reader(b"long"), Err(Error::NotFound { .. })));
    let mut found = Vec::new();
    reader.read_to_end(&mut found).unwrap();
    assert!(found == new);
}

#[test]
fn a_read_that_fails_is_answered_and_the_reader_goes_on() {
    let mut world = world();
    let value = noise(4, 1_000_000);
    keyspace(&world).put(b"long", &value).unwrap();
    reopen(&mut world);
    let ks = keyspace(&world);
    let mut reader = ks.value_reader(b"long").unwrap().unwrap();
    let mut first = vec![0; 300_000];
    reader.read_exact(&mut first).unwrap();
    world.disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/"));
    reader.seek(SeekFrom::Start(600_000)).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<Error>());
    assert!(matches!(inside, Some(Error::Io { .. })), "{error}");
    world.disk.clear_faults();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest == value[600_000..]);
}

/// Gives some bytes and then fails, a few at a time and with interruptions.
struct Source {
    bytes: Vec<u8>,
    at: usize,
    calls: usize,
    fails: Option<ErrorKind>,
}

impl Source {
    fn new(bytes: Vec<u8>, fails: Option<ErrorKind>) -> Self {
        Self { bytes, at: 0, calls: 0, fails }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(ErrorKind::Interrupted.into());
        }
        let rest = &self.bytes[self.at..];
        match self.fails {
            Some(kind) if rest.is_empty() => Err(kind.into()),
            _ => {
                let count = rest.len().min(buffer.len()).min(7_001);
                buffer[..count].copy_from_slice(&rest[..count]);
                self.at += count;
                Ok(count)
            }
        }
    }
}

#[test]
fn a_value_is_taken_from_a_source_and_of_a_source_that_fails_nothing_is_written() {
    let mut world = world();
    let ks = keyspace(&world);
    let value = noise(5, 700_000);
    let mut batch = world.db().batch();
    batch.put(&ks, b"before", b"1").unwrap();
    batch.put_stream(&ks, b"long", 700_000, Source::new(value.clone(), None)).unwrap();
    batch.put(&ks, b"behind", b"2").unwrap();
    let bytes = batch.bytes();
    let mut transaction = world.db().transaction();
    transaction.put_stream(&ks, b"of a transaction", 700_000, Source::new(value.clone(), None)).unwrap();
    let own_bytes = transaction.bytes();
    let mut own = Vec::new();
    let mut reader = transaction.value_reader(&ks, b"of a transaction").unwrap().unwrap();
    reader.read_to_end(&mut own).unwrap();
    assert!(own == value, "it reads what it has written");
    for (given, fails, kind) in [
        (699_999, None, ErrorKind::UnexpectedEof),
        (0, None, ErrorKind::UnexpectedEof),
        (300_000, Some(ErrorKind::ConnectionReset), ErrorKind::ConnectionReset),
    ] {
        let source = || Source::new(value[..given].to_vec(), fails);
        let lsn = world.db().visible_lsn();
        for failed in [
            batch.put_stream(&ks, b"never", 700_000, source()),
            transaction.put_stream(&ks, b"never", 700_000, source()),
            ks.put_stream(b"never", 700_000, source()).map(drop),
        ] {
            match failed {
                Err(Error::Source { read, expected: 700_000, source }) => {
                    assert_eq!((read, source.kind()), (given as u64, kind));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((batch.bytes(), batch.len(), world.db().visible_lsn()), (bytes, 3, lsn));
        assert_eq!(transaction.bytes(), own_bytes);
        assert!(transaction.value_reader(&ks, b"never").unwrap().is_none());
    }
    transaction.commit(crate::Durability::Durable).unwrap();
    world.db().commit(batch, crate::Durability::Durable).unwrap();
    // What comes behind the value stays in the source.
    let mut source = Source::new([&value[..], b"rest"].concat(), None);
    ks.put_stream(b"alone", 700_000, &mut source).unwrap();
    ks.put_stream(b"empty", 0, &b"rest"[..]).unwrap();
    assert_eq!(rest_of_source(&mut source), b"rest");
    drop(ks);
    reopen(&mut world);
    let ks = keyspace(&world);
    assert_eq!(ks.count_all().unwrap(), 6);
    for key in [&b"long"[..], b"alone", b"of a transaction"] {
        assert!(ks.get(key).unwrap().as_deref() == Some(&value));
    }
    assert_eq!(ks.get(b"empty").unwrap().as_deref(), Some(&b""[..]));
}

/// Reads some bytes, and then panics, or claims more than it had room for.
struct Bad {
    left: usize,
    panics: bool,
}

impl Read for Bad {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left > 0 {
            let count = buffer.len().min(self.left);
            self.left -= count;
            return Ok(count);
        }
        assert!(!self.panics, "a source that panics");
        Ok(if self.panics { 0 } else { usize::MAX })
    }
}

#[test]
fn of_a_source_that_panics_or_claims_too_much_nothing_is_written() {
    let mut world = world();
    let ks = keyspace(&world);
    let mut batch = world.db().batch();
    batch.put(&ks, b"before", b"1").unwrap();
    let bytes = batch.bytes();
    for (length, left) in [(5, 3), (5, 0), (3_000_000, 1_000_000)] {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            batch.put_stream(&ks, b"never", length, Bad { left, panics: true })
        }));
        assert!(panicked.is_err());
        assert_eq!((batch.bytes(), batch.len()), (bytes, 1));
        match batch.put_stream(&ks, b"never", length, Bad { left, panics: false }) {
            Err(Error::Source { source, .. }) => assert_eq!(source.kind(), ErrorKind::InvalidData),
            other => panic!("{other:?}"),
        }
        assert_eq!((batch.bytes(), batch.len()), (bytes, 1));
    }
    world.db().commit(batch, crate::Durability::Durable).unwrap();
    drop(ks);
    reopen(&mut world);
    assert_eq!(keyspace(&world).count_all().unwrap(), 1);
}

fn rest_of_source(source: &mut Source) -> Vec<u8> {
    let mut rest = Vec::new();
    source.read_to_end(&mut rest).unwrap();
    rest
}

#[test]
fn a_limit_is_told_before_a_source_is_read() {
    let mut world = World::new(2);
    world.options = world.options.clone().key_bytes_max(16).value_bytes_max(2000).batch_bytes_max(3000);
    world.open(0).unwrap();
    let ks = keyspace(&world);
    let mut source = Source::new(vec![7; 10_000], None);
    let mut batch = world.db().batch();
    batch.put_stream(&ks, b"first", 2000, &mut source).unwrap();
    let read = source.at;
    for (key, bytes) in [(&b"k"[..], 2001), (&[0; 17], 5), (b"k", u64::MAX), (b"second", 2000)] {
        let refused = batch.put_stream(&ks, key, bytes, &mut source);
        assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{refused:?}");
    }
    assert!(matches!(ks.put_stream(b"k", 2001, &mut source), Err(Error::LimitExceeded { .. })));
    assert_eq!((source.at, batch.len()), (read, 1));
    // What is left of the batch is used up to the last byte.
    let room = 3000 - (batch.bytes() - crate::entry::HEADER_BYTES);
    let head = 1 + 1 + 1 + 6 + 2;
    assert!(batch.put_stream(&ks, b"second", (room - head + 1) as u64, &mut source).is_err());
    batch.put_stream(&ks, b"second", (room - head) as u64, &mut source).unwrap();
    assert_eq!(batch.bytes() - crate::entry::HEADER_BYTES, 3000);
}

#[test]
fn the_longest_value_is_written_from_a_source_with_little_more_memory_than_itself() {
    let world = world();
    let ks = keyspace(&world);
    let before = world.db().statistics().memory_bytes;
    ks.put_stream(b"long", VALUE_BYTES_MAX as u64, std::io::repeat(7)).unwrap();
    let after = world.db().statistics().memory_bytes;
    assert!(after < before + VALUE_BYTES_MAX + (16 << 20), "{after} bytes, before {before}");
    let reader = ks.value_reader(b"long").unwrap().unwrap();
    assert_eq!(reader.len(), VALUE_BYTES_MAX as u64);
    let more = ks.put_stream(b"long", VALUE_BYTES_MAX as u64 + 1, std::io::repeat(7));
    assert!(matches!(more, Err(Error::LimitExceeded { what: "value bytes", .. })));
}
