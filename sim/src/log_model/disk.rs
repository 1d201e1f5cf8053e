//! The modelled disk: files, names, a page cache, and everything that a disk may do to them.
//!
//! What is assumed: a block is written whole or not, or is lost, which is more than a real one is suspected of; after a
//! successful sync what it covered survives; before it any subset of the writes may; a failed sync tells nothing, and
//! leaves a cache that shows what the disk does not have; names are durable after the directory is synced.

use std::rc::Rc;

use super::bytes::{Block, Position, Unit, zeros};

/// Who still owes the disk a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Owner {
    /// A durable write in flight, by its number.
    Flight(u8),
    /// The page cache: survives the process, not a power cut.
    Cache,
    /// A write of a killed process, which may land at any later time.
    Late,
}

/// A block on its way to the disk.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    /// Who writes it.
    pub owner: Owner,
    /// Which block.
    pub block: u8,
    /// What it will hold.
    pub content: Block,
}

/// A segment file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct File {
    /// The number in its name, as a process sees it now; `None` once removed.
    pub seen: Option<u8>,
    /// The number in its name after a power cut.
    pub kept: Option<u8>,
    /// The number it will get: it still has a temporary name, that no open looks at.
    pub hidden: Option<u8>,
    /// What the device holds.
    pub blocks: Rc<Vec<Block>>,
    /// What is on its way there, in the order of writing.
    pub pending: Vec<Pending>,
    /// What the cache shows although a sync of it failed.
    pub deceiving: Vec<(u8, Block)>,
}

impl File {
    fn set(&mut self, block: u8, content: Block) {
        Rc::make_mut(&mut self.blocks)[usize::from(block)] = content;
    }
}

/// All of them, in the order of creation.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    /// The files.
    pub files: Vec<File>,
}

/// One thing a power cut decides: the state of one block, or of one name.
enum Choice {
    Block { file: usize, block: u8, options: Vec<Option<Block>> },
    Name { file: usize },
}

impl Disk {
    /// The file of this number, as a process sees the directory.
    pub fn file(&self, number: u8) -> Option<&File> {
        self.files.iter().find(|file| file.seen == Some(number) || file.hidden == Some(number))
    }

    fn file_mut(&mut self, number: u8) -> &mut File {
        let mut files = self.files.iter_mut();
        let found = files.find(|file| file.seen == Some(number) || file.hidden == Some(number));
        found.expect("the model writes only to files it has")
    }

