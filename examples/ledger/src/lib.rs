//! A ledger: accounts, transfers between them, and what follows from them. Small, and whole: it is meant to be copied from.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `accounts` | name | balance, u64 big-endian |
//! | `transfers` | number, u64 big-endian | amount, u64 big-endian, then `from` NUL `to` |
//! | `transfers by account` | name, NUL, number | nothing: the secondary index |
//!
//! What it shows:
//! - a transfer moves two balances, records itself and indexes itself in one transaction, so that none of the four is ever
//!   there without the others;
//! - a materialized view ([`view::Turnover`]) that follows the change feed, keeps its own place, and goes on exactly there
//!   after a crash of either side;
//! - a backup while it is in use ([`Ledger::backup`]).
//!
//! `tests/crash.rs` kills a process that makes transfers, again and again, and checks all of it.

use std::path::Path;

use logwood::{BackupReport, Database, Error, Keyspace, Options, Snapshot, TransactOptions, Transaction};

pub mod view;

/// Why a transfer was not made.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database refused or failed.
    #[error(transparent)]
    Database(#[from] Error),
    /// There is no such account.
    #[error("there is no account {0}")]
    NoAccount(String),
    /// An account is there already, or its name is not fit for one.
    #[error("{0} cannot be opened")]
    BadAccount(String),
    /// The balance does not cover the amount.
    #[error("{account} has {balance}, less than {amount}")]
    Overdrawn {
        /// Whose balance it is.
        account: String,
        /// What is there.
        balance: u64,
        /// What was to be taken.
        amount: u64,
    },
    /// The books do not agree with each other, which must never be.
    #[error("the books are wrong: {0}")]
    Wrong(String),
}

/// The result of everything that can fail.
pub type Result<T, E = LedgerError> = std::result::Result<T, E>;

/// One transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// Counts all transfers, from 1.
    pub number: u64,
    /// Who paid.
    pub from: String,
    /// Who was paid.
    pub to: String,
    /// How much.
    pub amount: u64,
}

