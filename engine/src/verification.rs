//! Verifying an open database, beside its readers and writers.
//!
//! It hunts bytes that rotted at rest, in files that nobody reads for months. The trees are verified at the newest
//! checkpoint, whose files are held meanwhile; the log's segments are read as they are. It changes nothing and
//! repairs nothing: what is named is healed by whoever has another copy.

use logwood_base::{DatabaseId, Disk, Error, LogId, Result};
use logwood_btree::verify::Damage;
use logwood_wal::Log;

use crate::core::Core;
use crate::directory::{LINEAGE_MAGIC, LINEAGE_NAME, Layout};
use crate::inspect::patiently;
use crate::seed;
use crate::seed::record::{self, ORIGIN_MAGIC};
use crate::seed::settle::ORIGIN_NAME;

/// How far a verification has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Bytes read.
    pub bytes_done: u64,
    /// Bytes that there are to read, about.
    pub bytes_total: u64,
}

/// What a verification has read and found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pages of trees.
    pub pages: u64,
    /// Records of trees, counted anew.
    pub records: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Damages named.
    pub damages: u64,
    /// Batches of the log that stand behind its end. Nobody was promised them: they are no damage.
    pub dropped_batches: u64,
    /// What a person should know and is no damage.
    pub notes: Vec<String>,
}

impl Core {
    pub(crate) fn verify(
        &self,
        on_damage: &mut dyn FnMut(Damage),
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<VerifyReport> {
        // Who has closed has given the directory away, and what others do there is no damage.
        let is_closed = || self.sequencer.lock().closed;
        if is_closed() {
            return Err(Error::Closed);
        }
        let on_damage = &mut |damage: Damage| {
            if !is_closed() {
                on_damage(damage);
            }
        };
        let found = self.verify_files(on_damage, progress);
        if is_closed() { Err(Error::Closed) } else { found }
    }

    fn verify_files(
        &self,
        on_damage: &mut dyn FnMut(Damage),
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let layout = Layout::new(&self.path);
        // Held, so that no segment goes while it is read; files prepared ahead may still come and go. A log that has stopped
        // grants no hold, and lets nothing go.
        let _held = match self.hold_log("verification") {
            Err(Error::Poisoned { .. } | Error::Closed) => None,
            held => Some(held?),
        };
        let inspected = patiently(|| {
            Log::inspect(&self.environment, &layout.log(), &mut |scan| {
                progress(VerifyProgress { bytes_done: scan.bytes_done, bytes_total: scan.bytes_total });
            })
        });
        // Where the log cannot be read, the trees are verified all the same.
        let unread = match inspected {
            Ok(inspection) => {
                report.add_log(&inspection, on_damage);
                None
            }
            Err(error @ Error::Io { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        let before = report.bytes;
        let trees = self.forest.verify(on_damage, &mut |tree| {
            progress(VerifyProgress {
                bytes_done: before + tree.bytes_done,
                bytes_total: before + tree.bytes_total,
            });
        })?;
        report.add_trees(&trees);
        let own = Some((self.database, self.log.id()));
        report.add_records(&*self.environment.disk, &layout, own, on_damage)?;
        unread.map_or(Ok(report), Err)
    }
}

impl VerifyReport {
    /// Reads the small files beside the folders: `ORIGIN` and `LINEAGE`. An origin must be this directory's, whose log is
    /// `own`, where that is known.
    pub(crate) fn add_records(
        &mut self,
        disk: &dyn Disk,
        layout: &Layout,
        own: Option<(DatabaseId, LogId)>,
        on_damage: &mut dyn FnMut(Damage),
    ) -> Result<()> {
        if let (Some(own), Ok(Some(origin))) = (own, seed::origin(disk, layout))
            && let Err(damage) = origin.check_own(layout, own)
        {
            self.add_damage(damage, on_damage);
        }
        for (name, magic) in [(ORIGIN_NAME, ORIGIN_MAGIC), (LINEAGE_NAME, LINEAGE_MAGIC)] {
            match record::check(disk, &layout.root.join(name), magic) {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    self.files += 1;
                    self.bytes += bytes;
                }
                Err(Error::Corruption(corruption)) => self.add_damage(*corruption, on_damage),
                Err(error) => match error.unreadable(0) {
                    Some(corruption) => self.add_damage(corruption, on_damage),
                    None => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// What a verification of the trees came to.
    pub(crate) fn add_trees(&mut self, trees: &logwood_btree::VerifyReport) {
        self.files += trees.files.files;
        self.bytes += trees.files.bytes;
        self.pages += trees.pages;
        self.records += trees.trees.iter().map(|(_, digest)| digest.count).sum::<u64>();
        self.damages += trees.damages;
        self.notes.extend(trees.files.notes.iter().chain(&trees.space_errors).cloned());
    }
}
