//! Planted bugs. Each is one way in which a log like this has gone wrong somewhere; the tests must find every one.
//!
//! Outside of tests, [`Mutant::planted`] is constantly false and nothing of this is compiled in.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Mutant {
    /// None: the shipped behaviour.
    #[default]
    None,
    /// The directory is not synced after a segment was created.
    #[cfg(test)]
    SkipDirectorySync,
    /// A durable write is acknowledged although it was only written.
    #[cfg(test)]
    AcknowledgeBeforeSync,
    /// A failed durable write is tried again instead of stopping the log.
    #[cfg(test)]
    RetryFailedSync,
    /// Recovery ends the log at the first bad batch, whatever comes later.
    #[cfg(test)]
    StopAtFirstBadBatch,
    /// Batch checksums do not depend on the place.
    #[cfg(test)]
    UnseededChecksum,
    /// A vote is written once.
    #[cfg(test)]
    OneCopyOfVote,
    /// A batch goes on in a block that holds durable bytes.
    #[cfg(test)]
    NoFreshBlock,
    /// A durable write does not sync buffered bytes before it.
    #[cfg(test)]
    SkipSyncOfBuffered,
    /// Opening goes on in the last segment's successor without reading the tail past the cache.
    #[cfg(test)]
    TrustCachedTail,
    /// Batches do not carry how far the log was durable.
    #[cfg(test)]
    NoDurableEnd,
    /// A segment goes before what made its entries unneeded is durable.
    #[cfg(test)]
    RemoveBeforeDurable,
}

impl Mutant {
    /// Whether `self` is the given bug.
    #[cfg(test)]
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
