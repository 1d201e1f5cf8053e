//! Pins the bytes: what these files say was written by version 1 (manifests with detached subtrees: 2), and every later
//! version must read it and, as long as it writes that version, write it. A golden file is never generated anew.

use logwood_base::SegmentNo;
use logwood_base::limits::BLOCK_BYTES;

use super::segment::{HEADER_BYTES, SegmentHeader, TRAILER_BYTES, Trailer};
use super::{delta, inner, leaf, manifest, samples};

/// Compares with a golden file of hexadecimal digits.
fn assert_golden(name: &str, golden: &str, bytes: &[u8]) {
    let found: Vec<String> =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let found = found.join("\n") + "\n";
    assert!(golden == found, "the bytes of {name} have changed; they are now\n{found}");
}

#[test]
fn bytes_of_a_dense_leaf() {
    assert_golden("dense_leaf", include_str!("golden/dense_leaf.hex"), &samples::dense_leaf());
    assert!(leaf::LeafReader::new(&samples::dense_leaf()).unwrap().dense().is_some());
}

#[test]
fn bytes_of_a_variable_leaf() {
    assert_golden("variable_leaf", include_str!("golden/variable_leaf.hex"), &samples::variable_leaf());
    leaf::LeafReader::new(&samples::variable_leaf()).unwrap().check().unwrap();
}

#[test]
fn bytes_of_a_delta_block() {
    assert_golden("delta", include_str!("golden/delta.hex"), &samples::delta());
    delta::DeltaReader::new(&samples::delta()).unwrap().check().unwrap();
}

#[test]
fn bytes_of_an_inner_page() {
    assert_golden("inner", include_str!("golden/inner.hex"), &samples::inner());
    inner::InnerReader::new(&samples::inner()).unwrap().check().unwrap();
}

#[test]
fn bytes_of_a_page_segment() {
    let segment = samples::segment();
    assert!(segment.len().is_multiple_of(BLOCK_BYTES));
    let at = segment.len() - TRAILER_BYTES;
    let trailer = Trailer::decode(&segment[at..], SegmentNo(12), segment.len() as u64).unwrap();
    let end = (trailer.index_offset + trailer.index_bytes) as usize;
    // The zeros between index and trailer are left out.
    assert!(segment[end..at].iter().all(|byte| *byte == 0));
    let shown = [&segment[..end], &segment[at..]].concat();
    assert_golden("segment", include_str!("golden/segment.hex"), &shown);
    assert_eq!(SegmentHeader::decode(&segment[..HEADER_BYTES]).unwrap().number, SegmentNo(12));
}

#[test]
fn bytes_of_a_manifest() {
    let manifest = samples::manifest();
    assert_golden("manifest", include_str!("golden/manifest.hex"), &manifest.encode());
    assert_eq!(manifest::Manifest::decode(&manifest.encode(), manifest.generation).unwrap(), manifest);
}

#[test]
fn bytes_of_a_manifest_with_detached_subtrees() {
    let manifest = samples::manifest_with_detached();
    let bytes = manifest.encode();
    assert_golden("manifest_detached", include_str!("golden/manifest_detached.hex"), &bytes);
    assert_eq!(manifest::Manifest::decode(&bytes, manifest.generation).unwrap(), manifest);
}

/// The compressor may choose other bytes in another version; what it chose here must be read for ever.
#[test]
fn a_compressed_page_of_old_is_read() {
    let golden = include_str!("golden/compressed_page.hex");
    let digits: Vec<u8> = golden.bytes().filter(u8::is_ascii_hexdigit).collect();
    let stored: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let page = super::page::open_unproven(stored).unwrap();
    assert_eq!(page.body(), b"much the same, ".repeat(30));
}
