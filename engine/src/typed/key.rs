//! BYTES of typed keys: the order of the bytes is the order of the values.
//!
//! | type | bytes |
//! |---|---|
//! | `u8` … `u128` | big-endian, fixed width |
//! | `i8` … `i128` | big-endian, the sign bit flipped |
//! | `bool` | 0 or 1 |
//! | `[u8; N]` | as they are |
//! | `String`, `Vec<u8>` at the end of a key | as they are |
//! | `String`, `Vec<u8>` before other parts | 0 becomes 0 255, and 0 0 ends it |
//! | tuples of up to six | one part after the other |
//! | `f32`, `f64` | the bits big-endian; of a negative number all are flipped, of another one the sign bit |
//! | `Option<K>` | 0; or 1, then the key |
//! | `Reverse<K>` | the key as if parts followed it, every bit flipped |
//!
//! No part that something follows is the beginning of another one of its type, so a part decides before the next one is
//! looked at. A string that is the whole key is its bytes, readable in the program `logwood`. These bytes are on disks:
//! they never change.

mod order;

use logwood_base::Result;

use super::undecodable;

/// A type of keys whose order is kept by its bytes.
///
/// Implement it for your own type by handing on to a type that has it:
///
/// ```
/// use logwood::Result;
/// use logwood::typed::{KeyCodec, KeyReader};
///
/// #[derive(Clone, Copy, PartialEq, Debug)]
/// struct Day { year: u16, day: u16 }
///
/// impl KeyCodec for Day {
///     type Ref<'a> = Self;
///
///     fn encode(key: Self, last: bool, bytes: &mut Vec<u8>) {
///         <(u16, u16)>::encode((key.year, key.day), last, bytes);
///     }
///
///     fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self> {
///         <(u16, u16)>::decode(reader, last).map(|(year, day)| Self { year, day })
///     }
/// }
///
/// let (earlier, later) = (Day { year: 2025, day: 300 }, Day { year: 2026, day: 2 });
/// assert!(Day::to_bytes(earlier) < Day::to_bytes(later));
/// assert_eq!(Day::from_bytes(&Day::to_bytes(later))?, later);
/// # Ok::<(), logwood::Error>(())
/// ```
pub trait KeyCodec: Sized {
    /// How a key is handed in: `&str` for `String`, the number itself for a number.
    type Ref<'a>;

    /// Appends the key's bytes. Unless it is the `last` part of a key, no key's bytes may begin with those of another.
    fn encode(key: Self::Ref<'_>, last: bool, bytes: &mut Vec<u8>);

    /// Reads what [`KeyCodec::encode`] appended.
    ///
    /// # Errors
    /// `InvalidArgument` when the bytes are no key of this type.
    fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self>;

    /// A whole key's bytes.
    #[must_use]
    fn to_bytes(key: Self::Ref<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        Self::encode(key, true, &mut bytes);
        bytes
    }

    /// Reads a whole key.
    ///
    /// # Errors
    /// As [`KeyCodec::decode`]; also when something follows.
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = KeyReader { rest: bytes };
        let key = Self::decode(&mut reader, true)?;
        if reader.rest.is_empty() { Ok(key) } else { Err(undecodable("key of this type, which is shorter")) }
    }
}

/// The bytes of a key that were not decoded yet.
#[derive(Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// The next `N` bytes.
    ///
    /// # Errors
    /// `InvalidArgument` when there are less.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| undecodable("key of this type"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// A byte string that something follows.
    fn terminated(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let zero = self.rest.iter().position(|byte| *byte == 0);
            let zero = zero.ok_or_else(|| undecodable("string with its end"))?;
            bytes.extend_from_slice(&self.rest[..zero]);
            let escape = self.rest.get(zero + 1).copied();
            self.rest = self.rest.get(zero + 2..).unwrap_or_default();
            match escape {
                Some(0) => return Ok(bytes),
                Some(0xff) => bytes.push(0),
                _ => return Err(undecodable("string with its end")),
            }
        }
    }
}

fn encode_bytes(key: &[u8], last: bool, bytes: &mut Vec<u8>) {
    if last {
        bytes.extend_from_slice(key);
        return;
    }
    for (part, piece) in key.split(|byte| *byte == 0).enumerate() {
        if part > 0 {
            bytes.extend_from_slice(&[0, 0xff]);
        }
        bytes.extend_from_slice(piece);
    }
    bytes.extend_from_slice(&[0, 0]);
}

