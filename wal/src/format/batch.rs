//! BYTES of a batch.
//!
//! | offset | size | name | meaning |
//! |---|---|---|---|
//! | 0 | 4 | crc32 | of bytes 4..length, seeded with (log id, segment number, offset of the batch) |
//! | 4 | 4 | length | of the whole batch |
//! | 8 | 1 | kind | 1 append, 2 copy, 3 base, 4 state, 5 seal |
//! | 9 | 3 | reserved | 0 |
//! | 12 | 4 | previous_crc | checksum of the batch before, or of the header for the first |
//! | 16 | 8 | group | 0 for a seal |
//! | 24 | 8 | append_term | append: the term of the leader that sent it; never decreases within a group |
//! | 32 | 8 | prev_term | term of first_lsn − 1; base: term of first_lsn itself |
//! | 40 | 8 | commit_lsn | of the group, as known when the batch was made |
//! | 48 | 8 | first_lsn | first entry; base: the base LSN |
//! | 56 | 4 | count | number of entries; 0 in base, state and seal |
//! | 60 | 4 | durable_end.offset | |
//! | 64 | 8 | durable_end.segment | before this position all bytes were synced when the batch was submitted |
//! | 72 | … | body | by kind |
//!
//! | kind | body |
//! |---|---|
//! | append, copy | `count` times: term u64, payload length u32, payload |
//! | base | keeps_entries u8: 1 when the entries above it stay, 0 when all go; membership LSN u64, length u32, membership |
//! | state | vote term u64, vote u64, membership LSN u64, length u32, membership |
//! | seal | number of the next segment u64 when this batch closes the segment; 0 when it only closes a quiet moment |
//!
//! Terms of entries are at least 1 and never decrease within a batch.

use logwood_base::checksum::{Seed, checksum};
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::MEMBERSHIP_BYTES_MAX;
use logwood_base::{GroupId, LogPosition, Lsn, NodeId, SegmentNo, Term};

use super::SEGMENT_MAX;

/// Bytes in front of a batch's body.
pub(crate) const FIXED_BYTES: usize = 72;

/// Bytes of a seal.
pub(crate) const SEAL_BYTES: usize = FIXED_BYTES + 8;

/// Bytes in front of an entry's payload.
pub(crate) const ENTRY_FIXED_BYTES: usize = 12;

/// Greatest LSN that a batch or header may name: arithmetic on LSNs that were read never overflows.
pub(crate) const LSN_MAX: Lsn = Lsn(1 << 62);

/// What a batch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Append = 1,
    Copy = 2,
    Base = 3,
    State = 4,
    Seal = 5,
}

/// The fields in front of a batch's body that its maker knows before the batch has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchFields {
    pub(crate) kind: Kind,
    pub(crate) group: GroupId,
    pub(crate) append_term: Term,
    pub(crate) prev_term: Term,
    pub(crate) commit_lsn: Lsn,
    pub(crate) first_lsn: Lsn,
    pub(crate) count: u32,
}

impl BatchFields {
    /// The last entry's LSN; `first_lsn − 1` when there are none.
    pub(crate) fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0.saturating_add(u64::from(self.count)).saturating_sub(1))
    }
}

/// The fields that a batch gets with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) durable_end: LogPosition,
    pub(crate) previous_crc: u32,
}

/// A batch whose checksum and form hold, over the bytes it was read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) fields: BatchFields,
    pub(crate) placement: Placement,
    pub(crate) crc: u32,
    /// The whole batch.
    pub(crate) bytes: &'a [u8],
}

/// One entry inside a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawEntry<'a> {
    pub(crate) lsn: Lsn,
    pub(crate) term: Term,
    pub(crate) payload: &'a [u8],
}

/// Appends room for a batch's fixed part, to be filled by [`finish`].
pub(crate) fn begin(out: &mut impl Writer) {
    out.put_bytes(&[0; FIXED_BYTES]);
}

/// Appends an entry to a batch's body.
pub(crate) fn put_entry(out: &mut impl Writer, term: Term, payload: &[u8]) {
    out.put_u64(term.0);
    out.put_u32(payload.len() as u32);
    out.put_bytes(payload);
}

