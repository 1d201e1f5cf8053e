//! What held snapshots cost those who write.

use logwood_base::Lsn;

use super::world::{change, commit, one_tree, small};
use crate::version::LOOKS;

#[test]
fn a_write_beside_many_snapshots_does_not_look_through_all_they_hold() {
    let (forest, tree) = one_tree(small());
    let snapshots_max = 2_000;
    let mut snapshots = Vec::new();
    let mut lsn = 1;
    let before = LOOKS.get();
    for n in 0..snapshots_max {
        // More changes than a leaf takes behind its base: it is rebuilt, and leaves a version behind.
        for round in 0..20u64 {
            lsn += 1;
            commit(&forest, lsn, &[(b"hot", Some(format!("{n} {round}").as_bytes()))]);
        }
        snapshots.push((n, forest.snapshot()));
    }
    let looks = LOOKS.get() - before;
    assert!(forest.statistics().version_bytes > 0, "snapshots hold versions");
    assert!(looks < 100 * snapshots_max, "{looks} looks for {lsn} writes beside {snapshots_max} snapshots");
    for (n, snapshot) in &snapshots {
        let value = tree.get(b"hot", crate::At::Snapshot(snapshot)).unwrap().unwrap();
        assert_eq!(&*value, format!("{n} 19").as_bytes());
    }
    // One version a snapshot, and what their going frees goes.
    let held = forest.statistics().version_bytes;
    snapshots.truncate(10);
    for _ in 0..200 {
        lsn += 1;
        commit(&forest, lsn, &[(b"hot", Some(b"later"))]);
    }
    forest.apply(Lsn(lsn + 1), &[change(b"hot", None)]).unwrap();
    forest.publish(Lsn(lsn + 1));
    let left = forest.statistics().version_bytes;
    assert!(left < held / 50, "{left} of {held} bytes of versions are left");
}
