//! Damage to an image that has delta blocks over it, and to the blocks: what is named, and what is spared.

use logwood_base::disk::simulated::SimulatedDisk;

use super::deltas::{World, options};
use super::remembered::verify;
use super::world::{KEYSPACE, open};
use crate::Forest;
use crate::format::child::ChildEntry;
use crate::format::inner::InnerReader;
use crate::load::LeafRecords;
use crate::store::{Page, PageKind, PageRef};
use crate::verify::{Damage, Derived};

/// A tree in which some leaves have three blocks, others fewer, most of them none.
pub(super) fn world() -> World {
    let mut world = World::new();
    for round in 0..3u64 {
        let leaves = 10 - 3 * round;
        for leaf in 0..leaves {
            let n = 10 * (leaf * 200 + 3 + round);
            match (leaf + round) % 3 {
                0 => world.put(n, b"overwritten"),
                1 => world.put(n + 5, &[round as u8; 120]),
                _ => world.write(n, None),
            }
        }
        assert_eq!(world.checkpoint().deltas, leaves);
    }
    world
}

/// Low key and entry of each leaf, and the pages above them.
fn tree(forest: &Forest) -> (Vec<(Vec<u8>, ChildEntry)>, Vec<PageRef>) {
    let store = &forest.shared.store;
    let root = store.manifest().trees[0].root.clone().unwrap();
    let (mut nodes, mut inner) = (vec![(Vec::new(), root.child)], Vec::new());
    for _ in 0..root.level {
        let mut below = Vec::new();
        for (_, entry) in nodes {
            inner.push(entry.page);
            let page = store.read(&entry.page).unwrap();
            let mut iter = InnerReader::new(page.body()).unwrap().iter();
            while let Some((low, entry)) = iter.next().unwrap() {
                below.push((low.to_vec(), entry));
            }
        }
        nodes = below;
    }
    (nodes, inner)
}

/// Low key and entry of each leaf.
pub(super) fn leaves(forest: &Forest) -> Vec<(Vec<u8>, ChildEntry)> {
    tree(forest).0
}

fn has_blocks(leaves: &[(Vec<u8>, ChildEntry)], count: usize) -> bool {
    leaves.iter().any(|(_, entry)| entry.deltas.len() == count)
}

#[test]
fn damage_to_an_image_or_a_block_is_named_with_the_keys_of_the_leaf_and_spares_the_others() {
    let world = world();
    let leaves = leaves(&world.forest);
    assert!((0..=3).all(|count| has_blocks(&leaves, count)));
    let store = &world.forest.shared.store;
    for (n, (low, entry)) in leaves.iter().enumerate() {
        for page in entry.pages() {
            let path = store.segment_path(page.addr.segment);
            let damaged = world.disk.snapshot();
            damaged.flip_bit(&path, u64::from(page.addr.offset + page.bytes - 1), 64);
            for memory in [0, 1 << 20] {
                let (report, damages) = verify(&damaged, Derived::new(memory));
                // Found by the pass over the files, and by the walk, who knows where the keys end.
                let [damage] = &damages[..] else { panic!("{damages:?}") };
                assert_eq!(damage.corruption.check, "page checksum");
                assert_eq!(
                    (&damage.corruption.path, damage.corruption.offset),
                    (&path, u64::from(page.addr.offset))
                );
                let range = damage.range.as_ref().unwrap();
                assert_eq!((damage.keyspace, &range.low), (Some(KEYSPACE), low));
                assert_eq!(range.high.as_ref(), leaves.get(n + 1).map(|(next, _)| next));
                assert_eq!((report.damages, report.trees.len()), (1, 0));
            }
        }
    }
}

#[test]
fn a_file_that_ends_sooner_or_is_gone_is_named_for_each_leaf_that_has_a_page_there() {
    let world = world();
    let (leaves, inner) = tree(&world.forest);
    let store = &world.forest.shared.store;
    // The damage comes while the database is open: else it would not be opened.
    let walked = |damage: &dyn Fn(&SimulatedDisk)| {
        let disk = world.disk.snapshot();
        let (forest, _) = open(&disk, options()).unwrap();
        damage(&disk);
        let mut lost = Vec::new();
        let on_damage = &mut |damage: Damage| {
            if damage.corruption.check == "page is there" {
                lost.push(damage.range.unwrap().low);
            }
        };
        forest.verify(on_damage, &mut |_| {}).unwrap();
        lost
    };
    let hides_others = |segment| inner.iter().any(|page| page.addr.segment == segment);
    let blocks = leaves.iter().flat_map(|(_, entry)| &entry.deltas);
    let blocks: Vec<_> = blocks.filter(|block| !hides_others(block.page.addr.segment)).collect();
    assert!(blocks.len() > 5);
    for block in blocks {
        let PageRef { addr, bytes, .. } = block.page;
        let path = store.segment_path(addr.segment);
        let lost = |is_lost: &dyn Fn(&PageRef) -> bool| {
            let lost = leaves.iter().filter(|(_, entry)| entry.pages().any(is_lost));
            lost.map(|(low, _)| low.clone()).collect::<Vec<_>>()
        };
        let is_here = |page: &PageRef| page.addr.segment == addr.segment;
        let is_behind = |page: &PageRef| is_here(page) && page.addr.offset >= addr.offset;
        assert_eq!(
            walked(&|disk| disk.truncate(&path, u64::from(addr.offset + bytes - 1))),
            lost(&is_behind)
        );
        assert_eq!(walked(&|disk| assert!(disk.remove_file(&path))), lost(&is_here));
    }
}

#[test]
fn pages_that_verify_and_are_not_those_of_the_leaf_are_refused() {
    let world = world();
    let leaves = leaves(&world.forest);
    let store = &world.forest.shared.store;
    let with = |count| leaves.iter().find(|(_, entry)| entry.deltas.len() == count).unwrap().1.clone();
    let read = |page: &PageRef| store.read_from_device(page).unwrap();
    let refused = |entry: &ChildEntry, image: &Page, blocks: &[Page]| {
        let error = LeafRecords::read(store, entry, image, blocks).err().expect("refused");
        let corruption = error.corruption().expect("damage").clone();
        (corruption.check, corruption.offset)
    };
    let entry = with(2);
    let pages: Vec<Page> = entry.pages().map(read).collect();
    assert!(LeafRecords::read(store, &entry, &pages[0], &pages[1..]).is_ok());
    assert_eq!(pages[1].kind(), PageKind::Delta);
    let at = |page: &PageRef| u64::from(page.addr.offset);
    let second = [pages[1].clone(), pages[0].clone()];
    assert_eq!(refused(&entry, &pages[0], &second), ("page kind", at(&entry.deltas[1].page)));
    assert_eq!(refused(&entry, &pages[1], &pages[1..]), ("page structure", at(&entry.page)));
    let mut plain = with(0);
    plain.digest.count += 1;
    assert_eq!(refused(&plain, &read(&plain.page), &[]), ("record count", at(&plain.page)));
}

#[test]
fn a_leaf_holds_what_its_image_and_its_blocks_say_in_their_order() {
    let world = world();
    let store = &world.forest.shared.store;
    let mut found = Vec::new();
    for (_, entry) in leaves(&world.forest) {
        let pages: Vec<Page> = entry.pages().map(|page| store.read(page).unwrap()).collect();
        let records = LeafRecords::read(store, &entry, &pages[0], &pages[1..]).unwrap();
        found.extend(records.iter().map(|(key, _)| key.to_vec()));
    }
    assert!(found.iter().eq(world.model.keys()));
}
