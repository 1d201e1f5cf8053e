//! The most anonymous memory that this process had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Looks at the memory of the process every few milliseconds, until it is asked.
pub struct Watch {
    ends: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Begins to look.
    pub fn begin() -> Self {
        let (ends, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (seen, until) = (Arc::clone(&most), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { ends, most, thread }
    }

    /// The most that was seen.
    pub fn end(self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread only reads a file");
        self.most.load(Ordering::Relaxed).max(anonymous_bytes())
    }
}

/// `RssAnon` of this process: what it holds beside the page cache.
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux shows the memory of a process");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("has a line for it");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("has a number");
    kib << 10
}
