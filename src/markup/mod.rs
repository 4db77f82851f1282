//! What callers write, made fit for Spaces: plain text, Markdown and HTML all become HTML of a few harmless elements.

mod builder;
mod markdown;
mod mention;
mod sanitizer;
mod split;
#[cfg(test)]
mod tests;
mod text;

pub use builder::Html;
pub use markdown::markdown_to_html;
pub use mention::mark_mentions;
#[cfg(test)]
pub(crate) use sanitizer::ELEMENTS;
pub use sanitizer::Sanitizer;
#[cfg(test)]
use sanitizer::{ATTRIBUTES, SCHEMES};
pub use split::{MAX_PARTS, Room, mentioned_in, split_html};
pub use text::text_to_html;
