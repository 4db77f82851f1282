//! The words of a message, for comparing: what is between them is told by [`super::readable_text`].

use super::html::{Piece, pieces};

/// The words of a piece of HTML: tags gone, entities resolved, every run of white space one space, none at the ends.
///
/// It takes time in proportion to the input whatever the input is, and never fails: what is no markup is text.
pub fn plain_text(html: &str) -> String {
    let mut text = Collapsed::with_capacity(html.len());
    for piece in pieces(html) {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Characters(first, second) => [Some(first), second].into_iter().flatten().for_each(|c| text.push(c)),
            Piece::Opening { name, .. } | Piece::Closing { name } => text.space |= !is_inline(name),
        }
    }
    text.text
}

/// Text in which every run of white space is one space.
struct Collapsed {
    text: String,
    /// White space was seen since the last other character.
    space: bool,
}

impl Collapsed {
    fn with_capacity(capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), space: false }
    }

    fn push_str(&mut self, text: &str) {
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            if !word.is_empty() {
                self.push_word(word);
            }
            self.space |= word.len() < piece.len();
        }
    }

    fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    fn push_word(&mut self, word: &str) {
        if self.space && !self.text.is_empty() {
            self.text.push(' ');
        }
        self.space = false;
        self.text.push_str(word);
    }
}

/// Elements that do not stand apart from the text around them.
const INLINE: [&str; 21] = [
    "a", "abbr", "b", "bdi", "bdo", "cite", "code", "del", "em", "font", "i", "ins", "mark", "mention", "s", "small", "span",
    "strong", "sub", "sup", "u",
];

/// Whether words on both sides of a tag of this name may be one word.
pub(super) fn is_inline(name: &str) -> bool {
    INLINE.iter().any(|inline| inline.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_goes_and_text_stays() {
        let cases = [
            ("plain", "plain"),
            ("  a \n\t b  ", "a b"),
            ("<p>it&#x27;s <b>d</b>own &quot;again&quot;</p>", "it's down \"again\""),
            ("one<br>two<p>three</p>four", "one two three four"),
            ("a&nbsp;b&#160;c", "a b c"),
            ("1 < 2 && 3 > 2 &amp;amp; &unknown; &", "1 < 2 && 3 > 2 &amp; &unknown; &"),
            ("x&ltb&copy2", "x<b©2"),
            ("<a title=\"x>y\">link</a><!-- <b> --><script>alert('</p>')</script>.", "link ."),
            ("gr&uuml;&szlig;e &#128075; &#0;&#xD800;&#99999999999;", "grüße 👋 \u{FFFD}\u{FFFD}\u{FFFD}"),
            ("<p", ""),
            ("<!-- open", ""),
            ("<", "<"),
            ("&#x", "&#x"),
        ];
        for (html, expected) in cases {
            assert_eq!(plain_text(html), expected, "{html}");
        }
    }

    #[test]
    fn long_hostile_input_is_read_once() {
        for piece in ["<", "<a", "<!--", "<script>", "&", "&a", "&#", "<a \"", " ", "</"] {
            assert!(plain_text(&piece.repeat(200_000)).len() <= 200_000 * piece.len());
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_it_and_space_is_collapsed(html in "[<>&;#/!a-c \"'xéü👋-]{0,60}") {
            let text = plain_text(&html);
            prop_assert!(!text.contains("  ") && text.trim() == text);
        }

        #[test]
        fn escaped_text_comes_back(words in proptest::collection::vec("[a-z<>&\"'é]{1,8}", 0..8)) {
            let text = words.join(" ");
            let escaped = text.chars().fold(String::new(), |mut html, character| {
                write!(html, "&#{};", u32::from(character)).expect("writing to a String cannot fail");
                html
            });
            prop_assert_eq!(plain_text(&escaped), text);
        }
    }
}
