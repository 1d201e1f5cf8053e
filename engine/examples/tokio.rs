//! logwood in an async program, without ever blocking the runtime's threads.
//!
//! 1. The answer of a commit is awaited: a [`logwood::Ticket`] needs no thread while the disk writes.
//! 2. Whatever may read the disk or wait for a lock runs where blocking is allowed: reads, transactions, and the begin
//!    of a commit.
//!
//! `cargo run -p logwood --example tokio`. The runtime has a single thread, and a task that ticks on it tells the longest
//! time for which it was held up.
#![allow(clippy::print_stdout, reason = "an example")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use logwood::{Database, Durability, Error, Options, Result, TransactOptions};
use tokio::time::Instant;

/// Runs something that may block, away from the runtime's thread.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    let ended = |error| Error::Internal(format!("a task ended: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

/// Commits an order, and answers when a power cut cannot take it away.
async fn order(db: Database, number: u32) -> Result<()> {
    let ticket = blocking(move || {
        let orders = db.keyspace("orders")?;
        let mut batch = db.batch();
        batch.put(&orders, &number.to_be_bytes(), b"one bolt")?;
        db.commit_async(batch, Durability::Durable)
    })
    .await?;
    // Hundreds of orders wait here at the same time, and share the disk's writes.
    ticket.await.map(drop)
}

/// Counts the orders in a transaction, all of which runs where blocking is allowed.
async fn tally(db: Database) -> Result<u64> {
    blocking(move || {
        let (orders, totals) = (db.keyspace("orders")?, db.ensure_keyspace("totals")?);
        db.transact(TransactOptions::new(), |transaction| -> Result<u64> {
            let count = transaction.count_all(&orders)?;
            transaction.put(&totals, b"orders", &count.to_be_bytes())?;
            Ok(count)
        })
    })
    .await
}

/// Ticks every millisecond, and notes the longest time between two ticks.
async fn tick(longest_us: Arc<AtomicU64>) {
    loop {
        let before = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let took = u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX);
        longest_us.fetch_max(took, Ordering::Relaxed);
    }
}

async fn serve(db: Database) -> Result<()> {
    let longest_us = Arc::new(AtomicU64::new(0));
    let ticking = tokio::spawn(tick(Arc::clone(&longest_us)));
    let orders: Vec<_> = (0..500).map(|number| tokio::spawn(order(db.clone(), number))).collect();
    for order in orders {
        order.await.map_err(|error| Error::Internal(format!("a task ended: {error}")))??;
    }
    println!("{} orders", tally(db).await?);
    ticking.abort();
    println!("the runtime's thread was held up for {} µs at most", longest_us.load(Ordering::Relaxed));
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let db = Database::open(home.path(), Options::new())?;
    db.ensure_keyspace("orders")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(serve(db.clone()))?;
    db.close()?;
    Ok(())
}
