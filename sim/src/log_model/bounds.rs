//! The explorations: what each bounds, and which one shows what a mutation breaks.

use super::mutation::Mutation;
use super::search::{Found, explore};
use super::state::{Bounds, Budget, LogWorld};

const QUIET: Budget = Budget {
    appends: 0,
    long_appends: 0,
    buffered: 0,
    overrides: 0,
    seals: 0,
    votes: 0,
    bases: 0,
    jumps: 0,
    copies: 0,
    purges: 0,
    rolls: 0,
    cuts: 0,
    kills: 0,
    failures: 0,
    rots: 0,
    lost: 0,
    misdirected: 0,
    vanished: 0,
};

const PLAIN: Bounds = Bounds {
    name: "",
    about: "",
    groups: 1,
    blocks: 5,
    window: 3,
    waits: true,
    recycles: false,
    commits: false,
    fresh_payloads: false,
    heals: false,
    budget: QUIET,
};

/// The end of the log: torn and reordered power cuts, several writes in flight, retries, crashes during recovery.
pub const ENDS: Bounds = Bounds {
    name: "ends",
    about: "writes in flight, torn and reordered power cuts, retried writes, crashes in recovery",
    blocks: 6,
    budget: Budget { appends: 3, long_appends: 1, seals: 1, cuts: 2, ..QUIET },
    ..PLAIN
};

/// Process kills, whose writes land late, with and without waiting.
pub const LATE: Bounds = Bounds {
    name: "late",
    about: "process kills; their writes land at any later time, and no open can wait for them",
    waits: false,
    fresh_payloads: true,
    budget: Budget { appends: 3, long_appends: 1, kills: 2, cuts: 1, ..QUIET },
    ..PLAIN
};

/// Crash loops among late writes.
pub const LATE_LOOPS: Bounds = Bounds {
    name: "late loops",
    about: "opens that die one after the other; their headers land at any later time",
    waits: false,
    fresh_payloads: true,
    budget: Budget { appends: 1, kills: 3, cuts: 2, ..QUIET },
    ..PLAIN
};

/// Recycling among late writes.
pub const LATE_RECYCLES: Bounds = Bounds {
    name: "late recycles",
    about: "segments let go while a dead process' write to them may still land",
    waits: false,
    recycles: true,
    window: 2,
    budget: Budget { appends: 3, bases: 1, purges: 1, rolls: 1, kills: 1, cuts: 1, ..QUIET },
    ..PLAIN
};

/// Process kills where an open waits.
pub const WAITED: Bounds = Bounds {
    name: "waited",
    about: "process kills; an open waits until no write of an earlier process can land, then serves reads at once",
    fresh_payloads: true,
    budget: Budget { appends: 3, long_appends: 1, kills: 3, cuts: 1, ..QUIET },
    ..PLAIN
};

/// Failed syncs and buffered batches.
pub const BUFFERED: Bounds = Bounds {
    name: "buffered",
    about: "buffered batches in shared blocks, full syncs, failed syncs after which the cache deceives",
    fresh_payloads: true,
    budget: Budget { appends: 2, buffered: 2, failures: 1, kills: 1, cuts: 1, ..QUIET },
    ..PLAIN
};

/// Votes of two groups, among entries in flight.
pub const VOTES: Bounds = Bounds {
    name: "votes",
    about: "votes of two groups behind writes in flight; one rotten block",
    groups: 2,
    blocks: 6,
    window: 4,
    budget: Budget { appends: 1, votes: 1, cuts: 2, rots: 1, ..QUIET },
    ..PLAIN
};

/// A vote asked for while a segment begins, and segments that go.
pub const ROLLING_VOTES: Bounds = Bounds {
    name: "rolling votes",
    about: "a vote while a segment begins, old segments that go, crash loops, one rotten block",
    blocks: 4,
    budget: Budget { votes: 1, rolls: 1, purges: 1, cuts: 3, rots: 1, ..QUIET },
    ..PLAIN
};

/// Rolling.
pub const ROLLS: Bounds = Bounds {
    name: "rolls",
    about: "segments that close and begin while writes are in flight, names lost by power cuts",
    fresh_payloads: true,
    budget: Budget { appends: 2, seals: 1, rolls: 1, cuts: 2, kills: 1, ..QUIET },
    ..PLAIN
};

