//! [`Filter`]: what a webhook wants of an event beyond its type and space, as an expression over the message.
//!
//! An expression is a tree of `all`, `any` and `not` with conditions as leaves. It is checked and its patterns are compiled once,
//! when it enters the service; asking it about a message takes time in proportion to the message, whatever the expression is.

mod reading;

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind};
use serde::{Deserialize, Serialize};

/// Deepest nesting of an expression; a single condition has depth 1.
const MAX_DEPTH: usize = 8;

/// Most parts of an expression: conditions, and the `all`, `any` and `not` around them.
pub const MAX_FILTER_PARTS: usize = 64;

/// Longest value of a condition, patterns included, in characters.
pub const MAX_FILTER_VALUE: usize = 256;

/// Most different patterns of an expression. Each takes memory for as long as its webhook exists.
const MAX_PATTERNS: usize = 4;

/// Most bytes of a text that patterns look at; what people write is far shorter. A search takes time in proportion to this and to
/// the pattern's length.
const MAX_SEARCHED: usize = 4 << 10;

/// Longest pattern once its counted repetitions are written out.
const MAX_WRITTEN_OUT: usize = 256;

/// Most bytes that a pattern may take once compiled.
const MAX_COMPILED: usize = 256 << 10;

/// The same for a filter that was taken before, so that a later version of the engine does not refuse what an earlier one took.
const MAX_COMPILED_BEFORE: usize = 4 * MAX_COMPILED;

/// Most bytes that a search may remember of itself.
const MAX_SEARCH_CACHE: usize = 128 << 10;

/// An expression as it is written: an object with one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Expression {
    /// Every one of these holds.
    All(Vec<Expression>),
    /// At least one of these holds.
    Any(Vec<Expression>),
    /// This does not hold.
    Not(Box<Expression>),
    /// The message is of this category.
    Category(String),
    /// The message is by this user: an id, or a user name (which is an e-mail address), in which case does not count.
    Sender(String),
    /// The message mentions the user with this id; `me` is the webhook's own account.
    Mention(String),
    /// The message's text is like this.
    Text(TextCondition),
}

/// What a text is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TextCondition {
    /// It has this in it.
    Contains(String),
    /// It begins with this.
    Prefix(String),
    /// This regular expression is found in it.
    Regex(String),
}

/// What a filter looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFacts<'a> {
    /// The message's category.
    pub category: Option<Cow<'a, str>>,
    /// The sender's id.
    pub sender: Option<Cow<'a, str>>,
    /// The sender's user name.
    pub username: Option<Cow<'a, str>>,
    /// The ids of the users that it mentions.
    pub mentions: Vec<Cow<'a, str>>,
    /// The id of the account's own user.
    pub me: Option<Cow<'a, str>>,
    /// What it says, as a reader sees it.
    pub text: Cow<'a, str>,
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (at `{pointer}`)")]
pub struct FilterError {
    /// Which part of the expression (RFC 6901).
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// A checked expression, ready to be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Expression", into = "Expression")]
pub struct Filter {
    expression: Expression,
    /// The compiled patterns, each beside its text.
    patterns: Vec<(String, Regex)>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression
    }
}

impl Eq for Filter {}

impl From<Filter> for Expression {
    fn from(filter: Filter) -> Self {
        filter.expression
    }
}

/// The way back from the store.
impl TryFrom<Expression> for Filter {
    type Error = FilterError;

    fn try_from(expression: Expression) -> Result<Self, FilterError> {
        Self::compile(expression, MAX_COMPILED_BEFORE)
    }
}

