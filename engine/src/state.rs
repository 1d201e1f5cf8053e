//! BYTES of what the engine keeps in a manifest: everything that replay needs and no tree holds.
//!
//! | size | name | meaning |
//! |---|---|---|
//! | 2 | version | 1 |
//! | 8 | next keyspace | the number that the next keyspace gets |
//! | 8 | time_ms | of the last entry in the checkpoint |
//! | varint | count | how many keyspaces follow, ordered by number |
//! | varint, string | keyspace | its number and name, `count` times |
//!
//! All numbers are little-endian. The manifest's checksum covers these bytes; valid is what is read to the last byte
//! with ascending numbers below the next one, and names that are used once.

use std::collections::BTreeSet;
use std::path::Path;

use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::{KEYSPACE_NAME_BYTES_MAX, KEYSPACES_MAX};
use logwood_base::{Corruption, Error, FormatVersion, KeyspaceId, Result};

const VERSION: u16 = 1;

/// The first number that a keyspace of a user gets; 0 is the system's.
pub(crate) const FIRST_KEYSPACE: KeyspaceId = KeyspaceId(1);

/// What a manifest says besides the trees' roots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EngineState {
    pub(crate) next_keyspace: KeyspaceId,
    pub(crate) time_ms: u64,
    /// Ordered by number.
    pub(crate) keyspaces: Vec<(KeyspaceId, String)>,
}

impl EngineState {
    /// The state of a database without any entry.
    pub(crate) const fn new() -> Self {
        Self { next_keyspace: FIRST_KEYSPACE, time_ms: 0, keyspaces: Vec::new() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + 24 * self.keyspaces.len());
        bytes.put_u16(VERSION);
        bytes.put_u64(self.next_keyspace.get());
        bytes.put_u64(self.time_ms);
        bytes.put_varint(self.keyspaces.len() as u64);
        for (id, name) in &self.keyspaces {
            bytes.put_varint(id.get());
            bytes.put_length_prefixed(name.as_bytes());
        }
        bytes
    }

    /// Reads what [`EngineState::encode`] wrote; `manifest` is named in errors.
    pub(crate) fn decode(bytes: &[u8], manifest: &Path) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u16("state version") {
            Ok(VERSION) | Err(_) => {}
            Ok(newer) => {
                return Err(Error::UnsupportedFormat {
                    path: manifest.to_owned(),
                    needed: FormatVersion(newer),
                    supported: FormatVersion(VERSION),
                });
            }
        }
        Self::decode_body(Reader::new(bytes)).map_err(|CodecError { offset, what }| {
            Corruption::new(manifest, offset as u64, "engine state in the manifest", what, "other bytes")
                .into()
        })
    }

    fn decode_body(mut reader: Reader<'_>) -> Result<Self, CodecError> {
        reader.u16("state version")?;
        let next_keyspace = KeyspaceId(reader.u64("next keyspace")?);
        let time_ms = reader.u64("time")?;
        let error = reader.error("count of keyspaces");
        let count = reader.varint("count of keyspaces")?;
        if count > KEYSPACES_MAX as u64 {
            return Err(error);
        }
        let mut keyspaces: Vec<(KeyspaceId, String)> = Vec::new();
        let mut names = BTreeSet::new();
        for _ in 0..count {
            let error = reader.error("keyspace");
            let id = KeyspaceId(reader.varint("keyspace")?);
            let name = reader.length_prefixed(KEYSPACE_NAME_BYTES_MAX, "keyspace name")?;
            let name = std::str::from_utf8(name).map_err(|_| error)?;
            let ascending = keyspaces.last().is_none_or(|(before, _)| *before < id);
            if !ascending || id >= next_keyspace || !names.insert(name) {
                return Err(error);
            }
            keyspaces.push((id, name.to_owned()));
        }
        reader.finish("end of the state")?;
        Ok(Self { next_keyspace, time_ms, keyspaces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> EngineState {
        EngineState {
            next_keyspace: KeyspaceId(4),
            time_ms: 9,
            keyspaces: vec![(KeyspaceId(1), "a".to_owned()), (KeyspaceId(3), "ü".to_owned())],
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let expected = b"\x01\x00\x04\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x02\x01\x01a\x03\x02\xc3\xbc";
        assert_eq!(sample().encode(), expected);
        assert_eq!(EngineState::decode(expected, Path::new("m")).unwrap(), sample());
    }

    #[test]
    fn damage_and_newer_versions_are_told_apart() {
        let whole = sample().encode();
        for length in 0..whole.len() {
            let error = EngineState::decode(&whole[..length], Path::new("m")).unwrap_err();
            assert!(matches!(error, Error::Corruption(_)), "{length}: {error}");
        }
        let mut newer = whole.clone();
        newer[0] = 2;
        let error = EngineState::decode(&newer, Path::new("m")).unwrap_err();
        assert!(matches!(error, Error::UnsupportedFormat { .. }));
        let mut twice = sample();
        twice.keyspaces[1].1 = "a".to_owned();
        assert!(EngineState::decode(&twice.encode(), Path::new("m")).is_err());
        let mut beyond = sample();
        beyond.next_keyspace = KeyspaceId(3);
        assert!(EngineState::decode(&beyond.encode(), Path::new("m")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(mut bytes: Vec<u8>) {
            if let [first, second, ..] = bytes.as_mut_slice() {
                (*first, *second) = (1, 0);
            }
            let _ = EngineState::decode(&bytes, Path::new("m"));
        }
    }
}
