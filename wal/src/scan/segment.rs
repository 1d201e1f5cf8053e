//! Reading one segment: batch by batch to its end, over damage where there is some.

use std::path::Path;

use logwood_base::limits::LOG_SEGMENT_BYTES_MIN;
use logwood_base::{Corruption, LogPosition, Lsn, Result, SegmentNo};

use super::{Link, Scanner};
use crate::end_rule::{Decision, Facts, decide};
use crate::format::batch::{Batch, Kind};
use crate::format::block_up;
use crate::group_state::Violation;
use crate::mutants::planted;
use crate::replay::Replay;
use crate::segment::path_of;
use crate::walk::SegmentBytes;

impl Scanner<'_, '_> {
    /// Replays a segment up to where a later header says that it ends (exact end and checksum), or, in the newest one, to
    /// where the end rule says so.
    pub(super) fn replay_segment(&mut self, link: &mut Link, bound: Option<(u32, u32)>) -> Result<()> {
        let newest = bound.is_none();
        let file_bytes = link.file.size()?;
        // What lies behind the end that a later header names is not part of the log, be it readable or not.
        let length = bound.map_or(link.header.segment_bytes, |(end, _)| end.min(link.header.segment_bytes));
        let bytes = self.read_first(&*link.file, file_bytes.min(u64::from(length)), newest)?;
        self.note_read(file_bytes);
        self.replay_bytes(link, bound, file_bytes, &bytes);
        self.spare = bytes;
        Ok(())
    }

    fn replay_bytes(&mut self, link: &mut Link, bound: Option<(u32, u32)>, file_bytes: u64, bytes: &[u8]) {
        let newest = bound.is_none();
        let number = link.header.segment;
        let segment = self.bytes_of(number, bytes);
        let mut looked_beyond = false;
        let until = self.request.until.filter(|until| until.segment == number).map(|until| until.offset);
        loop {
            let stop = bound.map(|(end, _)| end).or(until).is_some_and(|end| link.end >= end);
            let next = if stop { None } else { segment.next(link.end, link.end_crc) };
            if let Some((at, batch)) = next {
                self.note_durable(batch.placement.durable_end);
                self.apply(link, at, &batch);
                continue;
            }
            if newest && !looked_beyond {
                looked_beyond = true;
                self.beyond.merge(segment.evidence(link.end));
                let ends: Vec<_> = self.beyond.durable_ends().collect();
                ends.into_iter().for_each(|end| self.note_durable(end));
            }
            let here = LogPosition::new(number, link.end);
            let behind = here < self.durable_end
                && until.is_none()
                && !planted!(self.request.options, StopAtFirstBadBatch);
            let facts = Facts {
                bounded: !newest,
                reached: bound.is_some_and(|(end, _)| end == link.end),
                chained: bound.is_some_and(|(_, crc)| crc == link.end_crc),
                behind,
                closed: link.sealed.is_some(),
                successor: link.sealed.is_some_and(|next| self.present.contains(&next)),
            };
            let (decision, label) = decide(&facts);
            tracing::debug!(segment = %number, end = link.end, ?decision, label, "end rule");
            // Where no header bounds the segment, what lies beyond the greatest position known to be durable in it was
            // perhaps dropped by an opening whose header is rotten now.
            let limit =
                bound.map_or_else(|| self.durable_within(number), |(end, _)| end).min(bytes.len() as u32);
            if !self.settle(link, decision, &segment, limit) {
                if newest && decision == Decision::End {
                    self.check_lengths(link, file_bytes);
                }
                return;
            }
        }
    }

    /// Whether the newest segment is shorter than its header says, or the one that its closing seal names shorter than
    /// any segment. A file has its whole length, durably, before it gets a header or is named, so no crash does that;
    /// and what stood behind the cut is evidence that is gone with it.
    fn check_lengths(&mut self, link: &Link, file_bytes: u64) {
        if file_bytes < u64::from(link.header.segment_bytes) {
            self.cut_short(link.file.path(), link.header.segment_bytes, file_bytes);
        }
        if let Some((next, bytes)) = link.sealed.and_then(|next| self.stumps.get_key_value(&next)) {
            let (path, bytes) = (path_of(self.request.dir, *next), *bytes);
            self.cut_short(&path, LOG_SEGMENT_BYTES_MIN, bytes);
        }
    }

    fn cut_short(&mut self, path: &Path, least: u32, found: u64) {
        let (expected, found_bytes) = (format!("{least} bytes"), format!("{found} bytes"));
        let damage = Corruption::new(path, found, "segment length", expected, found_bytes);
        self.damage.push(damage.affecting("whatever stood behind"));
        self.enter_hole(u64::MAX);
    }

