//! What the machine does to the database.

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::world::World;

impl World {
    /// One thing that goes wrong.
    pub(crate) fn weather(&mut self) -> Result<(), String> {
        match self.rng.u8(..16) {
            0..=1 => self.die_now(true),
            2 => self.die_now(false),
            3..=6 => {
                self.stop_disk_at(30);
                self.trace.note("the disk will stop");
                Ok(())
            }
            7..=8 => self.reopen(),
            9 => {
                self.arm(&[Operation::Sync, Operation::WriteDurable], "a sync will fail");
                Ok(())
            }
            10 => {
                self.arm(Operation::GROWING, "a write will fail");
                Ok(())
            }
            11 => {
                self.arm(&[Operation::SyncDir, Operation::Rename, Operation::Remove], "a name will fail");
                Ok(())
            }
            12 => {
                self.arm(Operation::READS, "a read will fail");
                Ok(())
            }
            13..=14 => self.fill_disk(),
            _ => {
                // The wall clock is set, either way, as an operator might.
                let ms = 1_600_000_000_000 + self.rng.u64(..200_000_000_000);
                self.clock.set_wall_ms(ms);
                self.trace.note("the clock is set");
                Ok(())
            }
        }
    }

    fn arm(&mut self, operations: &[Operation], what: &'static str) {
        let nth = self.rng.u64(1..12);
        let fault = Fault::new(operations, Outcome::Io).nth(nth);
        let on = [None, Some("log/"), Some("pages/"), Some("manifest/")][self.rng.usize(..4)];
        let fault = match on {
            Some(part) => fault.on(part),
            None => fault,
        };
        self.disk.set_fault(fault);
        self.faulty = true;
        self.trace.note(&format!("{what}, the {nth}th on {on:?}"));
        self.trace.count(what);
    }

    /// The disk is full for a while, then it is not: the database must go on by itself.
    fn fill_disk(&mut self) -> Result<(), String> {
        let left = self.rng.u64(..200_000);
        self.disk.set_capacity(Some(self.disk.used_bytes() + left));
        self.full = true;
        self.trace.note(&format!("only {left} bytes are left"));
        self.trace.count("full disks");
        for _ in 0..self.rng.usize(3..25) {
            self.work()?;
            let steps = self.rng.usize(..4);
            self.step_background(steps);
            if self.disk.is_stopped() {
                return Ok(());
            }
        }
        self.disk.set_capacity(None);
        self.trace.note("there is room again");
        if let (Some(cause), false) = (self.db().statistics().poisoned, self.faulty) {
            return Err(format!("a full disk has stopped the database: {cause}"));
        }
        // What had its place in the log is written now, and so is what comes.
        self.full = false;
        let waited = self.wait_for_all();
        self.check_visible()?;
        waited
    }
}
