//! Any bytes: see tests/core/inputs.rs.
#![no_main]

#[allow(dead_code, reason = "each target is one of its functions")]
#[path = "../../tests/core/inputs.rs"]
mod inputs;

libfuzzer_sys::fuzz_target!(|input: &[u8]| inputs::tracker(input));
