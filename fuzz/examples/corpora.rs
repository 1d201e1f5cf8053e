//! Writes the committed corpora from real encoders, with a few mutations of each: `cargo run --example corpora`.
//!
//! Files are named `seed-…`; others (found by fuzzing, kept as reproducers) are left alone. The same program writes
//! the same files.
#![allow(clippy::disallowed_methods)] // The corpora are files of the source tree.

use std::fs;
use std::path::Path;

use logwood_base::codec::Writer;
use logwood_base::disk::SimulatedDisk;
use logwood_base::{DatabaseId, GroupId, Lsn, NodeId, Term};
use logwood_btree::format::page::{Compression, PageKind, seal};
use logwood_fuzz::{log_segment, mutation::mutate, samples};
use logwood_wal::{Append, BaseState, Durability, Group, Log};

fn main() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in [
        ("codec", codec()),
        ("page", page()),
        ("page_segment", page_segment()),
        ("manifest", manifest()),
        ("archived", archived()),
        ("load", load()),
        ("log_segment", log_segment()),
        ("log_history", log_history()),
        ("api", api()),
    ] {
        let folder = corpora.join(target);
        fs::create_dir_all(&folder).expect("the source tree is writable");
        for entry in fs::read_dir(&folder).expect("it was just made") {
            let path = entry.expect("a name").path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
                fs::remove_file(path).expect("the source tree is writable");
            }
        }
        for (name, bytes) in seeds {
            fs::write(folder.join(format!("seed-{name}")), bytes).expect("the source tree is writable");
        }
    }
}

type Seeds = Vec<(String, Vec<u8>)>;

/// The seeds themselves, and one mutation of each.
fn with_mutations(seeds: Vec<(&str, Vec<u8>)>) -> Seeds {
    let mut all = Vec::new();
    for (n, (name, bytes)) in seeds.into_iter().enumerate() {
        all.push((format!("{name}-mutated"), mutate(&bytes, n as u64)));
        all.push((name.to_owned(), bytes));
    }
    all
}

fn archived() -> Seeds {
    use logwood::archive::object::{
        Gap, Hold, KeyspaceDigest, Link, LogWriter, Owner, Parent, RetentionRun, SnapshotObject, Start,
    };
    use logwood::entry::{Body, Entry};
    use logwood_base::{Generation, KeyspaceId, LineageId, LogId, LogPosition, SegmentNo};
    use logwood_btree::store::{Manifest, TreeEntry};
    let owner = Owner { database: DatabaseId(0x11), lineage: LineageId(0x22) };
    let start = |parent, parent_next| {
        Start { owner, first_lsn: Lsn(8), created_ms: 99, parent, parent_next }.encode().bytes
    };
    let parent = Parent { lineage: LineageId(0x21), fork_lsn: Lsn(7) };
    let mut log = LogWriter::new(owner, Lsn(8), (Term(1), 90));
    for n in 0..40 {
        let payload =
            Entry { time_ms: 100 + n, request: None, body: Body::Membership(b"abcabcabc") }.encode();
        log.push(Lsn(8 + n), Term(1 + n / 20), &payload).expect("it follows");
    }
    let (first_lsn, last_lsn, snapshot_lsn) = (Lsn(48), Lsn(60), Lsn(61));
    let gap = Gap { owner, first_lsn, last_lsn, snapshot_lsn, left_ms: 5, previous: Link([5; 32]) };
    let trees = Manifest {
        generation: Generation(3),
        database: owner.database,
        log: LogId(0x33),
        checkpoint_lsn: Lsn(10),
        replay_from: Lsn(9),
        log_durable_end: LogPosition::ZERO,
        next_segment: SegmentNo(1),
        engine_state: b"state".to_vec(),
        trees: vec![TreeEntry { keyspace: KeyspaceId(1), root: None }],
        detached: Vec::new(),
        segments: Vec::new(),
    };
    let snapshot = SnapshotObject {
        owner,
        base_term: Term(1),
        term: Term(2),
        time_ms: 120,
        membership: b"m".to_vec(),
        entry: None,
        digests: vec![KeyspaceDigest { keyspace: KeyspaceId(1), digest: None }],
        trees,
    };
    let proven = SnapshotObject { entry: Some([8; 32]), ..snapshot.clone() };
    let pages = vec![[6; 32], [7; 32]];
    let hold =
        Hold { lineage: owner.lineage, placed_ms: 1, log: Some((Lsn(9), Lsn(12))), snapshot: None, pages };
    let condemned = ["hold/1", "pages/2"].map(str::to_owned).into();
    let run = RetentionRun { id: 0x44, begun_ms: 150, condemned };
    with_mutations(vec![
        ("start", start(None, None)),
        ("forked", start(Some(parent), None)),
        ("log", log.finish(Link([4; 32])).1.bytes),
        ("gap", gap.encode().bytes),
        ("snapshot", snapshot.encode().bytes),
        ("hold", hold.encode().bytes),
        ("retention", run.encode().bytes),
        ("noted", start(Some(parent), Some(Lsn(30)))),
        ("proven", proven.encode().bytes),
    ])
}

