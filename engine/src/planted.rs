//! Bugs that tests plant, to prove that the tests find them. Outside of tests none of this is compiled in.
//!
//! Under `--cfg logwood_planted` it is public, so that the simulator, which links the engine as anybody does, can be shown
//! to find bugs in it (`sim/tests/planted.rs`).

/// A mistake that the engine can be made to make, in this thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    any(not(test), not(feature = "archive")),
    allow(dead_code, reason = "asked for by name; planted in tests only")
)]
#[cfg_attr(not(logwood_planted), allow(unreachable_pub, reason = "public for the simulator alone"))]
pub enum Bug {
    /// Commits are visible as soon as they are applied.
    PublishBeforeDurable,
    /// A checkpoint is written of entries that a power cut may still take.
    CheckpointBeforeSync,
    /// Replay begins behind the checkpoint, whatever transactions were open at it.
    ForgetOpenFragments,
    /// Fragments of a transaction that never ended are left to whoever comes later.
    KeepOrphans,
    /// A commit's time is the clock's, also when that went back.
    TimeGoesBack,
    /// Keyspaces come and go before the log holds it.
    CatalogBeforeLog,
    /// Entries go as soon as the newest manifest does not need them.
    ReleaseForNewestManifest,
    /// A failed write leaves the database open for others.
    ForgetFailure,
    /// Entries are archived that a crash can still take back.
    ArchiveUndecided,
    /// A put that was answered counts as archived.
    TrustPut,
    /// Whoever finds another object in his place takes it for his own.
    TrustRefusal,
    /// A gap that somebody else left is taken for this history's.
    TrustGap,
    /// A gap is left behind an end of the chain that nothing shows to be of this history.
    TrustEnd,
    /// A snapshot is begun with although the chain has another entry where it ends.
    TrustSnapshot,
    /// An archive that is longer than the log is gone on with where the log ends.
    ForkWhenAhead,
    /// A gap is put before the snapshot that stands in for it.
    GapBeforeSnapshot,
    /// A snapshot is put before its page segments.
    SnapshotBeforePages,
    /// An upload does not look whether retention condemns what it skips.
    IgnoreRetention,
    /// Retention does not look whether an upload needs what it condemns.
    IgnoreHolds,
    /// A hold is not renewed.
    KeepHold,
    /// A page segment of an earlier backup is taken for the same because it has the same number.
    TrustSegmentNumbers,
    /// A backup moves into its place before the record that says so is durable.
    SwitchWithoutRecord,
    /// A copy goes on in the term of what it was copied from.
    CopyKeepsTerm,
    /// A copy that a full disk keeps from parting from its origin is written to all the same.
    WriteToCopy,
    /// What a restore writes is not read back from the device.
    NoReadBack,
    /// A page segment that was fetched is not compared with its name.
    SkipPageHash,
    /// Log objects are taken from where a listing says they are, whatever they follow.
    TrustListing,
    /// A snapshot of another history is begun with.
    ForeignSnapshot,
    /// The newest log object is left out.
    ForgetLastObject,
    /// Entries behind the point are restored, too.
    RestoreBeyondPoint,
    /// A restored directory goes on in the history that it came from.
    KeepLineage,
    /// Records that were restored are not compared with what the snapshot says of them.
    SkipDigests,
    /// A time is taken for the end of what was committed at it.
    TimeExclusive,
    /// Changes are handed out before they are visible.
    ChangesBeforeVisible,
    /// A reader of changes holds its next entry alone, whatever transactions are open there.
    ChangesForgetFragments,
    /// A reader of changes begins with a hold of all that the log has, bound or not.
    ChangesHoldAll,
    /// A reader of changes forgets the fragments of what it has passed, whether it was released or not.
    ChangesForgetWhatEnded,
    /// A bulk write takes operations in between what a failed commit has sorted and begun to write.
    PutBehindWhatLeft,
    /// Of operations on one key in several sorted runs the one of the earliest run wins.
    EarliestRunWins,
    /// What looks whether a bulk write can be applied takes the place of another writer's preparation.
    PreparationTakesThePlace,
    /// Nothing is held for followers that are expected.
    ForgetFollowers,
    /// What a backup copies is not held against cleaning.
    BackupUnpinned,
    /// Transactions commit whatever others have changed.
    SkipValidation,
    /// Transactions are validated against what is visible, and not against what is in flight.
    ValidateVisible,
    /// Ranges that a transaction has read are not protected.
    ForgetRanges,
    /// A walk is not noted where the transaction itself has written.
    ForgetWalksOverOwn,
    /// That ranges were deleted is not remembered for validation.
    ForgetRangeDeletes,
    /// A condition that does not hold is answered before what it read is visible.
    AnswerBeforeVisible,
}

/// Whether this thread is to make the mistake.
#[cfg(not(any(test, logwood_planted)))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(any(test, logwood_planted))]
pub(crate) use test::planted;
#[cfg(any(test, logwood_planted))]
#[cfg_attr(not(logwood_planted), allow(unreachable_pub, reason = "public for the simulator alone"))]
pub use test::with;

#[cfg(any(test, logwood_planted))]
mod test {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Runs `work` with the mistake planted.
    #[cfg_attr(not(logwood_planted), allow(unreachable_pub, reason = "public for the simulator alone"))]
    pub fn with<R>(bug: Bug, work: impl FnOnce() -> R) -> R {
        struct Uproot;
        impl Drop for Uproot {
            fn drop(&mut self) {
                PLANTED.set(None);
            }
        }
        PLANTED.set(Some(bug));
        let _uproot = Uproot;
        work()
    }
}
