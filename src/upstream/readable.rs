//! The text of a message as a reader sees it, with what its layout says: lines, paragraphs, lists, quotations, and where links lead.

mod elements;

use std::borrow::Cow;
use std::fmt::Write as _;

use self::elements::Element;
use super::html::{Piece, attribute, is_space, pieces};
use super::text::is_inline;

/// How deep lists and quotations are shown in one another; deeper ones stand on the line's level.
const MAX_DEPTH: usize = 16;

/// A space that HTML does not take for white space.
const HARD_SPACE: char = '\u{a0}';

/// What a piece of HTML says, as plain text.
///
/// Line breaks, paragraphs and preformatted text are kept, entries of lists begin with `- ` or their number, lines of quotations with `> `,
/// cells of a row stand apart by ` | `, a link is its words with the address in parentheses behind them unless they are the address, and
/// an image is its description. Elsewhere a run of white space is one space, as it is shown; there is none at the end of a line.
///
/// It takes time in proportion to the input whatever the input is, and never fails: what is no markup is text.
pub fn readable_text(html: &str) -> String {
    if says_itself(html) {
        return html.to_owned();
    }
    let mut reader = Reader { out: String::with_capacity(html.len()), ..Reader::default() };
    for piece in pieces(html) {
        match piece {
            Piece::Text(text) => reader.text(text),
            Piece::Characters(first, second) => [Some(first), second].into_iter().flatten().for_each(|c| reader.character(c)),
            Piece::Opening { name, attributes } => reader.open(name, attributes),
            Piece::Closing { name } => reader.close(name),
        }
    }
    reader.end()
}

/// Whether the text that `html` says is `html`.
fn says_itself(html: &str) -> bool {
    let bytes = html.as_bytes();
    let is_ordinary = |at: usize, byte: u8| match byte {
        b'<' | b'&' | b'\t' | b'\n' | b'\r' | b'\x0c' => false,
        b' ' => at > 0 && bytes.get(at + 1).is_some_and(|&next| next != b' '),
        // The hard space is `C2 A0`.
        0xc2 => bytes.get(at + 1) != Some(&0xa0),
        _ => true,
    };
    bytes.iter().enumerate().all(|(at, &byte)| is_ordinary(at, byte))
}

/// What the lines stand in.
#[derive(Debug)]
enum Container {
    Quotation,
    /// A list, with the number of its next entry if they have numbers.
    List(Option<u64>),
    /// An entry, with what it begins with; that is shown once, and makes room in the other lines.
    Entry {
        marker: Cow<'static, str>,
        is_shown: bool,
    },
}

/// A link or mention that is open: what it is to say beside its words, and where those begin if there are any.
#[derive(Debug)]
struct Held<'a> {
    element: Element,
    value: Cow<'a, str>,
    start: Option<usize>,
}

#[derive(Debug, Default)]
struct Reader<'a> {
    out: String,
    containers: Vec<Container>,
    /// Lists and quotations that are open beyond those.
    beyond: usize,
    /// Line ends that `br` has asked for since the last word, and that blocks have.
    breaks: usize,
    gap: usize,
    /// White space was seen since the last word.
    space: bool,
    /// Cells of the row that have ended since the last word, and whether the row has one.
    cells: usize,
    has_cell: bool,
    /// Open elements of preformatted text; whether one has just begun.
    preformatted: usize,
    is_begun: bool,
    /// The quotations around the last word, if nothing else was.
    quotations: usize,
    held: Option<Held<'a>>,
}

