//! `get`, `scan`, `count`, `digest`, `sizes`: what a database holds.
//!
//! Each reads one snapshot, so that what it prints was all true at one moment: of a database, or of one point of an
//! archive.

use std::borrow::Cow;
use std::ops::Bound;

use logwood_base::digest::Digest;
use serde_json::json;

use crate::archive::Source;
use crate::arguments::{self, Count, Get, Range, Scan, Sizes};
use crate::escape::escape;
use crate::exit::Failure;
use crate::open;
use crate::output::Output;
use crate::progress::Progress;

/// `get`: one value.
///
/// # Errors
/// [`Failure::NotFound`] when the key has none; what the engine answers.
pub fn get(arguments: &Get, output: &mut Output) -> Result<(), Failure> {
    let name = &arguments.keyspace;
    let (source, key) = match (&arguments.archived.archive, &arguments.words[..]) {
        (Some(url), [key]) => {
            arguments.followers.refuse_beside_archive()?;
            (Source::of_archive(url, &arguments.archived)?, key)
        }
        (None, [directory, key]) => {
            (Source::of_directory(directory.as_ref(), &arguments.followers, &arguments.archived)?, key)
        }
        (Some(_), _) => return Err(Failure::Usage("get takes DIR or --archive, not both".to_owned())),
        (None, _) => return Err(Failure::Usage("get needs DIR and KEY".to_owned())),
    };
    let keyspace = source.keyspace(name)?;
    let key = arguments::bytes(key);
    let Some(value) = keyspace.get(&key)? else {
        let (key, name) = (escape(&key), escape(name.as_bytes()));
        return Err(Failure::NotFound(format!("there is no key '{key}' in keyspace '{name}'")));
    };
    if output.is_json() {
        output.record(&key, Some(&value))
    } else if arguments.raw {
        output.write(&value)
    } else {
        output.text(&escape(&value))
    }
}

/// `scan`: records in order.
///
/// # Errors
/// What the engine answers; what was printed before is right.
pub fn scan(arguments: &Scan, output: &mut Output) -> Result<(), Failure> {
    let source = Source::of(&arguments.source)?;
    let keyspace = source.keyspace(&arguments.source.keyspace)?;
    let range = KeyRange::new(&arguments.range);
    let mut records = source.snapshot().range(&keyspace, range.bounds())?;
    let mut progress = Progress::new("records", arguments.limit);
    for printed in 0..arguments.limit.unwrap_or(u64::MAX) {
        let record = if arguments.reverse { records.next_back() } else { records.next() };
        let Some(record) = record else { break };
        let (key, value) = match record {
            Ok(record) => record,
            Err(error) => {
                output.flush()?;
                return Err(error.into());
            }
        };
        output.record(&key, (!arguments.keys).then_some(&value))?;
        progress.at(printed);
    }
    Ok(())
}

/// `count`: how many records.
///
/// # Errors
/// What the engine answers.
pub fn count(arguments: &Count, output: &mut Output) -> Result<(), Failure> {
    let source = Source::of(&arguments.source)?;
    let keyspace = source.keyspace(&arguments.source.keyspace)?;
    let count = source.snapshot().count(&keyspace, KeyRange::new(&arguments.range).bounds())?;
    output.line(&count.to_string(), &json!({ "count": count }))
}

/// `digest`: the digest of the records, and the LSN at which it was so.
///
/// # Errors
/// What the engine answers.
pub fn digest(arguments: &Count, output: &mut Output) -> Result<(), Failure> {
    let source = Source::of(&arguments.source)?;
    let keyspace = source.keyspace(&arguments.source.keyspace)?;
    let snapshot = source.snapshot();
    let digest = snapshot.digest(&keyspace, KeyRange::new(&arguments.range).bounds())?;
    let (lsn, hex) = (source.lsn(&snapshot), hex(&digest));
    output.line(&format!("{lsn}\t{hex}"), &json!({ "lsn": lsn.get(), "digest": hex, "count": digest.count }))
}

