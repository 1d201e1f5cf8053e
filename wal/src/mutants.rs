//! Planted bugs. Each is one way in which a log like this has gone wrong somewhere; the tests must find every one.
//!
//! Outside of tests [`planted!`] is constantly false and nothing else of this is compiled in.

/// A bug that can be planted.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Mutant {
    /// None: the shipped behaviour.
    #[default]
    None,
    /// The directory is not synced after a segment was created.
    SkipDirectorySync,
    /// A durable write is acknowledged although it was only written.
    AcknowledgeBeforeSync,
    /// A failed durable write is tried again instead of stopping the log.
    RetryFailedSync,
    /// Recovery ends the log at the first bad batch, whatever comes later.
    StopAtFirstBadBatch,
    /// Batch checksums do not depend on the place.
    UnseededChecksum,
    /// A vote is written once.
    OneCopyOfVote,
    /// A batch goes on in a block that holds durable bytes.
    NoFreshBlock,
    /// A durable write does not sync buffered bytes before it.
    SkipSyncOfBuffered,
    /// Opening goes on in the last segment's successor without reading the tail past the cache.
    TrustCachedTail,
    /// Batches do not carry how far the log was durable.
    NoDurableEnd,
    /// A segment goes before what made its entries unneeded is durable.
    RemoveBeforeDurable,
    /// A holder beyond its own bound goes although another one keeps the same entries.
    RevokeForNothing,
}

#[cfg(test)]
impl Mutant {
    /// Whether `self` is the given bug.
    pub(crate) fn planted(self, bug: Self) -> bool {
        self == bug
    }
}

/// Whether a bug is planted; constantly false outside of tests.
macro_rules! planted {
    ($options:expr, $bug:ident) => {{
        #[cfg(test)]
        {
            $options.mutant.planted($crate::mutants::Mutant::$bug)
        }
        #[cfg(not(test))]
        {
            let _ = &$options;
            false
        }
    }};
}
pub(crate) use planted;