impl KeyCodec for Vec<u8> {
    type Ref<'a> = &'a [u8];

    fn encode(key: &[u8], last: bool, bytes: &mut Vec<u8>) {
        encode_bytes(key, last, bytes);
    }

    fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self> {
        if last { Ok(reader.rest().to_vec()) } else { reader.terminated() }
    }
}

impl KeyCodec for String {
    type Ref<'a> = &'a str;

    fn encode(key: &str, last: bool, bytes: &mut Vec<u8>) {
        encode_bytes(key.as_bytes(), last, bytes);
    }

    fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self> {
        Self::from_utf8(Vec::decode(reader, last)?).map_err(|_| undecodable("UTF-8 string"))
    }
}

impl<const N: usize> KeyCodec for [u8; N] {
    type Ref<'a> = Self;

    fn encode(key: Self, _: bool, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&key);
    }

    fn decode(reader: &mut KeyReader<'_>, _: bool) -> Result<Self> {
        reader.array()
    }
}

impl KeyCodec for bool {
    type Ref<'a> = Self;

    fn encode(key: Self, _: bool, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(key));
    }

    fn decode(reader: &mut KeyReader<'_>, _: bool) -> Result<Self> {
        match reader.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(undecodable("bool")),
        }
    }
}

macro_rules! integers {
    ($($unsigned:ty, $signed:ty;)*) => {$(
        impl KeyCodec for $unsigned {
            type Ref<'a> = Self;

            fn encode(key: Self, _: bool, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&key.to_be_bytes());
            }

            fn decode(reader: &mut KeyReader<'_>, _: bool) -> Result<Self> {
                reader.array().map(Self::from_be_bytes)
            }
        }

        impl KeyCodec for $signed {
            type Ref<'a> = Self;

            fn encode(key: Self, last: bool, bytes: &mut Vec<u8>) {
                <$unsigned>::encode(key.cast_unsigned() ^ (1 << (<$unsigned>::BITS - 1)), last, bytes);
            }

            fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self> {
                let flipped = <$unsigned>::decode(reader, last)?;
                Ok((flipped ^ (1 << (<$unsigned>::BITS - 1))).cast_signed())
            }
        }
    )*};
}

integers! { u8, i8; u16, i16; u32, i32; u64, i64; u128, i128; }

/// The first parts of a tuple `K`: all keys that begin with them lie together.
pub trait PrefixOf<K>: KeyCodec {}

macro_rules! tuples {
    ($($(($part:ident, $key:ident)),+ $(,)?; $last:ident, $last_key:ident;)*) => {$(
        impl<$($part: KeyCodec),+, $last: KeyCodec> KeyCodec for ($($part),+, $last) {
            type Ref<'a> = ($($part::Ref<'a>),+, $last::Ref<'a>);

            fn encode(($($key),+, $last_key): Self::Ref<'_>, last: bool, bytes: &mut Vec<u8>) {
                $($part::encode($key, false, bytes);)+
                $last::encode($last_key, last, bytes);
            }

            fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self> {
                Ok(($($part::decode(reader, false)?),+, $last::decode(reader, last)?))
            }
        }
    )*};
}

tuples! {
    (A, a); B, b;
    (A, a), (B, b); C, c;
    (A, a), (B, b), (C, c); D, d;
    (A, a), (B, b), (C, c), (D, d); E, e;
    (A, a), (B, b), (C, c), (D, d), (E, e); F, f;
}

impl<A: KeyCodec> KeyCodec for (A,) {
    type Ref<'a> = (A::Ref<'a>,);

    fn encode((key,): Self::Ref<'_>, last: bool, bytes: &mut Vec<u8>) {
        A::encode(key, last, bytes);
    }

    fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self> {
        Ok((A::decode(reader, last)?,))
    }
}

macro_rules! prefixes {
    ($($prefix:ty, $whole:ty, [$($part:ident),+];)*) => {
        $(impl<$($part: KeyCodec),+> PrefixOf<$whole> for $prefix {})*
    };
}

