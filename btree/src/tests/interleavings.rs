//! Interleavings of the lock-free parts, explored by shuttle:
//! `RUSTFLAGS="--cfg logwood_shuttle" cargo test -p logwood-btree --lib interleavings`.

use std::sync::Arc;

use logwood_base::Lsn;
use logwood_base::digest::Digest;
use logwood_base::{PageAddr, SegmentNo};
use shuttle::thread;

use crate::account::Account;
use crate::format::child::ChildEntry;
use crate::node::Cold;
use crate::node::content::Content;
use crate::node::delta::DeltaArea;
use crate::node::leaf::Leaf;
use crate::node::slot::{Node, Slot};
use crate::node::view::ViewRecord;
use crate::store::PageRef;
use crate::version::registry::Registry;
use crate::version::{Found, Older, Part, Previous, Seek, prune, stand_at};

const RUNS: usize = 3000;

fn cold() -> Node {
    let page = PageRef { addr: PageAddr { segment: SegmentNo(1), offset: 64 }, bytes: 10, crc: 0 };
    let entry = ChildEntry::of_image(page, Lsn(1), Digest::EMPTY);
    Node::Cold(Arc::new(Cold::new(entry, 0)))
}

fn leaf(lsn: u64, prev: Option<Previous>) -> Leaf {
    let value = lsn.to_be_bytes();
    let content = Content::of_records([ViewRecord::whole(b"key", &value)]);
    Leaf::build(&content, Lsn(lsn), prev, &Arc::new(Account::default()))
}

#[test]
fn a_reader_sees_whole_changes_in_order_or_not_at_all() {
    shuttle::check_random(
        || {
            let area = Arc::new(DeltaArea::new());
            let account = Arc::new(Account::default());
            let reader = Arc::clone(&area);
            let reading = thread::spawn(move || {
                let mut newest = 0;
                for _ in 0..4 {
                    if let Some(entry) = reader.find(b"key", Lsn::MAX) {
                        assert_eq!(entry.value(), Some(&entry.lsn.0.to_be_bytes()[..]));
                        assert!(entry.lsn.0 >= newest, "an older change was found later");
                        newest = entry.lsn.0;
                    }
                    let counted = reader.len();
                    assert!(reader.visible(Lsn::MAX).count() >= counted, "a counted change is not there");
                }
            });
            for lsn in 1..4u64 {
                area.push(Lsn(lsn), b"key", Some(&lsn.to_be_bytes()), &account);
            }
            reading.join().unwrap();
        },
        RUNS,
    );
}

#[test]
fn a_page_is_installed_once_and_never_behind_a_freeze() {
    shuttle::check_random(
        || {
            let slot = Arc::new(Slot::new(cold()));
            let loaders: Vec<_> = (0..2)
                .map(|_| {
                    let slot = Arc::clone(&slot);
                    thread::spawn(move || {
                        let guard = crossbeam_epoch::pin();
                        let seen = slot.load(&guard);
                        match &*seen {
                            Node::Cold(_) => slot.install(&seen, Node::Leaf(leaf(1, None)), &guard),
                            _ => false,
                        }
                    })
                })
                .collect();
            // The writer moves the child to another node meanwhile.
            let moved = Slot::new(slot.freeze());
            let installed =
                loaders.into_iter().map(|loader| loader.join().unwrap()).filter(|done| *done).count();
            let guard = crossbeam_epoch::pin();
            let is_leaf = |slot: &Slot| slot.load(&guard).leaf().is_some();
            assert!(installed <= 1, "two loaders installed one page");
            assert_eq!(is_leaf(&moved), installed == 1, "what was installed did not move with the child");
            assert_eq!(is_leaf(&slot), is_leaf(&moved), "the frozen word and the new one disagree");
        },
        RUNS,
    );
}

#[test]
fn a_snapshot_finds_its_version_however_pruning_runs_beside_it() {
    shuttle::check_random(
        || {
            let registry = Arc::new(Registry::new(Lsn(1)));
            let slot = Arc::new(Slot::new(Node::Leaf(leaf(1, None))));
            let reader = {
                let (registry, slot) = (Arc::clone(&registry), Arc::clone(&slot));
                thread::spawn(move || {
                    for _ in 0..2 {
                        let at = registry.register();
                        let guard = crossbeam_epoch::pin();
                        let seen = slot.load(&guard);
                        let stand = stand_at(&seen, at, Seek::From(b"key"), &guard);
                        let stand = stand.expect("a registered snapshot finds its version");
                        let Found::Leaf(version) = stand.found else { panic!("nothing was detached") };
                        let value = version.get(b"key", at).map(|value| value.inline());
                        assert_eq!(value, Some(&at.0.to_be_bytes()[..]));
                        drop(guard);
                        registry.release(at);
                    }
                })
            };
            for lsn in 2..5u64 {
                let guard = crossbeam_epoch::pin();
                let old = slot.load(&guard).leaf().unwrap().clone();
                let part = Part { low: [].into(), older: Older::Leaf(old), valid_below: Lsn(lsn) };
                let new = leaf(lsn, Previous::new(vec![part]));
                slot.replace(Node::Leaf(new.clone()), &guard);
                registry.publish(Lsn(lsn));
                prune(&new.header().prev, &registry.needs(), &guard);
            }
            reader.join().unwrap();
        },
        RUNS,
    );
}