impl Transfer {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.amount.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.from.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.to.as_bytes());
        bytes
    }

    /// Reads a record of the keyspace `transfers`; `None` when it is none.
    #[must_use]
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (amount, names) = value.split_first_chunk::<8>()?;
        let (from, to) = std::str::from_utf8(names).ok()?.split_once('\0')?;
        Some(Self {
            number: number(key)?,
            from: from.to_owned(),
            to: to.to_owned(),
            amount: u64::from_be_bytes(*amount),
        })
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn index_key(account: &str, number: u64) -> Vec<u8> {
    let mut key = account.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The books.
#[derive(Clone, Debug)]
pub struct Ledger {
    db: Database,
    accounts: Keyspace,
    transfers: Keyspace,
    by_account: Keyspace,
}

impl Ledger {
    /// Opens the ledger in a directory, and creates it when there is none.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        // The view may come later, or never: no more log is kept for it than is quicker read than built anew.
        let db = Database::open(path, Options::new().follower(view::NAME, view::LOG_BYTES_MAX))?;
        Ok(Self {
            accounts: db.ensure_keyspace("accounts")?,
            transfers: db.ensure_keyspace("transfers")?,
            by_account: db.ensure_keyspace("transfers by account")?,
            db,
        })
    }

    /// The database below, for its changes and statistics.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// The keyspace of the transfers, to tell its changes from those of others.
    #[must_use]
    pub fn transfers(&self) -> &Keyspace {
        &self.transfers
    }

    /// Opens an account.
    ///
    /// # Errors
    /// `BadAccount` when it is there already, or its name is empty or holds a NUL.
    pub fn open_account(&self, name: &str, balance: u64) -> Result<()> {
        if name.is_empty() || name.contains('\0') {
            return Err(LedgerError::BadAccount(name.to_owned()));
        }
        self.db.transact(TransactOptions::new(), |transaction| {
            if transaction.contains(&self.accounts, name.as_bytes())? {
                return Err(LedgerError::BadAccount(name.to_owned()));
            }
            transaction.put(&self.accounts, name.as_bytes(), &balance.to_be_bytes())?;
            Ok(())
        })
    }

    /// Moves an amount, durably. Threads that move between the same accounts at the same time make each other try again.
    ///
    /// # Errors
    /// `NoAccount`, `Overdrawn`: nothing was changed.
    pub fn transfer(&self, from: &str, to: &str, amount: u64) -> Result<Transfer> {
        self.db.transact(TransactOptions::new(), |transaction| {
            let balance = self.balance_in(transaction, from)?;
            let left = balance.checked_sub(amount).ok_or_else(|| {
                let account = from.to_owned();
                LedgerError::Overdrawn { account, balance, amount }
            })?;
            transaction.put(&self.accounts, from.as_bytes(), &left.to_be_bytes())?;
            // Read behind the write above: a transfer to oneself changes nothing.
            let more = self.balance_in(transaction, to)? + amount;
            transaction.put(&self.accounts, to.as_bytes(), &more.to_be_bytes())?;
            let last = transaction.iter(&self.transfers)?.next_back().transpose()?;
            let number = last.and_then(|(key, _)| number(&key)).unwrap_or(0) + 1;
            let transfer = Transfer { number, from: from.to_owned(), to: to.to_owned(), amount };
            transaction.put(&self.transfers, &number.to_be_bytes(), &transfer.encode())?;
            transaction.put(&self.by_account, &index_key(from, number), b"")?;
            transaction.put(&self.by_account, &index_key(to, number), b"")?;
            Ok(transfer)
        })
    }

    fn balance_in(&self, transaction: &Transaction, account: &str) -> Result<u64> {
        let balance = transaction.get(&self.accounts, account.as_bytes())?;
        balance.and_then(|bytes| number(&bytes)).ok_or_else(|| LedgerError::NoAccount(account.to_owned()))
    }

    /// What an account has.
    ///
    /// # Errors
    /// `NoAccount`.
    pub fn balance(&self, account: &str) -> Result<u64> {
        let balance = self.accounts.get(account.as_bytes())?;
        balance.and_then(|bytes| number(&bytes)).ok_or_else(|| LedgerError::NoAccount(account.to_owned()))
    }

    /// The transfers of an account, the newest first, by the index.
    ///
    /// # Errors
    /// `Wrong` when the index leads nowhere.
    pub fn history(&self, account: &str, limit: usize) -> Result<Vec<Transfer>> {
        // One moment for both: the index never names a transfer that the snapshot lacks.
        let snapshot = self.db.snapshot();
        let prefix = [account.as_bytes(), b"\0"].concat();
        let entries = snapshot.prefix(&self.by_account, &prefix)?.rev().take(limit);
        entries.map(|entry| self.transfer_in(&snapshot, &entry?.0[prefix.len()..])).collect()
    }

    fn transfer_in(&self, snapshot: &Snapshot, key: &[u8]) -> Result<Transfer> {
        let value = snapshot.get(&self.transfers, key)?;
        value
            .and_then(|value| Transfer::decode(key, &value))
            .ok_or_else(|| LedgerError::Wrong(format!("no transfer {}", key.escape_ascii())))
    }

    /// Compares the books with each other: the balances follow from the transfers and `opened`, what the accounts had when
    /// they were opened; the index names every transfer of every account, and nothing else. Answers how many transfers
    /// there are.
    ///
    /// # Errors
    /// `Wrong`, with what does not fit.
    pub fn check(&self, opened: &[(&str, u64)]) -> Result<u64> {
        let snapshot = self.db.snapshot();
        let mut balances: std::collections::BTreeMap<String, i128> =
            opened.iter().map(|(name, balance)| ((*name).to_owned(), i128::from(*balance))).collect();
        let (mut indexed, mut last) = (std::collections::BTreeSet::new(), 0);
        for record in snapshot.iter(&self.transfers)? {
            let (key, value) = record?;
            let transfer = Transfer::decode(&key, &value).filter(|transfer| transfer.number == last + 1);
            let transfer = transfer.ok_or_else(|| LedgerError::Wrong(format!("transfer {}", last + 1)))?;
            last = transfer.number;
            *balances.entry(transfer.from.clone()).or_default() -= i128::from(transfer.amount);
            *balances.entry(transfer.to.clone()).or_default() += i128::from(transfer.amount);
            indexed.insert(index_key(&transfer.from, last));
            indexed.insert(index_key(&transfer.to, last));
        }
        for record in snapshot.iter(&self.accounts)? {
            let (name, balance) = record?;
            let name = String::from_utf8_lossy(&name).into_owned();
            if balances.remove(&name) != number(&balance).map(i128::from) {
                return Err(LedgerError::Wrong(format!("the balance of {name}")));
            }
        }
        if let Some(name) = balances.into_keys().next() {
            return Err(LedgerError::Wrong(format!("no account {name}")));
        }
        let found: Result<std::collections::BTreeSet<Vec<u8>>, Error> =
            snapshot.iter(&self.by_account)?.map(|entry| Ok(entry?.0.to_vec())).collect();
        if found? != indexed {
            return Err(LedgerError::Wrong("the index".to_owned()));
        }
        Ok(last)
    }

    /// Copies the ledger while it is in use. A later call on the same directory adds what is new.
    ///
    /// # Errors
    /// As [`Database::backup`].
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport> {
        Ok(self.db.backup(to)?)
    }

    /// Closes the ledger. Everything that was answered is durable with or without it.
    ///
    /// # Errors
    /// As [`Database::close`].
    pub fn close(&self) -> Result<()> {
        Ok(self.db.close()?)
    }
}
