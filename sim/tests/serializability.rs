//! Histories of the shipped engine are serializable; and the checker finds what is not.

use std::collections::BTreeMap;

use logwood::{Database, Lsn, Options};
use logwood_sim::serializability::clients::{Discipline, final_state, interleaved, threads, writers};
use logwood_sim::serializability::{Anomaly, Dependency, Observed, Read, check};

fn scale() -> u64 {
    std::env::var("LOGWOOD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// A transaction that read at `snapshot` and committed at `commit`.
fn transaction(snapshot: u64, commit: u64, reads: &[(&str, u64)], writes: &[(&str, u64)]) -> Observed {
    let found = |write: u64| (write > 0).then_some(write);
    Observed {
        snapshot: Lsn(snapshot),
        acknowledged: Lsn(0),
        commit: (commit > 0).then_some(Lsn(commit)),
        reads: reads.iter().map(|(key, write)| Read::Key(key.as_bytes().to_vec(), found(*write))).collect(),
        writes: writes.iter().map(|(key, write)| (key.as_bytes().to_vec(), found(*write))).collect(),
    }
}

fn kinds(history: &[Observed]) -> Vec<Dependency> {
    match check(history) {
        Err(Anomaly::Cycle(edges)) => {
            let mut kinds: Vec<_> = edges.iter().map(|edge| edge.dependency).collect();
            kinds.sort_unstable();
            kinds
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_update_is_found() {
    let history = [
        transaction(0, 1, &[], &[("x", 1)]),
        transaction(1, 2, &[("x", 1)], &[("x", 2)]),
        transaction(1, 3, &[("x", 1)], &[("x", 3)]),
    ];
    assert_eq!(kinds(&history).len(), 2);
    assert!(check(&history[..2]).is_ok());
}

#[test]
fn write_skew_is_found() {
    let history = [
        transaction(0, 1, &[], &[("x", 1), ("y", 2)]),
        transaction(1, 2, &[("x", 1), ("y", 2)], &[("x", 3)]),
        transaction(1, 3, &[("x", 1), ("y", 2)], &[("y", 4)]),
    ];
    assert_eq!(kinds(&history), [Dependency::AntiDependency; 2]);
}

#[test]
fn a_phantom_is_found() {
    let range = |snapshot: u64, commit: u64, found: &[(&str, u64)], writes: &[(&str, u64)]| {
        let found = found.iter().map(|(key, write)| (key.as_bytes().to_vec(), *write)).collect();
        let mut observed = transaction(snapshot, commit, &[], writes);
        observed.reads.push(Read::Range(b"a".to_vec(), b"m".to_vec(), found));
        observed
    };
    // Both see no booking and book.
    let history = [range(0, 1, &[], &[("b", 1)]), range(0, 2, &[], &[("c", 2)])];
    assert_eq!(kinds(&history), [Dependency::AntiDependency; 2]);
    // One sees the other's, or books elsewhere.
    assert!(check(&[range(0, 1, &[], &[("b", 1)]), range(1, 2, &[("b", 1)], &[("c", 2)])]).is_ok());
    let elsewhere =
        [range(0, 1, &[], &[("b", 1)]), range(0, 2, &[], &[("z", 2)]), range(1, 0, &[("b", 1)], &[])];
    assert!(check(&elsewhere).is_ok());
}

#[test]
fn dirty_and_intermediate_reads_are_found() {
    let history = [transaction(0, 1, &[], &[("x", 1)]), transaction(1, 0, &[("x", 7)], &[])];
    assert_eq!(check(&history), Err(Anomaly::DirtyRead { reader: 1, key: b"x".to_vec(), write: 7 }));
}

#[test]
fn a_reader_that_only_reads_can_make_a_cycle() {
    // The deposit is seen, the withdrawal that came before it in any serial order is not.
    let history = [
        transaction(0, 1, &[], &[("x", 1), ("y", 2)]),
        transaction(1, 3, &[("x", 1), ("y", 2)], &[("x", 3)]),
        transaction(1, 2, &[("y", 2)], &[("y", 4)]),
        transaction(2, 0, &[("x", 1), ("y", 4)], &[]),
    ];
    assert_eq!(
        kinds(&history),
        [Dependency::ReadsFrom, Dependency::AntiDependency, Dependency::AntiDependency]
    );
    assert!(check(&history[..3]).is_ok());
}

#[test]
fn absence_is_a_version_too_and_old_news_is_stale() {
    let history = [
        transaction(0, 1, &[("x", 0)], &[("x", 1)]),
        transaction(1, 2, &[("x", 1)], &[("x", 0)]),
        transaction(2, 3, &[("x", 0)], &[("x", 2)]),
        transaction(2, 4, &[("x", 0)], &[("x", 3)]),
    ];
    assert!(check(&history[..3]).is_ok());
    assert_eq!(kinds(&history).len(), 2);
    let mut stale = transaction(1, 0, &[], &[]);
    stale.acknowledged = Lsn(2);
    assert_eq!(check(&[stale]), Err(Anomaly::Stale { reader: 0 }));
}

#[test]
fn interleaved_transactions_are_serializable() {
    let (mut commits, mut transactions) = (0, 0);
    for seed in 0..150 * scale() {
        let history = interleaved(seed, 5, 400, Discipline::Honest).unwrap();
        check(&history).unwrap_or_else(|anomaly| panic!("seed {seed}: {anomaly}"));
        commits += writers(&history);
        transactions += history.len();
    }
    assert!(commits > 1500 && transactions > commits, "{commits} of {transactions}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let run = || interleaved(7, 5, 400, Discipline::Honest).unwrap();
    assert_eq!(run(), run());
}

/// Each mistake of clients is found in most histories, if not in every one.
#[test]
fn clients_that_break_the_rules_are_found_out() {
    for discipline in
        [Discipline::Batches, Discipline::UnprotectedRanges, Discipline::UnprotectedKeys, Discipline::Peeking]
    {
        let mut found = 0;
        for seed in 0..20 {
            match check(&interleaved(seed, 5, 400, discipline).unwrap()) {
                Err(Anomaly::DirtyRead { .. }) => found += u32::from(discipline == Discipline::Peeking),
                Err(Anomaly::Cycle(_)) => found += 1,
                Err(stale) => panic!("{stale}"),
                Ok(()) => {}
            }
        }
        assert!(found >= 10, "{discipline:?}: {found} of 20");
    }
}

#[test]
fn transactions_of_many_threads_are_serializable_and_leave_what_the_last_one_wrote() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new().log_segment_bytes(256 << 10)).unwrap();
    let transactions = 150 * usize::try_from(scale()).unwrap();
    let history = threads(&db, 8, transactions, Discipline::Honest).unwrap();
    check(&history).unwrap_or_else(|anomaly| panic!("{anomaly}"));
    assert!(writers(&history) > 100, "{}", writers(&history));
    assert!(db.statistics().transactions.refused > 0, "they met");
    let records = db.keyspace("k").unwrap().iter().unwrap();
    let found: BTreeMap<Vec<u8>, u64> = records
        .map(|record| {
            record.map(|(key, value)| (key.to_vec(), u64::from_be_bytes((*value).try_into().unwrap())))
        })
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(found, final_state(&history));
}
