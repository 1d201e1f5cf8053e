//! Reading a file's first bytes, and naming the block that cannot be read.
//!
//! A block that cannot be read is not taken for one that was torn. What tells a tear from a loss is what stands in the
//! blocks behind it, and the same failure may hide it: of an acknowledged batch and the seal behind it, or of the last
//! batch before its seal, nothing would be left but an end that looks as if it were torn. The next attempt may read all.

use std::io;

use logwood_base::disk::{File, ReadSource};
use logwood_base::limits::BLOCK_BYTES;
use logwood_base::{AlignedBuffer, Error, Result};

/// The first `length` bytes of a file; with `past_cache`, those that the device holds where that can be known. Else they
/// may come in the memory of `spare`.
///
/// # Errors
/// `Io`, which names the first block that cannot be read.
pub(super) fn first_bytes(
    file: &dyn File,
    length: usize,
    past_cache: bool,
    spare: AlignedBuffer,
) -> Result<(AlignedBuffer, ReadSource)> {
    let read = |offset: u64, length: usize, mut bytes: AlignedBuffer| {
        if past_cache {
            return file.read_past_cache(offset, length);
        }
        bytes.truncate(length);
        bytes.pad_to(length);
        file.read_at(offset, &mut bytes)?;
        Ok((bytes, ReadSource::PerhapsCache))
    };
    read(0, length, spare).map_err(|error| {
        let fails_at =
            |at: usize| read(at as u64, BLOCK_BYTES.min(length - at), AlignedBuffer::default()).err();
        let first = (0..length).step_by(BLOCK_BYTES).find_map(|at| Some((at, fails_at(at)?)));
        // One that comes and goes is answered as it came.
        first.map_or(error, |(at, error)| at_offset(error, at))
    })
}

/// Adds to an error of the operating system where it was met.
fn at_offset(error: Error, offset: usize) -> Error {
    match error {
        Error::Io { operation, path, source } => {
            let told = io::Error::new(source.kind(), format!("{source}, in the block at offset {offset}"));
            Error::io(operation, &path, told)
        }
        other => other,
    }
}
