//! The observer outside: what was promised, and whether a recovery keeps it.
//!
//! The physical log has one order. So there is one short statement of what a recovery may find: **the log as it was
//! after some prefix of what was submitted, and the prefix reaches what was acknowledged.** It says at once that
//! nothing acknowledged is lost or changed, that nothing dropped or overridden returns (what was served becomes the new
//! start), and that no group disturbs another.
//!
//! Under a fault the log may instead be reported as damaged. Silently it may lose only what nothing stands behind:
//! what was acknowledged later than the newest durable batch was submitted, and of that at most W batches.

use std::rc::Rc;

use super::bytes::{Entry, Mark};
use super::group::Group;

/// What a client sees of a group.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct View {
    /// What was let go.
    pub base: Mark,
    /// Above it.
    pub entries: Vec<Option<Entry>>,
}

impl View {
    /// Looks at a group.
    pub fn of(group: &Group) -> Self {
        Self { base: group.base, entries: group.slots.iter().map(|slot| slot.entry).collect() }
    }

    /// The term of an entry.
    pub fn term(&self, lsn: u8) -> Option<u8> {
        let at = usize::from(lsn.checked_sub(self.base.lsn + 1)?);
        self.entries.get(at).copied().flatten().map(|entry| entry.term)
    }
}

/// All groups.
pub type Views = Rc<Vec<View>>;

/// Looks at all groups.
pub fn views(groups: &[Group]) -> Views {
    Rc::new(groups.iter().map(View::of).collect())
}

/// What was promised since the log was opened.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Promise {
    /// The log after each batch, from the oldest that a recovery may still find.
    pub states: Vec<Views>,
    /// For each of them, how much was acknowledged when its batch was submitted.
    pub stands_on: Vec<u8>,
    /// How many were dropped before `states`.
    pub dropped: u8,
    /// Index in `states`: acknowledged as durable.
    pub acknowledged: u8,
    /// Index in `states`: must be found after a process crash.
    pub written: u8,
    /// Counted from the open: something durable was submitted when this much was acknowledged.
    pub guarded: u8,
    /// Votes that were answered.
    pub votes: Vec<u8>,
    /// Votes that were ever asked for.
    pub asked: Vec<u8>,
}

impl Promise {
    /// Nothing was promised but what the log held at the open.
    pub fn new(start: Views) -> Self {
        let groups = start.len();
        Self {
            states: vec![start],
            stands_on: vec![0],
            dropped: 0,
            acknowledged: 0,
            written: 0,
            guarded: 0,
            votes: vec![0; groups],
            asked: vec![0; groups],
        }
    }

    /// A batch was submitted; the log is then in this state.
    pub fn submitted(&mut self, state: Views) {
        self.states.push(state);
        self.stands_on.push(self.dropped + self.acknowledged);
    }

    /// Reads of this state are served, but nothing durable names it yet: rot may still pass for its end.
    pub fn serve_reads(&mut self, found: &Views, faults: bool) {
        let needed = usize::from(self.acknowledged.max(self.written));
        let same = self.states.iter().skip(needed).position(|state| state == found).map(|at| at + needed);
        match same.or(self.states.iter().rposition(|state| state == found)) {
            Some(at) if faults => {
                self.states.truncate(at + 1);
                self.stands_on.truncate(at + 1);
                self.guarded = self.guarded.max(self.stands_on[at]);
                (self.acknowledged, self.written) = (at as u8, 0);
                self.forget(true);
            }
            _ => self.serve(Rc::clone(found)),
        }
    }

    /// The log is served in this state, and the header of a new segment names it: it is the new start.
    pub fn serve(&mut self, start: Views) {
        self.states = vec![start];
        self.stands_on = vec![0];
        (self.dropped, self.acknowledged, self.written, self.guarded) = (0, 0, 0, 0);
    }

    /// Forgets states that no recovery may find any more.
    pub fn forget(&mut self, faults: bool) {
        let acknowledged = self.dropped + self.acknowledged;
        let oldest = if faults { self.guarded.min(acknowledged) } else { acknowledged };
        let gone = oldest - self.dropped;
        self.states.drain(..usize::from(gone));
        self.stands_on.drain(..usize::from(gone));
        self.dropped = oldest;
        self.acknowledged -= gone;
        self.written = self.written.saturating_sub(gone);
    }

    /// Holds a recovery without damage against the promise. `window` is W where a fault may excuse a silent loss.
    pub fn check(&self, found: &[Group], window: Option<u8>) -> Result<(), String> {
        self.check_votes(found)?;
        let found = views(found);
        let matches = |state: &Views| *state == found;
        let needed = usize::from(self.acknowledged.max(self.written));
        if self.states[needed.min(self.states.len() - 1)..].iter().any(matches) {
            return Ok(());
        }
        let newest = self.states.iter().rposition(matches);
        match (newest, window) {
            (Some(newest), Some(window)) if needed - newest <= usize::from(window) => Ok(()),
            (Some(newest), Some(window)) => Err(format!(
                "{} acknowledged batches are silently lost; one fault may hide {window}",
                needed - newest
            )),
            (Some(_), None) => Err("acknowledged entries are lost, and nothing is reported".into()),
            (None, _) => Err(format!(
                "the recovered log is none of those that were promised or submitted:\n      found    {}\n      promised {}",
                show(&found),
                show(&self.states[usize::from(self.acknowledged)])
            )),
        }
    }

    /// A vote once answered is never forgotten, and none appears that nobody asked for.
    pub fn check_votes(&self, found: &[Group]) -> Result<(), String> {
        for (index, group) in found.iter().enumerate() {
            if group.vote < self.votes[index] {
                let (answered, found) = (self.votes[index], group.vote);
                return Err(format!(
                    "group {}: vote {answered} was answered, recovery found {found}",
                    index + 1
                ));
            }
            if group.vote > self.asked[index] {
                return Err(format!("group {}: nobody asked for vote {}", index + 1, group.vote));
            }
        }
        Ok(())
    }

    /// Holds a healed log against the promise: each group is as it was at some time since the acknowledgement.
    pub fn check_healed(&self, found: &[Group]) -> Result<(), String> {
        for (index, group) in found.iter().enumerate() {
            let found = View::of(group);
            let mut allowed = self.states[usize::from(self.acknowledged)..].iter();
            if !allowed.any(|state| state[index] == found) {
                let promised = &self.states[usize::from(self.acknowledged)];
                return Err(format!(
                    "healing changed what was acknowledged in group {}:\n      found    {}\n      promised {}",
                    index + 1,
                    show_one(&found),
                    show_one(&promised[index])
                ));
            }
        }
        Ok(())
    }
}

fn show_one(view: &View) -> String {
    let entry = |(lsn, entry): (u8, &Option<Entry>)| match entry {
        Some(entry) => format!("{lsn}(t{}, payload {})", entry.term, entry.payload),
        None => format!("{lsn}(missing)"),
    };
    let entries: Vec<String> = (view.base.lsn + 1..).zip(&view.entries).map(entry).collect();
    format!("base {} [{}]", view.base, entries.join(" "))
}

/// All groups in a line.
pub fn show(views: &[View]) -> String {
    let groups = views.iter().enumerate();
    groups
        .map(|(index, view)| format!("group {}: {}", index + 1, show_one(view)))
        .collect::<Vec<_>>()
        .join("; ")
}
