//! libfuzzer's entry to [`logwood_fuzz::archived`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logwood_fuzz::archived::run(bytes));
