//! Templates of hooks: any JSON becomes a message by a text with gaps, in the language of Jinja.
//!
//! Whoever has a hook may write one, so that a template is a program of a stranger, and no engine is trusted with it inside the service:
//! the [`Renderer`] hands it to a process of its own ([`child`]), which first limits what it may take ([`confinement`]) and then asks the
//! [`engine`]. What both say to each other is [`protocol`]. What comes back is text, and becomes a message as all text does.

pub(crate) mod child;
mod confinement;
mod engine;
mod protocol;
mod renderer;

use serde::{Deserialize, Serialize};

pub use self::renderer::Renderer;
use crate::markup::{Sanitizer, markdown_to_html, text_to_html};

/// Longest source of a template, in bytes.
pub const MAX_SOURCE: usize = 16 << 10;

/// Most bytes that a template may make of one payload.
const MAX_OUTPUT: usize = 64 << 10;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The text with its gaps.
    pub source: String,
    /// What comes out of it.
    #[serde(default)]
    pub output: TemplateOutput,
}

/// What comes out of a template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateOutput {
    /// Markdown.
    #[default]
    Markdown,
    /// HTML.
    Html,
    /// Plain text.
    Text,
}

/// Why a template does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is longer than templates may be.
    #[error("a template has 1 to {MAX_SOURCE} bytes")]
    Size,
    /// It is none.
    #[error("the template cannot be read: {0}")]
    Syntax(String),
    /// It fails at what came.
    #[error("the template fails: {0}")]
    Failed(String),
    /// Nothing is left of what came.
    #[error("the template makes nothing of it")]
    Empty,
    /// It takes too many steps, or makes too much on its way.
    #[error("the template does more than templates may")]
    TooCostly,
    /// It takes too long.
    #[error("the template takes more time than templates may")]
    TooSlow,
    /// It takes too much memory, or is nested too deep.
    #[error("the template takes more memory than templates may")]
    TooHungry,
    /// It makes too much.
    #[error("the template makes more than {MAX_OUTPUT} bytes")]
    TooLong,
    /// Too many templates are at work.
    #[error("the template did not get its turn: too many templates are at work")]
    Busy,
    /// The process that was to do it did not.
    #[error("the template could not be tried: the service failed to")]
    Unavailable,
}

impl TemplateError {
    /// Whether another template would not have done better.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Busy | Self::Unavailable => true,
            Self::Size
            | Self::Syntax(_)
            | Self::Failed(_)
            | Self::Empty
            | Self::TooCostly
            | Self::TooSlow
            | Self::TooHungry
            | Self::TooLong => false,
        }
    }

    /// The error in one word, for metrics.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Size | Self::Syntax(_) => "unreadable",
            Self::Failed(_) => "failed",
            Self::Empty => "empty",
            Self::TooCostly => "too_costly",
            Self::TooSlow => "too_slow",
            Self::TooHungry => "too_hungry",
            Self::TooLong => "too_long",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Template {
    /// Whether its size is that of a template.
    pub fn check_size(&self) -> Result<(), TemplateError> {
        if (1..=MAX_SOURCE).contains(&self.source.len()) { Ok(()) } else { Err(TemplateError::Size) }
    }

    /// The HTML of what came out of it.
    pub(super) fn to_html(&self, made: &str, sanitizer: &Sanitizer) -> Result<String, TemplateError> {
        let html = match self.output {
            _ if made.trim().is_empty() => return Err(TemplateError::Empty),
            TemplateOutput::Markdown => markdown_to_html(made, sanitizer),
            TemplateOutput::Html => sanitizer.clean(made.trim()).into_owned(),
            TemplateOutput::Text => text_to_html(made.trim()).into_owned(),
        };
        if crate::upstream::plain_text(&html).is_empty() { Err(TemplateError::Empty) } else { Ok(html) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(output: TemplateOutput, made: &str) -> Result<String, TemplateError> {
        Template { source: "x".to_owned(), output }.to_html(made, &Sanitizer::new())
    }

    #[test]
    fn what_comes_out_is_made_safe() {
        for (output, made, expected) in [
            (TemplateOutput::Markdown, "**a** <script>b</script>", "<p><strong>a</strong> &lt;script&gt;b&lt;/script&gt;</p>"),
            (TemplateOutput::Html, " <b>a</b><script>b</script>\n", "<b>a</b>"),
            (TemplateOutput::Text, "**a** <b>\n", "**a** &lt;b&gt;"),
        ] {
            assert_eq!(html(output, made).as_deref(), Ok(expected), "{made}");
        }
        for (output, made) in
            [(TemplateOutput::Markdown, " \n"), (TemplateOutput::Html, "<i></i>"), (TemplateOutput::Html, "<script>a</script>")]
        {
            assert_eq!(html(output, made), Err(TemplateError::Empty), "{made}");
        }
    }

    #[test]
    fn a_template_has_a_size() {
        let check = |length| Template { source: "x".repeat(length), output: TemplateOutput::Text }.check_size();
        assert_eq!(
            [0, 1, MAX_SOURCE, MAX_SOURCE + 1].map(check),
            [Err(TemplateError::Size), Ok(()), Ok(()), Err(TemplateError::Size)]
        );
    }
}
