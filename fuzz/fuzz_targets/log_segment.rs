//! libfuzzer's entry to [`logwood_fuzz::log_segment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logwood_fuzz::log_segment::run(bytes));
