//! The operations of many commits in the order in which trees take them.
//!
//! Whoever applies them goes through memory from front to back then, and waits for none of it.

use logwood_base::KeyspaceId;
use logwood_base::codec::CodecError;
use logwood_btree::in_order;

use crate::entry::{Operation, Operations};

/// A put or a delete as it is encoded.
#[derive(Clone, Copy)]
struct Encoded<'a> {
    keyspace: KeyspaceId,
    key: &'a [u8],
    bytes: &'a [u8],
}

/// Appends operations by keyspace and key, the last one of each key alone. A range delete stays behind what stood before it,
/// and before what stood behind it. Where one cannot be read all are appended as they are: applying them tells which.
pub(super) fn append_sorted(operations: Operations<'_>, sorted: &mut Vec<u8>) {
    let begin = sorted.len();
    if try_append(operations, sorted).is_err() {
        sorted.truncate(begin);
        sorted.extend_from_slice(operations.as_bytes());
    }
}

fn try_append(operations: Operations<'_>, sorted: &mut Vec<u8>) -> Result<(), CodecError> {
    let bytes = operations.as_bytes();
    // Counted first: memory that is let grow is copied.
    let mut points = Vec::with_capacity(operations.iter().count());
    let mut all = operations.iter();
    let mut from = 0;
    while let Some(operation) = all.next() {
        let bytes = &bytes[std::mem::replace(&mut from, all.offset())..all.offset()];
        match operation? {
            Operation::Put { keyspace, key, .. } | Operation::Delete { keyspace, key } => {
                points.push(Encoded { keyspace, key, bytes });
            }
            Operation::DeleteRange { .. } => {
                append_points(&points, sorted);
                points.clear();
                sorted.extend_from_slice(bytes);
            }
        }
    }
    append_points(&points, sorted);
    Ok(())
}

fn append_points(points: &[Encoded<'_>], sorted: &mut Vec<u8>) {
    for at in in_order(points, |point| (point.keyspace, point.key)) {
        sorted.extend_from_slice(points[at].bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(operations: &[Operation<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        operations.iter().for_each(|operation| operation.encode(&mut bytes));
        bytes
    }

    #[test]
    fn operations_are_sorted_between_range_deletes_and_the_last_of_each_key_stays() {
        let put = |keyspace, key, value| Operation::Put { keyspace: KeyspaceId(keyspace), key, value };
        let delete = |keyspace, key| Operation::Delete { keyspace: KeyspaceId(keyspace), key };
        let range = Operation::DeleteRange { keyspace: KeyspaceId(2), from: b"a", to: None };
        let written = [
            put(2, b"b", b"1"),
            put(1, b"x", b"2"),
            put(2, b"a", b"3"),
            delete(2, b"b"),
            range,
            put(2, b"b", b"4"),
            put(2, b"", b"5"),
            put(2, b"b", b"6"),
            range,
            range,
        ];
        let expected = [
            put(1, b"x", b"2"),
            put(2, b"a", b"3"),
            delete(2, b"b"),
            range,
            put(2, b"", b"5"),
            put(2, b"b", b"6"),
            range,
            range,
        ];
        let mut sorted = b"before".to_vec();
        append_sorted(Operations::new(&encoded(&written)), &mut sorted);
        assert_eq!(sorted, [b"before", &*encoded(&expected)].concat());
    }

    #[test]
    fn operations_of_which_one_cannot_be_read_stay_as_they_are() {
        let put = |key| Operation::Put { keyspace: KeyspaceId(1), key, value: b"" };
        let range = Operation::DeleteRange { keyspace: KeyspaceId(1), from: b"a", to: Some(b"c") };
        let whole = encoded(&[put(b"b"), put(b"a"), range, put(b"d"), put(b"c")]);
        for length in 0..whole.len() {
            let cut = Operations::new(&whole[..length]);
            let mut sorted = Vec::new();
            append_sorted(cut, &mut sorted);
            let can_be_read = cut.iter().all(|operation| operation.is_ok());
            assert!(can_be_read || sorted == cut.as_bytes(), "{length} bytes");
            assert_eq!(sorted.len(), length);
        }
    }
}