fn codec() -> Seeds {
    let mut all: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut numbers = Vec::new();
    numbers.put_u8(7);
    numbers.put_u16(300);
    numbers.put_u32(70_000);
    numbers.put_u64(u64::MAX / 3);
    numbers.put_u128(u128::MAX / 7);
    all.push(("numbers", with_script(&[0, 1, 2, 3, 4], &numbers)));
    let mut varints = Vec::new();
    for value in [0, 127, 128, 16_383, 16_384, 1 << 35, u64::MAX] {
        varints.put_varint(value);
    }
    all.push(("varints", with_script(&[5; 7], &varints)));
    let mut texts = Vec::new();
    for text in [&b""[..], b"key", &[9; 20]] {
        texts.put_length_prefixed(text);
    }
    all.push(("length-prefixed", with_script(&[14; 3], &texts)));
    all.push(("bytes", with_script(&[7, 15, 7], b"0123456789abcdef0123456789abcdef")));
    all.push(("padded-varint", with_script(&[5], &[0x80, 0x00])));
    all.push(("endless-varint", with_script(&[5], &[0xff; 11])));
    all.push(("length-beyond-the-end", with_script(&[14], &[0xff, 0xff, 0x03, 1])));
    with_mutations(all)
}

/// A script of the same length as the input, so that the target cuts between them.
fn with_script(script: &[u8], input: &[u8]) -> Vec<u8> {
    let length = script.len().max(input.len());
    let mut out: Vec<u8> = script.iter().copied().cycle().take(length).collect();
    out.extend_from_slice(input);
    out.resize(2 * length, 0);
    out
}

fn page() -> Seeds {
    let chosen = |choice: u8, body: Vec<u8>| [vec![choice], body].concat();
    let stored = |body: &[u8], compression| {
        let mut out = Vec::new();
        seal(PageKind::Leaf, body, compression, &mut out);
        out
    };
    let put = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    let script: Vec<u8> = (0..400u32).map(|n| (n * 37 % 251) as u8).collect();
    with_mutations(vec![
        ("leaf-empty", chosen(0, samples::dense_leaf(0, 0))),
        ("leaf-dense", chosen(0, samples::dense_leaf(40, 20))),
        ("leaf-keys-only", chosen(0, samples::dense_leaf(60, 0))),
        ("leaf-variable", chosen(0, samples::variable_leaf(50))),
        ("delta-one", chosen(1, samples::delta(1))),
        ("delta", chosen(1, samples::delta(40))),
        ("inner-one", chosen(2, samples::inner(1, 1))),
        ("inner-two", chosen(2, samples::inner(2, 2))),
        ("inner", chosen(2, samples::inner(3, 24))),
        ("overflow", chosen(3, put(&|out| samples::overflow(4).put(out)))),
        ("overflow-empty", chosen(3, put(&|out| samples::overflow(0).put(out)))),
        ("child", chosen(4, put(&|out| samples::child(0).put(out)))),
        ("child-with-deltas", chosen(4, put(&|out| samples::child(3).put(out)))),
        ("envelope-plain", chosen(5, stored(&samples::variable_leaf(20), Compression::Off))),
        ("envelope-lz4", chosen(5, stored(&b"much the same, ".repeat(60), Compression::Auto))),
        ("built-leaf", chosen(6, script.clone())),
        ("built-delta", chosen(7, script.clone())),
        ("built-inner", chosen(8, script)),
    ])
}

