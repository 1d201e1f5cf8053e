//! Bugs that tests plant in the trees, to prove that the tests would find them. Compiled into tests only.

use std::cell::Cell;

/// A mistake that the trees can be made to make, in this thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// Versions are let go although a snapshot needs them.
    PruneIgnoresSnapshots,
    /// A checkpoint writes leaves as they are, not as they were at its LSN.
    CheckpointOfTheNewest,
    /// A leaf that changed while a checkpoint ran counts as clean when it ends.
    ChangedLeafCountsAsClean,
    /// A leaf goes although a snapshot is older than its newest change.
    EvictionIgnoresSnapshots,
    /// Pages are retired although the checkpoint that is written reaches them.
    RetiredWhileReached,
    /// A split leaf forgets what it was before.
    SplitForgetsThePast,
    /// The leaf that takes over a range which was deleted does not know what was detached.
    DetachedIsForgotten,
    /// A checkpoint of before a range delete takes the pages above detached leaves for reached.
    DetachedInnersCountAsReached,
    /// The parent's sums stay those of the image when a delta block is added.
    SumsWithoutTheDelta,
    /// A delta block is added to an image that the cleaner has taken away meanwhile.
    AddedToWhatIsGone,
    /// An image that a checkpoint replaces counts as reached.
    ReplacedCountsAsReached,
    /// The pages of long values are given up with the image of a leaf that is built anew.
    LongValuesGoWithTheImage,
    /// A reference to a long value in memory keeps no file.
    LongValuesKeepNoFile,
    /// The pages of a long value that a checkpoint takes over count as unreached when they become garbage.
    TakenOverCountsAsUnreached,
    /// A checkpoint that has moved a long value does not tell its leaf.
    MovedValueIsNotTold,
    /// The cleaner, which has found a tree before it was dropped, marks its pages afterwards.
    CleanerMarksWhatWasDropped,
    /// A small leaf that joins the one before it, as a large entry is applied, forgets what it was.
    JoinedLeafForgetsThePast,
    /// The leaf that a large entry leaves open never gets its page.
    OpenLeavesStayInMemory,
    /// A leaf whose page serves readers of before forgets it.
    LeafOnDiskForgetsThePast,
    /// Not a mistake of ours: pages whose checksums are right say that each leaf but the first and the last one holds 2^63
    /// records more than it does.
    HugeCounts,
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
