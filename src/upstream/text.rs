//! The text of a message in one line: what decides whether two messages say the same. What readers get is in `readable.rs`.

use markup5ever::data::NAMED_ENTITIES;

/// The readable text of a piece of HTML: tags gone, entities resolved, every run of white space one space, none at the ends.
///
/// It takes time in proportion to the input whatever the input is, and never fails: what is no markup is text.
pub fn plain_text(html: &str) -> String {
    let mut text = Collapsed::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = if rest.starts_with('<') { skip_markup(rest, &mut text) } else { read_entity(rest, &mut text) };
    }
    text.push_str(rest);
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

/// Elements whose content is no text.
const SILENT: [&str; 2] = ["script", "style"];

/// Takes the markup that `rest` begins with, or its `<` as text if it begins none, and answers what follows.
fn skip_markup<'a>(rest: &'a str, text: &mut Collapsed) -> &'a str {
    let inside = &rest[1..];
    if let Some(comment) = inside.strip_prefix("!--") {
        return comment.split_once("-->").map_or("", |(_, after)| after);
    }
    let name_start = inside.strip_prefix('/').unwrap_or(inside);
    if name_start.starts_with(|first: char| first.is_ascii_alphabetic()) {
        let name_length = name_start.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(name_start.len());
        let name = &name_start[..name_length];
        let after = &name_start[name_length..];
        let after = &after[tag_length(after)..];
        let is = |known: &&str| known.eq_ignore_ascii_case(name);
        text.space |= !INLINE.iter().any(&is);
        return match SILENT.iter().find(|known| is(known)) {
            Some(silent) if !inside.starts_with('/') => &after[silent_length(after, silent)..],
            _ => after,
        };
    }
    if inside.starts_with(['!', '?', '/']) {
        return inside.split_once('>').map_or("", |(_, after)| after);
    }
    text.push('<');
    inside
}

/// The length of a tag's remainder, its `>` included; a `>` in a quoted value does not end it.
fn tag_length(remainder: &str) -> usize {
    let mut quote = None;
    for (at, byte) in remainder.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at + 1,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    remainder.len()
}

/// The length of the content of a silent element, up to its end tag or the end of the input.
fn silent_length(content: &str, name: &str) -> usize {
    let bytes = content.as_bytes();
    let ends_at = |at: usize| {
        bytes[at..].starts_with(b"</")
            && bytes.get(at + 2..at + 2 + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
    };
    (0..bytes.len()).find(|&at| ends_at(at)).unwrap_or(bytes.len())
}

/// Longest name of an entity (`&CounterClockwiseContourIntegral;`).
const MAX_ENTITY: usize = 32;

/// Longest name of an entity that needs no `;` (`&Aacute`).
const MAX_OPEN_ENTITY: usize = 6;

/// Takes the entity that `rest` begins with, or its `&` as text if it begins none, and answers what follows.
fn read_entity<'a>(rest: &'a str, text: &mut Collapsed) -> &'a str {
    let Some((first, second, after)) = entity(rest) else {
        text.push('&');
        return &rest[1..];
    };
    [Some(first), second].into_iter().flatten().for_each(|character| text.push(character));
    after
}

/// What the entity that `rest` begins with stands for, one character or two, and what follows it.
pub(super) fn entity(rest: &str) -> Option<(char, Option<char>, &str)> {
    let inside = rest.strip_prefix('&')?;
    if let Some(number) = inside.strip_prefix('#') {
        return read_number(number).map(|(character, after)| (character, None, after));
    }
    let length = inside.bytes().take(MAX_ENTITY).take_while(u8::is_ascii_alphanumeric).count();
    let closed = inside.as_bytes().get(length) == Some(&b';');
    let mut candidates = closed.then_some(length + 1).into_iter().chain((2..=length.min(MAX_OPEN_ENTITY)).rev());
    candidates.find_map(|end| {
        // The table also holds the beginnings of names, as zero.
        let &(first, second) = NAMED_ENTITIES.get(&inside[..end])?;
        let first = char::from_u32(first).filter(|first| *first != '\0')?;
        Some((first, char::from_u32(second).filter(|second| *second != '\0'), &inside[end..]))
    })
}

/// Reads what follows `&#`: digits or `x` and hexadecimal digits, with or without a `;`.
fn read_number(number: &str) -> Option<(char, &str)> {
    let (digits, radix) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    let length = digits.bytes().take_while(|&byte| char::from(byte).is_digit(radix)).count();
    if length == 0 {
        return None;
    }
    let code = u32::from_str_radix(&digits[..length], radix).unwrap_or(0);
    let character = char::from_u32(code).filter(|&character| character != '\0').unwrap_or(char::REPLACEMENT_CHARACTER);
    let after = &digits[length..];
    Some((character, after.strip_prefix(';').unwrap_or(after)))
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
