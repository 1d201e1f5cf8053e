//! The log alone, as the durable log of a replicated system: entries, votes and membership of a raft group.
//!
//! `cargo run -p logwood-wal --example raft_log [DIR]`

use std::path::{Path, PathBuf};

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
    /// Makes the log of a member that starts for the first time. To do so is a decision: a member that makes a new log
    /// because the old one is gone has forgotten its votes, and may elect a second leader.
    fn create(env: &Environment, dir: &Path, members: &[u8]) -> Result<Self> {
        let log = Log::create(env, dir, DATABASE, LogOptions::default())?;
        Self::with_group(log, members)
    }

    /// Opens the log of a member that was started before. A log that is gone is an error. So is a first start that was
    /// cut off before there was a log: nobody was promised anything, and its folder can be removed.
    fn open(env: &Environment, dir: &Path, members: &[u8]) -> Result<Self> {
        let expect = Expect { database: Some(DATABASE), ..Expect::default() };
        let (log, _recovered) = Log::open(env, dir, expect, LogOptions::default(), &mut |_| {})?;
        Self::with_group(log, members)
    }

    /// The group begins with the log. An undamaged log without it is one whose creation was cut off in between.
    fn with_group(log: Log, members: &[u8]) -> Result<Self> {
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

    /// A change of membership counts from its entry on, committed or not. The log keeps the newest for the next start;
    /// where that entry is replaced, the membership before it is recorded anew.
    fn keep_members(&self, lsn: Lsn, members: &[u8]) -> Result<()> {
        self.group.set_membership(lsn, members)
    }

    /// The leader no longer has what this member lacks, and sent a snapshot, which is installed and synced by now.
    fn jump_to(&self, (lsn, term): (Lsn, Term), members: &[u8]) -> Result<()> {
        self.group.set_base(lsn, term, members)
    }
}

#[allow(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<()> {
    let dir =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("logwood-raft-log"), PathBuf::from);
    let env = Environment::system()?;
    let members = b"members 1, 2, 3";
    // Here a folder that does not exist is a first start. A member of a cluster is told by who sets the cluster up.
    let member = match env.disk.list(&dir) {
        Err(Error::NotFound { .. }) => RaftLog::create(&env, &dir, members)?,
        _ => RaftLog::open(&env, &dir, members)?,
    };
    let ((last, last_term), (term, voted)) = (member.group.last(), member.group.vote());
    println!("opened at entry {last} of term {last_term}, vote for {voted} in term {term}");
    let (set_by, kept) = member.group.membership();
    println!("{}, set by entry {set_by}", String::from_utf8_lossy(&kept));

    let term = member.group.vote().0.next();
    member.vote(term, NodeId(2))?;
    let last = member.group.last();
    member.append(term, last, &[(term, b"set x 1"), (term, b"set y 2")])?;
    // The next leader never saw the second entry and replaces it. Its term is kept first: this member votes for nobody
    // else in it, nor takes entries from a leader of an older one.
    let newer = term.next();
    member.vote(newer, NodeId::NOBODY)?;
    let kept = (last.0.next(), term);
    let members = b"members 1, 2, 3, 4";
    member.append(newer, kept, &[(newer, b"set y 3"), (newer, members)])?;
    let last = member.group.last();
    member.keep_members(last.0, members)?;
    member.group.set_committed(last.0);

    let mut cursor = member.group.cursor(member.group.first_lsn());
    while let Some(entry) = cursor.next()? {
        println!("{} (term {}): {}", entry.lsn, entry.term, String::from_utf8_lossy(entry.payload));
    }
    // What a snapshot of its own covers may go.
    member.group.release(member.group.committed_lsn());
    // One from the leader, of an entry that this member never had, takes the place of all that it has.
    let snapshot = (Lsn(last.0.get() + 100), newer);
    member.jump_to(snapshot, members)?;
    println!("went on behind entry {}", member.group.base().0);
    member.log.close()
}
