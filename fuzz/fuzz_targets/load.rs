//! libfuzzer's entry to [`logwood_fuzz::load`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logwood_fuzz::load::run(bytes));
