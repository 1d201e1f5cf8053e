//! The record of every commit, kept outside the disk that is made to fail.
//!
//! States are kept one per commit, in the order of the log. After a crash the database must equal one of them, not older
//! than what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use logwood::{Digest, Lsn};

/// Records of a keyspace.
pub type Records = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// All keyspaces.
pub type State = BTreeMap<String, Records>;

/// The database after one commit.
struct Version {
    lsn: Lsn,
    state: State,
}

/// All that was ever promised, since the last recovery.
pub struct Oracle {
    versions: Vec<Version>,
    /// Index of the newest version that a power cut must leave.
    durable: usize,
    /// Index of the newest version that a kill must leave.
    written: usize,
}

/// How the last life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// Closed, or the process was killed: the page cache is still there.
    Process,
    /// The power went, or a sync failed: only what was durable counts.
    Power,
}

impl Oracle {
    /// An empty database.
    #[must_use]
    pub fn new() -> Self {
        Self { versions: vec![Version { lsn: Lsn::ZERO, state: State::new() }], durable: 0, written: 0 }
    }

    /// The newest state, whether or not it will stay.
    #[must_use]
    pub fn newest(&self) -> &State {
        &self.versions[self.versions.len() - 1].state
    }

    /// A commit took its place in the log. Answers its index.
    pub fn begun(&mut self, lsn: Lsn, state: State) -> usize {
        self.versions.push(Version { lsn, state });
        self.versions.len() - 1
    }

    /// A commit was acknowledged.
    pub fn acknowledged(&mut self, index: usize, durable: bool) {
        self.written = self.written.max(index);
        if durable {
            self.durable = self.durable.max(index);
        }
    }

    /// Everything that has its place in the log was made durable.
    pub fn synced(&mut self) {
        let last = self.versions.iter().rposition(|version| version.lsn != Lsn::MAX);
        self.acknowledged(last.unwrap_or(0), true);
    }

    /// The state of the newest commit up to `lsn`.
    #[must_use]
    pub fn at(&self, lsn: Lsn) -> &State {
        let found = self.versions.iter().rev().find(|version| version.lsn <= lsn);
        &found.unwrap_or(&self.versions[0]).state
    }

    /// That state, and those of all commits behind it.
    #[must_use]
    pub fn since(&self, lsn: Lsn) -> Vec<State> {
        let first = self.versions.iter().rposition(|version| version.lsn <= lsn).unwrap_or(0);
        self.versions[first..].iter().map(|version| version.state.clone()).collect()
    }

    /// The newest commit that is known to have its place.
    #[must_use]
    pub fn newest_lsn(&self) -> Lsn {
        let mut known = self.versions.iter().map(|version| version.lsn).filter(|lsn| *lsn != Lsn::MAX);
        known.next_back().unwrap_or(Lsn::ZERO)
    }

    /// Holds what a recovery found against the promises; it is then the new beginning.
    ///
    /// # Errors
    /// What was lost, or what is there and never was.
    pub fn recovered(&mut self, found: State, visible: Lsn, death: Death) -> Result<(), String> {
        let least = match death {
            Death::Power => self.durable,
            Death::Process => self.written.max(self.durable),
        };
        // Several commits may leave the same state; one that is not visible is not there.
        let there =
            |version: &Version| version.state == found && (version.lsn <= visible || version.lsn == Lsn::MAX);
        if !self.versions[least..].iter().any(there) {
            return Err(format!("visible_lsn is {visible}: {}", self.explain(&found, least)));
        }
        self.versions = vec![Version { lsn: visible, state: found }];
        (self.durable, self.written) = (0, 0);
        Ok(())
    }

    fn explain(&self, found: &State, least: usize) -> String {
        let older = (0..least).rev().find(|&at| self.versions[at].state == *found);
        if let Some(older) = older {
            let (have, need) = (self.versions[older].lsn, self.versions[least].lsn);
            return format!(
                "acknowledged commits are lost: the database ends at LSN {have}, promised was {need}"
            );
        }
        let promised = &self.versions[least].state;
        format!(
            "the database equals no state between LSN {} and {}; to the older one: {}; to the newest: {}",
            self.versions[least].lsn,
            self.versions[self.versions.len() - 1].lsn,
            difference(promised, found),
            difference(self.newest(), found),
        )
    }
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}

/// The first differences between two states, in words.
#[must_use]
pub fn difference(expected: &State, found: &State) -> String {
    let mut told = Vec::new();
    for name in expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name))) {
        match (expected.get(name), found.get(name)) {
            (Some(_), None) => told.push(format!("keyspace {name} is missing")),
            (None, Some(_)) => told.push(format!("keyspace {name} should not be")),
            (Some(expected), Some(found)) => differ(name, expected, found, &mut told),
            (None, None) => {}
        }
        if told.len() >= 4 {
            break;
        }
    }
    if told.is_empty() { "no difference".to_owned() } else { told.join(", ") }
}

fn differ(name: &str, expected: &Records, found: &Records, told: &mut Vec<String>) {
    let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
    for key in keys {
        let key_shown = String::from_utf8_lossy(key);
        match (expected.get(key), found.get(key)) {
            (Some(_), None) => told.push(format!("{name}/{key_shown} is missing")),
            (None, Some(_)) => told.push(format!("{name}/{key_shown} should not be")),
            (Some(a), Some(b)) if a != b => {
                told.push(format!("{name}/{key_shown} is another ({} bytes, expected {})", b.len(), a.len()));
            }
            _ => {}
        }
        if told.len() >= 4 {
            return;
        }
    }
}

/// The digest that a keyspace must have.
#[must_use]
pub fn digest(records: &Records) -> Digest {
    let mut digest = Digest::EMPTY;
    records.iter().for_each(|(key, value)| digest.add(key, value));
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(value: u8) -> State {
        let records = Records::from([(b"key".to_vec(), Arc::from([value].as_slice()))]);
        State::from([("k".to_owned(), records)])
    }

    fn three_commits() -> Oracle {
        let mut oracle = Oracle::new();
        for value in 1..=3 {
            oracle.begun(Lsn(u64::from(value)), state(value));
        }
        oracle.acknowledged(1, true);
        oracle.acknowledged(2, false);
        oracle
    }

    #[test]
    fn a_power_cut_may_take_what_was_buffered_and_a_kill_may_not() {
        three_commits().recovered(state(1), Lsn(1), Death::Power).unwrap();
        three_commits().recovered(state(3), Lsn(3), Death::Power).unwrap();
        three_commits().recovered(state(2), Lsn(2), Death::Process).unwrap();
        let lost = three_commits().recovered(state(1), Lsn(1), Death::Process).unwrap_err();
        assert!(lost.contains("lost"), "{lost}");
    }

    #[test]
    fn a_lost_acknowledged_commit_and_an_unknown_state_are_failures() {
        let lost = three_commits().recovered(State::new(), Lsn(0), Death::Power).unwrap_err();
        assert!(lost.contains("acknowledged commits are lost"), "{lost}");
        let unknown = three_commits().recovered(state(9), Lsn(3), Death::Power).unwrap_err();
        assert!(unknown.contains("equals no state"), "{unknown}");
    }

    #[test]
    fn what_was_dropped_once_may_not_return() {
        let mut oracle = three_commits();
        oracle.recovered(state(1), Lsn(1), Death::Power).unwrap();
        oracle.recovered(state(2), Lsn(2), Death::Power).unwrap_err();
    }
}
