//! One type per numbering, each with only the arithmetic that makes sense for it.
//!
//! Mixing an LSN with a segment number compiles in no caller. All of them are written little-endian at full
//! width (see [`crate::codec`]); none is ever truncated on disk.

use std::fmt;

/// Declares a 64-bit numbering: ordered, copyable, printed as its number.
macro_rules! numbering {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The number as it is written on disk.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

/// Declares a random 128-bit identity, printed as 32 hexadecimal digits.
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl $name {
            /// Draws a new identity. It is never zero: zero means "none" on disk.
            #[must_use]
            pub fn random(random: &dyn crate::Random) -> Self {
                loop {
                    let mut bytes = [0u8; 16];
                    random.fill(&mut bytes);
                    let drawn = u128::from_le_bytes(bytes);
                    if drawn != 0 {
                        return Self(drawn);
                    }
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }
    };
}

numbering! {
    /// Log sequence number: the number of an entry within its group, dense from 1. `Lsn(0)` is "before the first".
    Lsn
}
numbering! {
    /// Term of a leader. At least 1 for every entry; `Term(0)` means "none" in memory and never stands on disk as
    /// the term of an entry.
    Term
}
numbering! {
    /// Number of a log segment or page segment within its directory. Numbers only grow; none is used twice.
    SegmentNo
}
numbering! {
    /// Number of a group of replicas whose entries share one physical log. An unreplicated database is group 1.
    GroupId
}
numbering! {
    /// Number of a keyspace within its database. Never used twice.
    KeyspaceId
}
numbering! {
    /// Consensus identity of a replica, unique for ever within its group. `NodeId(0)` means "nobody".
    NodeId
}
numbering! {
    /// Generation of a manifest. The highest readable one wins.
    Generation
}

identity! {
    /// Identity of one physical log directory. Never shared: a backup, a restore and a new replica get new ones.
    LogId
}
identity! {
    /// Identity of a database, shared by all replicas of its group.
    DatabaseId
}
identity! {
    /// Identity of one history of a database, as an archive keeps it. A restored database and a backup that is opened
    /// begin new ones.
    LineageId
}

impl Lsn {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);
    /// The first entry of a group.
    pub const FIRST: Self = Self(1);
    /// Greater than every LSN that is ever given out.
    pub const MAX: Self = Self(u64::MAX);

    /// The following LSN.
    ///
    /// # Panics
    /// On [`Lsn::MAX`], which is never the number of an entry.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.checked_add(1) {
            Some(next) => next,
            None => panic!("nothing follows the greatest LSN"),
        }
    }

    /// The preceding LSN; [`Lsn::ZERO`] stays where it is.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// `self + count`, or `None` beyond the numbering.
    #[must_use]
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// How many entries lie in `from..self`; zero when `from` is not below `self`.
    #[must_use]
    pub const fn entries_since(self, from: Self) -> u64 {
        self.0.saturating_sub(from.0)
    }
}

impl Term {
    /// "No term": never on disk as the term of an entry.
    pub const NONE: Self = Self(0);
    /// The term of a database that was never replicated.
    pub const FIRST: Self = Self(1);

    /// The following term.
    ///
    /// # Panics
    /// On `u64::MAX`, which nothing counts up to.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl NodeId {
    /// "Nobody": no vote given, no leader known.
    pub const NOBODY: Self = Self(0);
}

impl GroupId {
    /// The group of a database that is not replicated.
    pub const LOCAL: Self = Self(1);
}

impl SegmentNo {
    /// The following number.
    ///
    /// # Panics
    /// On `u64::MAX`, which nothing counts up to.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Generation {
    /// The following generation.
    ///
    /// # Panics
    /// On `u64::MAX`, which nothing counts up to.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A place in the physical log: the exact end or start of a batch, never rounded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogPosition {
    /// The segment's number; later segments have greater numbers.
    pub segment: SegmentNo,
    /// Bytes from the start of that segment's file.
    pub offset: u32,
}

impl LogPosition {
    /// Before every segment.
    pub const ZERO: Self = Self { segment: SegmentNo(0), offset: 0 };

    /// Names a place in the log.
    #[must_use]
    pub const fn new(segment: SegmentNo, offset: u32) -> Self {
        Self { segment, offset }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// A place in a page segment, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct PageAddr {
    /// The page segment's number.
    pub segment: SegmentNo,
    /// Bytes from the start of that segment's file.
    pub offset: u32,
}

impl fmt::Display for PageAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// A version of a file format. Files carry the version needed to *read* them and the version that *wrote* them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FormatVersion(pub u16);

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_arithmetic_stops_at_its_ends() {
        assert_eq!(Lsn::ZERO.previous(), Lsn::ZERO);
        assert_eq!(Lsn::ZERO.next(), Lsn::FIRST);
        assert_eq!(Lsn::MAX.checked_add(1), None);
        assert_eq!(Lsn(7).entries_since(Lsn(3)), 4);
        assert_eq!(Lsn(3).entries_since(Lsn(7)), 0);
    }

    #[test]
    fn positions_order_by_segment_then_offset() {
        let early = LogPosition::new(SegmentNo(1), 900);
        let late = LogPosition::new(SegmentNo(2), 4);
        assert!(early < late);
        assert_eq!(late.to_string(), "2:4");
    }

    #[test]
    fn identities_print_all_their_digits() {
        assert_eq!(LogId(0xab).to_string(), "000000000000000000000000000000ab");
    }
}
