//! How the bytes of a leaf to be will lie, and writing them: see [`super::leaf`] for the layout.

use std::sync::Arc;

use super::content::{Content, Piece, record_cost};
use super::leaf::Shape;
use super::overflow::OverflowValue;
use super::search;
use super::view::ViewRecord;

/// How the bytes of a leaf to be will lie.
pub(super) struct Plan {
    pub(super) records: usize,
    pub(super) prefix: Vec<u8>,
    pub(super) shape: Shape,
    /// Bytes of all records.
    body: usize,
    /// Records whose values stand elsewhere.
    pub(super) overflow: Vec<(u32, Arc<OverflowValue>)>,
}

impl Plan {
    pub(super) fn of(content: &Content<'_>) -> Self {
        let (Some(first), Some(last)) = (content.first(), content.last()) else {
            let shape = Shape::Fixed { suffix: 0, value: 0 };
            return Self { records: 0, prefix: Vec::new(), shape, body: 0, overflow: Vec::new() };
        };
        let records = content.len();
        let prefix = common_prefix(&first, &last);
        let (key, value) = (first.key_bytes(), first.value.inline().len());
        let overflow = overflow_of(content);
        let fixed = content.pieces.iter().all(|piece| match piece {
            Piece::Run { leaf, .. } => leaf.is_fixed(key, value),
            Piece::Record(record) => record.key_bytes() == key && record.value.inline().len() == value,
        });
        let shape = if fixed {
            Shape::Fixed { suffix: (key - prefix.len()) as u32, value: value as u32 }
        } else {
            Shape::Variable
        };
        let elsewhere: usize = overflow.iter().map(|(_, value)| value.bytes).sum();
        let own = content.cost - elsewhere - records * record_cost(prefix.len(), 0);
        let body = if fixed { own } else { own + 2 * records };
        Self { records, prefix, shape, body, overflow }
    }

    /// Bytes behind the header.
    pub(super) fn bytes(&self) -> usize {
        self.prefix.len() + 4 * self.records + self.offsets_bytes() + self.body
    }

    fn offsets_bytes(&self) -> usize {
        match self.shape {
            Shape::Fixed { .. } => 0,
            Shape::Variable => 4 * (self.records + 1),
        }
    }

    /// Writes prefix, heads, offsets and records.
    pub(super) fn write(&self, content: &Content<'_>, tail: &mut [u8]) {
        let cut = self.prefix.len();
        let (prefix, tail) = tail.split_at_mut(cut);
        prefix.copy_from_slice(&self.prefix);
        let (heads, tail) = tail.split_at_mut(4 * self.records);
        let (offsets, body) = tail.split_at_mut(self.offsets_bytes());
        let (mut heads, mut offsets) = (Filler(heads), Filler(offsets));
        let length = body.len();
        let mut body = Filler(body);
        for piece in &content.pieces {
            if let Piece::Run { leaf, from, to } = piece
                && leaf.prefix().len() == cut
                && leaf.is_variable() == (self.shape == Shape::Variable)
            {
                let (bytes, begins) = leaf.run(*from, *to);
                heads.put(leaf.heads()[*from..*to].as_flattened());
                if let Some([first, ..]) = begins {
                    let moved = ((length - body.0.len()) as u32).wrapping_sub(u32::from_ne_bytes(*first));
                    for begin in begins.unwrap_or_default() {
                        offsets.put(&u32::from_ne_bytes(*begin).wrapping_add(moved).to_ne_bytes());
                    }
                }
                body.put(bytes);
                continue;
            }
            for record in (0..piece.len()).map(|at| piece.record(at)) {
                let (first, second) = record.behind(cut);
                heads.put(&search::head_of_parts((first, second)).to_ne_bytes());
                if self.shape == Shape::Variable {
                    offsets.put(&((length - body.0.len()) as u32).to_ne_bytes());
                    body.put(&((first.len() + second.len()) as u16).to_ne_bytes());
                }
                body.put(first);
                body.put(second);
                body.put(record.value.inline());
            }
        }
        if self.shape == Shape::Variable {
            offsets.put(&(length as u32).to_ne_bytes());
        }
        assert!(
            heads.0.is_empty() && offsets.0.is_empty() && body.0.is_empty(),
            "a leaf is as long as planned"
        );
    }
}

/// The records of a leaf to be whose values stand elsewhere.
fn overflow_of(content: &Content<'_>) -> Vec<(u32, Arc<OverflowValue>)> {
    let mut overflow = Vec::new();
    let mut before = 0;
    for piece in &content.pieces {
        match piece {
            Piece::Run { leaf, from, to } => {
                let values = leaf.overflow(*from, *to).iter();
                overflow.extend(values.map(|(at, value)| (at - *from as u32 + before, Arc::clone(value))));
            }
            Piece::Record(record) => {
                overflow.extend(record.value.overflow().map(|value| (before, Arc::clone(value))));
            }
        }
        before += piece.len() as u32;
    }
    overflow
}

/// What is left to be written.
struct Filler<'t>(&'t mut [u8]);

impl Filler<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (to, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        to.copy_from_slice(bytes);
        self.0 = rest;
    }
}

/// What two keys that come in parts both begin with.
fn common_prefix(first: &ViewRecord<'_>, last: &ViewRecord<'_>) -> Vec<u8> {
    let mut prefix = first.key();
    let of_last = last.prefix.iter().chain(last.suffix);
    let common = prefix.iter().zip(of_last).take_while(|(a, b)| a == b).count();
    prefix.truncate(common);
    prefix
}
