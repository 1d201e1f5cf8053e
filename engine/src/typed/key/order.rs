//! Keys in other orders: options, numbers with a point, and anything from the greatest to the least.

use std::cmp::Reverse;

use logwood_base::Result;

use super::{KeyCodec, KeyReader};
use crate::typed::undecodable;

/// `None` comes before every `Some`.
impl<K: KeyCodec> KeyCodec for Option<K> {
    type Ref<'a> = Option<K::Ref<'a>>;

    fn encode(key: Self::Ref<'_>, last: bool, bytes: &mut Vec<u8>) {
        match key {
            None => bytes.push(0),
            Some(key) => {
                bytes.push(1);
                K::encode(key, last, bytes);
            }
        }
    }

    fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self> {
        match reader.array()? {
            [0] => Ok(None),
            [1] => K::decode(reader, last).map(Some),
            _ => Err(undecodable("option")),
        }
    }
}

/// The greatest key comes first: for the newest of something, at the front of a range.
///
/// ```
/// use std::cmp::Reverse;
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// // Messages by room, the newest first.
/// let messages = db.ensure_keyspace("messages")?.typed::<(String, Reverse<u64>), String>();
/// messages.put(("hall", Reverse(1)), "hello")?;
/// messages.put(("hall", Reverse(2)), "goodbye")?;
/// let newest = messages.prefix::<(String,)>(("hall",))?.next().expect("there are two")?;
/// assert_eq!(newest.1, "goodbye");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<K: KeyCodec> KeyCodec for Reverse<K> {
    type Ref<'a> = Reverse<K::Ref<'a>>;

    fn encode(Reverse(key): Self::Ref<'_>, _: bool, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        // Never as the last part: of two strings of which one begins the other, the longer one must come first.
        K::encode(key, false, bytes);
        bytes[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }

    fn decode(reader: &mut KeyReader<'_>, _: bool) -> Result<Self> {
        let turned: Vec<u8> = reader.rest.iter().map(|byte| !byte).collect();
        let mut inner = KeyReader { rest: &turned };
        let key = K::decode(&mut inner, false)?;
        reader.rest = &reader.rest[turned.len() - inner.rest.len()..];
        Ok(Self(key))
    }
}

macro_rules! floats {
    ($($float:ty, $bits:ty;)*) => {$(
        /// In the total order of IEEE 754, as `total_cmp` has it: -NaN, -∞, …, -0, +0, …, +∞, NaN. So -0 and +0 are two keys, as
        /// are NaNs of different bits, and each NaN is equal to itself.
        impl KeyCodec for $float {
            type Ref<'a> = Self;

            fn encode(key: Self, last: bool, bytes: &mut Vec<u8>) {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let bits = key.to_bits();
                <$bits>::encode(if bits & SIGN == 0 { bits | SIGN } else { !bits }, last, bytes);
            }

            fn decode(reader: &mut KeyReader<'_>, last: bool) -> Result<Self> {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let bits = <$bits>::decode(reader, last)?;
                Ok(Self::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN }))
            }
        }
    )*};
}

floats! { f32, u32; f64, u64; }

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes with many zeros and 255s, in which a wrong escape would show.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff), any::<u8>()], 0..5)
    }

    type Mixed = (Option<Vec<u8>>, Reverse<(Vec<u8>, Option<i16>)>, Option<Reverse<u8>>, Reverse<Vec<u8>>);

    fn mixed() -> impl Strategy<Value = Mixed> {
        let option = prop::option::of(tricky());
        let pair = (tricky(), prop::option::of(-2i16..2)).prop_map(Reverse);
        let reversed = prop::option::of((0u8..3).prop_map(Reverse));
        (option, pair, reversed, tricky().prop_map(Reverse))
    }

    fn encoded((a, Reverse((b, c)), d, Reverse(e)): &Mixed) -> Vec<u8> {
        Mixed::to_bytes((a.as_deref(), Reverse((b, *c)), *d, Reverse(e)))
    }

    /// Every kind of number that there is, and any bits.
    fn float() -> impl Strategy<Value = f64> {
        let special = [
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            -f64::NAN,
            f64::MIN_POSITIVE,
            5e-324,
            1.0,
        ];
        prop_oneof![prop::sample::select(special.to_vec()), any::<u64>().prop_map(f64::from_bits), -3.0..3.0,]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn options_and_reversed_keys_are_ordered_as_their_values_wherever_they_stand(a in mixed(), b in mixed()) {
            prop_assert_eq!(a.cmp(&b), encoded(&a).cmp(&encoded(&b)));
            prop_assert_eq!(Mixed::from_bytes(&encoded(&a)).unwrap(), a);
        }

        #[test]
        fn numbers_with_a_point_are_in_their_total_order(a in float(), b in float(), c: u32, d: u32, last in any::<bool>()) {
            let bytes = |number| {
                let mut bytes = Vec::new();
                f64::encode(number, last, &mut bytes);
                bytes
            };
            prop_assert_eq!(a.total_cmp(&b), bytes(a).cmp(&bytes(b)));
            prop_assert_eq!(f64::from_bytes(&bytes(a)).unwrap().to_bits(), a.to_bits());
            let (c, d) = (f32::from_bits(c), f32::from_bits(d));
            prop_assert_eq!(c.total_cmp(&d), f32::to_bytes(c).cmp(&f32::to_bytes(d)));
            prop_assert_eq!(f32::from_bytes(&f32::to_bytes(c)).unwrap().to_bits(), c.to_bits());
        }

        #[test]
        fn bytes_of_another_type_are_refused_or_come_back_as_they_were(bytes in tricky()) {
            if let Ok((a, Reverse(b))) = <(Option<u8>, Reverse<Vec<u8>>)>::from_bytes(&bytes) {
                prop_assert_eq!(<(Option<u8>, Reverse<Vec<u8>>)>::to_bytes((a, Reverse(&b))), bytes);
            }
        }
    }

    #[test]
    fn the_bytes_never_change() {
        assert_eq!(Option::<u16>::to_bytes(None), [0]);
        assert_eq!(Option::<u16>::to_bytes(Some(258)), [1, 1, 2]);
        assert_eq!(Reverse::<u16>::to_bytes(Reverse(1)), [0xff, 0xfe]);
        assert_eq!(Reverse::<String>::to_bytes(Reverse("a\0")), [!b'a', 0xff, 0, 0xff, 0xff]);
        assert_eq!(f32::to_bytes(1.0), [0xbf, 0x80, 0, 0]);
        assert_eq!(f64::to_bytes(-0.0), [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(Option::<u8>::from_bytes(&[2]).is_err() && Reverse::<u16>::from_bytes(&[1]).is_err());
    }
}
