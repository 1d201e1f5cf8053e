//! Bytes as text, wherever a key is shown to a person: in errors, in descriptions of damage, by the program.
//!
//! A byte outside printable ASCII (0x20 to 0x7e), and the backslash itself, is shown as `\xNN` with two lowercase
//! hexadecimal digits; every other byte stands for itself. So no TAB, line end or byte that is no text is ever shown, and
//! what is shown can be read back without doubt.

use std::fmt;

/// Shows bytes as text; keys as a rule.
///
/// ```
/// use logwood_base::Escaped;
///
/// assert_eq!(Escaped(b"a b\\\n\xff").to_string(), r"a b\x5c\x0a\xff");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
        for run in self.0.chunk_by(|one, next| is_plain(one) && is_plain(next)) {
            match run {
                [byte] if !is_plain(byte) => write!(f, "\\x{byte:02x}")?,
                plain => f.write_str(str::from_utf8(plain).map_err(|_| fmt::Error)?)?,
            }
        }
        Ok(())
    }
}