fn page_segment() -> Seeds {
    let mixed = [
        (PageKind::Leaf, 0, &b"account"[..], samples::dense_leaf(30, 12)),
        (PageKind::Leaf, 0, b"city/", samples::variable_leaf(30)),
        (PageKind::Delta, 0, b"city/", samples::delta(20)),
        (PageKind::Inner, 3, b"", samples::inner(3, 10)),
        (PageKind::Overflow, 0, b"city/0001", b"a long value; ".repeat(30)),
    ];
    let filled: Vec<_> = (0..3u16)
        .map(|n| (PageKind::Leaf, 0, &b""[..], samples::dense_leaf(100, 8 * usize::from(n))))
        .collect();
    with_mutations(vec![
        ("one-leaf", samples::segment(Compression::Off, &mixed[..1])),
        ("mixed", samples::segment(Compression::Off, &mixed)),
        ("mixed-lz4", samples::segment(Compression::Auto, &mixed)),
        ("filled", samples::segment(Compression::Off, &filled)),
        ("no-pages", samples::segment(Compression::Off, &[])),
        (
            "wrong-low-key",
            samples::segment(Compression::Off, &[(PageKind::Leaf, 0, b"zebra", samples::variable_leaf(3))]),
        ),
        (
            "wrong-level",
            samples::segment(Compression::Off, &[(PageKind::Inner, 2, b"", samples::inner(3, 2))]),
        ),
    ])
}

fn manifest() -> Seeds {
    with_mutations(vec![
        ("new", samples::manifest(0, 0).encode()),
        ("trees-only", samples::manifest(7, 0).encode()),
        ("segments-only", samples::manifest(0, 5).encode()),
        ("whole", samples::manifest(12, 30).encode()),
        ("head-only", samples::manifest(0, 0).encode()[..32].to_vec()),
        ("newer", {
            let mut bytes = samples::manifest(1, 0).encode();
            bytes[8] = 2;
            let crc = logwood_base::checksum::checksum(logwood_base::checksum::Seed::new(), &bytes[..28]);
            bytes[28..32].copy_from_slice(&crc.to_le_bytes());
            bytes
        }),
    ])
}

fn load() -> Seeds {
    let file = |format: u8, text: &str| [&[format, 9][..], text.as_bytes()].concat();
    with_mutations(vec![
        ("tsv", file(0, "key\tvalue\nk2\t\n\tempty key\nk\\x00\\xff\tv\\x09\\\\n\r\nlast\tno line end")),
        ("tsv-bad", file(0, "key\tvalue\nno tab\n\n\\x4\t\\xzz\\x\n")),
        ("tsv-raw", file(1, "a\tb\tc\r\n\\x41\t\\x41\n")),
        ("csv", file(2, "name,id,n\nx,1,2\n\"a,\"\"b\"\"\",\"2\nlines\",\n")),
        ("csv-crlf", file(2, "id,v\r\n\r\n1,one\r\n2,two\r\n")),
        ("csv-bad", file(2, "id,v\n1\n1,2,3\n4,\"open")),
        ("csv-no-key", file(2, "name,v\n1,2\n")),
        ("csv-twice", file(2, "id,id\n1,2\n")),
        ("csv-quoted-header", file(2, "\"id\",\"v\n2\"\n1,2\n")),
        (
            "jsonl",
            file(
                3,
                "{\"id\":\"a\",\"v\":[1,{\"id\":2}]}\n{\"v\":null,\"id\":-1.5e3}\r\n {\"\\u0069d\":\"t\\u0000\"} \n",
            ),
        ),
        (
            "jsonl-bad",
            file(
                3,
                "{}\n[]\n{\"id\":null}\n{\"id\":\"a\",\"id\":\"b\"}\n{\"id\":\"\\ud800\"}\nx\n\n{\"id\":1",
            ),
        ),
        ("jsonl-deep", file(3, &format!("{{\"id\":\"a\",\"v\":{}{}}}\n", "[".repeat(200), "]".repeat(200)))),
    ])
}

