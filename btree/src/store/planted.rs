//! Bugs that tests plant, to prove that the tests would find them. Compiled into tests only.

use std::cell::Cell;

/// A mistake that the store can be made to make, in this thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// The manifest is written without the segments having been synced.
    ManifestBeforeSegmentSync,
    /// The directory of the page segments is not synced.
    NoPagesDirectorySync,
    /// The directory of the manifests is not synced.
    NoManifestDirectorySync,
    /// Files go as soon as nothing reaches them, before the next generation is durable.
    UnlinkBeforeNextGeneration,
    /// Numbers continue from the newest manifest, whatever the files are called.
    NumberReused,
    /// A segment whose sync failed is synced again, and believed.
    FailedSyncRetried,
    /// An older generation is opened although the newest one, readable, misses a file.
    FallbackPastMissingFile,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether this thread is to make the mistake.
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Runs `work` with the mistake planted.
pub(crate) fn with<R>(bug: Option<Bug>, work: impl FnOnce() -> R) -> R {
    struct Uproot;
    impl Drop for Uproot {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(bug);
    let _uproot = Uproot;
    work()
}
