//! The ledger's process is killed at random moments. Afterwards every transfer that it had printed is there, the books agree
//! with each other, and the view, which is killed in its own way, becomes what the books say.
#![allow(clippy::disallowed_methods, reason = "tests lay hands on files and processes")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ledger::view::{Sums, Turnover};
use ledger::{Ledger, LedgerError};

fn accounts() -> Vec<(String, u64)> {
    (0..10).map(|n| (format!("account {n}"), 1_000_000)).collect()
}

fn check(ledger: &Ledger) -> u64 {
    let accounts = accounts();
    let opened: Vec<(&str, u64)> = accounts.iter().map(|(name, balance)| (name.as_str(), *balance)).collect();
    ledger.check(&opened).unwrap()
}

/// Runs the program, kills it behind the `after`-th transfer, and answers the last number that it had printed.
fn killed(directory: &Path, after: usize) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ledger"))
        .arg(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut last = 0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref().take(after) {
        last = line.unwrap().parse().unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had printed by then counts as well; the last line may be torn.
    for line in lines.map_while(Result::ok) {
        if let Ok(number) = line.parse::<u64>() {
            last = last.max(number.min(last + 1));
        }
    }
    last
}

/// Compares the view with the books.
fn compare(view: &Turnover, ledger: &Ledger) {
    for (name, _) in accounts() {
        let mut expected = Sums::default();
        for transfer in ledger.history(&name, usize::MAX).unwrap() {
            expected.paid += if transfer.from == name { transfer.amount } else { 0 };
            expected.received += if transfer.to == name { transfer.amount } else { 0 };
        }
        assert_eq!(view.of(&name).unwrap(), expected, "{name}");
        let (opened, balance) = (1_000_000, ledger.balance(&name).unwrap());
        assert_eq!(opened + expected.received - expected.paid, balance, "{name}");
    }
}

#[test]
fn a_killed_ledger_keeps_what_it_acknowledged_and_its_view_catches_up() {
    let home = tempfile::tempdir().unwrap();
    let (books, turnover) = (home.path().join("books"), home.path().join("turnover"));
    let mut rng = fastrand::Rng::with_seed(4);
    let mut before = 0;
    for round in 0..6 {
        let acknowledged = killed(&books, rng.usize(1..400));
        let ledger = Ledger::open(&books).unwrap();
        let mut view = Turnover::open(&turnover, &ledger).unwrap();
        let there = check(&ledger);
        assert!(there >= acknowledged && there > before, "round {round}: {there} of {acknowledged}");
        before = there;
        if round % 2 == 0 {
            // Every other time it ends half way.
            view.follow(Duration::ZERO).unwrap();
            ledger.transfer("account 1", "account 2", 5).unwrap();
            before += 1;
            view.close().unwrap();
            view = Turnover::open(&turnover, &ledger).unwrap();
        }
        view.follow(Duration::ZERO).unwrap();
        assert_eq!(view.lsn().unwrap(), ledger.database().visible_lsn());
        compare(&view, &ledger);
        view.close().unwrap();
        ledger.close().unwrap();
    }
}

#[test]
fn a_backup_is_a_ledger_and_a_view_that_was_away_too_long_is_built_anew() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(home.path().join("books")).unwrap();
    for (name, balance) in accounts() {
        ledger.open_account(&name, balance).unwrap();
    }
    let mut view = Turnover::open(home.path().join("turnover"), &ledger).unwrap();
    ledger.transfer("account 1", "account 2", 10).unwrap();
    view.follow(Duration::ZERO).unwrap();
    ledger.backup(home.path().join("backup")).unwrap();
    ledger.transfer("account 2", "account 3", 7).unwrap();
    let report = ledger.backup(home.path().join("backup")).unwrap();
    assert!(report.keyspaces.iter().any(|(name, digest)| name == "transfers" && digest.count == 2));
    ledger.transfer("account 3", "account 4", 7).unwrap();
    let copy = Ledger::open(home.path().join("backup")).unwrap();
    assert_eq!((check(&copy), check(&ledger)), (2, 3));

    // Followed on the copy, from the place that it has in the original: the history is the same one up to there, but its
    // log begins behind it.
    view.close().unwrap();
    let view = Turnover::open(home.path().join("turnover"), &copy).unwrap();
    compare(&view, &copy);
    let refused = ledger.transfer("account 1", "account 2", u64::MAX).unwrap_err();
    assert!(matches!(refused, LedgerError::Overdrawn { .. }), "{refused}");
    assert!(matches!(ledger.transfer("nobody", "account 2", 1), Err(LedgerError::NoAccount(_))));
    assert_eq!(check(&ledger), 3);
}

#[test]
fn threads_that_transfer_at_the_same_time_lose_nothing() {
    let home = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(home.path().join("books")).unwrap();
    for (name, balance) in accounts() {
        ledger.open_account(&name, balance).unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let ledger = &ledger;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for _ in 0..25 {
                    let account = |n: u64| format!("account {n}");
                    let (from, to) = (account(rng.u64(..10)), account(rng.u64(..10)));
                    ledger.transfer(&from, &to, rng.u64(1..100)).unwrap();
                }
            });
        }
    });
    assert_eq!(check(&ledger), 100);
}