impl<'a> Reader<'a> {
    fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            return self.lines(text);
        }
        for piece in text.split_inclusive(is_space) {
            let word = piece.trim_end_matches(is_space);
            if !word.is_empty() {
                self.word(word);
            }
            self.space |= word.len() < piece.len();
        }
    }

    fn character(&mut self, character: char) {
        self.text(character.encode_utf8(&mut [0; 4]));
    }

    fn word(&mut self, word: &str) {
        self.lead();
        if let Some(held) = &mut self.held {
            held.start.get_or_insert(self.out.len());
        }
        if word.contains(HARD_SPACE) {
            self.out.extend(word.chars().map(|c| if c == HARD_SPACE { ' ' } else { c }));
        } else {
            self.out.push_str(word);
        }
    }

    /// Preformatted text: a line break right behind the tag is none.
    fn lines(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            let line = piece.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                self.space = false;
                self.word(line);
            }
            let is_first = std::mem::take(&mut self.is_begun) && line.is_empty();
            if piece.ends_with('\n') && !is_first {
                self.breaks += 1;
            }
        }
    }

    /// Writes what stands between the last word and the next one.
    fn lead(&mut self) {
        let ends = self.breaks.max(self.gap);
        let (space, cells) = (std::mem::take(&mut self.space), std::mem::take(&mut self.cells));
        (self.breaks, self.gap) = (0, 0);
        if ends == 0 && !self.out.is_empty() {
            for _ in 0..cells {
                self.out.push_str(" |");
            }
            if space || cells > 0 {
                self.out.push(' ');
            }
            return;
        }
        self.end_line();
        let is_first = self.out.is_empty();
        let before = self.quotations;
        self.quotations = self.containers.iter().take_while(|container| matches!(container, Container::Quotation)).count();
        if !is_first {
            for _ in 1..ends {
                self.out.push('\n');
                let shared = before.min(self.quotations);
                self.out.push_str("> ".repeat(shared).trim_end());
            }
            self.out.push('\n');
        }
        for container in &mut self.containers {
            match container {
                Container::Quotation => self.out.push_str("> "),
                Container::List(_) => {}
                Container::Entry { marker, is_shown: true } => self.out.extend(marker.chars().map(|_| ' ')),
                Container::Entry { marker, is_shown } => {
                    self.out.push_str(marker);
                    *is_shown = true;
                }
            }
        }
    }

    /// Takes the white space from the end.
    fn end_line(&mut self) {
        self.out.truncate(self.out.trim_end_matches(' ').len());
    }

    /// What comes next stands apart; in lists, closer.
    fn stand_apart(&mut self, ends: usize) {
        let is_entry = self.containers.iter().any(|container| matches!(container, Container::Entry { .. }));
        self.gap = self.gap.max(if is_entry { ends.min(1) } else { ends });
    }

    fn open(&mut self, name: &str, attributes: &'a str) {
        let Some(element) = Element::of(name) else {
            self.space |= !is_inline(name);
            return;
        };
        match element {
            Element::Block(ends) => self.stand_apart(ends),
            Element::Preformatted => {
                self.stand_apart(2);
                self.preformatted += 1;
                self.is_begun = true;
            }
            Element::Bullets => self.begin(Container::List(None)),
            Element::Numbers => {
                let first = attribute(attributes, "start").and_then(|start| start.parse::<u32>().ok());
                self.begin(Container::List(Some(first.unwrap_or(1).into())));
            }
            Element::Quotation => self.begin(Container::Quotation),
            Element::Entry => self.begin_entry(),
            Element::Row => {
                self.stand_apart(1);
                (self.has_cell, self.cells) = (false, 0);
            }
            Element::Cell => self.cells += usize::from(std::mem::replace(&mut self.has_cell, true)),
            Element::Break => self.breaks += 1,
            Element::Rule => {
                self.stand_apart(2);
                self.word("---");
                self.stand_apart(2);
            }
            Element::Image => {
                if let Some(words) = attribute(attributes, "alt") {
                    self.text(&words);
                }
            }
            Element::Link | Element::Mention => {
                self.release();
                let value = attribute(attributes, if element == Element::Link { "href" } else { "value" });
                self.held = value.map(|value| Held { element, value, start: None });
            }
        }
    }

    fn close(&mut self, name: &str) {
        let Some(element) = Element::of(name) else {
            self.space |= !is_inline(name);
            return;
        };
        match element {
            Element::Block(ends) => self.stand_apart(ends),
            Element::Preformatted => {
                self.preformatted = self.preformatted.saturating_sub(1);
                // What ends the last line is not shown.
                self.breaks = 0;
                self.stand_apart(2);
            }
            Element::Bullets | Element::Numbers => self.finish(|container| matches!(container, Container::List(_))),
            Element::Quotation => self.finish(|container| matches!(container, Container::Quotation)),
            Element::Entry => {
                self.leave_entry();
                self.stand_apart(1);
            }
            Element::Row => self.stand_apart(1),
            // Browsers take `</br>` for a break, too.
            Element::Break => self.breaks += 1,
            Element::Link | Element::Mention => self.release(),
            Element::Cell | Element::Rule | Element::Image => {}
        }
    }

    fn begin(&mut self, container: Container) {
        self.stand_apart(2);
        if self.containers.len() < MAX_DEPTH {
            self.containers.push(container);
        } else {
            self.beyond += 1;
        }
    }

    fn finish(&mut self, is_it: impl Fn(&Container) -> bool) {
        if self.beyond > 0 {
            self.beyond -= 1;
        } else if let Some(at) = self.containers.iter().rposition(is_it) {
            self.containers.truncate(at);
        }
        self.stand_apart(2);
    }

    fn begin_entry(&mut self) {
        self.leave_entry();
        self.stand_apart(1);
        if self.beyond > 0 || self.containers.len() >= MAX_DEPTH {
            return;
        }
        let marker = match self.containers.last_mut() {
            Some(Container::List(Some(number))) => {
                let marker = Cow::Owned(format!("{number}. "));
                *number += 1;
                marker
            }
            _ => Cow::Borrowed("- "),
        };
        self.containers.push(Container::Entry { marker, is_shown: false });
    }

    /// Ends the entry of the innermost list, whatever was left open in it.
    fn leave_entry(&mut self) {
        if self.beyond > 0 {
            return;
        }
        let list = self.containers.iter().rposition(|container| matches!(container, Container::List(_)));
        let inside = list.map_or(0, |at| at + 1);
        if let Some(at) = self.containers[inside..].iter().position(|container| matches!(container, Container::Entry { .. })) {
            self.containers.truncate(inside + at);
        }
    }

    /// Ends a link or mention with what its words do not say.
    fn release(&mut self) {
        let Some(Held { element, value, start }) = self.held.take() else { return };
        let value = value.trim();
        let shown = start.and_then(|start| self.out.get(start..)).unwrap_or_default().trim();
        match element {
            Element::Link if !leads_somewhere(value) || is_same(shown, value) => {}
            Element::Link if shown.is_empty() => self.word(value),
            Element::Link => write!(self.out, " ({value})").expect("writing to a String cannot fail"),
            _ if shown.is_empty() && !value.is_empty() => {
                self.character('@');
                self.text(value);
            }
            _ => {}
        }
    }

    fn end(mut self) -> String {
        self.release();
        self.out.truncate(self.out.trim_end_matches([' ', '\n']).len());
        self.out
    }
}

/// Whether an address leads out of the message, and runs nothing.
fn leads_somewhere(address: &str) -> bool {
    let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme && !["javascript", "vbscript", "data"].iter().any(|script| scheme.eq_ignore_ascii_case(script))
}

/// Whether the words of a link are its address, with or without what goes without saying.
fn is_same(words: &str, address: &str) -> bool {
    let bare = |text: &'_ str| {
        let schemes = ["https://", "http://", "mailto:", "tel:"];
        let length =
            schemes.iter().find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        let text = &text[length.map_or(0, |scheme| scheme.len())..];
        text.strip_suffix('/').unwrap_or(text).to_owned()
    };
    !words.is_empty() && bare(words) == bare(address)
}

#[cfg(test)]
mod tests;
