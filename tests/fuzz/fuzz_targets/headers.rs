#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| apogee_proxy::fuzz::headers(data));
