//! BYTES of a segment's header.
//!
//! | offset | size | name | meaning |
//! |---|---|---|---|
//! | 0 | 4 | crc32 | of bytes 4..header_bytes, seeded with (log id, segment number, 0) |
//! | 4 | 4 | header_bytes | exact length, group table included; batches start at the next block boundary |
//! | 8 | 8 | magic | `LWLOGSEG` |
//! | 16 | 2 | read_version | version needed to read this segment |
//! | 18 | 2 | write_version | version that wrote it |
//! | 20 | 4 | segment_bytes | size of the file; a multiple of block_bytes |
//! | 24 | 4 | block_bytes | 4096 |
//! | 28 | 4 | cipher | 0: not encrypted |
//! | 32 | 16 | log | log id |
//! | 48 | 16 | database | database id |
//! | 64 | 8 | segment | own number |
//! | 72 | 8 | predecessor | number of the segment before; 0: none, this segment stands on its own |
//! | 80 | 4 | predecessor_end | exact end of its last batch; what lies beyond is not part of the log |
//! | 84 | 4 | predecessor_crc | checksum of its last batch, or of its header when it has none |
//! | 88 | 4 | groups | number of entries in the table |
//! | 92 | 4 | flags | 1: written by healing; without its whole chain it is not part of the log |
//! | 96 | … | table | per group, ascending by group: see below |
//!
//! | offset | size | name | meaning |
//! |---|---|---|---|
//! | 0 | 8 | group | |
//! | 8 | 8 | term | term of the vote: the group's current term as this member knows it |
//! | 16 | 8 | vote | node voted for in that term; 0: nobody |
//! | 24 | 8 | commit_lsn | known to be committed |
//! | 32 | 8 | base_lsn | entries up to here may be gone |
//! | 40 | 8 | base_term | term of base_lsn |
//! | 48 | 8 | last_lsn | last entry before this segment |
//! | 56 | 8 | last_term | its term |
//! | 64 | 8 | append_term | greatest append_term before this segment |
//! | 72 | 8 | membership_lsn | where the membership was set |
//! | 80 | 4 | membership_bytes | ≤ 1024 |
//! | 84 | … | membership | opaque to the log |
//!
//! The header says what was so *before* the segment's first batch, and all of that was durable when it was written:
//! its predecessor's end is a durable end.

use logwood_base::checksum::checksum;
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::{GROUPS_MAX, LOG_SEGMENT_BYTES_MAX, LOG_SEGMENT_BYTES_MIN, MEMBERSHIP_BYTES_MAX};
use logwood_base::{
    AlignedBuffer, DatabaseId, FormatVersion, GroupId, LogId, LogPosition, Lsn, NodeId, SegmentNo, Term,
};

use super::batch::LSN_MAX;
use super::{BLOCK, READ_VERSION, WRITE_VERSION, block_up, segment_seed};

const MAGIC: [u8; 8] = *b"LWLOGSEG";

/// Bytes in front of the group table.
pub(crate) const FIXED_BYTES: usize = 96;

/// Bytes of one group in the table, without its membership.
const GROUP_FIXED_BYTES: usize = 84;

/// Longest header that the limits allow.
pub(crate) const HEADER_BYTES_MAX: usize =
    FIXED_BYTES + GROUPS_MAX * (GROUP_FIXED_BYTES + MEMBERSHIP_BYTES_MAX);

/// What stands in front of a segment's batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) segment_bytes: u32,
    pub(crate) log: LogId,
    pub(crate) database: DatabaseId,
    pub(crate) segment: SegmentNo,
    /// Exact end of the segment before; number 0 when this one stands on its own.
    pub(crate) predecessor: LogPosition,
    pub(crate) predecessor_crc: u32,
    /// Whether healing wrote it.
    pub(crate) rewriting: bool,
    /// Ascending by group.
    pub(crate) groups: Vec<(GroupId, GroupRecord)>,
}

/// What the log keeps of a group besides its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub(crate) vote: (Term, NodeId),
    pub(crate) committed: Lsn,
    pub(crate) base: (Lsn, Term),
    pub(crate) last: (Lsn, Term),
    pub(crate) append_term: Term,
    pub(crate) membership: (Lsn, Vec<u8>),
}

impl GroupRecord {
    /// Whether there is a vote or membership that a second copy must guard.
    pub(crate) fn has_state(&self) -> bool {
        self.vote != (Term::NONE, NodeId::NOBODY) || self.membership != (Lsn::ZERO, Vec::new())
    }
}

/// What the first bytes of a segment file turned out to be.
#[derive(Debug)]
pub(crate) enum HeaderRead {
    /// A header, and its checksum.
    Valid(SegmentHeader, u32),
    /// Intact, and written by a newer version.
    Newer(FormatVersion),
    /// Not a header of this number.
    Invalid(&'static str),
}

impl SegmentHeader {
    /// Exact length, group table included.
    pub(crate) fn header_bytes(&self) -> usize {
        FIXED_BYTES + table_bytes(self.groups.iter().map(|(_, record)| record))
    }

    /// Where the first batch stands.
    pub(crate) fn batches_start(&self) -> u32 {
        block_up(self.header_bytes() as u32)
    }

