#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postern_gateway::fuzzing::json_web_tokens(data));
