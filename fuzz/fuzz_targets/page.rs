//! libfuzzer's entry to [`logwood_fuzz::page`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logwood_fuzz::page::run(bytes));
