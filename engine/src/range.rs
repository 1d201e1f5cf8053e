//! Iteration over a range of keys, in both directions, at a snapshot.

use std::borrow::Cow;
use std::ops::{Bound, RangeBounds};

use logwood_base::Result;
use logwood_base::limits::KEY_BYTES_MAX;
use logwood_btree::{Cursor, Value};

/// The records of a range at one moment, in the order of their keys; `.rev()` goes from the end.
///
/// It sees the database as it was when the iteration began, whatever is committed since, and holds back what that
/// takes until it is dropped. After an error it has no more items. Values come whole: a long one that is on disk is read when
/// its record is, one at a time.
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// let ks = db.ensure_keyspace("cities")?;
/// for (name, country) in [("Oslo", "NO"), ("Rome", "IT"), ("Riga", "LV")] {
///     ks.put(name.as_bytes(), country.as_bytes())?;
/// }
/// let with_r: Vec<_> = ks.prefix(b"R")?.collect::<Result<_, _>>()?;
/// assert_eq!(&*with_r[0].0, b"Riga");
/// let last = ks.iter()?.rev().next().unwrap()?;
/// assert_eq!(&*last.0, b"Rome");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Range {
    cursor: Cursor,
    /// Whether an error was answered.
    failed: bool,
}

impl Range {
    pub(crate) const fn new(cursor: Cursor) -> Self {
        Self { cursor, failed: false }
    }

    /// The next record where it lies, without copying it. Mixes with the iterator's other calls.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let ks = db.ensure_keyspace("numbers")?;
    /// ks.put(b"one", b"1")?;
    /// ks.put(b"two", b"22")?;
    /// let (mut records, mut bytes) = (ks.iter()?, 0);
    /// while let Some((_, value)) = records.next_ref()? {
    ///     bytes += value.len();
    /// }
    /// assert_eq!(bytes, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As iterating. There are no records after an error.
    #[inline]
    pub fn next_ref(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.failed {
            return Ok(None);
        }
        let record = self.cursor.next();
        self.failed = record.is_err();
        record
    }

    /// As [`Range::next_ref`], from the end.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// ks.put(b"b", b"2")?;
    /// let mut records = ks.iter()?;
    /// assert_eq!(records.next_back_ref()?, Some((&b"b"[..], &b"2"[..])));
    /// assert_eq!(records.next_ref()?, Some((&b"a"[..], &b"1"[..])));
    /// assert_eq!(records.next_back_ref()?, None, "both ends have met");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Range::next_ref`].
    #[inline]
    pub fn next_back_ref(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        if self.failed {
            return Ok(None);
        }
        let record = self.cursor.next_back();
        self.failed = record.is_err();
        record
    }

    fn own(&mut self, step: impl FnOnce(&mut Cursor) -> Result<Option<(Value, Value)>>) -> Option<Item> {
        if self.failed {
            return None;
        }
        let record = step(&mut self.cursor);
        self.failed = record.is_err();
        record.transpose()
    }
}

type Item = Result<(Value, Value)>;

fn owned((key, value): (&[u8], &[u8])) -> (Value, Value) {
    (key.into(), value.into())
}

impl Iterator for Range {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.own(|cursor| Ok(cursor.next()?.map(owned)))
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Item> {
        self.own(|cursor| Ok(cursor.next_back()?.map(owned)))
    }
}

impl std::iter::FusedIterator for Range {}

/// A range as the trees take it.
pub(crate) type TreeBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of any range of things that are bytes.
pub(crate) fn bounds<'a, K: AsRef<[u8]> + 'a>(range: &'a impl RangeBounds<K>) -> TreeBounds<'a> {
    (range.start_bound().map(AsRef::as_ref), range.end_bound().map(AsRef::as_ref))
}

/// Length of the longest key that a range names.
pub(crate) fn longest_key<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> usize {
    let length = |bound: Bound<&[u8]>| match bound {
        Bound::Included(key) | Bound::Excluded(key) => key.len(),
        Bound::Unbounded => 0,
    };
    let (from, to) = bounds(range);
    length(from).max(length(to))
}

/// A range as entries hold it: from a key up to, and without, another one.
pub(crate) fn half_open<'a, K: AsRef<[u8]> + 'a>(
    range: &'a impl RangeBounds<K>,
) -> (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>) {
    let (from, to) = bounds(range);
    let from = match from {
        Bound::Included(key) => Cow::Borrowed(key),
        // Of a key behind which there is none, the range that begins behind it is empty.
        Bound::Excluded(key) => match successor(key) {
            Some(behind) => Cow::Owned(behind),
            None => return (Cow::Borrowed(key), Some(Cow::Borrowed(key))),
        },
        Bound::Unbounded => Cow::Borrowed(&[][..]),
    };
    let to = match to {
        Bound::Included(key) => successor(key).map(Cow::Owned),
        Bound::Excluded(key) => Some(Cow::Borrowed(key)),
        Bound::Unbounded => None,
    };
    (from, to)
}

/// Whether a range as entries hold it has no key in it.
pub(crate) fn is_empty(from: &[u8], to: Option<&[u8]>) -> bool {
    to.is_some_and(|to| to <= from)
}

/// The least key that may be behind `key`; `None` when there is none. What begins with one of the greatest length is longer.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    if key.len() >= KEY_BYTES_MAX {
        return behind_prefix(key);
    }
    let mut behind = Vec::with_capacity(key.len() + 1);
    behind.extend_from_slice(key);
    behind.push(0);
    Some(behind)
}

/// The first key behind all that begin with `prefix`; `None` when there is none.
pub(crate) fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut behind = prefix[..=kept].to_vec();
    behind[kept] += 1;
    Some(behind)
}

/// The bounds of all keys that begin with `prefix`; `behind` is [`behind_prefix`] of it.
pub(crate) fn prefix_bounds<'a>(prefix: &'a [u8], behind: Option<&'a [u8]>) -> TreeBounds<'a> {
    (Bound::Included(prefix), behind.map_or(Bound::Unbounded, Bound::Excluded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_no_key_begins_with_them() {
        assert_eq!(behind_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(behind_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(behind_prefix(b"\xff\xff"), None);
        assert_eq!(behind_prefix(b""), None);
    }

    #[test]
    fn every_kind_of_bound_becomes_half_open() {
        let (from, to) = half_open::<&str>(&(Bound::Excluded("a"), Bound::Included("b")));
        assert_eq!((&*from, to.as_deref()), (&b"a\0"[..], Some(&b"b\0"[..])));
        let (from, to) = half_open::<&str>(&(..));
        assert_eq!((&*from, to.as_deref()), (&b""[..], None));
        let (from, to) = half_open::<&str>(&("a".."b"));
        assert_eq!((&*from, to.as_deref()), (&b"a"[..], Some(&b"b"[..])));
    }
}