impl Filter {
    /// Checks an expression that someone wants to use.
    pub fn new(expression: Expression) -> Result<Self, FilterError> {
        Self::compile(expression, MAX_COMPILED)
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// Whether it searches with patterns, which may take some milliseconds.
    pub fn searches(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether `message` is wanted.
    pub fn matches(&self, message: &MessageFacts<'_>) -> bool {
        self.holds(&self.expression, message)
    }

    /// The part of the expression because of which `message` is not wanted, as a JSON pointer; `None` if it is wanted.
    pub fn failing(&self, message: &MessageFacts<'_>) -> Option<String> {
        let mut pointer = String::new();
        (!self.explain(&self.expression, message, &mut pointer)).then_some(pointer)
    }

    fn compile(expression: Expression, most_compiled: usize) -> Result<Self, FilterError> {
        let mut check = Check { parts: 0, most_compiled, patterns: Vec::new() };
        check.part(&expression, 1, &mut String::new())?;
        Ok(Self { expression, patterns: check.patterns })
    }

    fn holds(&self, expression: &Expression, message: &MessageFacts<'_>) -> bool {
        match expression {
            Expression::All(parts) => parts.iter().all(|part| self.holds(part, message)),
            Expression::Any(parts) => parts.iter().any(|part| self.holds(part, message)),
            Expression::Not(part) => !self.holds(part, message),
            Expression::Category(category) => message.category.as_deref() == Some(category),
            Expression::Sender(sender) => {
                let is_named = |name: &str| name.to_lowercase() == sender.to_lowercase();
                message.sender.as_deref() == Some(sender) || message.username.as_deref().is_some_and(is_named)
            }
            Expression::Mention(user) => {
                let user = if user == ME { message.me.as_deref() } else { Some(user.as_str()) };
                user.is_some_and(|user| message.mentions.iter().any(|mentioned| mentioned == user))
            }
            Expression::Text(TextCondition::Contains(part)) => message.text.contains(part.as_str()),
            Expression::Text(TextCondition::Prefix(start)) => message.text.starts_with(start.as_str()),
            Expression::Text(TextCondition::Regex(text)) => self.pattern(text).is_match(searched(&message.text)),
        }
    }

    /// Whether `expression` holds; if not, `pointer` is extended to the part that decided it.
    fn explain(&self, expression: &Expression, message: &MessageFacts<'_>, pointer: &mut String) -> bool {
        let step = expression.step();
        let length = pointer.len();
        pointer.push_str(step);
        let holds = if let Expression::All(parts) = expression {
            parts.iter().enumerate().all(|(index, part)| {
                let length = pointer.len();
                pointer.push('/');
                pointer.push_str(&index.to_string());
                let holds = self.explain(part, message, pointer);
                if holds {
                    pointer.truncate(length);
                }
                holds
            })
        } else {
            // Of an `any` no part holds, and of a `not` its part does: the whole is the reason.
            self.holds(expression, message)
        };
        if holds {
            pointer.truncate(length);
        }
        holds
    }

    fn pattern(&self, text: &str) -> &Regex {
        let found = self.patterns.iter().find(|(known, _)| known == text);
        &found.expect("every pattern of the expression was compiled").1
    }
}

/// The word for the account's own user in a mention.
const ME: &str = "me";

impl Expression {
    /// The pointer from an expression into its content.
    fn step(&self) -> &'static str {
        match self {
            Self::All(_) => "/all",
            Self::Any(_) => "/any",
            Self::Not(_) => "/not",
            Self::Category(_) => "/category",
            Self::Sender(_) => "/sender",
            Self::Mention(_) => "/mention",
            Self::Text(TextCondition::Contains(_)) => "/text/contains",
            Self::Text(TextCondition::Prefix(_)) => "/text/prefix",
            Self::Text(TextCondition::Regex(_)) => "/text/regex",
        }
    }
}

/// The piece of `text` that patterns look at.
fn searched(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SEARCHED)]
}

/// A walk over an expression that refuses what is too much or makes no sense, and compiles the patterns.
struct Check {
    parts: usize,
    most_compiled: usize,
    patterns: Vec<(String, Regex)>,
}

