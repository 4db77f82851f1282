//! Cutting a text that is too long for one message into parts, each of which is whole.
//!
//! What is cut is HTML as this module's neighbours make it: well formed, and of the elements that Spaces shows. It is read as words with
//! gaps between them; a part ends after a word and the next one begins with a word, so that no part begins or ends in white space, line
//! breaks or empty elements. What is open at a cut is closed there and opened again. Links and mentions are never cut.

/// Most parts of one message.
pub const MAX_PARTS: usize = 20;

/// What a part may take, in bytes as they stand in JSON.
pub struct Room<'a> {
    /// The first part.
    pub first: usize,
    /// Each of the others.
    pub others: usize,
    /// What a mention takes outside of the HTML, by whom it mentions.
    pub mention: &'a dyn Fn(&str) -> usize,
}

/// How good a place for a cut is, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Character,
    Word,
    Sentence,
    Line,
    Paragraph,
}

const RANKS: usize = Rank::Paragraph as usize + 1;

/// How full a part has to be until the better place for a cut is taken rather than the later one, in sixteenths: first at ease, then, if
/// that makes too many parts, tightly.
const EASE: [usize; 2] = [8, 15];

/// `html` in parts of at most that room, in order. None if there are too many, or if something that is not to be cut has no room.
pub fn split_html(html: &str, room: &Room<'_>) -> Option<Vec<String>> {
    EASE.iter().find_map(|ease| split_with(html, room, *ease))
}

/// Whom the mentions in `html` mention.
pub fn mentioned_in(html: &str) -> impl Iterator<Item = &str> {
    html.match_indices("<mention ").filter_map(|(at, _)| id_of(&html[at..]))
}

fn split_with(html: &str, room: &Room<'_>, ease: usize) -> Option<Vec<String>> {
    let (mut parts, mut at, mut open) = (Vec::new(), 0, Open::default());
    while let Some(begun) = Part::begin(html, at, open) {
        if parts.len() == MAX_PARTS {
            return None;
        }
        let most = if parts.is_empty() { room.first } else { room.others };
        let end = begun.fill(most, most.saturating_mul(ease) / 16, room.mention)?;
        let (part, still_open) = begun.up_to(end);
        parts.push(part);
        (at, open) = (end, still_open);
    }
    Some(parts)
}

/// A part that begins with a word, and the elements that the word stands in.
struct Part<'a> {
    html: &'a str,
    at: usize,
    open: Open<'a>,
}

/// The tags of the elements that are open.
#[derive(Clone, Default)]
struct Open<'a> {
    tags: Vec<&'a str>,
    /// How many of them hold preformatted text.
    literal: usize,
    /// The bytes of the tags that close them.
    closing: usize,
}

impl<'a> Open<'a> {
    /// Reads what `html` begins with, and takes it in if it opens or closes an element.
    fn read(&mut self, html: &'a str) -> Option<Piece<'a>> {
        let piece = Piece::first_of(html, self.literal > 0)?;
        match piece.kind {
            Kind::Open => {
                self.tags.push(piece.text);
                self.closing += closing_weight(piece.text);
                self.literal += usize::from(name_of(piece.text) == "pre");
            }
            Kind::Close => {
                if let Some(tag) = self.tags.pop() {
                    self.closing -= closing_weight(tag);
                    self.literal -= usize::from(name_of(tag) == "pre");
                }
            }
            Kind::Word(_) | Kind::Whole | Kind::Break | Kind::Blank | Kind::NewLine => {}
        }
        Some(piece)
    }
}

impl<'a> Part<'a> {
    /// The part that begins with the first word after `at`; none if there is no word any more.
    fn begin(html: &'a str, mut at: usize, mut open: Open<'a>) -> Option<Self> {
        loop {
            let piece = open.read(&html[at..])?;
            if Word::of(&piece).is_some() {
                return Some(Self { html, at, open });
            }
            at += piece.text.len();
        }
    }

    /// Where to end this part so that it takes `most` at most; none if there is no place to. Better places count from `least` on.
    fn fill(&self, most: usize, least: usize, mention: &dyn Fn(&str) -> usize) -> Option<usize> {
        let mut open = self.open.clone();
        let mut used: usize = open.tags.iter().map(|tag| weight(tag)).sum();
        let (mut at, mut before, mut places) = (self.at, None::<Gap>, Places::default());
        while let Some(piece) = open.read(&self.html[at..]) {
            at += piece.text.len();
            used += weight(piece.text);
            let Some(word) = Word::of(&piece) else {
                if let Some(gap) = &mut before {
                    gap.take(&piece);
                }
                continue;
            };
            if let Some(id) = id_of(piece.text).filter(|_| piece.kind == Kind::Whole && piece.text.starts_with("<mention")) {
                used += mention(id);
            }
            if let Some(gap) = &before
                && let Some(rank) = gap.rank(word)
            {
                places.note(rank, gap.place);
            }
            if used + open.closing > most {
                return places.best();
            }
            places.is_full = used >= least;
            before = Some(Gap::after(word, before.as_ref(), at));
        }
        before.map(|gap| gap.place)
    }

