//! The snapshots that are alive, and the LSN that everybody may see.

use std::collections::BTreeMap;

use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use logwood_base::{Error, Lsn, Result};

#[cfg(test)]
use crate::planted::{Bug, planted};

/// Live snapshots by LSN, with how many there are of each, and the visible LSN.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    visible: AtomicU64,
    live: Mutex<BTreeMap<Lsn, usize>>,
    /// How many of them went away so far: the last of its LSN. Changed under the lock of `live`.
    releases: AtomicU64,
    /// Set when a snapshot went away, until the versions it held have been looked through.
    released: AtomicBool,
}

/// Which LSNs are needed: the registered ones, and everything from `visible` on.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    live: Vec<Lsn>,
    visible: Lsn,
    releases: u64,
}

impl Needs {
    /// Whether somebody may read at an LSN in `from..below`.
    pub(crate) fn any_in(&self, from: Lsn, below: Lsn) -> bool {
        if below > self.visible {
            return true;
        }
        #[cfg(test)]
        if planted(Bug::PruneIgnoresSnapshots) {
            return false;
        }
        let at = self.live.partition_point(|lsn| *lsn < from);
        self.live.get(at).is_some_and(|lsn| *lsn < below)
    }

    /// The oldest LSN that somebody may read at.
    pub(crate) fn oldest(&self) -> Lsn {
        self.live.first().copied().unwrap_or(self.visible).min(self.visible)
    }

    /// The visible LSN.
    pub(crate) const fn visible(&self) -> Lsn {
        self.visible
    }

    /// How many LSNs had ceased to be registered.
    pub(crate) const fn releases(&self) -> u64 {
        self.releases
    }
}

impl Registry {
    /// Starts with `visible`.
    pub(crate) fn new(visible: Lsn) -> Self {
        Self { visible: AtomicU64::new(visible.0), ..Self::default() }
    }

    /// What a read of the latest state sees. A reader pins its epoch before it asks.
    pub(crate) fn visible(&self) -> Lsn {
        Lsn(self.visible.load(Ordering::Acquire))
    }

    /// Makes everything up to `lsn` visible.
    pub(crate) fn publish(&self, lsn: Lsn) {
        self.visible.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// Registers a snapshot of what is visible now.
    pub(crate) fn register(&self) -> Lsn {
        let mut live = self.live.lock();
        // Inside the lock: whoever judges later what is needed sees either this snapshot or a visible LSN that is
        // not newer than it.
        let lsn = self.visible();
        *live.entry(lsn).or_default() += 1;
        lsn
    }

    /// Registers a snapshot at an LSN that is not below the visible one, or that is registered already.
    pub(crate) fn register_at(&self, lsn: Lsn) -> Result<()> {
        let mut live = self.live.lock();
        let visible = self.visible();
        if lsn < visible && !live.contains_key(&lsn) {
            return Err(Error::TooOld { what: "snapshot", asked: lsn, oldest: visible });
        }
        *live.entry(lsn).or_default() += 1;
        Ok(())
    }

    /// A snapshot goes away.
    pub(crate) fn release(&self, lsn: Lsn) {
        let mut live = self.live.lock();
        if let Some(count) = live.get_mut(&lsn) {
            *count -= 1;
            if *count == 0 {
                live.remove(&lsn);
                self.releases.fetch_add(1, Ordering::Relaxed);
                self.released.store(true, Ordering::Release);
            }
        }
    }

    /// Whether a snapshot went away since the last call.
    pub(crate) fn take_released(&self) -> bool {
        self.released.load(Ordering::Acquire) && self.released.swap(false, Ordering::AcqRel)
    }

    /// What is needed now. Snapshots registered later are not older than its visible LSN.
    pub(crate) fn needs(&self) -> Needs {
        let live = self.live.lock();
        let releases = self.releases.load(Ordering::Relaxed);
        Needs { live: live.keys().copied().collect(), visible: self.visible(), releases }
    }

    /// The oldest LSN that somebody may read at: [`Needs::oldest`], at less cost.
    pub(crate) fn oldest(&self) -> Lsn {
        let live = self.live.lock();
        let visible = self.visible();
        live.keys().next().map_or(visible, |oldest| visible.min(*oldest))
    }

    /// How many snapshots are alive, and the oldest.
    pub(crate) fn live(&self) -> (usize, Option<Lsn>) {
        let live = self.live.lock();
        (live.values().sum(), live.keys().next().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_is_what_a_snapshot_or_a_later_reader_may_ask_for() {
        let registry = Registry::new(Lsn(10));
        assert_eq!(registry.register(), Lsn(10));
        registry.publish(Lsn(20));
        assert!(registry.register_at(Lsn(15)).is_err());
        assert!(registry.register_at(Lsn(10)).is_ok());
        let needs = registry.needs();
        assert!(needs.any_in(Lsn(5), Lsn(11)) && needs.any_in(Lsn(18), Lsn(21)));
        assert!(!needs.any_in(Lsn(11), Lsn(20)) && !needs.any_in(Lsn(3), Lsn(10)));
        assert_eq!((needs.oldest(), registry.oldest()), (Lsn(10), Lsn(10)));
        registry.release(Lsn(10));
        assert!(!registry.take_released());
        registry.release(Lsn(10));
        assert!(registry.take_released());
        assert_eq!((registry.needs().oldest(), registry.oldest()), (Lsn(20), Lsn(20)));
    }
}
