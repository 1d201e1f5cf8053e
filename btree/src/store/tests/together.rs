//! Pages that are read together past the page cache: fewer reads, and for each page the answer that it would get alone.

use std::sync::Arc;
use std::time::Duration;

use logwood_base::disk::SimulatedDisk;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::environment::{Clock as _, ManualClock};
use logwood_base::limits::PAGE_BYTES_MAX;
use logwood_base::{Corruption, PageAddr, Result};

use super::harness::{Forest, one_generation, open};
use crate::store::{Page, PageRef, Store};

/// Every page of a generation, in no order.
fn pages(forest: &Forest) -> Vec<PageRef> {
    let mut pages: Vec<PageRef> = forest.pages.values().map(|(_, page)| *page).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut pages);
    pages
}

fn in_words(result: &Result<Page>) -> String {
    match result {
        Ok(page) => format!("{:?}", page.body()),
        Err(error) => format!("{error:?}"),
    }
}

/// Requires that pages answer together what they answer alone. Tells how many are damaged.
fn compare(store: &Store, pages: &[PageRef]) -> usize {
    let together = store.read_many_from_device(pages);
    assert_eq!(together.len(), pages.len());
    for (page, found) in pages.iter().zip(&together) {
        assert_eq!(in_words(found), in_words(&store.read_from_device(page)), "{page:?}");
    }
    together.iter().filter(|found| found.is_err()).count()
}

/// A store that was opened just now and has read nothing, and its disk.
fn opened(disk: &SimulatedDisk) -> (SimulatedDisk, Store) {
    let copy = disk.snapshot();
    let (store, _) = open(&copy).unwrap();
    (copy, store)
}

#[test]
fn pages_of_one_stretch_come_with_one_read() {
    let (disk, store, forest) = one_generation();
    let mut pages = pages(&forest);
    pages.push(pages[0]);
    assert_eq!(compare(&store, &pages), 0);
    let clock = Arc::new(ManualClock::new(0));
    let slow = Outcome::Slow(Arc::clone(&clock), Duration::from_secs(1));
    disk.set_fault(Fault::new(&[Operation::ReadPastCache], slow).for_ever());
    let reads = |pages: &[PageRef]| {
        let before = clock.monotonic();
        assert!(store.read_many_from_device(pages).iter().all(Result::is_ok));
        (clock.monotonic() - before).as_secs()
    };
    let segments = store.manifest().segments.len() as u64;
    assert!(segments > 1);
    assert_eq!(reads(&pages), segments);
    assert_eq!(reads(&pages[..1]), 1);
    assert_eq!(reads(&[]), 0);
}

#[test]
fn a_damaged_page_is_named_as_if_it_were_read_alone_and_spares_the_others() {
    let (disk, store, forest) = one_generation();
    let pages = pages(&forest);
    for page in &pages {
        let (copy, opened) = opened(&disk);
        let path = store.segment_path(page.addr.segment);
        let (from, to) = (u64::from(page.addr.offset), u64::from(page.addr.offset + page.bytes));
        for at in [from, (from + to) / 2, to - 1] {
            copy.flip_bit(&path, at, 4);
            assert_eq!(compare(&opened, &pages), 1);
            copy.flip_bit(&path, at, 4);
        }
        // Everything of this file from the middle of the page on is gone.
        copy.truncate(&path, (from + to) / 2);
        let behind = |other: &&PageRef| {
            other.addr.segment == page.addr.segment && other.addr.offset >= page.addr.offset
        };
        assert_eq!(compare(&opened, &pages), pages.iter().filter(behind).count());
    }
    for segment in &store.manifest().segments {
        let (copy, opened) = opened(&disk);
        copy.remove_file(&store.segment_path(segment.number));
        let lost = pages.iter().filter(|page| page.addr.segment == segment.number).count();
        assert!(lost > 1);
        assert_eq!(compare(&opened, &pages), lost);
    }
}

#[test]
fn references_that_lead_nowhere_take_no_other_page_along() {
    let (_, store, forest) = one_generation();
    let sound = pages(&forest);
    let page = sound[3];
    let at = |offset| PageAddr { offset, ..page.addr };
    let wrong = [
        PageRef { crc: page.crc ^ 1, ..page },
        PageRef { bytes: page.bytes + 1, ..page },
        PageRef { addr: at(page.addr.offset + 1), ..page },
        PageRef { addr: at(0), bytes: PAGE_BYTES_MAX as u32, ..page },
        PageRef { addr: at(u32::MAX), bytes: u32::MAX, ..page },
    ];
    for wrong in wrong {
        let mut pages = sound.clone();
        pages.insert(5, wrong);
        assert_eq!(compare(&store, &pages), 1, "{wrong:?}");
    }
}

#[test]
fn a_read_of_many_pages_that_fails_fails_only_those_that_cannot_be_read() {
    let (disk, store, forest) = one_generation();
    let pages = pages(&forest);
    let failing = |strikes| {
        disk.set_fault(Fault::new(&[Operation::ReadPastCache], Outcome::Io).times(strikes));
        let results = store.read_many_from_device(&pages);
        disk.clear_faults();
        let failed = pages.iter().zip(results).filter_map(|(page, result)| Some((page.addr, result.err()?)));
        failed.collect::<Vec<_>>()
    };
    assert!(failing(1).is_empty(), "each page can be read by itself");
    // The read of all fails, and that of the first page.
    let first = pages.iter().map(|page| page.addr).min_by_key(|addr| (addr.segment, addr.offset)).unwrap();
    let [(addr, error)] = &failing(2)[..] else { panic!("one page fails") };
    assert_eq!(*addr, first);
    let damage = error.corruption().expect("what the device does not give back is damage");
    assert_eq!((damage.check, damage.offset), (Corruption::UNREADABLE, u64::from(addr.offset)));
}