prefixes! {
    (A,), (A, B), [A, B];
    (A,), (A, B, C), [A, B, C];
    (A, B), (A, B, C), [A, B, C];
    (A,), (A, B, C, D), [A, B, C, D];
    (A, B), (A, B, C, D), [A, B, C, D];
    (A, B, C), (A, B, C, D), [A, B, C, D];
    (A,), (A, B, C, D, E), [A, B, C, D, E];
    (A, B), (A, B, C, D, E), [A, B, C, D, E];
    (A, B, C), (A, B, C, D, E), [A, B, C, D, E];
    (A, B, C, D), (A, B, C, D, E), [A, B, C, D, E];
    (A,), (A, B, C, D, E, F), [A, B, C, D, E, F];
    (A, B), (A, B, C, D, E, F), [A, B, C, D, E, F];
    (A, B, C), (A, B, C, D, E, F), [A, B, C, D, E, F];
    (A, B, C, D), (A, B, C, D, E, F), [A, B, C, D, E, F];
    (A, B, C, D, E), (A, B, C, D, E, F), [A, B, C, D, E, F];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes with many zeros and 255s, in which a wrong escape would show.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff), any::<u8>()], 0..6)
    }

    type Nested = ((String, Vec<u8>), i16, Vec<u8>, (bool, [u8; 2]), String);

    fn nested() -> impl Strategy<Value = Nested> {
        let text = || prop_oneof!["[a\\x00]{0,3}", any::<String>()];
        ((text(), tricky()), -2i16..3, tricky(), (any::<bool>(), any::<[u8; 2]>()), text())
    }

    fn encoded(key: &Nested) -> Vec<u8> {
        let ((a, b), c, d, (e, f), g) = key;
        Nested::to_bytes(((a, b), *c, d, (*e, *f), g))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_order_of_the_bytes_is_the_order_of_the_values(a in nested(), b in nested()) {
            prop_assert_eq!(a.cmp(&b), encoded(&a).cmp(&encoded(&b)));
            prop_assert_eq!(Nested::from_bytes(&encoded(&a)).unwrap(), a);
        }

        #[test]
        fn tuples_of_strings_are_ordered_by_their_first_part_first(a in (tricky(), tricky()), b in (tricky(), tricky())) {
            type Pair = (Vec<u8>, Vec<u8>);
            let encoded = |pair: &Pair| Pair::to_bytes((&pair.0, &pair.1));
            prop_assert_eq!(a.cmp(&b), encoded(&a).cmp(&encoded(&b)));
        }

        #[test]
        fn numbers_are_ordered_as_numbers(a: (i128, u64, i8, i64), b: (i128, u64, i8, i64), near in -3i64..3) {
            type Four = (i128, u64, i8, i64);
            prop_assert_eq!(a.cmp(&b), Four::to_bytes(a).cmp(&Four::to_bytes(b)));
            prop_assert_eq!(Four::from_bytes(&Four::to_bytes(a)).unwrap(), a);
            prop_assert_eq!(a.3.cmp(&near), i64::to_bytes(a.3).cmp(&i64::to_bytes(near)));
        }

        #[test]
        fn bytes_of_another_type_are_refused_or_come_back_as_they_were(bytes in tricky()) {
            if let Ok((a, b)) = <(Vec<u8>, u16)>::from_bytes(&bytes) {
                prop_assert_eq!(<(Vec<u8>, u16)>::to_bytes((&a, b)), bytes.clone());
            }
            if let Ok(key) = <(bool, String)>::from_bytes(&bytes) {
                prop_assert_eq!(<(bool, String)>::to_bytes((key.0, &key.1)), bytes);
            }
        }
    }

    #[test]
    fn the_bytes_never_change() {
        assert_eq!(String::to_bytes("ada\0"), b"ada\0");
        assert_eq!(<(String, u16)>::to_bytes(("a\0b", 258)), b"a\0\xffb\0\0\x01\x02");
        assert_eq!(i16::to_bytes(-1), [0x7f, 0xff]);
        assert_eq!(<(i8, bool, Vec<u8>)>::to_bytes((5, true, b"\0")), [0x85, 1, 0]);
        assert!(u16::from_bytes(&[1]).is_err() && u16::from_bytes(&[1, 2, 3]).is_err());
    }
}
