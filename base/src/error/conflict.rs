//! What stands in the way of a transaction.

use std::fmt;

use crate::escaped::Escaped;
use crate::numbering::Lsn;

/// What a transaction read, and a commit that it did not see has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The keyspace's name.
    pub keyspace: String,
    /// The key or the keys.
    pub changed: Changed,
    /// The commit that changed it.
    pub lsn: Lsn,
}

/// The key or the range that was read and has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changed {
    /// One key; it may have been read as part of a range.
    Key(Vec<u8>),
    /// All keys of a range were deleted at once, of which the transaction read some.
    Range {
        /// The first key.
        from: Vec<u8>,
        /// The key behind the last one; `None`: to the end.
        to: Option<Vec<u8>>,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keyspace, changed, lsn } = self;
        write!(f, "conflict: {changed} of keyspace {keyspace} changed at lsn {lsn}")
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key \"{}\"", Escaped(key)),
            Self::Range { from, to: Some(to) } => {
                write!(f, "keys \"{}\" to \"{}\"", Escaped(from), Escaped(to))
            }
            Self::Range { from, to: None } => write!(f, "keys from \"{}\" on", Escaped(from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn a_conflict_names_keyspace_key_and_commit() {
        let changed = Changed::Key(b"a\x00\n\\".to_vec());
        let conflict = Conflict { keyspace: "users".to_owned(), changed, lsn: Lsn(7) };
        let line = Error::from(conflict.clone()).to_string();
        assert_eq!(line, "conflict: key \"a\\x00\\x0a\\x5c\" of keyspace users changed at lsn 7");
        let changed = Changed::Range { from: b"a".to_vec(), to: Some(b"c".to_vec()) };
        let line = Conflict { changed, ..conflict }.to_string();
        assert_eq!(line, "conflict: keys \"a\" to \"c\" of keyspace users changed at lsn 7");
    }
}
