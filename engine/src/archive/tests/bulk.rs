//! Bulk writes in an archive: their fragments go up while they run, and come back as the log had them.

use super::rig::{Rig, fill};
use crate::archive::{Archive, Point, RestoreOptions};
use crate::tests::checks::read_all;
use crate::{BulkOptions, Database, Durability};

#[test]
fn a_bulk_write_whose_fragments_go_up_while_it_runs_is_restored_from_its_commit_on_and_never_in_part() {
    for snapshot_log_bytes in [0, 8_000] {
        let rig = Rig::new(snapshot_log_bytes);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive().snapshot_log_bytes(snapshot_log_bytes)).unwrap();
        fill(&db, &keyspace, 0..50, 200, Durability::Durable);
        let mut states = Vec::new();
        let mut bulk = db.bulk_write(BulkOptions::new().memory_bytes(64 << 10)).unwrap();
        for round in 0..4u32 {
            for n in (0..400u32).rev() {
                let key = format!("bulk {:05}", n * 4 + round);
                bulk.put(&keyspace, key.as_bytes(), &[round as u8; 300]).unwrap();
            }
            fill(&db, &keyspace, round * 10..round * 10 + 10, 150, Durability::Durable);
            archiver.flush().unwrap();
            states.push((db.visible_lsn(), read_all(&db).unwrap()));
            db.checkpoint().unwrap();
        }
        let lsn = bulk.commit(Durability::Durable).unwrap();
        assert!(lsn.get() > 100, "its fragments have entries of their own");
        states.push((lsn, read_all(&db).unwrap()));
        assert_eq!(states[4].1["k"].len(), states[3].1["k"].len() + 1600);
        fill(&db, &keyspace, 0..30, 100, Durability::Durable);
        states.push((db.visible_lsn(), read_all(&db).unwrap()));
        archiver.flush().unwrap();
        archiver.stop().unwrap();
        db.close().unwrap();

        for (lsn, state) in states {
            let archive = Archive::with_client(rig.client(), &rig.environment);
            let options = RestoreOptions::new().point(Point::Lsn(lsn)).database(rig.options());
            assert_eq!(archive.restore("restored", &options).unwrap().lsn, lsn);
            let restored = Database::open("restored", rig.options().background(false)).unwrap();
            assert_eq!(read_all(&restored).unwrap(), state, "{lsn}");
            restored.close().unwrap();
            crate::seed::settle::remove_tree(&rig.disk, "restored".as_ref()).unwrap();
        }
    }
}