    /// The header as it is written, padded to whole blocks, and its checksum.
    pub(crate) fn encode(&self) -> (AlignedBuffer, u32) {
        let header_bytes = self.header_bytes();
        let mut out = AlignedBuffer::with_capacity(self.batches_start() as usize);
        out.put_u32(0);
        out.put_u32(header_bytes as u32);
        out.put_bytes(&MAGIC);
        out.put_u16(READ_VERSION.0);
        out.put_u16(WRITE_VERSION.0);
        out.put_u32(self.segment_bytes);
        out.put_u32(BLOCK);
        out.put_u32(0);
        out.put_u128(self.log.0);
        out.put_u128(self.database.0);
        out.put_u64(self.segment.0);
        out.put_u64(self.predecessor.segment.0);
        out.put_u32(self.predecessor.offset);
        out.put_u32(self.predecessor_crc);
        out.put_u32(self.groups.len() as u32);
        out.put_u32(u32::from(self.rewriting));
        for (group, record) in &self.groups {
            encode_group(&mut out, *group, record);
        }
        debug_assert_eq!(out.len(), header_bytes);
        let crc = checksum(segment_seed(self.log, self.segment).u64(0), &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out.pad_to(self.batches_start() as usize);
        (out, crc)
    }

    /// Reads the header of the file that is named after `segment` from the file's first bytes.
    pub(crate) fn decode(bytes: &[u8], segment: SegmentNo) -> HeaderRead {
        match Self::decode_checked(bytes, segment) {
            Ok(read) => read,
            Err(error) => HeaderRead::Invalid(error.what),
        }
    }

    fn decode_checked(bytes: &[u8], segment: SegmentNo) -> Result<HeaderRead, CodecError> {
        let mut reader = Reader::new(bytes);
        let crc = reader.u32("header checksum")?;
        let header_bytes = reader.u32("header length")? as usize;
        if reader.array::<8>("magic")? != MAGIC {
            return Ok(HeaderRead::Invalid("magic"));
        }
        if !(FIXED_BYTES..=HEADER_BYTES_MAX).contains(&header_bytes) || header_bytes > bytes.len() {
            return Ok(HeaderRead::Invalid("header length"));
        }
        let read_version = FormatVersion(reader.u16("read version")?);
        let _write_version = reader.u16("write version")?;
        let segment_bytes = reader.u32("segment size")?;
        let block_bytes = reader.u32("block size")?;
        let cipher = reader.u32("cipher")?;
        let log = LogId(reader.u128("log id")?);
        let database = DatabaseId(reader.u128("database id")?);
        let number = SegmentNo(reader.u64("segment number")?);
        if checksum(segment_seed(log, segment).u64(0), &bytes[4..header_bytes]) != crc {
            return Ok(HeaderRead::Invalid("header checksum"));
        }
        if read_version > READ_VERSION {
            return Ok(HeaderRead::Newer(read_version));
        }
        let sane_size = (LOG_SEGMENT_BYTES_MIN..=LOG_SEGMENT_BYTES_MAX).contains(&segment_bytes)
            && segment_bytes.is_multiple_of(BLOCK);
        if number != segment || block_bytes != BLOCK || cipher != 0 || !sane_size {
            return Ok(HeaderRead::Invalid("segment number, sizes or cipher"));
        }
        let predecessor =
            LogPosition::new(SegmentNo(reader.u64("predecessor")?), reader.u32("predecessor end")?);
        let predecessor_crc = reader.u32("predecessor checksum")?;
        let count = reader.u32("groups")? as usize;
        let rewriting = match reader.u32("flags")? {
            flags @ 0..=1 => flags == 1,
            _ => return Ok(HeaderRead::Invalid("flags")),
        };
        let mut table = Reader::new(&bytes[reader.offset()..header_bytes]);
        let groups = decode_groups(&mut table, count)?;
        let header =
            Self { segment_bytes, log, database, segment, predecessor, predecessor_crc, rewriting, groups };
        Ok(HeaderRead::Valid(header, crc))
    }
}

/// How many bytes a group table takes.
pub(crate) fn table_bytes<'a>(records: impl Iterator<Item = &'a GroupRecord>) -> usize {
    records.map(|record| GROUP_FIXED_BYTES + record.membership.1.len()).sum()
}

fn encode_group(out: &mut AlignedBuffer, group: GroupId, record: &GroupRecord) {
    out.put_u64(group.0);
    out.put_u64(record.vote.0.0);
    out.put_u64(record.vote.1.0);
    out.put_u64(record.committed.0);
    out.put_u64(record.base.0.0);
    out.put_u64(record.base.1.0);
    out.put_u64(record.last.0.0);
    out.put_u64(record.last.1.0);
    out.put_u64(record.append_term.0);
    out.put_u64(record.membership.0.0);
    out.put_u32(record.membership.1.len() as u32);
    out.put_bytes(&record.membership.1);
}

fn decode_groups(table: &mut Reader<'_>, count: usize) -> Result<Vec<(GroupId, GroupRecord)>, CodecError> {
    if count > GROUPS_MAX {
        return Err(table.error("number of groups"));
    }
    let mut groups: Vec<(GroupId, GroupRecord)> = Vec::with_capacity(count);
    for _ in 0..count {
        let group = GroupId(table.u64("group")?);
        if groups.last().is_some_and(|(before, _)| *before >= group) {
            return Err(table.error("order of groups"));
        }
        let record = GroupRecord {
            vote: (Term(table.u64("term")?), NodeId(table.u64("vote")?)),
            committed: Lsn(table.u64("commit lsn")?),
            base: (Lsn(table.u64("base lsn")?), Term(table.u64("base term")?)),
            last: (Lsn(table.u64("last lsn")?), Term(table.u64("last term")?)),
            append_term: Term(table.u64("append term")?),
            membership: (Lsn(table.u64("membership lsn")?), Vec::new()),
        };
        let length = table.u32("membership length")? as usize;
        let last = record.last.0.max(record.committed);
        if length > MEMBERSHIP_BYTES_MAX || record.base.0 > record.last.0 || last > LSN_MAX {
            return Err(table.error("group record"));
        }
        let membership = (record.membership.0, table.bytes(length, "membership")?.to_vec());
        groups.push((group, GroupRecord { membership, ..record }));
    }
    table.finish("group table")?;
    Ok(groups)
}
