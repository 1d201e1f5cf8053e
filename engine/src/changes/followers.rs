//! Followers that are expected when a database is opened: what they need stays, also while they are away.
//!
//! # The crash story
//! 1. A follower has dealt with the commits up to R, and said so. The log keeps what is behind R, whatever checkpoints
//!    let go.
//! 2. The process ends. What is behind R is in the log still: nothing that somebody held was given up.
//! 3. The database is opened. Its first checkpoint lets go of what no hold covers, and the follower has not taken its hold
//!    again: it is still reading its own position, or its part of the program has not begun.
//! 4. The follower asks for R + 1 and is told that it is too old, although the log had promised to keep it.
//!
//! So whoever is named in [`Options::follower`](crate::Options::follower) is held for from before the first entry is
//! replayed. The hold covers all that the log has, for the follower's position is not known here. It goes when a reader of
//! that name begins, and has one of its own; when that reader is gone, what it held is kept once more.

use std::collections::BTreeMap;

use logwood_base::Result;
use logwood_base::sync::Mutex;
use logwood_wal::{Group, Hold};

use super::reader::hold_all;
use crate::Options;
use crate::planted::{Bug, planted};

/// Who is expected, and what is kept for those who are away.
#[derive(Debug, Default)]
pub(crate) struct Followers(Mutex<BTreeMap<String, Place>>);

#[derive(Debug)]
struct Place {
    /// Readers of this name that hold for themselves.
    readers: usize,
    /// What is kept while there are none.
    kept: Option<Hold>,
}

impl Followers {
    /// Keeps all that the log has for everybody who is expected.
    pub(crate) fn expect(group: &Group, options: &Options) -> Result<Self> {
        if planted(Bug::ForgetFollowers) {
            return Ok(Self::default());
        }
        let expected = options.followers.iter().map(|(name, log_bytes_max)| {
            let kept = Some(hold_all(group, name, *log_bytes_max)?);
            Ok((name.clone(), Place { readers: 0, kept }))
        });
        Ok(Self(Mutex::new(expected.collect::<Result<_>>()?)))
    }

    /// A reader has begun, and holds for itself.
    pub(crate) fn came(&self, name: &str) {
        let kept = self.0.lock().get_mut(name).and_then(|place| {
            place.readers += 1;
            place.kept.take()
        });
        drop(kept);
    }

    /// A reader is gone: what the last one of a name held is kept, if the name is expected.
    pub(crate) fn left(&self, name: &str, hold: Hold) {
        let mut places = self.0.lock();
        let released = match places.get_mut(name) {
            None => Some(hold),
            Some(place) => {
                place.readers -= 1;
                if place.readers == 0 { place.kept.replace(hold) } else { Some(hold) }
            }
        };
        drop(places);
        drop(released);
    }
}
