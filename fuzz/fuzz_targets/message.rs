//! Any body of a send is a message or refused with a reason.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spaces_bridge::http::fuzzing::is_message;

fuzz_target!(|body: &[u8]| {
    let _ = is_message(body);
});
