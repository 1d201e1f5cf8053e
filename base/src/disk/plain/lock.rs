//! The lock of a directory: `flock` on a file in it, and a table of what this process holds.
//!
//! The kernel lets go of an `flock` when the process dies, however it dies. Where it is emulated by record locks (NFS)
//! it would not exclude two handles of one process, therefore the table, keyed by the directory's device and inode so
//! that two paths to one directory are one key. The file is never removed: a lock on a removed file excludes nobody.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::failed;
use crate::disk::DirLock;
use crate::{Error, Result};

/// Name of the lock file in its directory.
pub(super) const LOCK_NAME: &str = "LOCK";

/// A directory's device and inode.
type Identity = (u64, u64);

/// The directories that this process has locked.
static HELD: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());

/// A held lock. Fields are dropped in this order: the system's lock first, then the place in the table.
#[derive(Debug)]
pub(super) struct PlainLock {
    _descriptor: OwnedFd,
    _place: Place,
}

/// A place in the table, given up on drop.
#[derive(Debug)]
struct Place(Identity);

impl Place {
    fn claim(directory: Identity) -> Option<Self> {
        HELD.lock().insert(directory).then(|| Self(directory))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        HELD.lock().remove(&self.0);
    }
}

impl DirLock for PlainLock {}

impl PlainLock {
    pub(super) fn take(directory: &Path) -> Result<Self> {
        let already_open = || Error::AlreadyOpen { path: directory.to_owned() };
        let place = Place::claim(identity(directory)?).ok_or_else(already_open)?;
        let path = directory.join(LOCK_NAME);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let descriptor = rustix::fs::openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed("lock", &path, error))?;
        loop {
            match rustix::fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _descriptor: descriptor, _place: place }),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Err(already_open()),
                Err(error) => return Err(failed("lock", &path, error)),
            }
        }
    }
}

/// Which directory a path leads to, links followed.
fn identity(directory: &Path) -> Result<Identity> {
    let found = rustix::fs::stat(directory).map_err(|error| failed("lock", directory, error))?;
    // The types of these fields differ between platforms.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "the field's type differs by platform"
    )]
    Ok((found.st_dev as u64, found.st_ino as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_claimed_once_and_a_vain_claim_frees_nothing() {
        let directory = (u64::MAX, 1);
        let place = Place::claim(directory).unwrap();
        assert!(Place::claim(directory).is_none());
        assert!(Place::claim(directory).is_none());
        drop(place);
        assert!(Place::claim(directory).is_some());
    }
}
