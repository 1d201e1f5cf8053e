//! Real threads on a real disk: writers, readers, checkpoints, verification and compaction at the same time.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use logwood_base::Clock;
use logwood_base::environment::SystemClock;

use super::world::scale;
use crate::{Database, Durability, Error, Options, inspect};

fn options() -> Options {
    Options::new()
        .log_segment_bytes(256 << 10)
        .page_segment_bytes(256 << 10)
        .cache_bytes(2 << 20)
        .recovery_log_bytes_max(1 << 20)
}

/// Runs `work` on several threads until the time is over.
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn for_a_while(threads: &[&(dyn Fn(&AtomicBool) + Sync)]) {
    let stop = AtomicBool::new(false);
    let clock = SystemClock::new();
    std::thread::scope(|scope| {
        for thread in threads {
            scope.spawn(|| thread(&stop));
        }
        while clock.monotonic() < Duration::from_millis(1500 * scale()) {
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn writers_readers_checkpoints_verification_and_compaction_run_beside_each_other() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), options()).unwrap();
    let ks = db.ensure_keyspace("counters").unwrap();
    let sums = db.ensure_keyspace("sums").unwrap();
    // Each writer owns its keys; a batch moves a counter and the sum together.
    let counts: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
    let write = |writer: usize, stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            let count = counts[writer].load(Ordering::Relaxed) + 1;
            let mut batch = db.batch();
            let key = format!("{writer}-{:05}", count % 3000);
            batch.put(&ks, key.as_bytes(), &[count as u8; 150]).unwrap();
            batch.put(&sums, &[writer as u8], &count.to_be_bytes()).unwrap();
            batch.put(&sums, &[writer as u8, 1], &count.to_be_bytes()).unwrap();
            let durability = if count.is_multiple_of(3) { Durability::Durable } else { Durability::Buffered };
            db.commit(batch, durability).unwrap();
            assert_eq!(sums.get(&[writer as u8]).unwrap().as_deref(), Some(&count.to_be_bytes()[..]));
            counts[writer].store(count, Ordering::Relaxed);
        }
    };
    let read = |stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            let snapshot = db.snapshot();
            for writer in 0..3u8 {
                let both = [vec![writer], vec![writer, 1]].map(|key| snapshot.get(&sums, &key).unwrap());
                assert_eq!(both[0], both[1], "a batch is seen whole or not at all");
            }
            let records: Vec<_> = snapshot.iter(&ks).unwrap().collect::<Result<_, _>>().unwrap();
            assert!(records.is_sorted());
            assert_eq!(snapshot.count::<&[u8]>(&ks, ..).unwrap(), records.len() as u64);
            db.statistics().watermarks.check();
        }
    };
    let tend = |stop: &AtomicBool| {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            round += 1;
            db.checkpoint().unwrap();
            if round % 4 == 0 {
                db.compact().unwrap();
            }
            db.verify(&mut |damage| panic!("false alarm: {damage:?}"), &mut |_| {}).unwrap();
        }
    };
    // As another process would, without a lock and without asking.
    let look = |stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            let mut alarm = |damage| panic!("false alarm: {damage:?}");
            inspect::verify(home.path(), &mut alarm, &mut |_| {}).unwrap();
            let stat = inspect::stat(home.path()).unwrap();
            let read =
                inspect::log_entries(home.path(), stat.last_lsn, 10, &mut |_| ControlFlow::Continue(()));
            assert!(matches!(read, Ok(()) | Err(Error::TooOld { .. })), "{read:?}");
        }
    };
    let writers: [&(dyn Fn(&AtomicBool) + Sync); 3] =
        [&|stop| write(0, stop), &|stop| write(1, stop), &|stop| write(2, stop)];
    for_a_while(&[writers[0], writers[1], writers[2], &read, &tend, &look]);
    db.close().unwrap();
    drop((db, ks, sums));

    let db = Database::open(home.path(), options()).unwrap();
    let sums = db.keyspace("sums").unwrap();
    for (writer, count) in counts.iter().enumerate() {
        let expected = count.load(Ordering::Relaxed).to_be_bytes();
        assert_eq!(sums.get(&[writer as u8]).unwrap().as_deref(), Some(&expected[..]));
    }
    assert!(db.statistics().recovery.bytes_replayed < 2 << 20);
}

#[test]
fn the_log_stays_bounded_under_steady_writes_and_beside_an_idle_keyspace() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), options()).unwrap();
    let (idle, busy) = (db.ensure_keyspace("idle").unwrap(), db.ensure_keyspace("busy").unwrap());
    idle.put(b"once", b"written").unwrap();
    let mut most = 0;
    for round in 0..400u32 {
        let mut batch = db.batch();
        for key in 0..100u32 {
            let key = (round * 7919 + key * 104_729) % 20_000;
            batch.put(&busy, &key.to_be_bytes(), &[round as u8; 150]).unwrap();
        }
        db.commit(batch, Durability::Buffered).unwrap();
        most = most.max(db.statistics().log.log_bytes);
    }
    assert!(db.statistics().checkpoints > 0);
    // Two generations of at most one bound each, and segments that are being written or prepared.
    assert!(most <= 4 << 20, "{most} bytes of log");
    db.close().unwrap();
    drop((db, idle, busy));
    let db = Database::open(home.path(), options()).unwrap();
    assert!(db.statistics().recovery.bytes_replayed <= 5 << 18, "{:?}", db.statistics().recovery);
    assert_eq!(db.keyspace("idle").unwrap().get(b"once").unwrap().as_deref(), Some(&b"written"[..]));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn many_threads_share_group_commits_and_each_reads_what_it_wrote() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..16u8 {
            let ks = ks.clone();
            scope.spawn(move || {
                for n in 0..60u8 {
                    ks.put(&[thread, n], &[n; 100]).unwrap();
                    assert_eq!(ks.get(&[thread, n]).unwrap().as_deref(), Some(&[n; 100][..]));
                }
            });
        }
    });
    assert_eq!(ks.count_all().unwrap(), 16 * 60);
    let statistics = db.statistics();
    assert_eq!(statistics.watermarks.durable, statistics.watermarks.visible);
    assert!(statistics.log.durable_writes < 16 * 60, "commits share writes: {:?}", statistics.log);
}

#[test]
fn tickets_are_awaited_without_a_runtime() {
    use std::future::Future;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    for n in 0..50u8 {
        let mut batch = db.batch();
        batch.put(&ks, &[n], b"value").unwrap();
        let durability = if n % 2 == 0 { Durability::Durable } else { Durability::Buffered };
        let mut ticket = std::pin::pin!(db.commit_async(batch, durability).unwrap());
        let lsn = loop {
            match ticket.as_mut().poll(&mut context) {
                Poll::Ready(lsn) => break lsn.unwrap(),
                Poll::Pending => std::thread::park(),
            }
        };
        assert!(db.visible_lsn() >= lsn);
        assert!(ks.contains(&[n]).unwrap());
    }
}

#[test]
fn a_dropped_ticket_is_settled_in_the_background() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    let mut batch = db.batch();
    batch.put(&ks, b"a", b"b").unwrap();
    drop(db.commit_async(batch, Durability::Durable).unwrap());
    let clock = SystemClock::new();
    while !ks.contains(b"a").unwrap() {
        assert!(clock.monotonic() < Duration::from_secs(20), "nobody settles it");
        std::thread::yield_now();
    }
}
