//! The text of a received message, as faithful as plain text can be: what [`readable_text`] makes of its HTML.

mod lines;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use self::lines::Lines;
use super::text::entity;

/// The plain text of a piece of HTML, with its lines, lists, quotes and the addresses of its links.
///
/// It takes time in proportion to the input whatever the input is, and never fails: what is no markup is text.
pub fn readable_text(html: &str) -> String {
    if !html.bytes().any(is_special) {
        return html.trim().to_owned();
    }
    let mut reader = Reader { lines: Lines::with_capacity(html.len()), ..Reader::default() };
    reader.literal = usize::from(!has_tags(html));
    reader.read(html);
    reader.lines.finish()
}

/// Whether a byte may begin what is not passed on as it stands: markup, or a character that is not seen.
fn is_special(byte: u8) -> bool {
    // The last three begin a no-break space, and the two characters without a width.
    matches!(byte, b'<' | b'&' | b'\r' | 0xc2 | 0xe2 | 0xef)
}

/// Whether there is anything that looks like a tag. What has none is text that somebody passed on as it was.
fn has_tags(html: &str) -> bool {
    memchr::memchr_iter(b'<', html.as_bytes()).any(|at| {
        html.as_bytes().get(at + 1).is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, b'/' | b'!' | b'?'))
    })
}

/// Elements whose content is no text.
const SILENT: [&str; 2] = ["script", "style"];

/// Longest name of an element that means anything here.
const MAX_NAME: usize = 10;

#[derive(Default)]
struct Reader {
    lines: Lines,
    /// How many elements are open in which white space counts.
    literal: usize,
    /// From here on quotes do not hide the end of a tag: one of them is never closed.
    quotes_are_broken: bool,
    /// From here on nothing closes a comment.
    no_comment_ends: bool,
    /// From here on nothing closes these.
    never_closed: [bool; SILENT.len()],
}

impl Reader {
    fn read(&mut self, html: &str) {
        let mut rest = html;
        while let Some(at) = memchr::memchr2(b'<', b'&', rest.as_bytes()) {
            self.text(&rest[..at]);
            rest = &rest[at..];
            rest = if rest.starts_with('<') { self.markup(rest) } else { self.entity(rest) };
        }
        self.text(rest);
    }

    fn text(&mut self, text: &str) {
        if self.literal > 0 { self.lines.literal(text) } else { self.lines.flowing(text) }
    }

    /// Takes the entity that `rest` begins with, or its `&` as text, and answers what follows.
    fn entity<'a>(&mut self, rest: &'a str) -> &'a str {
        let Some((first, second, after)) = entity(rest) else {
            self.text("&");
            return &rest[1..];
        };
        for character in [Some(first), second].into_iter().flatten() {
            self.text(character.encode_utf8(&mut [0; 4]));
        }
        after
    }

    /// Takes the markup that `rest` begins with, or its `<` as text if it begins none, and answers what follows.
    fn markup<'a>(&mut self, rest: &'a str) -> &'a str {
        self.comment(rest).or_else(|| self.tag(rest)).unwrap_or_else(|| {
            self.text("<");
            &rest[1..]
        })
    }

    /// What follows the comment or declaration that `rest` begins with.
    fn comment<'a>(&mut self, rest: &'a str) -> Option<&'a str> {
        if let Some(comment) = rest.strip_prefix("<!--").filter(|_| !self.no_comment_ends) {
            let after = comment.split_once("-->").map(|(_, after)| after);
            self.no_comment_ends = after.is_none();
            return after;
        }
        let declaration = rest.strip_prefix("<!").or_else(|| rest.strip_prefix("<?"))?;
        let is_one = declaration.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[');
        is_one.then(|| self.tag_end(declaration)).flatten()
    }

    fn tag<'a>(&mut self, rest: &'a str) -> Option<&'a str> {
        let inside = &rest[1..];
        let (named, closes) = inside.strip_prefix('/').map_or((inside, false), |named| (named, true));
        let length = named.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte)).count();
        let name = &named[..length];
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic()) && !name.ends_with(':');
        let follows = named.as_bytes().get(length);
        // `<ana@e.example>` and `<https://e.example>` are what somebody wrote.
        if !is_name || !follows.is_some_and(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>')) {
            return None;
        }
        let attributes = &named[length..];
        let after = self.tag_end(attributes)?;
        let attributes = &attributes[..attributes.len() - after.len()];
        self.lines.tag();
        let mut lower = [0; MAX_NAME];
        let name = lower.get_mut(..length).map_or(&[][..], |lower| {
            lower.copy_from_slice(name.as_bytes());
            lower.make_ascii_lowercase();
            lower
        });
        if closes {
            self.close(name);
            return Some(after);
        }
        self.open(name, attributes);
        Some(self.skip_silent(name, after))
    }

    /// What follows the `>` that ends a tag; a `>` in a quoted value does not. None if nothing ends it.
    fn tag_end<'a>(&mut self, attributes: &'a str) -> Option<&'a str> {
        if !self.quotes_are_broken {
            let mut quote = None;
            for (at, byte) in attributes.bytes().enumerate() {
                match (quote, byte) {
                    (None, b'>') => return Some(&attributes[at + 1..]),
                    (None, b'"' | b'\'') => quote = Some(byte),
                    (Some(open), byte) if open == byte => quote = None,
                    _ => {}
                }
            }
            self.quotes_are_broken = true;
        }
        // Whoever left a quote open did not mean to quote all that follows.
        let end = memchr::memchr2(b'>', b'<', attributes.as_bytes())?;
        (attributes.as_bytes()[end] == b'>').then(|| &attributes[end + 1..])
    }

    /// What follows the content of an element that is not shown. One that is never closed has no content.
    fn skip_silent<'a>(&mut self, name: &[u8], content: &'a str) -> &'a str {
        let Some(which) = SILENT.iter().position(|silent| silent.as_bytes() == name) else { return content };
        if self.never_closed[which] {
            return content;
        }
        let bytes = content.as_bytes();
        let end = memchr::memchr_iter(b'<', bytes).find(|&at| {
            bytes[at..].starts_with(b"</")
                && bytes.get(at + 2..at + 2 + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name))
        });
        self.never_closed[which] = end.is_none();
        end.map_or(content, |end| &content[end..])
    }

    fn open(&mut self, name: &[u8], attributes: &str) {
        match name {
            b"br" => self.lines.break_line(),
            b"hr" => self.lines.rule(),
            b"li" => self.lines.item(),
            b"ul" => self.lines.open_list(None),
            b"ol" => {
                let start = attribute(attributes, "start").and_then(|start| start.trim().parse().ok());
                self.lines.open_list(Some(start.unwrap_or(1)));
            }
            b"blockquote" => self.lines.open_quote(),
            b"pre" | b"listing" => {
                self.literal += 1;
                self.lines.open_literal();
            }
            b"a" => self.lines.open_link(attribute(attributes, "href").and_then(|href| address(&href))),
            b"mention" => self.lines.open_mention(attribute(attributes, "value").map(Cow::into_owned)),
            b"img" => {
                if let Some(alt) = attribute(attributes, "alt") {
                    self.lines.flowing(&alt);
                }
            }
            b"td" | b"th" => self.lines.cell(),
            name if is_paragraph(name) => self.lines.paragraph(),
            name if is_block(name) => self.lines.block(),
            _ => {}
        }
    }

    fn close(&mut self, name: &[u8]) {
        match name {
            b"br" => self.lines.break_line(),
            b"li" => self.lines.block(),
            b"ul" | b"ol" => self.lines.close_list(),
            b"blockquote" => self.lines.close_quote(),
            b"pre" | b"listing" => {
                self.literal = self.literal.saturating_sub(1);
                self.lines.paragraph();
            }
            b"a" => self.lines.close_link(),
            b"mention" => self.lines.close_mention(),
            name if is_paragraph(name) => self.lines.paragraph(),
            name if is_block(name) => self.lines.block(),
            _ => {}
        }
    }
}

