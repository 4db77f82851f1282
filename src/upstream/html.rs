//! HTML as it comes, in pieces. It never fails, what is no markup is text, and each byte is read once.

use std::borrow::Cow;

use markup5ever::data::NAMED_ENTITIES;

/// A piece of HTML. Comments, declarations and the content of scripts and styles are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text as it stands.
    Text(&'a str),
    /// What an entity stands for.
    Characters(char, Option<char>),
    /// The tag that begins an element, with everything behind its name.
    Opening { name: &'a str, attributes: &'a str },
    /// The tag that ends an element.
    Closing { name: &'a str },
}

/// The pieces of `html`, in order.
pub(super) fn pieces(html: &str) -> Pieces<'_> {
    Pieces(html)
}

/// What [`pieces`] gives.
#[derive(Debug)]
pub(super) struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            let rest = self.0;
            let (piece, after) = match *rest.as_bytes().first()? {
                b'<' => markup(rest),
                b'&' => entity(rest).map_or_else(|| text(rest), |(piece, after)| (Some(piece), after)),
                _ => text(rest),
            };
            self.0 = after;
            if piece.is_some() {
                return piece;
            }
        }
    }
}

/// `text`, which stands in an attribute, without entities.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        match entity(&rest[at..]) {
            Some((Piece::Characters(first, second), after)) => {
                plain.push(first);
                plain.extend(second);
                rest = after;
            }
            _ => {
                plain.push('&');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// The value of the attribute of this name.
pub(super) fn attribute<'a>(attributes: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_start_matches(|c: char| is_space(c) || c == '/');
        let length = rest.find(|c: char| is_space(c) || matches!(c, '=' | '/' | '>')).unwrap_or(rest.len());
        if length == 0 && !rest.starts_with('=') {
            return None;
        }
        let (name, after) = rest.split_at(length);
        let after = after.trim_start_matches(is_space);
        let (value, after) = match after.strip_prefix('=') {
            Some(value) => value_of(value.trim_start_matches(is_space)),
            None => ("", after),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(unescape(value));
        }
        rest = after;
    }
}

/// The value that `rest` begins with, and what follows it.
fn value_of(rest: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(quoted) = rest.strip_prefix(quote) {
            return quoted.split_once(quote).unwrap_or((quoted, ""));
        }
    }
    rest.split_at(rest.find(|c: char| is_space(c) || c == '>').unwrap_or(rest.len()))
}

/// Whether HTML takes the character for white space, of which a run is one space.
pub(super) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

/// The text that `rest` begins with; its first character is taken for text whatever it is.
fn text(rest: &str) -> (Option<Piece<'_>>, &str) {
    let end = rest.bytes().skip(1).position(|byte| matches!(byte, b'<' | b'&')).map_or(rest.len(), |at| at + 1);
    let (text, after) = rest.split_at(end);
    (Some(Piece::Text(text)), after)
}

/// Elements whose content is no text.
const SILENT: [&str; 2] = ["script", "style"];

/// The markup that `rest` begins with, or its `<` as text if it begins none.
fn markup(rest: &str) -> (Option<Piece<'_>>, &str) {
    let inside = &rest[1..];
    if let Some(comment) = inside.strip_prefix("!--") {
        return (None, comment.split_once("-->").map_or("", |(_, after)| after));
    }
    let named = inside.strip_prefix('/').unwrap_or(inside);
    if named.starts_with(|first: char| first.is_ascii_alphabetic()) {
        let (name, after) = named.split_at(named.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(named.len()));
        let (attributes, after) = after.split_at(tag_length(after));
        if inside.starts_with('/') {
            return (Some(Piece::Closing { name }), after);
        }
        let silent = SILENT.iter().find(|silent| silent.eq_ignore_ascii_case(name));
        return (Some(Piece::Opening { name, attributes }), &after[silent.map_or(0, |silent| silent_length(after, silent))..]);
    }
    if inside.starts_with(['!', '?', '/']) {
        return (None, inside.split_once('>').map_or("", |(_, after)| after));
    }
    (Some(Piece::Text(&rest[..1])), inside)
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

/// The entity that `rest` begins with, if it begins one, and what follows.
fn entity(rest: &str) -> Option<(Piece<'_>, &str)> {
    let inside = &rest[1..];
    if let Some(number) = inside.strip_prefix('#') {
        return read_number(number);
    }
    let length = inside.bytes().take(MAX_ENTITY).take_while(u8::is_ascii_alphanumeric).count();
    let closed = inside.as_bytes().get(length) == Some(&b';');
    let mut candidates = closed.then_some(length + 1).into_iter().chain((2..=length.min(MAX_OPEN_ENTITY)).rev());
    candidates.find_map(|end| {
        // The table also holds the beginnings of names, as zero.
        let &(first, second) = NAMED_ENTITIES.get(&inside[..end])?;
        let first = char::from_u32(first).filter(|&first| first != '\0')?;
        Some((Piece::Characters(first, char::from_u32(second).filter(|&second| second != '\0')), &inside[end..]))
    })
}

/// Reads what follows `&#`: digits or `x` and hexadecimal digits, with or without a `;`.
fn read_number(number: &str) -> Option<(Piece<'_>, &str)> {
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
    Some((Piece::Characters(character, None), after.strip_prefix(';').unwrap_or(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_however_they_are_written() {
        for (attributes, value) in [
            (" href=\"https://e.example/?a=1&amp;b=2\">", Some("https://e.example/?a=1&b=2")),
            (" class='x' HREF = 'a b'/>", Some("a b")),
            (" href=a>", Some("a")),
            (" href>", Some("")),
            (" data-href=\"x\" title=\"href=y\">", None),
            (" = = href=a", Some("a")),
            (" href=\"open", Some("open")),
            (">", None),
            ("", None),
        ] {
            assert_eq!(attribute(attributes, "href").as_deref(), value, "{attributes}");
        }
    }
}
