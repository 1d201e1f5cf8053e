//! The bytes of a file, in shared blocks: cloning one costs a pointer per block, and writing copies only the block
//! that is written, so that tests can take thousands of snapshots.

use std::sync::Arc;

use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};

pub(super) type Sector = [u8; SECTOR_BYTES];
type Block = [u8; BLOCK_BYTES];

/// Sectors in a block.
pub(super) const BLOCK_SECTORS: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;

/// A file's bytes. A block that is absent reads as zeros, and so does everything behind the size.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    blocks: Vec<Option<Arc<Block>>>,
    size: u64,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Cuts or lengthens. What is cut off is zeros from then on.
    pub(super) fn set_size(&mut self, size: u64) {
        if size < self.size {
            self.clear_behind(size);
        }
        self.size = size;
    }

    /// Zeros what lies behind the size: sectors that were stored there without growing the file.
    pub(super) fn trim(&mut self) {
        self.clear_behind(self.size);
    }

    fn clear_behind(&mut self, end: u64) {
        let (block, inside) = place(end);
        self.blocks.truncate(if inside == 0 { block } else { block + 1 });
        if inside > 0 && self.blocks.get(block).is_some_and(Option::is_some) {
            self.block_mut(block)[inside..].fill(0);
        }
    }

    /// Copies bytes out; zeros where there are none.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            let (block, inside) = place(offset + done as u64);
            let count = (BLOCK_BYTES - inside).min(buffer.len() - done);
            let target = &mut buffer[done..done + count];
            match self.blocks.get(block).and_then(Option::as_deref) {
                Some(bytes) => target.copy_from_slice(&bytes[inside..inside + count]),
                None => target.fill(0),
            }
            done += count;
        }
    }

    /// Copies bytes in and grows as needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (block, inside) = place(offset + done as u64);
            let count = (BLOCK_BYTES - inside).min(bytes.len() - done);
            self.block_mut(block)[inside..inside + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
        self.size = self.size.max(offset + bytes.len() as u64);
    }

    /// Copies one sector; zeros behind the end.
    pub(super) fn sector(&self, sector: u64) -> Sector {
        let mut bytes = [0; SECTOR_BYTES];
        self.read(sector * SECTOR_BYTES as u64, &mut bytes);
        bytes
    }

    /// Stores one sector without changing the size.
    pub(super) fn set_sector(&mut self, sector: u64, bytes: &Sector) {
        let (block, inside) = place(sector * SECTOR_BYTES as u64);
        self.block_mut(block)[inside..inside + SECTOR_BYTES].copy_from_slice(bytes);
    }

    /// Takes over one block of another content, sharing it.
    pub(super) fn share_block(&mut self, block: u64, from: &Self) {
        let block = index(block);
        let shared = from.blocks.get(block).cloned().flatten();
        if block >= self.blocks.len() {
            self.blocks.resize(block + 1, None);
        }
        self.blocks[block] = shared;
    }

    /// The sectors that hold stored bytes at or behind `from`.
    pub(super) fn stored_sectors_from(&self, from: u64) -> Vec<u64> {
        let first = from / SECTOR_BYTES as u64;
        let blocks = self.blocks.iter().enumerate().skip(index(first / BLOCK_SECTORS));
        blocks
            .filter(|(_, block)| block.is_some())
            .flat_map(|(block, _)| (0..BLOCK_SECTORS).map(move |n| block as u64 * BLOCK_SECTORS + n))
            .filter(|sector| *sector >= first)
            .collect()
    }

    fn block_mut(&mut self, block: usize) -> &mut Block {
        if block >= self.blocks.len() {
            self.blocks.resize(block + 1, None);
        }
        let shared = self.blocks[block].get_or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
        Arc::make_mut(shared)
    }
}

/// The block that an offset lies in, and where inside it.
fn place(offset: u64) -> (usize, usize) {
    (index(offset / BLOCK_BYTES as u64), index(offset % BLOCK_BYTES as u64))
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a simulated file fits in memory")
}
