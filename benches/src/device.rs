//! The raw device, as the disk crate drives it: what everything durable is compared with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use logwood_base::disk::PlainDisk;
use logwood_base::{AlignedBuffer, Disk, File};

use crate::Setting;
use crate::measure::median_us;

const FILE_BYTES: u64 = 16 << 20;

/// A file whose blocks were all written before, like a recycled log segment.
pub fn recycled_file(dir: &Path, name: &str) -> Arc<dyn File> {
    let path = dir.join(name);
    let disk = PlainDisk::new();
    let _ = disk.remove(&path);
    let file = disk.create(&path).expect("creates a file");
    let chunk = AlignedBuffer::zeroed(1 << 20);
    for offset in (0..FILE_BYTES).step_by(chunk.len()) {
        file.write_at(offset, &chunk).expect("writes");
    }
    file.sync().expect("syncs");
    file
}

/// Writes durable blocks one after the other, around the file; answers the median in microseconds.
pub fn lone_block_us(file: &dyn File, writes: usize) -> f64 {
    let block = AlignedBuffer::zeroed(4096);
    median_us(writes, |index| {
        let offset = index as u64 * 4096 % FILE_BYTES;
        file.write_durable(offset, &block).expect("writes durably");
    })
}

/// `threads` threads write `bytes` durably each, `writes` in all; answers writes a second.
pub fn writes_per_second(file: &Arc<dyn File>, threads: usize, bytes: usize, writes: u64) -> f64 {
    let next = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let block = AlignedBuffer::zeroed(bytes);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= writes {
                        break;
                    }
                    let offset = index * bytes as u64 % (FILE_BYTES - bytes as u64) / 4096 * 4096;
                    file.write_durable(offset, &block).expect("writes durably");
                }
            });
        }
    });
    writes as f64 / start.elapsed().as_secs_f64()
}

/// Every way to write 4 KiB durably, and how depth helps.
pub fn methods(setting: &Setting) {
    println!("device: durable 4 KiB writes into a recycled file of {}", setting.dir.display());
    for measured in logwood_base::disk::probe::measure(&setting.dir, 500).expect("probes") {
        println!("    {measured:?}");
    }
    let file = recycled_file(&setting.dir, "device-depth");
    for (threads, bytes) in [(1, 4096), (8, 4096), (1, 16 << 10), (8, 16 << 10), (1, 64 << 10), (4, 64 << 10)]
    {
        let rate = writes_per_second(&file, threads, bytes, 4_000);
        println!("    {bytes:>6} bytes, {threads} in flight: {rate:>8.0} writes/s");
    }
    let _ = PlainDisk::new().remove(file.path());
}
