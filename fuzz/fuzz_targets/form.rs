//! A form is read the same whatever pieces it comes in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spaces_bridge::http::fuzzing::read_form;

fuzz_target!(|bytes: &[u8]| {
    let whole = read_form(bytes, "b", bytes.len());
    for size in [1, 3, 16] {
        assert_eq!(read_form(bytes, "b", size), whole, "pieces of {size} bytes");
    }
});
