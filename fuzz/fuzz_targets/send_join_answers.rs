#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| federation::fuzzing::send_join_answers(bytes));
