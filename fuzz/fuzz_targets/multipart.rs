#![no_main]

#[path = "../src/multipart.rs"]
mod multipart;

libfuzzer_sys::fuzz_target!(|data: &[u8]| multipart::check(data));