/// Recycling.
pub const RECYCLES: Bounds = Bounds {
    name: "recycles",
    about: "the oldest segment becomes the next one, with its stale bytes",
    recycles: true,
    budget: Budget { appends: 3, bases: 1, rolls: 2, cuts: 1, ..QUIET },
    ..PLAIN
};

/// Two replicated groups, whose entries are replaced by new leaders.
pub const OVERRIDES: Bounds = Bounds {
    name: "overrides",
    about: "two replicated groups: overriding appends, commit LSNs, power cuts",
    groups: 2,
    commits: true,
    budget: Budget { appends: 2, overrides: 2, cuts: 2, ..QUIET },
    ..PLAIN
};

/// Copies of two groups.
pub const COPIES: Bounds = Bounds {
    name: "copies",
    about: "two replicated groups: copies out of an old segment beside overriding appends, then the segment goes",
    groups: 2,
    commits: true,
    window: 2,
    budget: Budget { appends: 2, overrides: 1, copies: 1, purges: 1, rolls: 1, cuts: 1, ..QUIET },
    ..PLAIN
};

/// Bases and copies together.
pub const BASES: Bounds = Bounds {
    name: "bases",
    about: "a group lets go of what is committed, copies the rest, and the old segment goes; a quiet group beside it",
    groups: 2,
    commits: true,
    window: 2,
    budget: Budget { appends: 2, bases: 1, copies: 1, purges: 1, rolls: 1, cuts: 1, ..QUIET },
    ..PLAIN
};

/// Snapshots that a log jumps to.
pub const JUMPS: Bounds = Bounds {
    name: "jumps",
    about: "a log jumps to a snapshot: entries above stay only if it held the base in its term",
    commits: true,
    budget: Budget { appends: 3, jumps: 1, overrides: 1, cuts: 2, ..QUIET },
    ..PLAIN
};

/// One fault of the disk; the log is refused.
pub const FAULTS: Bounds = Bounds {
    name: "faults",
    about: "one rotten block, lost or misdirected write: reported, or within the window at the very end",
    budget: Budget {
        appends: 2,
        long_appends: 1,
        buffered: 2,
        seals: 1,
        cuts: 1,
        rots: 1,
        lost: 1,
        misdirected: 1,
        ..QUIET
    },
    ..PLAIN
};

/// One fault of the disk among several segments; the log is refused.
pub const ROLLING_FAULTS: Bounds = Bounds {
    name: "rolling faults",
    about: "one rotten block, lost or misdirected write, or vanished file, among several segments",
    window: 2,
    budget: Budget {
        appends: 1,
        rolls: 1,
        bases: 1,
        purges: 1,
        cuts: 2,
        rots: 1,
        lost: 1,
        misdirected: 1,
        vanished: 1,
        ..QUIET
    },
    ..PLAIN
};

/// A segment that an open began vanishes; the log is refused.
pub const VANISHES: Bounds = Bounds {
    name: "vanishes",
    about: "opens one after the other, that die or serve; one of their segments vanishes",
    window: 2,
    budget: Budget { appends: 2, rolls: 1, cuts: 1, kills: 2, vanished: 1, ..QUIET },
    ..PLAIN
};

/// One fault; healed.
pub const HEALS: Bounds = Bounds {
    name: "heals",
    about: "a replicated group, one rotten block or lost write, healed from a good copy; crashes while healing",
    commits: true,
    heals: true,
    budget: Budget { appends: 3, overrides: 1, cuts: 2, rots: 1, lost: 1, ..QUIET },
    ..PLAIN
};

/// Healing beside another group.
pub const HEALS_BESIDE: Bounds = Bounds {
    name: "heals beside",
    about: "two replicated groups, one rotten block, healed from a good copy; the other group is left alone",
    groups: 2,
    commits: true,
    heals: true,
    budget: Budget { appends: 2, overrides: 1, cuts: 2, rots: 1, ..QUIET },
    ..PLAIN
};

/// Healing where bases and jumps were dropped.
pub const HEALS_BASES: Bounds = Bounds {
    name: "heals bases",
    about: "bases and jumps in flight, dropped by an open, then one rotten block, healed",
    commits: true,
    heals: true,
    budget: Budget { appends: 3, jumps: 1, cuts: 2, rots: 1, ..QUIET },
    ..PLAIN
};

