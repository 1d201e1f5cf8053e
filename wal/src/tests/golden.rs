//! The formats' bytes, pinned. A change here is a new format version.

use logwood_base::{AlignedBuffer, DatabaseId, GroupId, LogId, LogPosition, Lsn, NodeId, SegmentNo, Term};

use crate::format::batch::{self, Batch, BatchFields, Kind, Placement};
use crate::format::header::{GroupRecord, HeaderRead, SegmentHeader};
use crate::format::segment_seed;

const LOG: LogId = LogId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
const SEGMENT: SegmentNo = SegmentNo(3);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden_batch(kind: Kind, count: u32, body: impl FnOnce(&mut AlignedBuffer)) -> String {
    let fields = BatchFields {
        kind,
        group: GroupId(2),
        append_term: Term(5),
        prev_term: Term(4),
        commit_lsn: Lsn(6),
        first_lsn: Lsn(8),
        count,
    };
    let placement = Placement { durable_end: LogPosition::new(SEGMENT, 4096), previous_crc: 0xaabb_ccdd };
    let mut bytes = AlignedBuffer::default();
    batch::begin(&mut bytes);
    body(&mut bytes);
    let seed = segment_seed(LOG, SEGMENT).u64(8192);
    batch::finish(&mut bytes, &fields, &placement, seed.clone());
    let back = Batch::decode(&bytes, seed).expect("what is written is read");
    assert_eq!((back.fields, back.placement), (fields, placement));
    assert!(Batch::decode(&bytes, segment_seed(LOG, SEGMENT).u64(4096)).is_err(), "another place");
    hex(&bytes)
}

fn golden_header() -> String {
    let record = GroupRecord {
        vote: (Term(7), NodeId(8)),
        committed: Lsn(9),
        base: (Lsn(3), Term(1)),
        last: (Lsn(10), Term(2)),
        append_term: Term(2),
        membership: (Lsn(1), b"abc".to_vec()),
    };
    let header = SegmentHeader {
        segment_bytes: 65_536,
        log: LOG,
        database: DatabaseId(0x11),
        segment: SEGMENT,
        predecessor: LogPosition::new(SegmentNo(2), 61_000),
        predecessor_crc: 0x1234_5678,
        rewriting: false,
        groups: vec![(GroupId(1), record)],
    };
    let (bytes, crc) = header.encode();
    assert_eq!(bytes.len(), 4096);
    match SegmentHeader::decode(&bytes, SEGMENT) {
        HeaderRead::Valid(read, read_crc) => assert_eq!((read, read_crc), (header.clone(), crc)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(SegmentHeader::decode(&bytes, SegmentNo(4)), HeaderRead::Invalid(_)), "another name");
    hex(&bytes[..header.header_bytes()])
}

#[test]
fn the_bytes_of_a_header_and_of_each_kind_of_batch_are_pinned() {
    let entries = |bytes: &mut AlignedBuffer| {
        batch::put_entry(bytes, Term(4), b"one");
        batch::put_entry(bytes, Term(5), b"");
    };
    let membership = (Lsn(1), b"m".to_vec());
    let found = [
        golden_header(),
        golden_batch(Kind::Append, 2, entries),
        golden_batch(Kind::Copy, 2, entries),
        golden_batch(Kind::Base, 0, |bytes| batch::put_base(bytes, true, &membership)),
        golden_batch(Kind::State, 0, |bytes| batch::put_state(bytes, (Term(9), NodeId(3)), &membership)),
        golden_batch(Kind::Seal, 0, |bytes| bytes.extend_from_slice(&4u64.to_le_bytes())),
    ]
    .join("\n");
    assert_eq!(found, include_str!("golden.txt").trim_end());
}
