//! libfuzzer's entry to [`logwood_fuzz::manifest`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logwood_fuzz::manifest::run(bytes));
