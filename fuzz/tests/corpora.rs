//! Every target over its committed corpus, and over a few mutations of each file, with the stable compiler.
//!
//! `LOGWOOD_TEST_SCALE` multiplies the mutations (default 1).
#![allow(clippy::disallowed_methods)] // The corpora are files of the source tree.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use logwood_fuzz::{TARGETS, Target, mutation};

/// Largest file of a corpus.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Largest sum of all corpora.
const TOTAL_BYTES_MAX: u64 = 1 << 20;

fn corpus(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Runs a target, and names the input when it fails.
fn run((name, body): Target, what: &str, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(bytes))) {
        let failed = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
        fs::create_dir_all(&failed).unwrap();
        fs::write(failed.join("from-test"), bytes).unwrap();
        eprintln!("{name} failed on {what}; the input is in {}/from-test", failed.display());
        std::panic::resume_unwind(panic);
    }
}

/// Runs a target over its corpus and over mutations of it.
fn hold(name: &str, mutations: u64) {
    let target = *TARGETS.iter().find(|target| target.0 == name).unwrap();
    let scale: u64 =
        std::env::var("LOGWOOD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1);
    for file in corpus(name) {
        let bytes = fs::read(&file).unwrap();
        run(target, &file.display().to_string(), &bytes);
        for seed in 0..mutations * scale {
            let mutated = mutation::mutate(&bytes, seed);
            run(target, &format!("{} mutated by {seed}", file.display()), &mutated);
        }
    }
}

#[test]
fn whatever_the_codec_reads_it_writes_back() {
    hold("codec", 200);
}

#[test]
fn bodies_of_pages_hold_together_or_are_refused() {
    hold("page", 60);
}

#[test]
fn damage_to_a_page_segment_is_found() {
    hold("page_segment", 8);
}

#[test]
fn a_manifest_has_one_encoding_and_is_opened_or_refused() {
    hold("manifest", 40);
}

#[test]
fn an_archived_object_has_one_encoding_and_the_entries_it_states() {
    hold("archived", 40);
}

#[test]
fn records_of_every_format_read_alike_and_read_back() {
    hold("load", 60);
}

#[test]
fn a_log_answers_only_what_stands_in_its_file() {
    hold("log_segment", 12);
}

#[test]
fn a_log_loses_nothing_that_was_acknowledged() {
    hold("log_history", 8);
}

#[test]
fn a_database_loses_nothing_and_answers_nothing_wrong() {
    hold("api", 4);
}

#[test]
fn every_target_has_a_corpus_and_all_of_them_are_small() {
    let mut total = 0;
    for (name, _) in TARGETS {
        let files = corpus(name);
        assert!(files.len() >= 12, "{name} has {} files", files.len());
        for file in files {
            let bytes = fs::metadata(&file).unwrap().len();
            assert!(bytes < FILE_BYTES_MAX, "{} has {bytes} bytes", file.display());
            total += bytes;
        }
    }
    assert!(total < TOTAL_BYTES_MAX, "the corpora have {total} bytes");
}
