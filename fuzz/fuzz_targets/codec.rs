//! libfuzzer's entry to [`logwood_fuzz::codec`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logwood_fuzz::codec::run(bytes));