/// Healing of a log of several segments.
pub const HEALS_FILES: Bounds = Bounds {
    name: "heals files",
    about: "a vanished segment or a rotten block among several, with bases and copies, healed",
    heals: true,
    budget: Budget { appends: 2, rolls: 1, copies: 1, cuts: 2, rots: 1, vanished: 1, ..QUIET },
    ..PLAIN
};

/// All explorations of the design as it is.
pub const ALL: [Bounds; 21] = [
    ENDS,
    LATE,
    LATE_LOOPS,
    LATE_RECYCLES,
    WAITED,
    BUFFERED,
    VOTES,
    ROLLING_VOTES,
    ROLLS,
    RECYCLES,
    OVERRIDES,
    COPIES,
    BASES,
    JUMPS,
    FAULTS,
    ROLLING_FAULTS,
    VANISHES,
    HEALS,
    HEALS_BESIDE,
    HEALS_BASES,
    HEALS_FILES,
];

/// The exploration in which a rule left out shows.
pub fn shows(mutation: Mutation) -> Option<Bounds> {
    Some(match mutation {
        Mutation::None => return None,
        Mutation::AnyLaterBatchProves
        | Mutation::GoOnInTheSegment
        | Mutation::OwnEndIsDurable
        | Mutation::RoundDurableEnd
        | Mutation::NoFreshBlock => ENDS,
        Mutation::OneCopyOfAVote | Mutation::VotesBeforeTheEnd => VOTES,
        Mutation::VotesGo | Mutation::AdoptedVoteIsAnswered | Mutation::VoteBeforeHeader => ROLLING_VOTES,
        Mutation::HeaderBeforeSync
        | Mutation::SealBeforeName
        | Mutation::NamedFileGoes
        | Mutation::SealBehindEarly
        | Mutation::NoDirectorySync => ROLLS,
        Mutation::UnseededChecksum => RECYCLES,
        Mutation::CachedTail | Mutation::AcknowledgeOverBuffered => BUFFERED,
        Mutation::NoPreviousChecksum | Mutation::NoEvidence | Mutation::UnboundedFlight => FAULTS,
        Mutation::HeadlessIsEmpty | Mutation::LaterFileStandsIn => ROLLING_FAULTS,
        Mutation::NoSealBehind | Mutation::SkippedStays => VANISHES,
        Mutation::NoWaitForLateWrites => WAITED,
        Mutation::CleanBeforeHeader => LATE_LOOPS,
        Mutation::RecycleUnderLateWrites => LATE_RECYCLES,
        Mutation::SourceGoesBeforeCopy
        | Mutation::CopyTruncates
        | Mutation::CopyComposedEarly
        | Mutation::CopyReplaces
        | Mutation::GroupsMixed => COPIES,
        Mutation::EntriesGoBeforeBase | Mutation::ReaderDecidesBase => BASES,
        Mutation::BaseIgnoresTerm => JUMPS,
        Mutation::NothingIsDoubtful | Mutation::HealOverwrites | Mutation::HealFromAnyPeer => HEALS_BESIDE,
        Mutation::LaterEntryVouches | Mutation::HealRemovesEarly => HEALS,
        Mutation::DroppedBatchesCount => HEALS_BASES,
    })
}

impl Bounds {
    /// The same world with `by` more of each kind of write, crash and step that may happen in it. One fault stays one.
    #[must_use]
    pub fn enlarged(mut self, by: u8) -> Self {
        let budget = &mut self.budget;
        let counts = [
            &mut budget.appends,
            &mut budget.long_appends,
            &mut budget.buffered,
            &mut budget.overrides,
            &mut budget.votes,
            &mut budget.bases,
            &mut budget.copies,
            &mut budget.purges,
            &mut budget.rolls,
            &mut budget.cuts,
            &mut budget.kills,
        ];
        counts.into_iter().filter(|count| **count > 0).for_each(|count| *count += by);
        self
    }
}

/// Explores within bounds, with one rule left out.
pub fn run(bounds: &Bounds, mutation: Mutation, states_max: usize) -> Found {
    explore(&LogWorld { bounds: bounds.clone(), mutation }, states_max)
}

/// How much larger than by default to explore: `LOGWOOD_TEST_SCALE`, 1 unless set.
pub fn scale() -> u8 {
    std::env::var("LOGWOOD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1).max(1)
}
