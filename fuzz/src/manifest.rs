//! One copy of a manifest, as it is and with its head mended.
//!
//! Held:
//! 1. Decoding bounds what it allocates by the input.
//! 2. Whatever decodes, encodes to the same bytes (the write version aside, which decoding does not keep): every
//!    manifest has one encoding.
//! 3. A store whose only copy this is opens for reading when the copy decodes and names no segment, and otherwise
//!    answers a named error; nothing on the disk changes by it.
//! 4. Verifying the same directory never fails but by naming what is damaged.

use std::path::Path;
use std::sync::Arc;

use logwood_base::disk::SimulatedDisk;
use logwood_base::{Error, Generation};
use logwood_btree::format::manifest::Manifest;
use logwood_btree::store::{Store, StoreOptions};
use logwood_btree::verify::verify_files;

use crate::{allocation, mend};

/// The generation that the copy is named after.
pub const GENERATION: Generation = Generation(77);

const COPY: &str = "db/manifest/00000000000000000077.a";

/// Runs the target.
pub fn run(bytes: &[u8]) {
    judge(bytes);
    judge(&mend::manifest(bytes, GENERATION.get()));
}

fn judge(bytes: &[u8]) {
    let decoded =
        allocation::bounded("decoding a manifest", bytes.len(), || Manifest::decode(bytes, GENERATION));
    if let Ok(manifest) = &decoded {
        let mut encoded = manifest.encode();
        // Neither the write version nor, therefore, the head's checksum comes back.
        for range in [10..12, 28..32] {
            encoded[range.clone()].copy_from_slice(&bytes[range]);
        }
        assert_eq!(encoded, bytes, "a manifest with a second encoding");
    }
    let disk = SimulatedDisk::new(1);
    disk.write_file(Path::new(COPY), bytes);
    disk.write_file(Path::new("db/pages/left-over"), b"");
    let files = disk.paths();
    let opened =
        Store::open_read_only(Arc::new(disk.clone()), Path::new("db"), StoreOptions::default(), &|_| Ok(()));
    match (&decoded, opened) {
        (Ok(manifest), Ok((store, opened))) => {
            assert_eq!(*opened.manifest, *manifest);
            assert!(manifest.segments.is_empty(), "a manifest was opened whose segments are missing");
            drop(store);
        }
        (Ok(manifest), Err(error)) => {
            assert!(!manifest.segments.is_empty(), "a sound manifest was refused: {error}");
            assert!(matches!(error, Error::Corruption(_)), "{error}");
        }
        (Err(_), Ok(_)) => panic!("opened what does not decode"),
        (Err(_), Err(error)) => {
            let named = matches!(error, Error::Corruption(_) | Error::UnsupportedFormat { .. });
            assert!(named, "{error}");
        }
    }
    let mut damages = 0;
    let verified = verify_files(&disk, Path::new("db"), &mut |_| damages += 1, &mut |_| ());
    match (&decoded, verified) {
        (Ok(manifest), Ok(_)) => assert_eq!(damages == 0, manifest.segments.is_empty()),
        (Err(_), Ok(_)) => assert!(damages > 0, "verify finds nothing in a copy that does not decode"),
        (_, Err(error)) => assert!(matches!(error, Error::UnsupportedFormat { .. }), "{error}"),
    }
    assert_eq!(disk.paths(), files, "reading changed the directory");
    assert_eq!(disk.read_file(Path::new(COPY)).as_deref(), Some(bytes), "reading changed the copy");
}