/// Appends the body of a base batch. Whether the entries above it stay is for its writer to say: a reader may not have
/// what that hangs on any more.
pub(crate) fn put_base(out: &mut impl Writer, keeps_entries: bool, membership: &(Lsn, Vec<u8>)) {
    out.put_bytes(&[u8::from(keeps_entries)]);
    put_membership(out, membership);
}

fn put_membership(out: &mut impl Writer, membership: &(Lsn, Vec<u8>)) {
    out.put_u64(membership.0.0);
    out.put_u32(membership.1.len() as u32);
    out.put_bytes(&membership.1);
}

/// Appends the body of a state batch.
pub(crate) fn put_state(out: &mut impl Writer, vote: (Term, NodeId), membership: &(Lsn, Vec<u8>)) {
    out.put_u64(vote.0.0);
    out.put_u64(vote.1.0);
    put_membership(out, membership);
}

/// Fills the fixed part of the batch that `bytes` is, once its place is known, and answers its checksum.
pub(crate) fn finish(bytes: &mut [u8], fields: &BatchFields, placement: &Placement, seed: Seed) -> u32 {
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..12].copy_from_slice(&[fields.kind as u8, 0, 0, 0]);
    bytes[12..16].copy_from_slice(&placement.previous_crc.to_le_bytes());
    bytes[16..24].copy_from_slice(&fields.group.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&fields.append_term.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&fields.prev_term.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&fields.commit_lsn.0.to_le_bytes());
    bytes[48..56].copy_from_slice(&fields.first_lsn.0.to_le_bytes());
    bytes[56..60].copy_from_slice(&fields.count.to_le_bytes());
    bytes[60..64].copy_from_slice(&placement.durable_end.offset.to_le_bytes());
    bytes[64..72].copy_from_slice(&placement.durable_end.segment.0.to_le_bytes());
    let crc = checksum(seed, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    crc
}

impl<'a> Batch<'a> {
    /// Reads the batch at the start of `bytes`. `seed` is the segment's, already bound to the batch's offset.
    ///
    /// # Errors
    /// When there is no valid batch there. The cheap checks come first: most places that are tried hold none.
    pub(crate) fn decode(bytes: &'a [u8], seed: Seed) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let crc = reader.u32("batch checksum")?;
        let length = reader.u32("batch length")? as usize;
        if length < FIXED_BYTES || length > bytes.len() {
            return Err(CodecError { offset: 4, what: "batch length" });
        }
        let kind =
            Kind::from_byte(reader.u8("batch kind")?).ok_or(CodecError { offset: 8, what: "batch kind" })?;
        let bytes = &bytes[..length];
        if checksum(seed, &bytes[4..]) != crc {
            return Err(CodecError { offset: 0, what: "batch checksum" });
        }
        reader.bytes(3, "reserved")?;
        let previous_crc = reader.u32("previous checksum")?;
        let fields = BatchFields {
            kind,
            group: GroupId(reader.u64("group")?),
            append_term: Term(reader.u64("append term")?),
            prev_term: Term(reader.u64("previous term")?),
            commit_lsn: Lsn(reader.u64("commit lsn")?),
            first_lsn: Lsn(reader.u64("first lsn")?),
            count: reader.u32("count")?,
        };
        let offset = reader.u32("durable end")?;
        let durable_end = LogPosition::new(SegmentNo(reader.u64("durable end")?), offset);
        let placement = Placement { durable_end, previous_crc };
        let batch = Self { fields, placement, crc, bytes };
        batch.check_body()?;
        Ok(batch)
    }

