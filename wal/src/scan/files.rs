//! Which files there are, which log they hold, and what their first bytes say.

use logwood_base::disk::{File, ReadSource};
use logwood_base::limits::BLOCK_BYTES;
use logwood_base::{Access, AlignedBuffer, Corruption, Error, LogId, LogPosition, Result, SegmentNo};

use super::ScanRequest;
use super::first_bytes::first_bytes;
use crate::format::header::{HEADER_BYTES_MAX, HeaderRead, SegmentHeader};
use crate::format::parse_file_name;
use crate::log::is_leftover;
use crate::segment::path_of;

/// A file with what its first bytes are.
pub(super) struct Candidate {
    pub(super) number: SegmentNo,
    pub(super) file: std::sync::Arc<dyn File>,
    pub(super) bytes: u64,
    pub(super) header: Result<(SegmentHeader, u32), &'static str>,
}

/// Every segment file, ascending. One that goes between two calls, because an opening goes on beside a mere look, is
/// passed over.
pub(super) fn read_candidates(request: &ScanRequest<'_>) -> Result<Vec<Candidate>> {
    let mut numbers: Vec<SegmentNo> =
        request.disk.list(request.dir)?.iter().filter_map(|entry| parse_file_name(&entry.name)).collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .filter_map(|number| match request.disk.open(&path_of(request.dir, number), Access::Read) {
            Err(Error::NotFound { .. }) => None,
            opened => Some(opened.and_then(|file| read_candidate(number, file))),
        })
        .collect()
}

fn read_candidate(number: SegmentNo, file: std::sync::Arc<dyn File>) -> Result<Candidate> {
    let bytes = file.size()?;
    let header = read_header(&*file, number, bytes)?;
    Ok(Candidate { number, file, bytes, header })
}

/// Reads the header of a segment file.
fn read_header(
    file: &dyn File,
    number: SegmentNo,
    bytes: u64,
) -> Result<Result<(SegmentHeader, u32), &'static str>> {
    let (mut head, _) =
        first_bytes(file, bytes.min(BLOCK_BYTES as u64) as usize, false, AlignedBuffer::default())?;
    let wanted =
        head.get(4..8).map_or(0, |length| length.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)));
    if wanted > head.len() && wanted <= HEADER_BYTES_MAX && wanted as u64 <= bytes {
        (head, _) = first_bytes(file, wanted, false, head)?;
    }
    match SegmentHeader::decode(&head, number) {
        HeaderRead::Valid(header, crc) if header.predecessor.segment < number => Ok(Ok((header, crc))),
        HeaderRead::Valid(..) => Ok(Err("order of segments")),
        HeaderRead::Newer(needed) => {
            let supported = crate::format::READ_VERSION;
            Err(Error::UnsupportedFormat { path: file.path().to_owned(), needed, supported })
        }
        HeaderRead::Invalid(what) => Ok(Err(what)),
    }
}

/// Which log the directory holds. Whose segments stand there beside another's is not decided: what opening would take
/// for left over may be all that somebody has of a log.
pub(super) fn identify(request: &ScanRequest<'_>, candidates: &[Candidate]) -> Result<LogId> {
    let headers = || candidates.iter().rev().filter_map(|candidate| candidate.header.as_ref().ok());
    let newest = match request.expect.log {
        Some(log) => headers().find(|(header, _)| header.log == log).or_else(|| headers().next()),
        None => headers().next(),
    };
    let Some((header, _)) = newest else {
        for candidate in candidates {
            if !is_leftover(request.disk, request.dir, candidate.number)? {
                let path = path_of(request.dir, candidate.number);
                let found = candidate.header.as_ref().err().copied().unwrap_or("nothing");
                return Err(Corruption::new(&path, 0, "segment header", "a valid header", found).into());
            }
        }
        return Err(Error::NotFound { what: "log", name: request.dir.display().to_string() });
    };
    let wrong = |what: &str, found: String| {
        Err(Error::InvalidArgument(format!("{} is the log of {what} {found}", request.dir.display())))
    };
    if request.expect.log.is_some_and(|log| log != header.log) {
        return wrong("another log id,", header.log.to_string());
    }
    if request.expect.database.is_some_and(|database| database != header.database) {
        return wrong("database", header.database.to_string());
    }
    for candidate in candidates {
        if let Ok((other, _)) = &candidate.header
            && other.log != header.log
        {
            return Err(Corruption::new(candidate.file.path(), 0, "log id", header.log, other.log).into());
        }
    }
    Ok(header.log)
}

/// Where the log's chain begins: the newest valid header that the disk has. One of a write that failed may stand in the
/// page cache alone. Were it believed, what an older one holds would be deleted, and be gone with the next power cut.
///
/// Answers also whether the disk is known to have it. It is not where the cache cannot be passed; nor where the only
/// header is not on the disk: then there is no older one, and nothing can be gone that a header does not tell of.
pub(super) fn find_newest(request: &ScanRequest<'_>, candidates: &mut [Candidate]) -> Result<(usize, bool)> {
    loop {
        let newest = (0..candidates.len())
            .rev()
            .find(|at| candidates[*at].header.is_ok() && !is_unfinished(candidates, *at))
            .or_else(|| candidates.iter().rposition(|candidate| candidate.header.is_ok()))
            .unwrap_or(0);
        if !request.reads_past_cache() {
            return Ok((newest, true));
        }
        // The only one is looked at as well: that is what syncs the newest file, before it is read past the cache.
        let source = candidates[newest].source()?;
        let is_only = candidates[..newest].iter().all(|candidate| candidate.header.is_err());
        match source {
            Some(source) => return Ok((newest, source == ReadSource::Device)),
            None if is_only => return Ok((newest, false)),
            None => candidates[newest].header = Err("in the cache only"),
        }
    }
}

impl Candidate {
    /// What answers with the header once the file is synced: the device, or perhaps the cache. None when the device does
    /// not have it.
    fn source(&self) -> Result<Option<ReadSource>> {
        let Ok((header, crc)) = &self.header else { return Ok(Some(ReadSource::Device)) };
        self.file.sync()?;
        let (head, source) = first_bytes(&*self.file, header.header_bytes(), true, AlignedBuffer::default())?;
        let is_same =
            matches!(SegmentHeader::decode(&head, self.number), HeaderRead::Valid(_, found) if found == *crc);
        Ok(is_same.then_some(source))
    }
}

/// Whether a segment belongs to a healing that never came to its end: its first header is missing.
pub(super) fn is_unfinished(candidates: &[Candidate], newest: usize) -> bool {
    if !matches!(&candidates[newest].header, Ok((header, _)) if header.rewriting) {
        return false;
    }
    let mut at = newest;
    while let Ok((header, _)) = &candidates[at].header {
        if !header.rewriting || header.predecessor == LogPosition::ZERO {
            return false;
        }
        let predecessor = header.predecessor.segment;
        match candidates.binary_search_by_key(&predecessor, |candidate| candidate.number) {
            Ok(found) => at = found,
            Err(_) => return true,
        }
    }
    true
}
