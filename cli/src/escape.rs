//! How keys and values are printed, and how that text is read back.
//!
//! A byte outside printable ASCII (0x20 to 0x7e), and the backslash itself, is printed as `\xNN` with two lowercase
//! hexadecimal digits; every other byte stands for itself. Reading takes `\x` followed by two hexadecimal digits of
//! either case for the byte, and keeps every other backslash. So whatever is printed reads back as it was, and a file
//! written by hand with a stray backslash is not refused.
//!
//! Invariants, held by tests:
//! 1. `unescape(escape(bytes)) == bytes` for all bytes.
//! 2. `escape` never prints a TAB or a line end, so one record is always one line of two columns.

use std::borrow::Cow;
use std::fmt::Write;

use logwood_base::Escaped;

/// Adds `bytes` to `text` as they are printed.
pub fn escape_into(text: &mut String, bytes: &[u8]) {
    write!(text, "{}", Escaped(bytes)).expect("a string takes everything");
}

/// `bytes` as they are printed.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

/// The bytes that `text` stands for. Borrows when nothing was escaped, which is the usual case.
#[must_use]
pub fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', text) else { return Cow::Borrowed(text) };
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(&text[..first]);
    let mut rest = &text[first..];
    while let Some((&byte, after)) = rest.split_first() {
        match escaped(rest) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &rest[4..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(bytes)
}

/// The byte that `text` begins with in escaped form, if it does.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_printable_ascii_without_the_backslash_is_printed_as_itself() {
        assert_eq!(escape(b"a b~"), "a b~");
        assert_eq!(escape(b"\x00\t\n\r\x1f\x7f\x80\xff"), r"\x00\x09\x0a\x0d\x1f\x7f\x80\xff");
        assert_eq!(escape(br"a\b"), r"a\x5cb");
        assert_eq!(escape("é".as_bytes()), r"\xc3\xa9");
    }

    #[test]
    fn only_x_and_two_digits_is_an_escape_and_every_other_backslash_is_kept() {
        let same = |text: &[u8]| assert_eq!(unescape(text).as_ref(), text);
        same(b"");
        same(b"\\");
        same(br"\n\t\\");
        same(br"\x");
        same(br"\x4");
        same(br"\xg1");
        same(br"\x1g");
        same(br"\X41");
        same(br"\x+1");
        assert_eq!(unescape(br"\x41\x4a\x4A\x00").as_ref(), b"AJJ\0");
        assert_eq!(unescape(br"\\x41").as_ref(), br"\A");
        assert_eq!(unescape(br"\x\x41").as_ref(), br"\xA");
        assert_eq!(unescape(br"\x5cx41").as_ref(), br"\x41", "what an escape stands for is not read again");
    }

    proptest! {
        #[test]
        fn whatever_is_printed_reads_back(bytes: Vec<u8>) {
            let text = escape(&bytes);
            let plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
            prop_assert!(plain);
            let read = unescape(text.as_bytes());
            prop_assert_eq!(read.as_ref(), &bytes[..]);
        }

        #[test]
        fn reading_never_lengthens(text: Vec<u8>) {
            prop_assert!(unescape(&text).len() <= text.len());
        }
    }
}
