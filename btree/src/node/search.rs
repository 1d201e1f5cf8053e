//! Searching sorted keys by their heads.
//!
//! A *head* is the first four bytes behind the prefix that all keys of a node share, as a big-endian number padded
//! with zeros: heads order as the keys do, but different keys may have equal heads. Heads stand in one array, so
//! that a binary search over a whole leaf touches three cache lines; the keys themselves are compared only where
//! heads are equal.

use std::cmp::Ordering;
use std::hint::select_unpredictable;

/// A head as it stands in memory.
pub(crate) type Head = [u8; 4];

/// The head of what follows the common prefix.
pub(crate) fn head_of(suffix: &[u8]) -> u32 {
    match suffix.first_chunk::<4>() {
        Some(first) => u32::from_be_bytes(*first),
        None => {
            let mut padded = [0u8; 4];
            padded[..suffix.len()].copy_from_slice(suffix);
            u32::from_be_bytes(padded)
        }
    }
}

/// The head of a suffix that comes in two parts.
pub(crate) fn head_of_parts((first, second): (&[u8], &[u8])) -> u32 {
    if first.is_empty() {
        return head_of(second);
    }
    let mut padded = [0u8; 4];
    padded.iter_mut().zip(first.iter().chain(second)).for_each(|(to, from)| *to = *from);
    u32::from_be_bytes(padded)
}

/// The number of heads for which `before` holds; it must hold for a prefix of them. Branch-free inside the loop.
fn partition(heads: &[Head], before: impl Fn(u32) -> bool) -> usize {
    let holds = |head: &[u8; 4]| before(u32::from_ne_bytes(*head));
    let mut rest = heads;
    let mut passed = 0;
    // The slice shrinks instead of an index moving: so no step checks a bound.
    while rest.len() > 1 {
        let (left, right) = rest.split_at(rest.len() / 2);
        let whole_left = left.last().is_some_and(holds);
        passed += usize::from(whole_left) * left.len();
        rest = select_unpredictable(whole_left, right, &rest[..right.len()]);
    }
    passed + usize::from(rest.first().is_some_and(holds))
}

/// Where `suffix` would be found at the earliest, by heads alone.
pub(crate) fn earliest(heads: &[Head], suffix: &[u8]) -> usize {
    let head = head_of(suffix);
    partition(heads, |other| other < head)
}

/// Where `suffix` stands among sorted suffixes whose heads are given: found at, or would be inserted at.
/// `compare(i)` orders the i-th suffix against the sought one.
pub(crate) fn find(
    heads: &[Head],
    suffix: &[u8],
    compare: impl Fn(usize) -> Ordering,
) -> Result<usize, usize> {
    let head = head_of(suffix);
    let mut low = earliest(heads, suffix);
    let same = |at: usize| heads.get(at).is_some_and(|other| u32::from_ne_bytes(*other) == head);
    if !same(low) {
        return Err(low);
    }
    let mut high =
        if same(low + 1) { low + partition(&heads[low..], |other| other <= head) } else { low + 1 };
    while low < high {
        let middle = usize::midpoint(low, high);
        match compare(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Ok(middle),
            Ordering::Greater => high = middle,
        }
    }
    Err(low)
}

/// How `key` stands to all keys that begin with `prefix`: `Ok` with what follows the prefix, or before or behind all.
pub(crate) fn strip<'k>(key: &'k [u8], prefix: &[u8]) -> Result<&'k [u8], Ordering> {
    // Prefixes are short, mostly: a loop in place beats a call.
    let shared = key.len() >= prefix.len() && key.iter().zip(prefix).all(|(a, b)| a == b);
    if shared { Ok(&key[prefix.len()..]) } else { Err(key.cmp(prefix)) }
}

/// How many leading bytes two keys share.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The shortest key that is greater than `left` and not greater than `right`, as a separator between them.
pub(crate) fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    debug_assert!(left < right, "a separator stands between different keys");
    right[..(common_prefix(left, right) + 1).min(right.len())].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_find_what_a_plain_search_finds() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let mut keys: Vec<Vec<u8>> =
                (0..rng.usize(0..40)).map(|_| (0..rng.usize(0..8)).map(|_| rng.u8(0..3)).collect()).collect();
            keys.sort();
            keys.dedup();
            let heads: Vec<Head> = keys.iter().map(|key| head_of(key).to_ne_bytes()).collect();
            let sought: Vec<u8> = (0..rng.usize(0..8)).map(|_| rng.u8(0..3)).collect();
            let found = find(&heads, &sought, |at| keys[at].as_slice().cmp(&sought));
            assert_eq!(found, keys.binary_search(&sought));
        }
    }

    #[test]
    fn a_separator_stands_between() {
        assert_eq!(separator(b"apple", b"apricot"), b"apr");
        assert_eq!(separator(b"a", b"ab"), b"ab");
        assert_eq!(separator(b"", b"b"), b"b");
    }
}
