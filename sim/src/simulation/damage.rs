//! Bits that rot at rest. Each is flipped in a copy of the disk, so that the life itself goes on undamaged.

use logwood::{Database, Error};
use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::ManualSpawner;

use super::lives::{handles, read_all};
use super::oracle::{Death, State, difference};
use super::world::{DIRECTORY, World, environment};

/// How many bits are flipped, each in a copy of its own.
const FLIPS: usize = 6;

/// How a damaged directory told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    ByOpening,
    ByVerification,
    ByReading,
    NotAtAll,
}

impl World {
    /// Closes, and flips bits in copies of the disk: each must be named, or be harmless. Without a flip nothing may be
    /// named.
    pub(crate) fn rehearse_damage(&mut self) -> Result<(), String> {
        self.close()?;
        if self.db.is_some() {
            return Ok(());
        }
        let whole = self.oracle.newest().clone();
        let clean = self.disk.snapshot();
        let told =
            self.open_copy(&clean, &whole).map_err(|error| format!("a closed, whole database: {error}"))?;
        if told != Told::NotAtAll {
            return Err(format!("a closed, whole database is named damaged {told:?}"));
        }
        for _ in 0..FLIPS {
            let copy = self.disk.snapshot();
            let paths: Vec<_> = copy.paths().into_iter().filter(|path| !path.ends_with("LOCK")).collect();
            let path = &paths[self.rng.usize(..paths.len())];
            let bytes = copy.read_file(path).map_or(0, |bytes| bytes.len());
            if bytes == 0 {
                continue;
            }
            let (offset, mask) = (self.rng.u64(..bytes as u64), 1 << self.rng.u8(..8));
            copy.flip_bit(path, offset, mask);
            let what = format!("bit {mask:#04x} flipped at {offset} of {}", path.display());
            self.trace.count("bits flipped");
            let told = self.open_copy(&copy, &whole).map_err(|error| format!("{what}: {error}"))?;
            self.trace.note(&format!("{what}: told {told:?}"));
            if told != Told::NotAtAll {
                self.trace.count("flips named");
            }
        }
        self.open(Death::Process, false)
    }

    /// Opens a copy of the disk, verifies and reads everything: it answers right, or it tells.
    fn open_copy(&mut self, disk: &SimulatedDisk, whole: &State) -> Result<Told, String> {
        let spawner = ManualSpawner::new();
        let environment = environment(disk, &self.clock, &spawner, self.rng.u64(..));
        let db = match Database::open(DIRECTORY, self.options.clone().environment(environment)) {
            Ok(db) => db,
            Err(Error::Corruption(_)) => return Ok(Told::ByOpening),
            Err(error) => return Err(format!("opening answers {error}")),
        };
        let mut named = false;
        let verified = db.verify(&mut |_| named = true, &mut |_| {});
        match verified {
            Ok(_) => {}
            Err(Error::Corruption(_)) => named = true,
            Err(error) => return Err(format!("verification answers {error}")),
        }
        match handles(&db).and_then(|keyspaces| read_all(&keyspaces, &db.snapshot())) {
            Ok(found) if found == *whole => Ok(if named { Told::ByVerification } else { Told::NotAtAll }),
            Ok(found) => Err(format!("a wrong answer (named: {named}): {}", difference(whole, &found))),
            Err(Error::Corruption(_)) if named => Ok(Told::ByReading),
            Err(Error::Corruption(corruption)) => {
                Err(format!("reading names it, verification did not: {corruption}"))
            }
            Err(error) => Err(format!("reading answers {error}")),
        }
    }
}
