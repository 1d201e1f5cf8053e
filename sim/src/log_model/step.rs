//! One step of the world, and how a timeline tells it.

use std::fmt;

use super::bytes::Mark;

/// One step.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each step's sentence names its fields")]
pub enum Step {
    /// A client appends to a group, `units` long.
    Append { group: u8, units: u8, buffered: bool },
    /// A new leader replaces the last `entries` entries of a group.
    Override { group: u8, entries: u8 },
    /// Everything in the page cache is synced.
    FullSync,
    /// Everything in the page cache is synced, and the last block of it was lost.
    FullSyncLost,
    /// A replicated group commits what is acknowledged here.
    Commit { group: u8 },
    /// A vote is asked for.
    Vote { group: u8 },
    /// An idle seal.
    Seal,
    /// A base at the committed entry.
    Base { group: u8 },
    /// A base at a snapshot that the log did not hold.
    Jump { group: u8, mark: Mark },
    /// A copy out of the oldest segment.
    Copy { group: u8 },
    /// The oldest segment is removed.
    LetGo,
    /// A roll begins.
    Roll { recycle: bool },
    /// A roll goes on.
    RollOn,
    /// A write is acknowledged by the disk.
    Land { flight: u8 },
    /// A write is acknowledged by the disk, and its first block was lost.
    LandLost { flight: u8 },
    /// A write is acknowledged by the disk, and its first block went elsewhere.
    LandElsewhere { flight: u8, number: u8, block: u8 },
    /// A sync fails, and the process dies of it.
    Fail { flight: u8, landed: u32 },
    /// A sync of the cache fails, and the process dies of it.
    FailFull { landed: u32 },
    /// The power goes.
    Cut { which: u32 },
    /// The process is killed.
    Kill,
    /// A block written by a killed process lands.
    LateLand { index: u32 },
    /// An open reads the log.
    Open { which: u32, peer_ahead: bool },
    /// An open goes on.
    OpenOn,
    /// A block rots.
    Rot { number: u8, block: u8 },
    /// A file vanishes.
    Vanish { number: u8 },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { buffered: true, .. } => write!(f, "a client writes, buffered"),
            Self::Append { .. } => write!(f, "a client writes"),
            Self::Override { entries, .. } => write!(f, "a new leader replaces the last {entries}"),
            Self::FullSync => write!(f, "the cache is synced"),
            Self::FullSyncLost => {
                write!(f, "FAULT: the sync of the cache is acknowledged, its last block was lost")
            }
            Self::Commit { group } => write!(f, "group {} commits what is acknowledged", group + 1),
            Self::Vote { group } => write!(f, "group {} votes", group + 1),
            Self::Seal => write!(f, "a quiet moment is sealed"),
            Self::Base { group } => write!(f, "group {} lets go of what is committed", group + 1),
            Self::Jump { group, mark } => write!(f, "group {} jumps to a snapshot at {mark}", group + 1),
            Self::Copy { group } => {
                write!(f, "entries of group {} are copied out of the oldest segment", group + 1)
            }
            Self::LetGo => write!(f, "the oldest segment is removed"),
            Self::Roll { recycle: true } => write!(f, "the oldest segment becomes the next one"),
            Self::Roll { recycle: false } => write!(f, "the next segment's file is created"),
            Self::RollOn => write!(f, "the roll goes on"),
            Self::Land { flight } => write!(f, "write {flight} is durable"),
            Self::LandLost { flight } => {
                write!(f, "FAULT: write {flight} is acknowledged by the disk and lost")
            }
            Self::LandElsewhere { flight, number, block } => {
                write!(
                    f,
                    "FAULT: write {flight} is acknowledged, but went to block {block} of segment {number}"
                )
            }
            Self::Fail { flight, landed } => {
                write!(f, "the sync of write {flight} fails ({})", landed_blocks(*landed))
            }
            Self::FailFull { landed } => {
                write!(f, "the sync of the cache fails ({})", landed_blocks(*landed))
            }
            Self::Cut { .. } => write!(f, "POWER CUT"),
            Self::Kill => write!(f, "the process is KILLED"),
            Self::LateLand { .. } => write!(f, "a late write of a killed process lands"),
            Self::Open { .. } => write!(f, "the log is opened: recovery reads it"),
            Self::OpenOn => write!(f, "the open goes on"),
            Self::Rot { number, block } => write!(f, "FAULT: block {block} of segment {number} rots"),
            Self::Vanish { number } => write!(f, "FAULT: segment {number} vanishes"),
        }
    }
}

fn landed_blocks(mask: u32) -> String {
    if mask == 0 { "nothing landed; the cache shows it".into() } else { format!("blocks {mask:#b} landed") }
}
