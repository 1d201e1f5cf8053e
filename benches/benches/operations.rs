//! Single operations, for following one's own changes; the ratios of BENCHMARKS.md come from the program `ratios`.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use logwood::{Database, Durability, Options};

const RECORDS: u64 = 200_000;

fn key(n: u64) -> [u8; 8] {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn operations(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("makes a directory");
    let db = Database::open(dir.path().join("db"), Options::default()).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    for first in (0..RECORDS).step_by(1_000) {
        let mut batch = db.batch();
        for n in first..first + 1_000 {
            batch.put(&keyspace, &key(n), &[n as u8; 150]).expect("fits");
        }
        db.commit(batch, Durability::Buffered).expect("commits");
    }
    let mut n = 0;
    let mut next = || {
        n += 1;
        key(n * 7919 % RECORDS)
    };
    criterion.bench_function("get", |bench| bench.iter(|| keyspace.get(&next()).expect("reads")));
    criterion.bench_function("range of 10", |bench| {
        bench.iter(|| {
            keyspace
                .range(&next()[..]..)
                .expect("opens")
                .take(10)
                .map(|record| record.expect("reads").1.len())
                .sum::<usize>()
        });
    });
    criterion.bench_function("put, buffered", |bench| {
        bench.iter(|| keyspace.put_with(&next(), &[1; 150], Durability::Buffered).expect("commits"));
    });
    criterion.bench_function("put, durable", |bench| {
        bench.iter(|| keyspace.put_with(&next(), &[2; 150], Durability::Durable).expect("commits"));
    });
    criterion.bench_function("batch of 1,000, durable", |bench| {
        bench.iter_batched(
            || {
                let mut batch = db.batch();
                (0..1_000).for_each(|_| batch.put(&keyspace, &next(), &[3; 150]).expect("fits"));
                batch
            },
            |batch| db.commit(batch, Durability::Durable).expect("commits"),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, operations);
criterion_main!(benches);
