//! Transactions of four operations: two keys read, both written back changed.
//!
//! With conflicts, one transaction in ten works on one key that all threads want. Refused ones are run again until they
//! commit; only commits count.

use std::sync::atomic::{AtomicU64, Ordering};

use fjall::Readable;
use logwood::{Database, Durability, Options, TransactOptions};
use redb::ReadableTable;

use crate::Setting;
use crate::measure::{Draw, interleave, key, record, report, seconds};

/// Records that there are.
const RECORDS: u64 = 100_000;
const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("default");

/// What the transactions of one thread work on.
struct Work {
    draw: Draw,
    thread: u64,
    threads: u64,
    hot: bool,
}

impl Work {
    /// Two keys: of this thread alone, but for the hot ones.
    fn keys(&mut self) -> [[u8; 24]; 2] {
        let mut own = || key(self.draw.next() % (RECORDS / self.threads) * self.threads + self.thread);
        let (first, second) = (own(), own());
        let hot = self.hot && self.draw.next().is_multiple_of(10);
        [if hot { key(0) } else { first }, second]
    }
}

/// A value as the transaction changes it.
fn changed(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    value[0] = value[0].wrapping_add(1);
    value
}

/// Runs `transactions` in all on so many threads; answers commits a second.
fn run(transactions: u64, threads: u64, hot: bool, transact: &(dyn Fn(&mut Work) + Sync)) -> f64 {
    let elapsed = seconds(|| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut work = Work { draw: Draw(thread + 1), thread, threads, hot };
                    (0..transactions / threads).for_each(|_| transact(&mut work));
                });
            }
        });
    });
    transactions as f64 / elapsed
}

/// 1 and 8 threads, without conflicts and with one transaction in ten on one key; `--records` says how many; beside fjall's optimistic
/// transactions and redb's single writer.
pub fn transactions(setting: &Setting) {
    let transactions = setting.records_or(1_000_000);
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let db = Database::open(dir.path().join("logwood"), Options::default()).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    let fjall_db =
        fjall::OptimisticTxDatabase::builder(dir.path().join("fjall")).open().expect("opens fjall");
    let fjall_keyspace =
        fjall_db.keyspace("default", fjall::KeyspaceCreateOptions::default).expect("makes a keyspace");
    let redb_db = redb::Database::create(dir.path().join("redb")).expect("opens redb");
    fill(&db, &fjall_db, &redb_db);

    let refused = AtomicU64::new(0);
    let ours = |work: &mut Work| {
        let keys = work.keys();
        let options = TransactOptions::new().durability(Durability::Buffered).attempts_max(u32::MAX);
        db.transact(options, |transaction| -> logwood::Result<()> {
            for key in &keys {
                let value = transaction.get(&keyspace, key)?.expect("was filled");
                transaction.put(&keyspace, key, &changed(&value))?;
            }
            Ok(())
        })
        .expect("commits");
    };
    let fjalls = |work: &mut Work| {
        let keys = work.keys();
        loop {
            let transaction = fjall_db.write_tx().expect("begins");
            let mut transaction = transaction.durability(Some(fjall::PersistMode::Buffer));
            for key in &keys {
                let value = transaction.get(&fjall_keyspace, key).expect("reads").expect("was filled");
                transaction.insert(&fjall_keyspace, *key, changed(&value));
            }
            if transaction.commit().expect("writes").is_ok() {
                return;
            }
            refused.fetch_add(1, Ordering::Relaxed);
        }
    };
    let redbs = |work: &mut Work| {
        let keys = work.keys();
        let mut transaction = redb_db.begin_write().expect("begins");
        transaction.set_durability(redb::Durability::None).expect("is allowed");
        {
            let mut table = transaction.open_table(TABLE).expect("opens a table");
            for key in &keys {
                let value = changed(table.get(&key[..]).expect("reads").expect("was filled").value());
                table.insert(&key[..], &value[..]).expect("writes");
            }
        }
        transaction.commit().expect("commits");
    };
    for (threads, hot) in [(1, false), (1, true), (8, false), (8, true)] {
        let before = (db.statistics().transactions.refused, refused.load(Ordering::Relaxed));
        let series = interleave(
            setting.rounds,
            &mut [
                ("logwood, buffered", &mut || run(transactions, threads, hot, &ours)),
                ("fjall 3 optimistic, buffered", &mut || run(transactions, threads, hot, &fjalls)),
                ("redb, one writer, in memory", &mut || run(transactions, threads, hot, &redbs)),
            ],
        );
        let conflicts = if hot { "one in ten on one key" } else { "no conflicts" };
        report(&format!("transactions, {threads} threads, {conflicts}"), "commits/s", "shown", &series);
        let share = |count: u64| count as f64 * 100.0 / (transactions * setting.rounds as u64) as f64;
        let after = (db.statistics().transactions.refused, refused.load(Ordering::Relaxed));
        println!(
            "    refused: logwood {:.1} %, fjall {:.1} % of the commits",
            share(after.0 - before.0),
            share(after.1 - before.1)
        );
    }
}

/// The same records in all of them.
fn fill(db: &Database, fjall_db: &fjall::OptimisticTxDatabase, redb_db: &redb::Database) {
    let keyspace = db.keyspace("default").expect("is there");
    let fjall_keyspace =
        fjall_db.keyspace("default", fjall::KeyspaceCreateOptions::default).expect("is there");
    let mut batch = db.batch();
    let redb_writes = redb_db.begin_write().expect("begins");
    {
        let mut table = redb_writes.open_table(TABLE).expect("makes a table");
        for n in 0..RECORDS {
            let (key, value) = record(n);
            batch.put(&keyspace, &key, &value).expect("fits");
            fjall_keyspace.insert(key, value).expect("writes");
            table.insert(&key[..], &value[..]).expect("writes");
        }
    }
    db.commit(batch, Durability::Durable).expect("commits");
    redb_writes.commit().expect("commits");
}
