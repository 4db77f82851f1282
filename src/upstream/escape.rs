//! Plain text as HTML, which is what messages are made of.

use std::borrow::Cow;

/// `text` as HTML that shows it as it is, line breaks included.
pub fn escape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(SPECIAL) else { return Cow::Borrowed(text) };
    let mut html = String::with_capacity(text.len() + text.len() / 8 + 16);
    html.push_str(&text[..first]);
    let mut characters = text[first..].chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#x27;"),
            // A break of two characters is one break.
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' | '\r' => html.push_str("<br>"),
            other => html.push(other),
        }
    }
    Cow::Owned(html)
}

/// What [`escape`] replaces.
const SPECIAL: [char; 7] = ['&', '<', '>', '"', '\'', '\n', '\r'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::plain_text;

    #[test]
    fn text_is_shown_as_it_is() {
        assert_eq!(escape("plain ü"), "plain ü");
        assert_eq!(
            escape("<b>\"a\" & 'b'</b>\r\nnext\rlast\n"),
            "&lt;b&gt;&quot;a&quot; &amp; &#x27;b&#x27;&lt;/b&gt;<br>next<br>last<br>"
        );
    }

    proptest! {
        #[test]
        fn escaped_text_reads_as_the_text(text in "[<>&\"' a-zü\\n]{0,40}") {
            let expected = text.split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(plain_text(&escape(&text)), expected);
        }
    }
}