    /// The numbers in all names, ascending.
    pub fn numbers(&self) -> Vec<u8> {
        let mut numbers: Vec<u8> = self.files.iter().filter_map(|file| file.seen).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Creates a file of zeros; its name is not durable.
    pub fn create(&mut self, number: u8, blocks: u8) {
        let blocks = Rc::new(vec![zeros(); usize::from(blocks)]);
        let (seen, kept, hidden) = (Some(number), None, None);
        self.files.push(File { seen, kept, hidden, blocks, pending: vec![], deceiving: vec![] });
    }

    /// Gives a new file a temporary name.
    pub fn hide(&mut self, number: u8) {
        let file = self.file_mut(number);
        (file.seen, file.hidden) = (None, Some(number));
    }

    /// Gives a file with a temporary name its number, and makes that durable.
    pub fn reveal(&mut self, number: u8) {
        let file = self.file_mut(number);
        (file.seen, file.hidden) = (Some(number), None);
        self.sync_directory();
    }

    /// Gives an old segment a new number. What it holds stays: recycling.
    pub fn rename(&mut self, from: u8, to: u8) {
        self.file_mut(from).seen = Some(to);
    }

    /// Removes a name.
    pub fn remove(&mut self, number: u8) {
        self.file_mut(number).seen = None;
    }

    /// Makes all names durable.
    pub fn sync_directory(&mut self) {
        self.files.retain(|file| file.seen.is_some() || file.hidden.is_some());
        self.files.iter_mut().for_each(|file| file.kept = file.seen);
    }

    /// What the writing process knows to be in a block: its own newest write.
    pub fn newest(&self, number: u8, block: u8) -> Block {
        let Some(file) = self.file(number) else { return zeros() };
        let pending = file.pending.iter().rev().find(|pending| pending.block == block);
        pending.map_or_else(|| file.blocks[usize::from(block)].clone(), |pending| pending.content.clone())
    }

    /// Starts to write a block.
    pub fn write(&mut self, number: u8, owner: Owner, block: u8, content: Block) {
        self.file_mut(number).pending.push(Pending { owner, block, content });
    }

    /// A write of `owner` ends well. What its process wrote to the same blocks before is covered by it.
    pub fn land(&mut self, owner: Owner) {
        for file in &mut self.files {
            while let Some(index) = file.pending.iter().position(|pending| pending.owner == owner) {
                let Pending { block, content, .. } = file.pending.remove(index);
                let mut before = 0..index;
                file.pending.retain(|other| {
                    before.next().is_none() || other.block != block || other.owner == Owner::Late
                });
                file.set(block, content);
            }
        }
    }

    /// The write of `owner` fails: the cache goes on showing what perhaps never reached the disk. Bit `i` of `landed`
    /// tells whether its block `i` did.
    pub fn fail(&mut self, owner: Owner, landed: u32) {
        let mut bit = 0;
        for file in &mut self.files {
            while let Some(index) = file.pending.iter().position(|pending| pending.owner == owner) {
                let Pending { block, content, .. } = file.pending.remove(index);
                if (landed >> bit) & 1 == 1 {
                    file.set(block, content.clone());
                }
                bit += 1;
                file.deceiving.retain(|(other, _)| *other != block);
                file.deceiving.push((block, content));
            }
        }
    }

    /// How many blocks `owner` still writes.
    pub fn owed(&self, owner: Owner) -> u32 {
        self.files.iter().flat_map(|file| &file.pending).filter(|pending| pending.owner == owner).count()
            as u32
    }

    /// One block of a killed process' writes lands.
    pub fn land_late(&mut self, index: u32) {
        let mut left = index;
        for file in &mut self.files {
            for at in 0..file.pending.len() {
                if file.pending[at].owner == Owner::Late {
                    if left == 0 {
                        let Pending { block, content, .. } = file.pending.remove(at);
                        file.set(block, content);
                        return;
                    }
                    left -= 1;
                }
            }
        }
    }

    /// The process dies: what it had in flight may land later. The cache stays.
    pub fn kill(&mut self) {
        // The next open deletes what has a temporary name.
        self.files.retain(|file| file.hidden.is_none());
        for pending in self.files.iter_mut().flat_map(|file| &mut file.pending) {
            if matches!(pending.owner, Owner::Flight(_)) {
                pending.owner = Owner::Late;
            }
        }
    }

    /// What is undecided: with `everything` what a power cut decides, otherwise only whether late writes land.
    fn choices(&self, everything: bool) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let mut blocks: Vec<u8> = file.pending.iter().map(|pending| pending.block).collect();
            blocks.sort_unstable();
            blocks.dedup();
            for block in blocks {
                let mut options = vec![None];
                let mut torn = false;
                for pending in file.pending.iter().filter(|pending| pending.block == block) {
                    if everything || pending.owner == Owner::Late {
                        options.push(Some(pending.content.clone()));
                        torn = true;
                    }
                }
                // A torn block may be lost. That matters only where it held something durable in this life.
                let old = &file.blocks[usize::from(block)];
                let here = |unit: &Unit| matches!(unit, Unit::Part(batch, _) if Some(batch.place.segment) == file.seen);
                if torn && old.iter().any(here) {
                    options.push(Some([Unit::Bad, Unit::Bad]));
                }
                if options.len() > 1 {
                    choices.push(Choice::Block { file: index, block, options });
                }
            }
            if everything && file.seen != file.kept {
                choices.push(Choice::Name { file: index });
            }
        }
        choices
    }

    /// In how many ways a power cut (`everything`), or waiting for late writes, can end.
    pub fn outcomes(&self, everything: bool) -> u32 {
        let options = |choice: &Choice| match choice {
            Choice::Block { options, .. } => options.len() as u32,
            Choice::Name { .. } => 2,
        };
        self.choices(everything).iter().map(options).product()
    }

    /// The disk after a power cut (`everything`), or after the last late write has landed or failed, in the `which`th
    /// way. Also tells, for the timeline, what survived.
    pub fn outcome(&self, everything: bool, which: u32) -> (Self, Vec<String>) {
        let mut after = self.clone();
        let mut left = which;
        let mut told = Vec::new();
        for choice in self.choices(everything) {
            match choice {
                Choice::Block { file, block, options } => {
                    let option = &options[left as usize % options.len()];
                    left /= options.len() as u32;
                    let number = self.files[file].seen.or(self.files[file].kept).unwrap_or(0);
                    let fate = match option {
                        None => "is lost",
                        Some([Unit::Bad, _]) => "is torn and unreadable",
                        Some(_) => "is on the disk",
                    };
                    told.push(format!("block {block} of segment {number} {fate}"));
                    if let Some(content) = option {
                        after.files[file].set(block, content.clone());
                    }
                }
                Choice::Name { file } => {
                    let target = &mut after.files[file];
                    let name = |number: Option<u8>| number.map_or_else(|| "none".into(), |n| n.to_string());
                    if left.is_multiple_of(2) {
                        target.seen = target.kept;
                    }
                    left /= 2;
                    told.push(format!("a file's name is {}", name(target.seen)));
                }
            }
        }
        for file in &mut after.files {
            file.pending.retain(|pending| !everything && pending.owner != Owner::Late);
            if everything {
                file.kept = file.seen;
                file.deceiving.clear();
            }
        }
        if everything {
            after.files.retain(|file| file.seen.is_some());
        }
        (after, told)
    }

    /// All blocks that hold something written in their file's present life, by number and index.
    pub fn used_blocks(&self) -> Vec<(u8, u8)> {
        let mut used = Vec::new();
        for file in &self.files {
            let Some(number) = file.seen else { continue };
            for (index, block) in file.blocks.iter().enumerate() {
                let alive = block.iter().any(|unit| match unit {
                    Unit::Part(batch, _) => batch.place.segment == number,
                    Unit::Head(header) => header.segment == number,
                    Unit::Zero | Unit::Bad => false,
                });
                if alive {
                    used.push((number, index as u8));
                }
            }
        }
        used
    }

    /// Sets a block on the device, whatever it held.
    pub fn damage(&mut self, number: u8, block: u8, content: Block) {
        self.file_mut(number).set(block, content);
    }

    /// One unit as recovery reads it: from the device, or (`cached`) as the page cache shows it.
    pub fn unit(&self, at: Position, cached: bool) -> &Unit {
        let Some(file) = self.file(at.segment) else { return &Unit::Zero };
        let (block, index) =
            (at.offset / super::bytes::BLOCK_UNITS, usize::from(at.offset % super::bytes::BLOCK_UNITS));
        if cached && let Some((_, content)) = file.deceiving.iter().find(|(other, _)| *other == block) {
            return &content[index];
        }
        file.blocks.get(usize::from(block)).map_or(&Unit::Zero, |content| &content[index])
    }
}