    /// The part up to `end`, and the elements that are open there.
    fn up_to(&self, end: usize) -> (String, Open<'a>) {
        let (mut open, mut at) = (self.open.clone(), self.at);
        while at < end
            && let Some(piece) = open.read(&self.html[at..])
        {
            at += piece.text.len();
        }
        let mut part = self.open.tags.concat();
        part.push_str(&self.html[self.at..end]);
        for tag in open.tags.iter().rev() {
            part.push_str("</");
            part.push_str(name_of(tag));
            part.push('>');
        }
        (part, open)
    }
}

/// The last place of each rank.
#[derive(Default)]
struct Places {
    early: [Option<usize>; RANKS],
    late: [Option<usize>; RANKS],
    /// Whether places are late from now on.
    is_full: bool,
}

impl Places {
    fn note(&mut self, rank: Rank, place: usize) {
        let places = if self.is_full { &mut self.late } else { &mut self.early };
        places[rank as usize] = Some(place);
    }

    /// The best of the late places; else the last of the early ones. Within a word only if there is no other.
    fn best(&self) -> Option<usize> {
        let ([within_early, early @ ..], [within_late, late @ ..]) = (&self.early, &self.late);
        let between = late.iter().rev().find_map(|place| *place).or_else(|| early.iter().flatten().max().copied());
        between.or(*within_late).or(*within_early)
    }
}

/// What lies between two words.
struct Gap {
    /// Where the word before it ends.
    place: usize,
    /// What the word before it is.
    before: Before,
    rank: Rank,
    breaks: usize,
}

/// The end of a word, as far as it matters for a cut behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of the word, and none follows from another")]
struct Before {
    /// A sentence ends here; its quotation marks and brackets included.
    ends_sentence: bool,
    /// It does so without a space behind it, as in Chinese and Japanese.
    needs_no_space: bool,
    /// What follows belongs to it.
    joins: bool,
    /// The first half of a flag.
    is_half_flag: bool,
    /// White space that counts as a word, within preformatted text.
    is_space: bool,
}

/// A piece that is not to be cut.
#[derive(Debug, Clone, Copy)]
enum Word {
    Whole,
    Character(char),
}

impl Word {
    fn of(piece: &Piece<'_>) -> Option<Self> {
        match piece.kind {
            Kind::Whole => Some(Self::Whole),
            Kind::Word(character) => Some(Self::Character(character)),
            Kind::Open | Kind::Close | Kind::Break | Kind::Blank | Kind::NewLine => None,
        }
    }
}

impl Gap {
    /// The gap after a word that ends at `place`, before which there was `earlier`.
    fn after(word: Word, earlier: Option<&Self>, place: usize) -> Self {
        let earlier = earlier.filter(|gap| gap.rank == Rank::Character).map(|gap| gap.before).unwrap_or_default();
        let before = match word {
            Word::Whole => Before::default(),
            Word::Character(character) => match character {
                '.' | '!' | '?' | '…' => Before { ends_sentence: true, ..Before::default() },
                '。' | '！' | '？' => Before { ends_sentence: true, needs_no_space: true, ..Before::default() },
                '"' | '\'' | ')' | ']' | '»' | '”' | '’' | '」' | '』' | '）' => {
                    let (ends_sentence, needs_no_space) = (earlier.ends_sentence, earlier.needs_no_space);
                    Before { ends_sentence, needs_no_space, ..Before::default() }
                }
                '\u{200d}' => Before { joins: true, ..Before::default() },
                '\u{1f1e6}'..='\u{1f1ff}' => Before { is_half_flag: !earlier.is_half_flag, ..Before::default() },
                character => Before { is_space: character.is_whitespace(), ..Before::default() },
            },
        };
        Self { place, before, rank: Rank::Character, breaks: 0 }
    }

    fn take(&mut self, piece: &Piece<'_>) {
        let rank = match piece.kind {
            Kind::Blank if self.before.ends_sentence => Rank::Sentence,
            Kind::Blank => Rank::Word,
            Kind::Break | Kind::NewLine => {
                self.breaks += 1;
                if self.breaks > 1 { Rank::Paragraph } else { Rank::Line }
            }
            Kind::Open | Kind::Close => match name_of(piece.text) {
                "blockquote" | "div" | "h1" | "h2" | "h3" | "ol" | "p" | "pre" | "ul" => Rank::Paragraph,
                "li" => Rank::Line,
                _ => Rank::Character,
            },
            Kind::Word(_) | Kind::Whole => Rank::Character,
        };
        self.rank = self.rank.max(rank);
    }

