//! One JSON object a line; a field gives the key, the whole line is the value.
//!
//! The field must be a string, whose text is the key, or a number, whose digits as they stand are the key. Anything
//! else there (a truth value, null, a list, an object), a field that is missing or stands twice, and a line that is
//! not one JSON object, are bad lines. The rest of the object is checked to be JSON but not kept, so that a line costs
//! no more than its own length.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The key of the object on `line`. The error says what is wrong with it.
pub(super) fn key(line: &[u8], field: &str) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(line).map_err(|error| {
        format!("it is not JSON: the byte at column {} is not UTF-8", error.valid_up_to() + 1)
    })?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let found = FieldOf(field).deserialize(&mut parser).map_err(|error| describe(&error))?;
    parser.end().map_err(|error| describe(&error))?;
    let raw = found.ok_or_else(|| format!("it has no field '{field}'"))?;
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(raw)
            .map(String::into_bytes)
            .map_err(|error| format!("the field '{field}' is not a string: {}", describe(&error))),
        Some(b'-' | b'0'..=b'9') => Ok(raw.as_bytes().to_vec()),
        _ => Err(format!("the field '{field}' is neither a string nor a number")),
    }
}

/// The parser's message with the column, but without its line number: it always counts from the start of this line.
fn describe(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let end = message.rfind(" at line ").unwrap_or(message.len());
    if error.column() == 0 {
        format!("it is not a JSON object: {}", &message[..end])
    } else {
        format!("it is not a JSON object: {} at column {}", &message[..end], error.column())
    }
}

/// Reads an object and answers the raw text of one of its fields.
struct FieldOf<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldOf<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = object.next_key_seed(NameIs(self.0))? {
            if !is_it {
                object.next_value::<IgnoredAny>()?;
            } else if found.replace(object.next_value::<&RawValue>()?).is_some() {
                return Err(serde::de::Error::custom(format_args!("the field '{}' stands twice", self.0)));
            }
        }
        Ok(found)
    }
}

/// Compares a field's name without keeping it.
struct NameIs<'f>(&'f str);

impl<'de> DeserializeSeed<'de> for NameIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_or_a_number_is_a_key_as_it_stands() {
        let key = |line: &str| key(line.as_bytes(), "id").unwrap();
        assert_eq!(key(r#"{"id":"a b","x":[1,{"id":2}]}"#), b"a b");
        assert_eq!(key(r#" { "x" : null , "id" : "t\u0000\n" } "#), b"t\0\n");
        assert_eq!(key(r#"{"id":1.50e3}"#), b"1.50e3");
        assert_eq!(key(r#"{"id":18446744073709551616}"#), b"18446744073709551616");
        assert_eq!(key(r#"{"\u0069d":"escaped name"}"#), b"escaped name");
        assert_eq!(key(r#"{"id":""}"#), b"");
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let wrong = |line: &[u8]| key(line, "id").unwrap_err();
        assert_eq!(wrong(br#"{"x":1}"#), "it has no field 'id'");
        assert!(wrong(br#"{"id":"a","id":"b"}"#).contains("stands twice"));
        assert!(wrong(br#"{"id":null}"#).contains("neither a string nor a number"));
        assert!(wrong(br#"{"id":["a"]}"#).contains("neither a string nor a number"));
        assert!(wrong(b"{\"id\":\"\xff\"}").contains("column 8 is not UTF-8"));
        for line in [&b""[..], b" ", b"[]", b"\"id\"", b"{\"id\":\"a\"", b"{\"id\":\"a\"} x", b"{\"id\":01}"]
        {
            assert!(wrong(line).contains("not a JSON object"), "{}", wrong(line));
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let line = format!("{{\"id\":\"a\",\"x\":{}", "[".repeat(100_000));
        assert!(key(line.as_bytes(), "id").is_err());
        let line = format!("{{\"id\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(key(line.as_bytes(), "id").is_err());
    }
}
