//! The demo's own handling of files: a place to work in, a copy of a database, a flipped byte.
//!
//! It goes past the engine's disk on purpose: damage must come from outside.
#![allow(clippy::disallowed_methods, reason = "these are a user's hands on files, not the engine's")]

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The directory that the demo works in.
pub(super) struct Workplace {
    path: PathBuf,
    /// Whether the demo made it, and so may remove it.
    ours: bool,
}

impl Workplace {
    /// A new directory, or `wanted`, which must be empty or absent.
    pub(super) fn new(wanted: Option<&Path>) -> io::Result<Self> {
        let path = wanted.map_or_else(
            || std::env::temp_dir().join(format!("logwood-demo-{}", std::process::id())),
            Path::to_owned,
        );
        let ours = !path.exists();
        fs::create_dir_all(&path)?;
        if fs::read_dir(&path)?.next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        Ok(Self { path: path.canonicalize()?, ours })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what the demo made.
    pub(super) fn remove(self) -> io::Result<()> {
        if self.ours {
            return fs::remove_dir_all(&self.path);
        }
        for entry in fs::read_dir(&self.path)? {
            fs::remove_dir_all(entry?.path())?;
        }
        Ok(())
    }
}

/// Removes a directory with everything in it.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    fs::remove_dir_all(directory)
}

/// Copies a directory with everything in it.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The largest file in a directory that holds anything but zeros in its middle, and the place of such a byte.
pub(super) fn victim(directory: &Path) -> io::Result<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.metadata()?.len(), entry.path()));
    }
    files.sort();
    while let Some((length, path)) = files.pop() {
        let mut bytes = Vec::new();
        let middle = length / 2;
        let mut file = fs::File::open(&path)?;
        file.seek(SeekFrom::Start(middle))?;
        file.take(1 << 16).read_to_end(&mut bytes)?;
        if let Some(skipped) = bytes.iter().position(|byte| *byte != 0) {
            return Ok((path, middle + skipped as u64));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no file to damage in {}", directory.display())))
}

/// Changes every bit of one byte.
pub(super) fn flip(path: &Path, offset: u64) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&[!byte[0]])
}
