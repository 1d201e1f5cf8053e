//! `key TAB value`, one record a line.
//!
//! The key ends at the first TAB; everything behind it, further TABs included, is the value. Unless the input is
//! *raw*, `\xNN` is decoded in both (see [`crate::escape`]) and a carriage return before the line feed is taken for a
//! part of the line end. In raw input every byte but that TAB and the line feed stands for itself.

use std::borrow::Cow;

use super::Record;
use crate::escape;

/// Splits a line into key and value. The error says what is wrong with it.
pub(super) fn split(line: &[u8], raw: bool) -> Result<Record<'_>, String> {
    let Some(tab) = memchr::memchr(b'\t', line) else {
        return Err("it has no TAB between key and value".to_owned());
    };
    let (key, value) = (&line[..tab], &line[tab + 1..]);
    if raw {
        return Ok(Record { key: Cow::Borrowed(key), value: Cow::Borrowed(value) });
    }
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    Ok(Record { key: escape::unescape(key), value: escape::unescape(value) })
}
