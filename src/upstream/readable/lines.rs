//! Lines in the making: what stands before them, and what lies between two words.

/// How many levels of quotes are shown as such; what is nested deeper stands in the last.
const MAX_QUOTES: usize = 8;

/// How far lists are indented at most.
const MAX_INDENT: usize = 24;

/// Text that is put together word by word. What lies between two words is decided when the second one comes.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says what came since the last word, and they come in any order")]
pub(super) struct Lines {
    text: String,
    /// Lines that end before the next word.
    breaks: usize,
    /// White space before the next word, as it stands.
    gap: String,
    /// A tag came since, so that more white space adds nothing.
    gap_is_closed: bool,
    /// The next word begins an element that has lines of its own.
    is_fresh: bool,
    /// How many quotes are open; and how many were at least since the last word.
    quotes: usize,
    least_quotes: usize,
    lists: Vec<List>,
    /// How far the lists that are open indent a line.
    indent: usize,
    /// What the next word's line begins with.
    marker: Option<String>,
    link: Option<Link>,
    /// A mention that has no words yet.
    mention: Option<Mention>,
    /// A line break that comes now is none, because it follows the tag of preformatted text.
    ignores_break: bool,
    after_return: bool,
}

struct List {
    /// The number of the next item, if they have one.
    next: Option<u32>,
    /// How far the item that is open indents.
    width: usize,
}

struct Mention {
    /// Whom it names beside its words.
    name: Option<String>,
}

struct Link {
    address: String,
    /// Where its words begin, once there are any.
    start: Option<usize>,
}

