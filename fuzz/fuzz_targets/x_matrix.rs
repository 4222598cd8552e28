#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| federation::fuzzing::x_matrix(bytes));
