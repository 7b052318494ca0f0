#![no_main]

#[path = "../src/preferences.rs"]
mod preferences;

libfuzzer_sys::fuzz_target!(|data: &[u8]| preferences::check(data));