impl Lines {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), is_fresh: true, ..Self::default() }
    }

    /// The text, without white space around it.
    pub(super) fn finish(mut self) -> String {
        self.close_mention();
        self.close_link();
        self.text.truncate(self.text.trim_end().len());
        let leading = self.text.len() - self.text.trim_start().len();
        self.text.drain(..leading);
        self.text
    }

    /// Adds text in which a line break is a space.
    pub(super) fn flowing(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let length = rest.bytes().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(rest.len());
            self.space(&rest[..length]);
            rest = &rest[length..];
            let length = rest.bytes().position(|byte| byte.is_ascii_whitespace()).unwrap_or(rest.len());
            self.word(&rest[..length]);
            rest = &rest[length..];
        }
    }

    /// Adds text in which all white space counts.
    pub(super) fn literal(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find(['\n', '\r']) {
            self.word(&rest[..at]);
            // A break of two characters is one break.
            let is_second = at == 0 && self.after_return && rest.starts_with('\n');
            if !is_second && !self.ignores_break {
                self.break_line();
            }
            self.ignores_break = false;
            self.after_return = rest[at..].starts_with('\r');
            rest = &rest[at + 1..];
        }
        self.word(rest);
    }

    /// Notes a tag, whatever it does.
    pub(super) fn tag(&mut self) {
        self.gap_is_closed = true;
    }

    /// Ends a line.
    pub(super) fn break_line(&mut self) {
        self.breaks += 1;
        self.gap.clear();
        self.is_fresh = false;
    }

    /// What follows has a line of its own.
    pub(super) fn block(&mut self) {
        self.apart(1);
    }

    /// What follows is set apart by an empty line; not within lists.
    pub(super) fn paragraph(&mut self) {
        self.apart(if self.lists.is_empty() { 2 } else { 1 });
    }

    pub(super) fn rule(&mut self) {
        self.paragraph();
        self.word("---");
        self.paragraph();
    }

    pub(super) fn cell(&mut self) {
        if !self.is_fresh {
            self.gap.clear();
            self.gap.push('\t');
        }
    }

    pub(super) fn open_literal(&mut self) {
        self.paragraph();
        self.ignores_break = true;
        self.after_return = false;
    }

    pub(super) fn open_quote(&mut self) {
        self.paragraph();
        self.quotes += 1;
    }

    pub(super) fn close_quote(&mut self) {
        self.quotes = self.quotes.saturating_sub(1);
        self.least_quotes = self.least_quotes.min(self.quotes);
        self.paragraph();
    }

    /// Begins a list, whose items have numbers from `start` on or none.
    pub(super) fn open_list(&mut self, start: Option<u32>) {
        self.paragraph();
        self.lists.push(List { next: start, width: 0 });
    }

    pub(super) fn close_list(&mut self) {
        if let Some(list) = self.lists.pop() {
            self.indent -= list.width;
        }
        self.marker = None;
        self.paragraph();
    }

    pub(super) fn item(&mut self) {
        self.block();
        let Some(list) = self.lists.last_mut() else {
            self.marker = Some("- ".to_owned());
            return;
        };
        let marker = match &mut list.next {
            None => "- ".to_owned(),
            Some(next) => {
                let number = *next;
                *next = number.saturating_add(1);
                format!("{number}. ")
            }
        };
        self.indent = self.indent - list.width + marker.len();
        list.width = marker.len();
        self.marker = Some(marker);
    }

    pub(super) fn open_link(&mut self, address: Option<String>) {
        self.close_link();
        self.link = address.map(|address| Link { address, start: None });
    }

    /// Ends a link: its address follows its words, unless they are the address.
    pub(super) fn close_link(&mut self) {
        let Some(Link { address, start }) = self.link.take() else { return };
        let Some(start) = start else { return self.word(&address) };
        if !says(self.text[start..].trim(), &address) {
            self.text.push_str(" (");
            self.text.push_str(&address);
            self.text.push(')');
        }
    }

    pub(super) fn open_mention(&mut self, name: Option<String>) {
        self.close_mention();
        self.mention = Some(Mention { name });
    }

    /// Ends a mention; one without words has its name.
    pub(super) fn close_mention(&mut self) {
        if let Some(Mention { name: Some(name) }) = &mut self.mention {
            let name = std::mem::take(name);
            self.flowing(&name);
        }
        self.mention = None;
    }

    fn apart(&mut self, lines: usize) {
        self.breaks = self.breaks.max(lines);
        self.gap.clear();
        self.is_fresh = true;
        self.ignores_break = false;
    }

    /// Adds white space, which is seen if a word follows on the same line. Between tags the first counts.
    fn space(&mut self, space: &str) {
        if space.is_empty() || self.is_fresh || (self.gap_is_closed && !self.gap.is_empty()) {
            return;
        }
        self.gap_is_closed = false;
        if !space.contains(['\n', '\r']) {
            self.gap.push_str(space);
        } else if self.breaks == 0 {
            self.gap.push(' ');
        }
    }

    /// Adds what has no line break.
    fn word(&mut self, word: &str) {
        // A no-break space is a space to a reader, and the others are nothing.
        let mut at = 0;
        for piece in word.split(['\u{a0}', '\u{200b}', '\u{feff}']) {
            self.seen(piece);
            at += piece.len();
            let between = word[at..].chars().next();
            if between == Some('\u{a0}') {
                self.seen(" ");
            }
            at += between.map_or(0, char::len_utf8);
        }
    }

    fn seen(&mut self, word: &str) {
        if word.is_empty() {
            return;
        }
        self.begin();
        if self.mention.take().is_some() && !word.starts_with('@') {
            self.text.push('@');
        }
        if let Some(link) = &mut self.link {
            link.start.get_or_insert(self.text.len());
        }
        self.text.push_str(word);
        (self.is_fresh, self.ignores_break, self.after_return) = (false, false, false);
        self.least_quotes = self.quotes;
    }

    /// Adds what lies between the last word and the one that comes.
    fn begin(&mut self) {
        let is_first = self.text.is_empty();
        if is_first || self.breaks > 0 {
            if !is_first {
                self.text.push('\n');
                for _ in 1..self.breaks {
                    self.text.extend(std::iter::repeat_n("> ", self.least_quotes.min(MAX_QUOTES)));
                    self.text.truncate(self.text.trim_end_matches(' ').len());
                    self.text.push('\n');
                }
            }
            self.text.extend(std::iter::repeat_n("> ", self.quotes.min(MAX_QUOTES)));
            let marker = self.marker.take();
            let indent = self.indent.saturating_sub(marker.as_ref().map_or(0, String::len)).min(MAX_INDENT);
            self.text.extend(std::iter::repeat_n(' ', indent));
            self.text.push_str(marker.as_deref().unwrap_or_default());
        }
        self.breaks = 0;
        self.text.push_str(&self.gap);
        self.gap.clear();
    }
}

/// Whether somebody who reads `shown` has read the address.
fn says(shown: &str, address: &str) -> bool {
    let shown = shown.strip_suffix('/').unwrap_or(shown);
    let address = address.strip_suffix('/').unwrap_or(address);
    let schemes = ["", "http://", "https://", "mailto:", "tel:"];
    schemes.iter().any(|scheme| address.strip_prefix(scheme) == Some(shown))
}
