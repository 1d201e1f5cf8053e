//! Breadth-first search: every state within the bounds, the shortest counter-example first.
//!
//! Only the states of the frontier are kept whole; of all others a 64-bit fingerprint with the step that led there. A
//! counter-example is replayed from the start.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Something with states and steps.
pub trait World {
    /// A state.
    type State: Clone + Hash;
    /// A step, small.
    type Step: Copy;

    /// Where it begins.
    fn start(&self) -> Self::State;
    /// All steps that can be taken.
    fn steps(&self, state: &Self::State, steps: &mut Vec<Self::Step>);
    /// Takes one.
    ///
    /// # Errors
    /// The property that it violates.
    fn take(&self, state: &Self::State, step: Self::Step) -> Result<Self::State, String>;
    /// Tells a step for a timeline; `after` is absent when it violates a property.
    fn tell(&self, before: &Self::State, step: Self::Step, after: Option<&Self::State>) -> String;
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// How many distinct states were seen.
    pub states: usize,
    /// The number of steps to the farthest of them.
    pub depth: usize,
    /// Whether `states_max` ended the search before everything was seen.
    pub cut_short: bool,
    /// The shortest way to a violated property, told as a numbered timeline.
    pub counter_example: Option<String>,
}

/// A fast hash for fingerprints: each word is folded in by a full multiplication.
#[derive(Default)]
struct Fold(u64);

impl Fold {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.fold(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.fold(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.fold(value);
    }
    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }
    fn write_isize(&mut self, value: isize) {
        self.fold(value as u64);
    }
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Fold::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Explores a world, breadth first, up to `states_max` states.
pub fn explore<W: World>(world: &W, states_max: usize) -> Found {
    let start = world.start();
    let root = fingerprint(&start);
    let mut seen: HashMap<u64, (u64, W::Step), BuildHasherDefault<Fold>> = HashMap::default();
    let mut frontier = vec![(root, start)];
    let mut found = Found { states: 1, depth: 0, cut_short: false, counter_example: None };
    let mut steps = Vec::new();
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (from, state) in &frontier {
            steps.clear();
            world.steps(state, &mut steps);
            for &step in &steps {
                match world.take(state, step) {
                    Ok(after) => {
                        let to = fingerprint(&after);
                        if to == root || seen.contains_key(&to) {
                            continue;
                        }
                        seen.insert(to, (*from, step));
                        next.push((to, after));
                    }
                    Err(violation) => {
                        let mut way = vec![step];
                        let mut at = *from;
                        while let Some((before, step)) = seen.get(&at) {
                            way.push(*step);
                            at = *before;
                        }
                        way.reverse();
                        found.states = seen.len() + 1;
                        found.counter_example = Some(timeline(world, &way, &violation));
                        return found;
                    }
                }
            }
        }
        found.states = seen.len() + 1;
        if next.is_empty() {
            break;
        }
        found.depth += 1;
        if found.states >= states_max {
            found.cut_short = true;
            break;
        }
        frontier = next;
    }
    found
}

fn timeline<W: World>(world: &W, way: &[W::Step], violation: &str) -> String {
    let mut state = world.start();
    let mut lines = Vec::new();
    for (index, &step) in way.iter().enumerate() {
        let after = world.take(&state, step).ok();
        lines.push(format!("{:>4}. {}", index + 1, world.tell(&state, step, after.as_ref())));
        if let Some(after) = after {
            state = after;
        }
    }
    lines.push(format!("   => {violation}"));
    lines.join("\n")
}
