//! Plain text as HTML that shows it as it is, with addresses that can be clicked.

use std::borrow::Cow;

use linkify::{LinkFinder, LinkKind};

use crate::upstream::escape;

/// `text` as HTML: special characters escaped, line breaks and runs of spaces kept, web addresses made links.
pub fn text_to_html(text: &str) -> Cow<'_, str> {
    match keep_spaces(text) {
        Cow::Borrowed(text) => to_html(text),
        Cow::Owned(text) => Cow::Owned(to_html(&text).into_owned()),
    }
}

/// `text` with hard spaces where HTML shows none: behind another one, and at the beginning of a line.
fn keep_spaces(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let is_lost = |at: usize| bytes[at] == b' ' && (at == 0 || matches!(bytes[at - 1], b' ' | b'\n' | b'\r'));
    let Some(first) = (0..bytes.len()).find(|&at| is_lost(at)) else { return Cow::Borrowed(text) };
    let mut kept = String::with_capacity(text.len() + text.len() / 8);
    kept.push_str(&text[..first]);
    kept.extend(text[first..].char_indices().map(|(at, character)| if is_lost(first + at) { '\u{a0}' } else { character }));
    Cow::Owned(kept)
}

fn to_html(text: &str) -> Cow<'_, str> {
    // What has no scheme is no address but often a file name, so `://` decides.
    if !text.contains("://") {
        return escape(text);
    }
    let mut finder = LinkFinder::new();
    finder.kinds(&[LinkKind::Url]);
    let mut html = String::with_capacity(text.len() + text.len() / 2);
    for span in finder.spans(text) {
        let length = span.as_str().find(ends_address).unwrap_or(span.as_str().len());
        let (address, after) = span.as_str().split_at(length);
        if span.kind().is_some() && is_web(address) {
            let shown = escape(address);
            html.push_str("<a href=\"");
            html.push_str(&shown);
            html.push_str("\">");
            html.push_str(&shown);
            html.push_str("</a>");
            html.push_str(&escape(after));
        } else {
            html.push_str(&escape(span.as_str()));
        }
    }
    Cow::Owned(html)
}

/// Whether a character ends an address; the finder of links takes a no-break space and what has no width for part of it.
fn ends_address(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{200b}' | '\u{feff}')
}

/// Whether an address leads to the web; others, such as `file:`, are left as text.
pub(super) fn is_web(address: &str) -> bool {
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::markup::Sanitizer;
    use crate::upstream::plain_text;

    #[test]
    fn addresses_become_links_and_nothing_else_does() {
        for (text, html) in [
            ("plain ü", "plain ü"),
            ("a\nb", "a<br>b"),
            (" a b   c\n  d", "\u{a0}a b \u{a0}\u{a0}c<br>\u{a0}\u{a0}d"),
            ("  https://e.example/  x", "\u{a0}\u{a0}<a href=\"https://e.example/\">https://e.example/</a> \u{a0}x"),
            (
                "see https://e.example/?a=1&b=2.",
                "see <a href=\"https://e.example/?a=1&amp;b=2\">https://e.example/?a=1&amp;b=2</a>.",
            ),
            ("(http://e.example/x)", "(<a href=\"http://e.example/x\">http://e.example/x</a>)"),
            ("https://e.example/\u{a0}- x", "<a href=\"https://e.example/\">https://e.example/</a>\u{a0}- x"),
            ("main.rs and e.example", "main.rs and e.example"),
            ("javascript://e.example/%0aalert(1)", "javascript://e.example/%0aalert(1)"),
            ("file:///etc/passwd", "file:///etc/passwd"),
            ("<https://e.example/>", "&lt;<a href=\"https://e.example/\">https://e.example/</a>&gt;"),
            ("https://e.example/\"onclick=\"x", "<a href=\"https://e.example/\">https://e.example/</a>&quot;onclick=&quot;x"),
        ] {
            assert_eq!(text_to_html(text), html, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_reads_as_it_was_and_is_safe(pieces in proptest::collection::vec(
            prop_oneof!["[<>&\"' a-zü\\n]{0,12}", "https://[a-z]{1,8}\\.example/[a-z&<>\"'?=]{0,8}"], 0..6)
        ) {
            let text = pieces.concat();
            let html = text_to_html(&text);
            let expected = text.split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(plain_text(&html), expected);
            prop_assert_eq!(plain_text(&Sanitizer::new().clean(&html)), plain_text(&html));
        }
    }
}
