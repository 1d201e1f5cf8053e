//! BYTES of typed values. Their order means nothing.
//!
//! | type | bytes |
//! |---|---|
//! | `()` | none |
//! | `u8` … `u128`, `i8` … `i128` | little-endian, fixed width |
//! | `f32`, `f64` | their bits, little-endian |
//! | `bool` | 0 or 1 |
//! | `Option<V>` | 0; or 1, then the value |
//! | `String`, `Vec<u8>`, `[u8; N]` | as they are |

use logwood_base::Result;

use super::undecodable;

/// A type of values.
///
/// Structures are encoded by whatever the embedder likes, serde for instance:
///
/// ```
/// use logwood::typed::ValueCodec;
/// use logwood::{Error, Result};
///
/// struct Point { x: i32, y: i32 }
///
/// impl ValueCodec for Point {
///     type Ref<'a> = &'a Self;
///
///     fn encode(value: &Self, bytes: &mut Vec<u8>) {
///         i32::encode(value.x, bytes);
///         i32::encode(value.y, bytes);
///     }
///
///     fn decode(bytes: &[u8]) -> Result<Self> {
///         let (x, y) = bytes.split_at_checked(4).ok_or_else(|| Error::InvalidArgument("no point".to_owned()))?;
///         Ok(Self { x: i32::decode(x)?, y: i32::decode(y)? })
///     }
/// }
/// # let mut bytes = Vec::new();
/// # Point::encode(&Point { x: 1, y: -2 }, &mut bytes);
/// # assert_eq!(Point::decode(&bytes)?.y, -2);
/// # Ok::<(), Error>(())
/// ```
pub trait ValueCodec: Sized {
    /// How a value is handed in: `&str` for `String`, the number itself for a number.
    type Ref<'a>;

    /// Appends the value's bytes.
    fn encode(value: Self::Ref<'_>, bytes: &mut Vec<u8>);

    /// Reads what [`ValueCodec::encode`] appended.
    ///
    /// # Errors
    /// `InvalidArgument` when the bytes are no value of this type.
    fn decode(bytes: &[u8]) -> Result<Self>;
}

impl ValueCodec for () {
    type Ref<'a> = Self;

    fn encode((): Self, _: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() { Ok(()) } else { Err(undecodable("empty value")) }
    }
}

impl ValueCodec for bool {
    type Ref<'a> = Self;

    fn encode(value: Self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(value));
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(undecodable("bool")),
        }
    }
}

impl<V: ValueCodec> ValueCodec for Option<V> {
    type Ref<'a> = Option<V::Ref<'a>>;

    fn encode(value: Self::Ref<'_>, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(value.is_some()));
        if let Some(value) = value {
            V::encode(value, bytes);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [0] => Ok(None),
            [1, value @ ..] => V::decode(value).map(Some),
            _ => Err(undecodable("option")),
        }
    }
}

impl ValueCodec for Vec<u8> {
    type Ref<'a> = &'a [u8];

    fn encode(value: &[u8], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(value);
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(bytes.to_vec())
    }
}

impl ValueCodec for String {
    type Ref<'a> = &'a str;

    fn encode(value: &str, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(value.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| undecodable("UTF-8 string"))
    }
}

impl<const N: usize> ValueCodec for [u8; N] {
    type Ref<'a> = Self;

    fn encode(value: Self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&value);
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        bytes.try_into().map_err(|_| undecodable("array of this length"))
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl ValueCodec for $number {
            type Ref<'a> = Self;

            fn encode(value: Self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&value.to_le_bytes());
            }

            fn decode(bytes: &[u8]) -> Result<Self> {
                <[u8; size_of::<Self>()]>::decode(bytes).map(Self::from_le_bytes)
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_other_bytes_are_refused() {
        let mut bytes = Vec::new();
        u32::encode(258, &mut bytes);
        assert_eq!(bytes, [2, 1, 0, 0]);
        assert_eq!(u32::decode(&bytes).unwrap(), 258);
        assert!(
            u16::decode(&bytes).is_err() && <()>::decode(&bytes).is_err() && bool::decode(&bytes).is_err()
        );
        assert!(String::decode(b"\xff").is_err());
        assert_eq!(String::decode("né".as_bytes()).unwrap(), "né");
        assert_eq!((bool::decode(&[1]).unwrap(), <()>::decode(&[]).is_ok()), (true, true));
        for value in [None, Some(-1.5), Some(f64::INFINITY)] {
            let mut bytes = Vec::new();
            Option::<f64>::encode(value, &mut bytes);
            assert_eq!(Option::<f64>::decode(&bytes).unwrap(), value);
        }
        assert_eq!(Option::<String>::decode(b"\x01").unwrap().as_deref(), Some(""));
        assert!(Option::<u8>::decode(&[]).is_err() && Option::<()>::decode(&[0, 0]).is_err());
    }
}
