//! The log alone, as the durable log of a replicated system: entries, votes and membership of a raft group.
//!
//! `cargo run -p logwood-wal --example raft_log [DIR]`

use std::path::PathBuf;

use logwood_base::{DatabaseId, Environment, Error, GroupId, Lsn, NodeId, Result, Term};
use logwood_wal::{Append, BaseState, Durability, Expect, Group, Log, LogOptions};

const DATABASE: DatabaseId = DatabaseId(42);
const GROUP: GroupId = GroupId(1);

/// What a raft library asks of its log.
struct RaftLog {
    log: Log,
    group: Group,
}

impl RaftLog {
    /// Opens the log of a member, or makes it with its first membership.
    fn open(env: &Environment, dir: &std::path::Path, members: &[u8]) -> Result<Self> {
        let expect = Expect { database: Some(DATABASE), ..Expect::default() };
        let log = match Log::open(env, dir, expect, LogOptions::default(), &mut |_| {}) {
            Ok((log, _recovered)) => log,
            Err(Error::NotFound { .. }) => Log::create(env, dir, DATABASE, LogOptions::default())?,
            Err(error) => return Err(error),
        };
        let group = match log.group(GROUP) {
            Some(group) => group,
            None => {
                let base = BaseState { membership: members.to_vec(), ..BaseState::default() };
                log.create_group(GROUP, base)?
            }
        };
        Ok(Self { log, group })
    }

    /// A vote is answered only after this has returned.
    fn vote(&self, term: Term, candidate: NodeId) -> Result<()> {
        self.group.set_vote(term, candidate)
    }

    /// Entries from the leader of `term`. What conflicts with them is replaced. They are acknowledged to the leader
    /// only after this has returned.
    fn append(&self, term: Term, previous: (Lsn, Term), entries: &[(Term, &[u8])]) -> Result<()> {
        let first_lsn = previous.0.next();
        let append =
            Append { term, previous: Some(previous), first_lsn, entries, durability: Durability::Durable };
        self.group.append(append)?.wait()
    }
}

#[allow(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<()> {
    let dir =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("logwood-raft-log"), PathBuf::from);
    let env = Environment::system()?;
    let member = RaftLog::open(&env, &dir, b"members 1, 2, 3")?;
    println!("opened at entry {:?}, vote {:?}", member.group.last(), member.group.vote());

    let term = member.group.vote().0.next();
    member.vote(term, NodeId(2))?;
    let last = member.group.last();
    member.append(term, last, &[(term, b"set x 1"), (term, b"set y 2")])?;
    // The next leader never saw the second entry and replaces it. Its term is kept first: this member votes for nobody
    // else in it, nor takes entries from a leader of an older one.
    let newer = term.next();
    member.vote(newer, NodeId::NOBODY)?;
    let kept = (last.0.next(), term);
    member.append(newer, kept, &[(newer, b"set y 3")])?;
    member.group.set_committed(kept.0.next());

    let mut cursor = member.group.cursor(member.group.first_lsn());
    while let Some(entry) = cursor.next()? {
        println!("{} (term {}): {}", entry.lsn, entry.term, String::from_utf8_lossy(entry.payload));
    }
    // What a snapshot covers may go.
    member.group.release(member.group.committed_lsn());
    member.log.close()
}