impl Check {
    fn part(&mut self, expression: &Expression, depth: usize, pointer: &mut String) -> Result<(), FilterError> {
        self.parts += 1;
        if depth > MAX_DEPTH {
            return Err(error(pointer, format!("a filter is at most {MAX_DEPTH} levels deep")));
        }
        if self.parts > MAX_FILTER_PARTS {
            return Err(error(pointer, format!("a filter has at most {MAX_FILTER_PARTS} parts")));
        }
        let length = pointer.len();
        pointer.push_str(expression.step());
        match expression {
            Expression::All(parts) | Expression::Any(parts) => self.parts(parts, depth, pointer)?,
            Expression::Not(part) => self.part(part, depth + 1, pointer)?,
            Expression::Category(category) => {
                value(category, pointer)?;
                if category == "idea" {
                    return Err(error(pointer, "the word for it is `post`".to_owned()));
                }
            }
            Expression::Sender(text)
            | Expression::Mention(text)
            | Expression::Text(TextCondition::Contains(text) | TextCondition::Prefix(text)) => value(text, pointer)?,
            Expression::Text(TextCondition::Regex(text)) => {
                value(text, pointer)?;
                self.pattern(text, pointer)?;
            }
        }
        pointer.truncate(length);
        Ok(())
    }

    fn parts(&mut self, parts: &[Expression], depth: usize, pointer: &mut String) -> Result<(), FilterError> {
        if parts.is_empty() {
            return Err(error(pointer, "it has at least one entry".to_owned()));
        }
        for (index, part) in parts.iter().enumerate() {
            let length = pointer.len();
            pointer.push('/');
            pointer.push_str(&index.to_string());
            self.part(part, depth + 1, pointer)?;
            pointer.truncate(length);
        }
        Ok(())
    }

    fn pattern(&mut self, text: &str, pointer: &str) -> Result<(), FilterError> {
        if self.patterns.iter().any(|(known, _)| known == text) {
            return Ok(());
        }
        if self.patterns.len() == MAX_PATTERNS {
            return Err(error(pointer, format!("a filter has at most {MAX_PATTERNS} regular expressions")));
        }
        if written_out(text) > MAX_WRITTEN_OUT {
            let detail = format!("with its repetitions written out the regular expression is longer than {MAX_WRITTEN_OUT}");
            return Err(error(pointer, detail));
        }
        let compiled = RegexBuilder::new(text).size_limit(self.most_compiled).dfa_size_limit(MAX_SEARCH_CACHE).build().map_err(
            |refused| {
                let detail = match refused {
                    regex::Error::CompiledTooBig(_) => {
                        "the regular expression takes too much room; `(?-u:\\w)` takes less than `\\w`".to_owned()
                    }
                    other => format!("no valid regular expression: {}", summary(&other)),
                };
                error(pointer, detail)
            },
        )?;
        self.patterns.push((text.to_owned(), compiled));
        Ok(())
    }
}

/// The length of a pattern with its counted repetitions written out; 0 if it is none.
fn written_out(pattern: &str) -> usize {
    regex_syntax::parse(pattern).map_or(0, |hir| length(&hir))
}

fn length(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(_) => 1,
        HirKind::Capture(capture) => length(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            length(&repetition.sub).saturating_mul(usize::try_from(times).unwrap_or(usize::MAX))
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(length).fold(0, usize::saturating_add),
    }
}

/// The last line of the engine's words; the lines before draw the pattern with a mark under it.
fn summary(refused: &regex::Error) -> String {
    let words = refused.to_string();
    let last = words.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

fn value(text: &str, pointer: &str) -> Result<(), FilterError> {
    if (1..=MAX_FILTER_VALUE).contains(&text.chars().count()) {
        Ok(())
    } else {
        Err(error(pointer, format!("it has 1 to {MAX_FILTER_VALUE} characters")))
    }
}

fn error(pointer: &str, detail: String) -> FilterError {
    FilterError { pointer: pointer.to_owned(), detail }
}

#[cfg(test)]
mod tests;