    /// How good a cut is between the word before and the one that follows; none if there is to be none.
    fn rank(&self, next: Word) -> Option<Rank> {
        if self.rank > Rank::Character {
            return Some(self.rank);
        }
        let Word::Character(next) = next else { return Some(Rank::Character) };
        let before = self.before;
        if before.joins || extends(next) || (before.is_half_flag && matches!(next, '\u{1f1e6}'..='\u{1f1ff}')) {
            return None;
        }
        Some(match next {
            next if next.is_whitespace() && before.ends_sentence => Rank::Sentence,
            next if next.is_whitespace() && !before.is_space => Rank::Word,
            _ if before.needs_no_space => Rank::Sentence,
            _ => Rank::Character,
        })
    }
}

/// Whether a character belongs to the one before it.
fn extends(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}'
        | '\u{900}'..='\u{903}' | '\u{93a}'..='\u{94f}' | '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}'
        | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{200c}' | '\u{200d}' | '\u{20d0}'..='\u{20ff}'
        | '\u{3099}' | '\u{309a}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{1f3fb}'..='\u{1f3ff}'
        | '\u{e0020}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

/// The smallest that is read at a time.
struct Piece<'a> {
    text: &'a str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A tag that opens an element.
    Open,
    /// A tag that closes one.
    Close,
    /// A line break.
    Break,
    /// A link or a mention, as a whole.
    Whole,
    /// A character that is seen, escaped or not.
    Word(char),
    /// White space.
    Blank,
    /// The end of a line of preformatted text.
    NewLine,
}

/// The longest escaped character.
const MAX_ENTITY: usize = 12;

impl<'a> Piece<'a> {
    /// What `html` begins with. In literal text white space is seen.
    fn first_of(html: &'a str, literal: bool) -> Option<Self> {
        let first = html.chars().next()?;
        let (length, kind) = match first {
            '<' => return Some(Self::tag(html)),
            '&' => entity(html).unwrap_or((1, Kind::Word('&'))),
            '\n' | '\r' if literal => (1, Kind::NewLine),
            // What keeps words together is no gap.
            '\u{a0}' | '\u{2007}' | '\u{202f}' => (first.len_utf8(), Kind::Word(first)),
            _ if first.is_whitespace() && !literal => (first.len_utf8(), Kind::Blank),
            _ => (first.len_utf8(), Kind::Word(first)),
        };
        Some(Self { text: &html[..length], kind })
    }

    fn tag(html: &'a str) -> Self {
        let text = &html[..tag_length(html)];
        let kind = match name_of(text) {
            _ if text.starts_with("</") => Kind::Close,
            "br" => Kind::Break,
            "mention" => return Self { text: element(html, "mention"), kind: Kind::Whole },
            "a" if text.contains(" href=") => return Self { text: element(html, "a"), kind: Kind::Whole },
            _ => Kind::Open,
        };
        Self { text, kind }
    }
}

/// The escaped character that `html` begins with. Only what it is in a sentence matters.
fn entity(html: &str) -> Option<(usize, Kind)> {
    let length = html.bytes().take(MAX_ENTITY).position(|byte| byte == b';')? + 1;
    let is_quote = matches!(&html[..length], "&quot;" | "&#x27;" | "&#39;");
    Some((length, Kind::Word(if is_quote { '"' } else { '&' })))
}

/// The length of the tag that `html` begins with.
fn tag_length(html: &str) -> usize {
    let mut quoted = false;
    let end = html.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b'>' && !quoted
    });
    end.map_or(html.len(), |end| end + 1)
}

/// The element that `html` begins with, up to its end.
fn element<'a>(html: &'a str, name: &str) -> &'a str {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(next) = html[at..].find('<') {
        at += next;
        let tag = &html[at..at + tag_length(&html[at..])];
        at += tag.len();
        if name_of(tag) == name {
            depth = if tag.starts_with("</") { depth.saturating_sub(1) } else { depth + 1 };
            if depth == 0 {
                return &html[..at];
            }
        }
    }
    html
}

/// The name of a tag's element.
fn name_of(tag: &str) -> &str {
    let name = tag.trim_start_matches(['<', '/']);
    &name[..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())]
}

/// Whom the mention that `html` begins with mentions.
fn id_of(html: &str) -> Option<&str> {
    html[..tag_length(html)].split_once(" id=\"")?.1.split('"').next()
}

/// The bytes that `text` takes within a text of JSON.
fn weight(text: &str) -> usize {
    let more = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
        0..32 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(more).sum::<usize>()
}

/// The bytes of the tag that closes what `tag` opens.
fn closing_weight(tag: &str) -> usize {
    name_of(tag).len() + "</>".len()
}

#[cfg(test)]
mod tests;
