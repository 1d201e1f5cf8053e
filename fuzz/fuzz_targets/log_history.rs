//! libfuzzer's entry to [`logwood_fuzz::log_history`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logwood_fuzz::log_history::run(bytes));
