//! A small database on logwood: contacts by number, and an index over their names that cannot get out of step,
//! because both change in one batch. Run it: `cargo run -p logwood --example contacts`.
#![allow(clippy::print_stdout, reason = "a program that shows what it does")]

use logwood::{Database, Durability, Keyspace, Options, Result};

struct Contacts {
    db: Database,
    /// Number (8 bytes, big-endian, so that they sort) → name.
    by_number: Keyspace,
    /// Name, a zero byte, number → nothing.
    by_name: Keyspace,
}

impl Contacts {
    fn open(path: &std::path::Path) -> Result<Self> {
        let db = Database::open(path, Options::new())?;
        let (by_number, by_name) = (db.ensure_keyspace("contacts")?, db.ensure_keyspace("contacts-by-name")?);
        Ok(Self { db, by_number, by_name })
    }

    /// Adds or renames a contact; both keyspaces change at once, and durably.
    fn set(&self, number: u64, name: &str) -> Result<()> {
        let number = number.to_be_bytes();
        let mut batch = self.db.batch();
        if let Some(old) = self.by_number.get(&number)? {
            batch.delete(&self.by_name, &index_key(&old, number))?;
        }
        batch.put(&self.by_number, &number, name.as_bytes())?;
        batch.put(&self.by_name, &index_key(name.as_bytes(), number), b"")?;
        self.db.commit(batch, Durability::Durable)?;
        Ok(())
    }

    /// Numbers of the contacts whose names begin with `prefix`, by name.
    fn find(&self, prefix: &str) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        let mut range = self.by_name.prefix(prefix.as_bytes())?;
        while let Some((key, _)) = range.next_ref()? {
            let number = key.last_chunk::<8>().copied().unwrap_or_default();
            found.push(u64::from_be_bytes(number));
        }
        Ok(found)
    }
}

fn index_key(name: &[u8], number: [u8; 8]) -> Vec<u8> {
    [name, &[0], &number].concat()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let contacts = Contacts::open(home.path())?;
    for (number, name) in [(7, "Ada"), (3, "Alan"), (12, "Grace"), (9, "Adele")] {
        contacts.set(number, name)?;
    }
    let before = contacts.db.snapshot();
    contacts.set(9, "Barbara")?;
    println!("names with Ad: {:?}", contacts.find("Ad")?);
    assert_eq!(contacts.find("Ad")?, [7]);

    // The snapshot still sees the old name; what is durable is there after reopening.
    assert_eq!(before.get(&contacts.by_number, &9u64.to_be_bytes())?.as_deref(), Some(&b"Adele"[..]));
    drop(before);
    contacts.db.close()?;
    drop(contacts);
    let contacts = Contacts::open(home.path())?;
    println!("after reopening: {} contacts, B: {:?}", contacts.by_number.count_all()?, contacts.find("B")?);
    assert_eq!((contacts.by_number.count_all()?, contacts.find("B")?), (4, vec![9]));
    Ok(())
}
