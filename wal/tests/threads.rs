//! The real disk and real threads: many committing threads, background work, reopening.
#![allow(clippy::disallowed_methods, reason = "the test drives the log from threads of its own")]

use std::sync::Mutex;

use logwood_base::{DatabaseId, Environment, GroupId, Lsn, Term};
use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};

#[test]
fn many_threads_commit_at_once_and_everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let env = Environment::system().unwrap();
    let options = LogOptions { segment_bytes: 256 << 10, ..LogOptions::default() };
    let path = dir.path().join("log");
    let log = Log::create(&env, &path, DatabaseId(1), options.clone()).unwrap();
    let group = log.create_group(GroupId(1), BaseState::default()).unwrap();
    let order = Mutex::new(Lsn::ZERO);
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let (group, order) = (&group, &order);
            scope.spawn(move || {
                for n in 0..100u32 {
                    let durability = if n % 4 == 3 { Durability::Buffered } else { Durability::Durable };
                    let ticket = {
                        let mut last = order.lock().unwrap();
                        *last = last.next();
                        let payload = [thread; 180];
                        let entries = [(Term(1), &payload[..])];
                        group
                            .append(Append {
                                term: Term(1),
                                previous: None,
                                first_lsn: *last,
                                entries: &entries,
                                durability,
                            })
                            .unwrap()
                    };
                    ticket.wait().unwrap();
                    if durability == Durability::Durable {
                        assert!(group.durable_lsn() >= ticket.last_lsn());
                    }
                }
            });
        }
    });
    assert!(log.statistics().rolls > 0, "{:?}", log.statistics());
    log.close().unwrap();
    drop((log, group));
    let (log, recovered) = Log::open(&env, &path, Expect::default(), options, &mut |_| {}).unwrap();
    assert_eq!(recovered.dropped_batches, 0);
    let group = log.group(GroupId(1)).unwrap();
    let mut cursor = group.cursor(Lsn(1));
    let mut per_thread = [0; 8];
    while let Some(entry) = cursor.next().unwrap() {
        per_thread[usize::from(entry.payload[0])] += 1;
    }
    assert_eq!(per_thread, [100; 8]);
    assert_eq!(group.read(Lsn(1), Lsn(11), 1 << 20).unwrap().len(), 10, "through a map");
}
