//! The rules, each with what breaks when it is left out.

/// A rule left out or bent. [`Mutation::None`] is the design.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// The design as it is: no counter-example may exist.
    None,
    /// Any valid batch behind an invalid one proves corruption. With several writes in flight a valid n + 1 beyond
    /// a lost n is normal: a false alarm after a power cut.
    AnyLaterBatchProves,
    /// An open goes on in the last segment. The client retries n, byte for byte, and the n + 1 that recovery had
    /// dropped chains on to it after the next crash.
    GoOnInTheSegment,
    /// `durable_end` is rounded up to a block. It then lies beyond the exact end of what is valid: a false alarm.
    RoundDurableEnd,
    /// `durable_end` is the batch's own end. It claims what is still in flight before it: a false alarm.
    OwnEndIsDurable,
    /// A vote is written once. One rotten block and it is forgotten.
    OneCopyOfAVote,
    /// Votes are only looked for before the end. A vote answered behind a batch that was still in flight is
    /// forgotten with it.
    VotesBeforeTheEnd,
    /// The header of segment k + 1 is submitted while k has writes in flight. It names an end that a power cut
    /// takes away: a false alarm.
    HeaderBeforeSync,
    /// The closing seal of k is submitted before the name of k + 1 is durable. The seal survives, the file does not:
    /// a false alarm.
    SealBeforeName,
    /// An open removes the file that the closing seal of the newest segment names, where a later one keeps the highest
    /// number. When it dies, the next one misses the file: a false alarm.
    NamedFileGoes,
    /// Any later file stands in for the one that a closing seal names. An open dies and leaves one; the newest segment
    /// vanishes, and nothing tells any more that it is missing.
    LaterFileStandsIn,
    /// An open leaves no seal behind its predecessor's end. The segment that it begins vanishes, and nothing tells that
    /// it is missing.
    NoSealBehind,
    /// That seal is submitted before the new header is durable. The seal survives, the header does not: a false alarm.
    SealBehindEarly,
    /// A skipped segment stays. When the newest one vanishes, its header bounds their predecessor, and hides the seal.
    SkippedStays,
    /// The directory is not synced after a segment was created. The file goes with everything acknowledged in it.
    NoDirectorySync,
    /// A checksum does not cover the place. The stale bytes of a recycled segment verify.
    UnseededChecksum,
    /// A batch does not name the checksum of the one before it. Where a write to the second half of a block was lost,
    /// the batch of the next block seems to follow the first half.
    NoPreviousChecksum,
    /// Recovery believes the page cache. It serves what a failed sync never brought to the disk.
    CachedTail,
    /// A batch goes into a block with durable bytes. A torn rewrite takes them.
    NoFreshBlock,
    /// A durable acknowledgement is given when its own range is synced, over buffered bytes that are not.
    AcknowledgeOverBuffered,
    /// Nothing says what was durable. Rot in the middle of the log passes for its end.
    NoEvidence,
    /// A directory without any valid header is taken for an empty log. The rotten header of the only segment left
    /// takes the base, and everything that was let go, with it.
    HeadlessIsEmpty,
    /// Nobody waits for the writes of a killed process. What recovery dropped lands, and is back after the next crash.
    NoWaitForLateWrites,
    /// Where an open cannot wait for late writes, it removes what the chain does not name before its own header is
    /// durable. The header of an earlier open lands, and names what is gone: a false alarm.
    CleanBeforeHeader,
    /// Where an open cannot wait for late writes, it recycles a segment that a dead process may still write to. The
    /// write lands on what the segment holds in its next life.
    RecycleUnderLateWrites,
    /// More batches are submitted than W beyond the oldest unacknowledged one. One rotten batch hides them all.
    UnboundedFlight,
    /// A vote is answered while its segment's header is in flight. The file has then no valid header, the open after
    /// the next deletes it, and the vote stands in one place.
    VoteBeforeHeader,
    /// A vote that an open found is answered as it is. It may stand in one header only, which rots.
    AdoptedVoteIsAnswered,
    /// A segment goes while the copy of its entries is in flight.
    SourceGoesBeforeCopy,
    /// A segment goes while the base that lets its entries go is in flight.
    EntriesGoBeforeBase,
    /// A segment goes although its votes stand in one other place only: one rotten header and they are forgotten.
    VotesGo,
    /// A copy truncates what is above it.
    CopyTruncates,
    /// A copy is composed before an override that is submitted before it. It contradicts: a false alarm.
    CopyComposedEarly,
    /// A copy is taken for an append when it contradicts: it brings back what was overridden.
    CopyReplaces,
    /// Entries above a base stay without a look at the term there. What the snapshot overrode returns.
    BaseIgnoresTerm,
    /// The reader of a base decides by what it holds itself whether the entries above stay. When the segment of the
    /// entry at the base is gone and the copy comes later, it drops what is alive.
    ReaderDecidesBase,
    /// What stands before a hole counts as current. A rotten append of 7(t4) lets 7(t2) pass.
    NothingIsDoubtful,
    /// An entry written behind a hole confirms everything below it. With 1(t1), a rotten 1(t2), and 2(t2), 3(t2) behind
    /// it, the append of 3 behind 2(t2) would let 1(t1) pass.
    LaterEntryVouches,
    /// When a header is rotten, everything valid in its predecessor counts, also what an open has dropped there.
    DroppedBatchesCount,
    /// Healing takes everything from the other replica, also what was not doubtful here.
    HealOverwrites,
    /// Healing asks a replica that does not hold the hole's end in the same term.
    HealFromAnyPeer,
    /// Healing removes the older segments before the new one is synced.
    HealRemovesEarly,
    /// A group's batches are composed without regard to their group.
    GroupsMixed,
}

impl Mutation {
    /// All of them, the design first.
    pub const ALL: [Self; 43] = [
        Self::None,
        Self::AnyLaterBatchProves,
        Self::GoOnInTheSegment,
        Self::RoundDurableEnd,
        Self::OwnEndIsDurable,
        Self::OneCopyOfAVote,
        Self::VotesBeforeTheEnd,
        Self::HeaderBeforeSync,
        Self::SealBeforeName,
        Self::NamedFileGoes,
        Self::LaterFileStandsIn,
        Self::NoSealBehind,
        Self::SealBehindEarly,
        Self::SkippedStays,
        Self::NoDirectorySync,
        Self::UnseededChecksum,
        Self::NoPreviousChecksum,
        Self::CachedTail,
        Self::NoFreshBlock,
        Self::AcknowledgeOverBuffered,
        Self::NoEvidence,
        Self::HeadlessIsEmpty,
        Self::NoWaitForLateWrites,
        Self::CleanBeforeHeader,
        Self::RecycleUnderLateWrites,
        Self::UnboundedFlight,
        Self::VoteBeforeHeader,
        Self::AdoptedVoteIsAnswered,
        Self::SourceGoesBeforeCopy,
        Self::EntriesGoBeforeBase,
        Self::VotesGo,
        Self::CopyTruncates,
        Self::CopyComposedEarly,
        Self::CopyReplaces,
        Self::BaseIgnoresTerm,
        Self::ReaderDecidesBase,
        Self::NothingIsDoubtful,
        Self::LaterEntryVouches,
        Self::DroppedBatchesCount,
        Self::HealOverwrites,
        Self::HealFromAnyPeer,
        Self::HealRemovesEarly,
        Self::GroupsMixed,
    ];
}
