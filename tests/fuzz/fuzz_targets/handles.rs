#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| apogee_model::fuzz::handles(data));
