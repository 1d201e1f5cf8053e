//! `ledger DIR`: makes transfers between ten accounts until it is ended, and prints the number of each once it is durable.
//! `ledger DIR N`: N of them. What `tests/crash.rs` kills.

use std::io::Write;
use std::process::ExitCode;

use ledger::{Ledger, Result};

/// What every account has when it is opened.
const OPENED: u64 = 1_000_000;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(directory) = words.next() else {
        return complain("usage: ledger DIR [TRANSFERS]");
    };
    let transfers = words.next().map_or(Ok(u64::MAX), |word| word.parse());
    let Ok(transfers) = transfers else {
        return complain("the number of transfers is no number");
    };
    match work(&directory, transfers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string()),
    }
}

fn work(directory: &str, transfers: u64) -> Result<()> {
    let ledger = Ledger::open(directory)?;
    let names: Vec<String> = (0..10).map(|n| format!("account {n}")).collect();
    for name in &names {
        match ledger.open_account(name, OPENED) {
            Ok(()) | Err(ledger::LedgerError::BadAccount(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let mut stdout = std::io::stdout().lock();
    for round in 0..transfers {
        // Any spread will do.
        let at = |step: u64| &names[(round.wrapping_mul(step) % 10) as usize];
        let transfer = ledger.transfer(at(7), at(3), round % 90 + 1)?;
        // Nobody listening is no reason to stop.
        let _ = writeln!(stdout, "{}", transfer.number).and_then(|()| stdout.flush());
    }
    ledger.close()
}

fn complain(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "ledger: {why}");
    ExitCode::FAILURE
}
