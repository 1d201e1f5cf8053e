//! The simulated directories: what the names lead to now, what they durably lead to, and the changes between.
//!
//! A power cut keeps any subset of the changes since the directory was synced, each whole: after a rename there is
//! the old state or the new one, never neither. Syncing a directory makes the changes of that directory durable, and
//! with a rename out of another directory that one's too: file systems journal a rename as one transaction.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use fastrand::Rng;

use super::inode::Survival;

/// A directory's or file's own number.
pub(super) type Number = u64;

/// The directory that everything begins at. Always durable.
pub(super) const ROOT: Number = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    File(Number),
    Dir(Number),
}

#[derive(Clone, Debug, Default)]
struct Directory {
    current: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) dir: Number,
    pub(super) name: String,
}

#[derive(Clone, Debug)]
enum Change {
    Add(Place, Node),
    Remove(Place, Node),
    Rename(Place, Place, Node),
}

/// All directories.
#[derive(Clone, Debug)]
pub(super) struct Names {
    directories: BTreeMap<Number, Directory>,
    pending: Vec<Change>,
}

impl Default for Names {
    fn default() -> Self {
        Self { directories: BTreeMap::from([(ROOT, Directory::default())]), pending: Vec::new() }
    }
}

impl Change {
    fn touches(&self, dir: Number) -> bool {
        match self {
            Self::Add(place, _) | Self::Remove(place, _) => place.dir == dir,
            Self::Rename(from, to, _) => from.dir == dir || to.dir == dir,
        }
    }
}

impl Directory {
    fn drop_name(entries: &mut BTreeMap<String, Node>, name: &str, node: Node) {
        if entries.get(name) == Some(&node) {
            entries.remove(name);
        }
    }
}

impl Names {
    /// The directory that a path's parent is, and the last part. `None` when the parent is not a directory or the path
    /// has no last part.
    pub(super) fn place(&self, path: &Path) -> Option<Place> {
        let mut parts = parts(path)?;
        let name = parts.pop()?;
        let mut dir = ROOT;
        for part in parts {
            match self.directories.get(&dir)?.current.get(&part)? {
                Node::Dir(number) => dir = *number,
                Node::File(_) => return None,
            }
        }
        self.directories.contains_key(&dir).then_some(Place { dir, name })
    }

    /// What a path leads to.
    pub(super) fn find(&self, path: &Path) -> Option<Node> {
        if parts(path)?.is_empty() {
            return Some(Node::Dir(ROOT));
        }
        self.at(&self.place(path)?)
    }

    pub(super) fn at(&self, place: &Place) -> Option<Node> {
        self.directories.get(&place.dir)?.current.get(&place.name).copied()
    }

    pub(super) fn entries(&self, dir: Number) -> impl Iterator<Item = (&String, &Node)> {
        self.directories.get(&dir).into_iter().flat_map(|directory| directory.current.iter())
    }

    pub(super) fn add(&mut self, place: Place, node: Node) {
        if let Node::Dir(number) = node {
            self.directories.entry(number).or_default();
        }
        self.current(place.dir).insert(place.name.clone(), node);
        self.pending.push(Change::Add(place, node));
    }

    pub(super) fn remove(&mut self, place: Place, node: Node) {
        self.current(place.dir).remove(&place.name);
        self.pending.push(Change::Remove(place, node));
    }

    pub(super) fn rename(&mut self, from: Place, to: Place, node: Node) {
        self.current(from.dir).remove(&from.name);
        self.current(to.dir).insert(to.name.clone(), node);
        self.pending.push(Change::Rename(from, to, node));
    }

    /// Makes a directory's changes durable.
    pub(super) fn sync(&mut self, dir: Number) {
        let mut synced = vec![dir];
        for change in &self.pending {
            if let Change::Rename(from, to, _) = change
                && (from.dir == dir || to.dir == dir)
            {
                synced.extend([from.dir, to.dir]);
            }
        }
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if synced.iter().any(|dir| change.touches(*dir)) {
                self.make_durable(change);
            } else {
                self.pending.push(change);
            }
        }
    }

    /// A power cut.
    pub(super) fn crash(&mut self, survival: Survival, rng: &mut Rng) {
        for change in std::mem::take(&mut self.pending) {
            if survival.survives(rng) {
                self.make_durable(change);
            }
        }
        for directory in self.directories.values_mut() {
            directory.current = directory.durable.clone();
        }
        self.drop_unreachable();
    }

    /// The tester's own hand: a name that is there, durably.
    pub(super) fn put(&mut self, place: Place, node: Node) {
        if let Node::Dir(number) = node {
            self.directories.entry(number).or_default();
        }
        self.current(place.dir).insert(place.name.clone(), node);
        self.durable(place.dir).insert(place.name, node);
    }

    /// The tester's own hand: a name that is gone, durably.
    pub(super) fn forget(&mut self, place: &Place) {
        self.current(place.dir).remove(&place.name);
        self.durable(place.dir).remove(&place.name);
        self.pending.retain(|change| match change {
            Change::Add(at, _) | Change::Remove(at, _) => at != place,
            Change::Rename(from, to, _) => from != place && to != place,
        });
    }

    /// Whether a power cut would leave the names as they are.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Every file that some name leads to, now or after a power cut.
    pub(super) fn reachable_files(&self) -> std::collections::BTreeSet<Number> {
        let entries =
            self.directories.values().flat_map(|dir| dir.current.values().chain(dir.durable.values()));
        let changed = self.pending.iter().map(|change| match change {
            Change::Add(_, node) | Change::Remove(_, node) | Change::Rename(_, _, node) => node,
        });
        let files = entries.chain(changed).filter_map(|node| match node {
            Node::File(number) => Some(*number),
            Node::Dir(_) => None,
        });
        files.collect()
    }

    /// How many names lead to a file now.
    pub(super) fn is_named(&self, file: Number) -> bool {
        let mut nodes = self.directories.values().flat_map(|directory| directory.current.values());
        nodes.any(|node| *node == Node::File(file))
    }

    /// Forgets directories that lost their names.
    fn drop_unreachable(&mut self) {
        let mut reachable = std::collections::BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(dir) = open.pop() {
            for (_, node) in self.entries(dir) {
                if let Node::Dir(number) = node
                    && reachable.insert(*number)
                {
                    open.push(*number);
                }
            }
        }
        self.directories.retain(|number, _| reachable.contains(number));
    }

    fn current(&mut self, dir: Number) -> &mut BTreeMap<String, Node> {
        &mut self.directories.entry(dir).or_default().current
    }

    fn durable(&mut self, dir: Number) -> &mut BTreeMap<String, Node> {
        &mut self.directories.entry(dir).or_default().durable
    }

    fn make_durable(&mut self, change: Change) {
        match change {
            Change::Add(place, node) => {
                self.durable(place.dir).insert(place.name, node);
            }
            Change::Remove(place, node) => Directory::drop_name(self.durable(place.dir), &place.name, node),
            Change::Rename(from, to, node) => {
                Directory::drop_name(self.durable(from.dir), &from.name, node);
                self.durable(to.dir).insert(to.name, node);
            }
        }
    }
}

/// The names along a path from the root; `None` when one is not Unicode.
fn parts(path: &Path) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_str()?.to_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    Some(parts)
}
