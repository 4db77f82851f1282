//! Whatever callers write becomes harmless HTML, in one message or in parts, and reads as it was.

#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use spaces_bridge::markup::{Room, Sanitizer, mark_mentions, markdown_to_html, split_html, text_to_html};
use spaces_bridge::upstream::{plain_text, readable_text};
use spaces_bridge_fuzz::assert_safe;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let sanitizer = Sanitizer::new();
    let shown = text_to_html(text);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(plain_text(&shown), words);
    for html in [shown, Cow::Owned(markdown_to_html(text, &sanitizer)), Cow::Owned(sanitizer.clean(text).into_owned())] {
        assert_safe(&html);
        let (html, _) = mark_mentions(html);
        assert_safe(&html);
        let room = Room { first: 200, others: 300, mention: &|_| 50 };
        for part in split_html(&html, &room).into_iter().flatten() {
            assert_safe(&part);
        }
        let _ = readable_text(&html);
    }
    // What comes from Spaces need not be well formed.
    let _ = readable_text(text);
});