/// Elements that an empty line sets apart.
fn is_paragraph(name: &[u8]) -> bool {
    matches!(name, b"p" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"table" | b"dl" | b"figure")
}

/// Elements that have lines of their own.
fn is_block(name: &[u8]) -> bool {
    matches!(
        name,
        b"address"
            | b"article"
            | b"aside"
            | b"body"
            | b"caption"
            | b"center"
            | b"dd"
            | b"details"
            | b"div"
            | b"dt"
            | b"fieldset"
            | b"figcaption"
            | b"footer"
            | b"form"
            | b"head"
            | b"header"
            | b"html"
            | b"legend"
            | b"main"
            | b"nav"
            | b"option"
            | b"section"
            | b"summary"
            | b"title"
            | b"tr"
    )
}

/// Where a link leads, if that is worth telling: relative links lead into Spaces, and scripts nowhere.
fn address(href: &str) -> Option<String> {
    let href: String = href.trim().chars().filter(|character| !character.is_control()).collect();
    let (scheme, _) = href.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let leads_nowhere =
        ["javascript", "vbscript", "data", "blob", "about"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
    (is_scheme && !leads_nowhere).then_some(href)
}

/// The value of the first attribute of that name.
fn attribute<'a>(attributes: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let is_gap = |c: char| c.is_ascii_whitespace() || c == '/' || c == '>';
    let mut rest = attributes.trim_start_matches(is_gap);
    while !rest.is_empty() {
        // An `=` that begins a name belongs to it.
        let length = rest.char_indices().skip(1).find(|&(_, c)| is_gap(c) || c == '=').map_or(rest.len(), |(at, _)| at);
        let (name, after) = rest.split_at(length);
        let after = after.trim_ascii_start();
        let (value, after) = match after.strip_prefix('=').map(str::trim_ascii_start) {
            None => ("", after),
            Some(value) => match value.chars().next() {
                Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
                _ => value.split_at(value.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(value.len())),
            },
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value_of(value));
        }
        rest = after.trim_start_matches(is_gap);
    }
    None
}

/// What stands in an attribute. An entity needs its `;` here, because addresses have `&copy=1` in them.
fn value_of(written: &str) -> Cow<'_, str> {
    if !written.contains('&') {
        return Cow::Borrowed(written);
    }
    let (mut value, mut rest) = (String::with_capacity(written.len()), written);
    while let Some(at) = rest.find('&') {
        value.push_str(&rest[..at]);
        rest = &rest[at..];
        match entity(rest).filter(|(_, _, after)| rest[..rest.len() - after.len()].ends_with(';')) {
            Some((first, second, after)) => {
                value.push(first);
                value.extend(second);
                rest = after;
            }
            None => {
                value.push('&');
                rest = &rest[1..];
            }
        }
    }
    value.push_str(rest);
    Cow::Owned(value)
}