    /// Does what the end rule decided. Answers whether to go on behind a hole.
    fn settle(
        &mut self,
        link: &mut Link,
        decision: Decision,
        segment: &SegmentBytes<'_>,
        limit: u32,
    ) -> bool {
        let offset = u64::from(link.end);
        let path = link.file.path().to_owned();
        let (check, expected) = match decision {
            Decision::Continue | Decision::End => return false,
            Decision::Swapped => ("segment chain", "the end that the next header names".to_owned()),
            Decision::HoleBelowHeader => ("batch", format!("a valid batch before {limit}")),
            Decision::HoleBelowDurableEnd => ("batch", format!("a valid batch before {}", self.durable_end)),
            Decision::SuccessorMissing | Decision::SuccessorBeheaded => {
                let path = path_of(self.request.dir, link.sealed.unwrap_or_default());
                let (check, expected, found) = match decision {
                    Decision::SuccessorMissing => ("segment chain", "the file that a seal names", "none"),
                    _ => ("segment header", "the header that a seal vouches for", "none that is valid"),
                };
                let damage = Corruption::new(&path, 0, check, expected, found);
                self.damage.push(damage.affecting("whatever stood in it"));
                self.enter_hole(u64::MAX);
                return false;
            }
        };
        let resume = match decision {
            Decision::Swapped => None,
            Decision::HoleBelowHeader => segment.seek(link.end + 1).filter(|(at, _)| *at < limit),
            // What stands right behind the durable bytes goes on with them.
            _ if link.end < limit => segment.seek(link.end + 1).filter(|(at, _)| *at < limit).or_else(|| {
                let places = [limit, block_up(limit)];
                places.into_iter().find_map(|at| segment.batch_at(at).map(|batch| (at, batch)))
            }),
            _ => None,
        };
        let hole_end = resume
            .as_ref()
            .map_or(u64::from(limit).min(segment.bytes.len() as u64), |(at, _)| u64::from(*at));
        let known: Vec<String> = self
            .groups
            .iter()
            .map(|(id, replay)| format!("group {id} above lsn {}", replay.log.record.committed))
            .collect();
        let affects = if known.is_empty() { "every group".to_owned() } else { known.join(", ") };
        self.damage.push(
            Corruption::new(&path, offset, check, expected, format!("none until {hole_end}"))
                .affecting(affects),
        );
        self.enter_hole(hole_end.saturating_sub(u64::from(block_up(link.end))));
        match resume {
            Some((at, batch)) => {
                link.end = at;
                link.end_crc = batch.placement.previous_crc;
                true
            }
            None => false,
        }
    }

    fn note_durable(&mut self, end: LogPosition) {
        self.durable_end = self.durable_end.max(end);
        let known = self.durable_in.entry(end.segment).or_default();
        *known = end.offset.max(*known);
    }

    /// The greatest position known to be durable inside a segment.
    fn durable_within(&self, segment: SegmentNo) -> u32 {
        self.durable_in.get(&segment).copied().unwrap_or(0)
    }

    /// Behind a hole of so many bytes, from the first block on that lies in it from its start.
    fn enter_hole(&mut self, bytes: u64) {
        for (id, replay) in &self.groups {
            let lost = self.unvouched.entry(*id).or_default();
            *lost = lost.saturating_add(bytes);
            let doubtful = replay.log.record.committed.next();
            let told = self.told.entry(*id).or_insert(doubtful);
            *told = doubtful.min(*told);
        }
        self.groups.values_mut().for_each(Replay::enter_hole);
    }

    /// Applies one batch; a broken rule is damage.
    fn apply(&mut self, link: &mut Link, at: u32, batch: &Batch<'_>) {
        let fields = &batch.fields;
        let end = at + batch.bytes.len() as u32;
        let start = LogPosition::new(link.header.segment, at);
        link.end = end;
        link.end_crc = batch.crc;
        link.sealed = batch.sealed_successor();
        link.holds_entries |= !matches!(fields.kind, Kind::State | Kind::Seal);
        if fields.kind == Kind::Seal {
            return;
        }
        if fields.kind == Kind::State && batch.state().is_ok() {
            self.unvouched.remove(&fields.group);
        }
        // A group begins with a base above which there is nothing.
        let begins = fields.kind == Kind::Base && batch.base().is_ok_and(|base| !base.keeps_entries);
        let broken = if begins || self.groups.contains_key(&fields.group) {
            self.groups.entry(fields.group).or_default().apply(batch, start, end).err()
        } else if self.damage.is_empty() {
            let (expected, found) = ("a group that began".to_owned(), fields.group.to_string());
            Some(Violation { check: "group", expected, found })
        } else {
            self.adopt_unknown(batch, start, end)
        };
        if let Some(violation) = broken {
            let offset = u64::from(at);
            let affects = format!("group {} lsn {}..={}", fields.group, fields.first_lsn, fields.last_lsn());
            let path = link.file.path();
            self.damage.push(
                Corruption::new(path, offset, violation.check, violation.expected, violation.found)
                    .affecting(affects),
            );
        }
    }

    /// Behind a hole a group may appear whose beginning was lost.
    fn adopt_unknown(&mut self, batch: &Batch<'_>, start: LogPosition, end: u32) -> Option<Violation> {
        self.told.insert(batch.fields.group, Lsn::FIRST);
        if batch.fields.kind != Kind::State {
            // What was lost with its beginning is not known.
            self.unvouched.insert(batch.fields.group, u64::MAX);
        }
        let replay = self.groups.entry(batch.fields.group).or_default();
        replay.doubt = Some(Lsn::FIRST);
        replay.apply(batch, start, end).err()
    }
}