/// Fills a new log.
type Make<'a> = &'a dyn Fn(&Log);

/// Whole segments of real logs, cut where the zeros begin.
fn log_segment() -> Seeds {
    let vote = |log: &Log| {
        let group = log.create_group(GroupId(1), BaseState::default()).expect("a new group");
        group.set_vote(Term(2), NodeId(7)).expect("a vote");
        group.set_membership(Lsn(0), b"members").expect("a membership");
    };
    let entries = |log: &Log| {
        let group = log.create_group(GroupId(1), BaseState::default()).expect("a new group");
        for n in 1..=12u64 {
            append(&group, 1, n, &[&vec![n as u8; n as usize * 9]], Durability::Durable);
        }
    };
    let overridden = |log: &Log| {
        let group = log.create_group(GroupId(1), BaseState::default()).expect("a new group");
        append(&group, 1, 1, &[b"a", b"b", b"c", b"d"], Durability::Durable);
        append(&group, 2, 3, &[b"C", b"D"], Durability::Durable);
        group.set_committed(Lsn(3));
        append(&group, 3, 5, &[b"E"], Durability::Durable);
    };
    let groups = |log: &Log| {
        for id in 1..=3 {
            let base = BaseState { lsn: Lsn(10 * id), term: Term(id), membership: vec![id as u8; 5] };
            let group = log.create_group(GroupId(id), base).expect("a new group");
            append(&group, id, 10 * id + 1, &[b"first", b"second"], Durability::Buffered);
        }
        log.sync().expect("a sync");
    };
    let based = |log: &Log| {
        let group = log.create_group(GroupId(1), BaseState::default()).expect("a new group");
        append(&group, 1, 1, &[b"a", b"b", b"c"], Durability::Durable);
        group.set_base(Lsn(2), Term(1), b"").expect("a base");
        group.set_base(Lsn(9), Term(4), b"jumped").expect("a base");
    };
    let seeds: [(&str, Make<'_>, bool); 8] = [
        ("empty", &|_| (), true),
        ("entries", &entries, true),
        ("entries-not-closed", &entries, false),
        ("vote", &vote, true),
        ("overridden", &overridden, true),
        ("overridden-not-closed", &overridden, false),
        ("groups", &groups, true),
        ("based", &based, true),
    ];
    with_mutations(seeds.map(|(name, make, closes)| (name, segment_of(make, closes))).into())
}

fn append(group: &Group, term: u64, first: u64, payloads: &[&[u8]], durability: Durability) {
    let entries: Vec<(Term, &[u8])> = payloads.iter().map(|payload| (Term(term), *payload)).collect();
    let append =
        Append { term: Term(term), previous: None, first_lsn: Lsn(first), entries: &entries, durability };
    let ticket = group.append(append).expect("it fits");
    if durability == Durability::Durable {
        ticket.wait().expect("the disk is sound");
    }
}

/// The first segment of a log with this content, without the zeros behind it.
fn segment_of(make: &dyn Fn(&Log), closes: bool) -> Vec<u8> {
    let disk = SimulatedDisk::new(1);
    let environment = log_segment::environment(&disk);
    let dir = Path::new("log");
    let log =
        Log::create(&environment, dir, DatabaseId(0xdb), log_segment::options()).expect("an empty disk");
    make(&log);
    if closes {
        log.close().expect("the disk is sound");
    }
    let path = dir.join(format!("{:020}.log", log_segment::NUMBER.get()));
    let mut bytes = disk.read_file(&path).expect("the first segment");
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// Scripts of calls on a log: each step is four bytes.
fn log_history() -> Seeds {
    let append = |n: u8| [0, n, n.wrapping_mul(31), n % 4];
    let buffered = |n: u8| [1, n, n.wrapping_mul(7), 0x40 | (n % 4)];
    let left = |n: u8| [2, n, n, 0x20 | (n % 4)];
    let over = |n: u8| [3, n, n, 0x88 | (n % 4)];
    let mixed: Vec<u8> = (1..=60u8)
        .flat_map(|n| match n % 7 {
            0 => over(n),
            1 => buffered(n),
            2 => left(n),
            3 => [5, n, 0, 0],
            _ => append(n),
        })
        .collect();
    let with = |before: &[u8], list: &[[u8; 4]]| [before, &list.concat()].concat();
    let mut random = fastrand::Rng::with_seed(77);
    let mut drawn = || (0..400).map(|_| random.u8(..)).collect::<Vec<u8>>();
    with_mutations(vec![
        ("appends", (1..=20u8).flat_map(append).collect()),
        ("mixed", mixed.clone()),
        ("votes", with(&mixed, &[[6, 0, 3, 1], [10, 0, 0, 0], [6, 0, 4, 0], [6, 1, 5, 0], [11, 0, 1, 1]])),
        ("releases", with(&mixed, &[[5, 0, 0, 0], [7, 0, 200, 0], [9, 0, 0, 0], append(3), [7, 0, 9, 0]])),
        ("background", with(&mixed, &[[8, 200, 10, 0], append(1), [8, 9, 200, 0], [11, 0, 7, 7]])),
        (
            "power-cuts",
            with(&mixed, &[[11, 0, 1, 2], buffered(1), left(2), [11, 0, 3, 4], over(9), [11, 0, 5, 6]]),
        ),
        (
            "kills",
            with(&mixed, &[[10, 0, 0, 0], buffered(1), left(2), [10, 0, 0, 1], append(1), [10, 0, 0, 0]]),
        ),
        (
            "cut-in-opening",
            with(&mixed, &[[12, 0, 2, 0], [9, 0, 0, 0], append(2), [12, 0, 9, 0], [9, 0, 0, 0]]),
        ),
        (
            "kill-in-appends",
            with(&mixed, &[[13, 0, 1, 0], append(9), append(8), [13, 0, 2, 0], left(1), append(2)]),
        ),
        ("sync-fails", with(&mixed, &[[14, 3, 0, 0], buffered(1), append(2), append(3), [10, 0, 0, 0]])),
        ("disk-full", with(&mixed, &[[14, 2, 1, 0], append(200), append(201), append(202), append(203)])),
        ("flip", with(&mixed, &[[15, 0, 9, 0x10]])),
        ("flip-late", with(&mixed, &[[9, 0, 0, 0], append(4), [15, 2, 0x60, 0x20]])),
        ("random", drawn()),
        ("random-2", drawn()),
    ])
}

/// Scripts of calls: each step is four bytes.
fn api() -> Seeds {
    let put = |n: u8| [n % 4, 0, n.wrapping_mul(37), n];
    let long = |n: u8| [4, 1, n.wrapping_mul(37), n.wrapping_mul(9)];
    let batch = |n: u8| [7, n, n.wrapping_mul(19), n.wrapping_mul(23)];
    let steps = |list: &[[u8; 4]]| list.concat();
    let puts = |count: u8| (1..=count).flat_map(put).collect::<Vec<u8>>();
    let mixed: Vec<u8> = (1..=40u8)
        .flat_map(|n| {
            if n % 5 == 0 {
                batch(n)
            } else if n % 7 == 0 {
                long(n)
            } else {
                put(n)
            }
        })
        .collect();
    let with = |before: &[u8], list: &[[u8; 4]]| [before, &list.concat()].concat();
    let random: Vec<u8> = {
        let mut random = fastrand::Rng::with_seed(99);
        (0..480).map(|_| random.u8(..)).collect()
    };
    with_mutations(vec![
        ("nothing", Vec::new()),
        ("puts", puts(30)),
        ("put-delete", with(&puts(20), &[[5, 0, 37, 0], [6, 0, 10, 200], [5, 0x80, 74, 0]])),
        ("keyspaces", steps(&[[8, 0, 0, 0], [8, 1, 0, 0], put(3), [8, 0, 0, 3], [8, 0, 0, 0], put(5)])),
        (
            "snapshots",
            with(&puts(10), &[[9, 0, 0, 0], put(1), [6, 0, 0, 255], [10, 0, 0, 0], put(9), [9, 0, 0, 1]]),
        ),
        ("checkpoints", with(&mixed, &[[10, 0, 0, 0], put(7), [11, 0, 0, 0], [13, 0, 0, 0], put(8)])),
        ("background", with(&mixed, &[[12, 200, 50, 0], long(2), [12, 255, 255, 0], [13, 0, 0, 0]])),
        ("reopen", with(&puts(8), &[[13, 0, 0, 0], put(50), [13, 0, 0, 0], [13, 0, 0, 0]])),
        ("kill", with(&mixed, &[[14, 0, 0, 0], put(3), [14, 0, 0, 1], put(4), [14, 0, 0, 0]])),
        (
            "power-cut",
            with(&mixed, &[[0, 0x80, 1, 9], [15, 0, 3, 4], put(3), [0, 0x80, 2, 9], [15, 0, 9, 9]]),
        ),
        ("cut-in-a-checkpoint", with(&mixed, &[[16, 0, 9, 0], [10, 0, 0, 0], put(1), put(2)])),
        ("cut-in-opening", with(&mixed, &[[16, 0, 3, 0], [13, 0, 0, 0], put(1), put(2)])),
        ("kill-in-a-batch", with(&mixed, &[[17, 0, 1, 0], batch(9), put(1), [15, 0, 1, 1]])),
        ("sync-fails", with(&mixed, &[[18, 3, 0, 1], put(1), put(2), [18, 3, 0, 0], [10, 0, 0, 0], put(3)])),
        ("write-fails", with(&mixed, &[[18, 0, 0, 0], put(1), put(2), [18, 0, 0, 4], [10, 0, 0, 0], put(3)])),
        ("disk-full", with(&mixed, &[[18, 2, 1, 0], long(1), long(2), put(2), [18, 2, 1, 2], [10, 0, 0, 0]])),
        ("read-fails", with(&mixed, &[[10, 0, 0, 0], [18, 1, 0, 2], [13, 0, 0, 0], put(3)])),
        ("flip-log", with(&mixed, &[[19, 0, 0x40, 0x10]])),
        ("flip-manifest", with(&mixed, &[[10, 0, 0, 0], [19, 2, 50, 0]])),
        ("flip-pages", with(&mixed, &[[10, 0, 0, 0], [19, 4, 90, 3]])),
        ("random", random),
        ("transactions", with(&mixed, &[[7, 0, 37, 27], [7, 0x40, 74, 91], [7, 0x41, 74, 3], [13, 0, 0, 0]])),
        (
            "follower",
            with(
                &mixed,
                &[[9, 0, 0, 7], put(3), [10, 0, 0, 0], [14, 0, 0, 1], [10, 0, 0, 0], [9, 0, 0, 7], put(4)],
            ),
        ),
        (
            "follower-cut",
            with(&mixed, &[[9, 0, 0, 7], put(3), [16, 0, 4, 0], [10, 0, 0, 0], [9, 0, 0, 7], put(4)]),
        ),
        (
            "backups",
            with(&mixed, &[[10, 3, 0, 0], batch(3), long(2), [10, 3, 0, 0], [11, 0, 0, 0], [10, 7, 0, 0]]),
        ),
        (
            "backup-cut",
            with(&mixed, &[[10, 3, 0, 0], batch(3), [16, 0, 20, 0], [10, 3, 0, 0], [10, 3, 0, 0]]),
        ),
        ("backup-disk-full", with(&mixed, &[[18, 2, 1, 9], [10, 3, 0, 0], [10, 3, 0, 0], put(3)])),
    ])
}
