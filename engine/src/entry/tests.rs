//! The bytes of every kind, pinned; and what is refused.

use super::*;

fn samples() -> Vec<(Entry<'static>, &'static str)> {
    let request = Some(Request { client: 0x0102, number: 7 });
    let plain = |body| Entry { time_ms: 0x11, request: None, body };
    let range = KeyRange { from: b"a", to: Some(b"c") };
    vec![
        (
            plain(Body::Commit(Operations::new(
                b"\x01\x01\x01k\x02vw\x02\x01\x01d\x03\x02\x01a\x01b\x04\x02\x00",
            ))),
            "010011000000000000000101016b027677020101640302016101620402 00",
        ),
        (
            Entry { time_ms: 0x11, request, body: Body::Commit(Operations::new(b"")) },
            "01011100000000000000 02010000000000000000000000000000 0700000000000000",
        ),
        (plain(Body::CreateKeyspace { id: KeyspaceId(300), name: "ab" }), "02001100000000000000 ac02 026162"),
        (plain(Body::DropKeyspace { id: KeyspaceId(3) }), "03001100000000000000 03"),
        (plain(Body::Membership(b"\x01\x02")), "04001100000000000000 0102"),
        (plain(Body::OpenMark { keyspace: KeyspaceId(1), range }), "05001100000000000000 01 0161 01 0163"),
        (
            plain(Body::Mark {
                opened: Lsn(9),
                keyspace: KeyspaceId(1),
                range: KeyRange { from: b"", to: None },
                digest: Digest { count: 2, sum: 3 },
            }),
            "06001100000000000000 09 01 00 00 0200000000000000 03000000000000000000000000000000",
        ),
        (
            plain(Body::Fragment { transaction: Lsn(5), sequence: 1, piece: b"xy" }),
            "07001100000000000000 05 01 7879",
        ),
        (
            plain(Body::CommitFragments { transaction: Lsn(5), count: 2, bytes: 130, hash: 4 }),
            "08001100000000000000 05 02 8201 04000000000000000000000000000000",
        ),
        (plain(Body::Abort { transaction: Lsn(5) }), "09001100000000000000 05"),
        (plain(Body::NoOp), "0a001100000000000000"),
    ]
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_bytes_of_every_kind_are_pinned() {
    for (entry, hex) in samples() {
        assert_eq!(entry.encode(), bytes(hex), "{}", entry.body.name());
        assert_eq!(Entry::decode(&bytes(hex)), Ok(entry), "{}", entry.body.name());
    }
}

#[test]
fn operations_come_back_in_order() {
    let expected = [
        Operation::Put { keyspace: KeyspaceId(1), key: b"k", value: b"vw" },
        Operation::Delete { keyspace: KeyspaceId(1), key: b"d" },
        Operation::DeleteRange { keyspace: KeyspaceId(2), from: b"a", to: Some(b"b") },
        Operation::DeleteRange { keyspace: KeyspaceId(2), from: b"", to: None },
    ];
    let mut encoded = Vec::new();
    expected.iter().for_each(|operation| operation.encode(&mut encoded));
    let decoded: Result<Vec<_>, _> = Operations::new(&encoded).iter().collect();
    assert_eq!(decoded.unwrap(), expected);
    assert!(matches!(samples()[0].0.body, Body::Commit(pinned) if pinned.as_bytes() == encoded));
}

#[test]
fn every_shorter_payload_is_refused_or_is_another_valid_one() {
    for (entry, _) in samples() {
        let whole = entry.encode();
        for length in 0..whole.len() {
            match Entry::decode(&whole[..length]) {
                Ok(shorter) => assert_eq!(shorter.encode(), &whole[..length], "one form for one meaning"),
                Err(error) => assert!(matches!(error, DecodeError::Malformed(_))),
            }
        }
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let mut payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    payload.push(0);
    assert!(matches!(Entry::decode(&payload), Err(DecodeError::Malformed(_))));
}

#[test]
fn an_unknown_kind_or_flag_is_newer_and_not_damage() {
    let path = Path::new("log");
    for (place, value) in [(0, 11), (0, 0), (0, 255), (1, 2), (1, 255)] {
        let mut payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
        payload[place] = value;
        let error = Entry::decode(&payload).unwrap_err();
        assert_eq!(error, DecodeError::Newer);
        assert!(matches!(error.at(path, Lsn(1)), Error::UnsupportedFormat { .. }));
    }
    let error = Entry::decode(&[1]).unwrap_err().at(path, Lsn(4));
    assert_eq!(error.corruption().unwrap().affects.as_deref(), Some("lsn 4"));
}

#[test]
fn a_failed_operation_ends_the_iteration() {
    let mut encoded = Vec::new();
    Operation::Delete { keyspace: KeyspaceId(1), key: b"d" }.encode(&mut encoded);
    encoded.extend_from_slice(&[9, 1, 0]);
    let mut iter = Operations::new(&encoded).iter();
    assert!(iter.next().unwrap().is_ok());
    assert!(iter.next().unwrap().is_err());
    assert!(iter.next().is_none());
}

#[test]
fn a_begun_commit_takes_its_time_later() {
    let mut payload = Vec::new();
    begin_commit(&mut payload);
    assert_eq!(payload.len(), HEADER_BYTES);
    set_time(&mut payload, 77);
    let expected = Entry { time_ms: 77, request: None, body: Body::Commit(Operations::new(b"")) };
    assert_eq!(Entry::decode(&payload), Ok(expected));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(payload: Vec<u8>, kind in 0u8..12) {
        let mut payload = payload;
        if let Some(first) = payload.first_mut() {
            *first = kind;
        }
        if let Some(flags) = payload.get_mut(1) {
            *flags &= 1;
        }
        if let Ok(entry) = Entry::decode(&payload) {
            proptest::prop_assert_eq!(entry.encode(), payload.clone());
            if let Body::Commit(operations) = entry.body {
                operations.iter().for_each(drop);
            }
        }
    }
}
