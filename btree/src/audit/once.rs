//! Damage to pages that both parts of a verification find, told once.
//!
//! The files' part knows of a page where it begins: at its low key. The walk finds the same page again, and knows from the
//! parent where its keys end. So what the files' part finds in a page waits, and is told when the walk has not named it: of a
//! page that no tree refers to any more, or refers to with other words, or that stands below one that cannot be read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use logwood_base::Corruption;

use crate::verify::Damage;

/// Most damages that wait. Those beyond are told at once, and once more by the walk: of a file that is rotten from end to end
/// nothing is gained by holding back a million of them.
const WAITING_MAX: usize = 1_000;

/// Damages to pages that the files' part has found, by file and offset.
#[derive(Default)]
pub(super) struct Waiting(BTreeMap<(PathBuf, u64), Damage>);

impl Waiting {
    /// Takes what the files' part has found. Answers what is to be told at once.
    pub(super) fn take(&mut self, damage: Damage) -> Option<Damage> {
        let place = (damage.corruption.path.clone(), damage.corruption.offset);
        if damage.range.is_none() || self.0.len() >= WAITING_MAX || self.0.contains_key(&place) {
            return Some(damage);
        }
        self.0.insert(place, damage);
        None
    }

    /// The walk tells of damage at this place. Answers whether it stands for one that waits.
    pub(super) fn settle(&mut self, corruption: &Corruption) -> bool {
        self.0.remove(&(corruption.path.clone(), corruption.offset)).is_some()
    }

    /// Tells what the walk has not named.
    pub(super) fn tell(self, on_damage: &mut dyn FnMut(Damage)) {
        self.0.into_values().for_each(on_damage);
    }
}