/// `sizes`: about how large a range is, in parts.
///
/// # Errors
/// What the engine answers.
pub fn sizes(arguments: &Sizes, output: &mut Output) -> Result<(), Failure> {
    let database = open::existing(&arguments.place.directory, &arguments.place.followers)?;
    let keyspace = open::keyspace(&database, &arguments.place.keyspace)?;
    let range = KeyRange::new(&arguments.range);
    let (first, last) = range.bounds();
    let cuts = keyspace.split_keys((first.clone(), last.clone()), arguments.parts as usize)?;
    let begins = std::iter::once(first).chain(cuts.iter().cloned().map(Bound::Included));
    let ends = cuts.iter().cloned().map(Bound::Excluded).chain(std::iter::once(last));
    for (begin, end) in begins.zip(ends) {
        let key = match &begin {
            Bound::Included(key) | Bound::Excluded(key) if !key.is_empty() => Some(escape(key)),
            _ => None,
        };
        let size = keyspace.approximate_size((begin, end))?;
        output.line(
            &format!("{}\t{}\t{}", key.as_deref().unwrap_or("-"), size.records, size.bytes),
            &json!({ "from": key, "records": size.records, "bytes": size.bytes }),
        )?;
    }
    Ok(())
}

/// A digest as it is printed.
#[must_use]
pub fn hex(digest: &Digest) -> String {
    format!("{:032x}", digest.sum)
}

/// The keys that `--from`, `--to` and `--prefix` leave together.
#[derive(PartialEq, Eq, Debug)]
pub struct KeyRange {
    from: Vec<u8>,
    /// Exclusive; `None` is behind every key.
    to: Option<Vec<u8>>,
}

impl KeyRange {
    /// The range of a command.
    #[must_use]
    pub fn new(range: &Range) -> Self {
        fn word(word: &Option<std::ffi::OsString>) -> Option<Cow<'_, [u8]>> {
            word.as_deref().map(arguments::bytes)
        }
        let prefix = word(&range.prefix).unwrap_or_default();
        let from = word(&range.from).unwrap_or_default().max(prefix.clone()).into_owned();
        let to = [word(&range.to).map(|to| to.into_owned()), behind(&prefix)].into_iter().flatten().min();
        // An empty range is one that begins where it ends, never one that ends before it begins.
        Self { to: to.map(|to| to.max(from.clone())), from }
    }

    /// As the engine takes it.
    #[must_use]
    pub fn bounds(self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (Bound::Included(self.from), self.to.map_or(Bound::Unbounded, Bound::Excluded))
    }
}

/// The first key behind all that begin with `prefix`, if there is one.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use proptest::prelude::*;

    use super::*;

    fn range(from: Option<&[u8]>, to: Option<&[u8]>, prefix: Option<&[u8]>) -> KeyRange {
        let word = |bytes: Option<&[u8]>| bytes.map(|bytes| OsString::from(escape(bytes)));
        KeyRange::new(&Range { from: word(from), to: word(to), prefix: word(prefix) })
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        let empty = range(Some(b"b"), Some(b"a"), None);
        assert_eq!(empty, KeyRange { from: b"b".to_vec(), to: Some(b"b".to_vec()) });
        assert_eq!(range(None, None, Some(b"\xff\xff")).to, None);
    }

    proptest! {
        #[test]
        fn a_key_is_in_the_range_when_every_option_admits_it(
            key in "[ab\u{7f}]{0,3}", from in proptest::option::of("[ab]{0,2}"),
            to in proptest::option::of("[ab]{0,2}"), prefix in proptest::option::of("[ab\u{7f}]{0,2}"),
        ) {
            fn bytes(text: &Option<String>) -> Option<&[u8]> {
                text.as_deref().map(str::as_bytes)
            }
            let range = range(bytes(&from), bytes(&to), bytes(&prefix));
            let found = key.as_bytes() >= &range.from[..]
                && range.to.as_ref().is_none_or(|to| key.as_bytes() < &to[..]);
            let expected = from.is_none_or(|from| key >= from)
                && to.is_none_or(|to| key < to)
                && prefix.is_none_or(|prefix| key.starts_with(&prefix));
            prop_assert_eq!(found, expected);
        }
    }
}