    /// The entries of an append or copy.
    pub(crate) fn entries(&self) -> Entries<'a> {
        let body = match self.fields.kind {
            Kind::Append | Kind::Copy => &self.bytes[FIXED_BYTES..],
            _ => &[],
        };
        Entries { body, next: self.fields.first_lsn }
    }

    /// What a base says besides its entry.
    pub(crate) fn base(&self) -> Result<BaseBody<'a>, CodecError> {
        let mut reader = Reader::new(&self.bytes[FIXED_BYTES..]);
        let keeps_entries = match reader.u8("keeps entries")? {
            flag @ 0..=1 => flag == 1,
            _ => return Err(reader.error("keeps entries")),
        };
        let membership = read_membership(&mut reader)?;
        reader.finish("base")?;
        Ok(BaseBody { keeps_entries, membership })
    }

    /// Vote and membership of a state.
    pub(crate) fn state(&self) -> Result<StateBody<'a>, CodecError> {
        let mut reader = Reader::new(&self.bytes[FIXED_BYTES..]);
        let vote = (Term(reader.u64("vote term")?), NodeId(reader.u64("vote")?));
        let membership = read_membership(&mut reader)?;
        reader.finish("state")?;
        Ok(StateBody { vote, membership })
    }

    /// The segment that a closing seal names; `None` for an idle seal.
    pub(crate) fn sealed_successor(&self) -> Option<SegmentNo> {
        let number = u64::from_le_bytes(self.bytes.get(FIXED_BYTES..FIXED_BYTES + 8)?.try_into().ok()?);
        (self.fields.kind == Kind::Seal && number != 0).then_some(SegmentNo(number))
    }

    /// The checksum held, so that a body that is not well formed was written so. It is refused all the same: what
    /// is read later must not have to check again.
    fn check_body(&self) -> Result<(), CodecError> {
        let error = |what| CodecError { offset: FIXED_BYTES, what };
        if self.fields.last_lsn() > LSN_MAX || self.fields.commit_lsn > LSN_MAX {
            return Err(error("lsn"));
        }
        let segment = self.placement.durable_end.segment.max(self.sealed_successor().unwrap_or_default());
        if segment > SEGMENT_MAX {
            return Err(error("segment number"));
        }
        match self.fields.kind {
            Kind::Append | Kind::Copy => self.check_entries(),
            Kind::Base if self.fields.count == 0 => self.base().map(|_| ()),
            Kind::State if self.fields.count == 0 => self.state().map(|_| ()),
            Kind::Seal if self.fields.count == 0 && self.bytes.len() == SEAL_BYTES => Ok(()),
            _ => Err(error("batch body")),
        }
    }

    fn check_entries(&self) -> Result<(), CodecError> {
        let error = |what| CodecError { offset: FIXED_BYTES, what };
        let fields = &self.fields;
        if fields.first_lsn == Lsn::ZERO || fields.count == 0 {
            return Err(error("first lsn or count"));
        }
        let mut reader = Reader::new(&self.bytes[FIXED_BYTES..]);
        let mut before = Term::FIRST.max(fields.prev_term);
        for _ in 0..fields.count {
            let term = Term(reader.u64("entry term")?);
            let length = reader.u32("entry length")? as usize;
            reader.bytes(length, "entry payload")?;
            if term < before {
                return Err(error("entry term"));
            }
            before = term;
        }
        if fields.kind == Kind::Append && before > fields.append_term {
            return Err(error("append term"));
        }
        reader.finish("entries")
    }
}

/// The body of a base batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BaseBody<'a> {
    /// Whether the entries above the base stay.
    pub(crate) keeps_entries: bool,
    pub(crate) membership: (Lsn, &'a [u8]),
}

/// The body of a state batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateBody<'a> {
    pub(crate) vote: (Term, NodeId),
    pub(crate) membership: (Lsn, &'a [u8]),
}

fn read_membership<'a>(reader: &mut Reader<'a>) -> Result<(Lsn, &'a [u8]), CodecError> {
    let lsn = Lsn(reader.u64("membership lsn")?);
    let length = reader.u32("membership length")? as usize;
    if length > MEMBERSHIP_BYTES_MAX {
        return Err(reader.error("membership length"));
    }
    Ok((lsn, reader.bytes(length, "membership")?))
}

/// The entries of a valid batch, in order. The form was checked when the batch was decoded.
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    body: &'a [u8],
    next: Lsn,
}

impl<'a> Entries<'a> {
    /// Entries from the middle of a valid batch's body on, the first one being `next`.
    pub(crate) fn new(body: &'a [u8], next: Lsn) -> Self {
        Self { body, next }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = RawEntry<'a>;

    fn next(&mut self) -> Option<RawEntry<'a>> {
        let (fixed, rest) = self.body.split_first_chunk::<ENTRY_FIXED_BYTES>()?;
        let (term, length) = fixed.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        let lsn = self.next;
        self.body = rest;
        self.next = lsn.next();
        Some(RawEntry { lsn, term: Term(u64::from_le_bytes(*term)), payload })
    }
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Append),
            2 => Some(Self::Copy),
            3 => Some(Self::Base),
            4 => Some(Self::State),
            5 => Some(Self::Seal),
            _ => None,
        }
    }
}
