//! libfuzzer's entry to [`logwood_fuzz::api`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logwood_fuzz::api::run(bytes));
