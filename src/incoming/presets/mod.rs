//! Messages out of what well-known products post by themselves, so that nobody has to write a template for them.
//!
//! A preset reads leniently: a field that is missing leaves its words out, an event that is not known still becomes a line. What is
//! not the product's at all is [`None`], and the hook then says so.

mod alerts;
mod github;
mod gitlab;
mod jenkins;
mod sentry;
#[cfg(test)]
mod tests;
mod uptime_kuma;

use http::HeaderMap;
use serde_json::Value;

use crate::markup::Html;

/// The products that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Grafana's alerts.
    Grafana,
    /// Prometheus Alertmanager.
    Alertmanager,
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// Jenkins, with the Notification plugin.
    Jenkins,
    /// Sentry.
    Sentry,
    /// Uptime Kuma.
    UptimeKuma,
}

/// What a product posted.
#[derive(Debug, Clone, Copy)]
pub struct Posted<'a> {
    /// The headers of its request.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a Value,
}

impl Preset {
    /// The message that `posted` becomes; `None` if it is not of this product.
    pub fn render(self, posted: Posted<'_>) -> Option<Html> {
        match self {
            Self::Grafana => alerts::grafana(posted.body),
            Self::Alertmanager => alerts::alertmanager(posted.body),
            Self::Github => github::render(posted),
            Self::Gitlab => gitlab::render(posted.body),
            Self::Jenkins => jenkins::render(posted.body),
            Self::Sentry => sentry::render(posted),
            Self::UptimeKuma => uptime_kuma::render(posted.body),
        }
    }
}

impl<'a> Posted<'a> {
    /// A header's value.
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The text at a JSON pointer, if there is one with words in it.
fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// The text or number at a JSON pointer.
fn shown(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `words` as a link to the address at `pointer`, if there is one.
fn linked(html: Html, value: &Value, pointer: &str, words: &str) -> Html {
    match text(value, pointer) {
        Some(address) => html.link(address, words),
        None => html.text(words),
    }
}

/// The first line of a text, not longer than people read.
fn first_line(text: &str) -> String {
    shorten(text.lines().next().unwrap_or_default(), 200)
}

/// At most so many characters of a text.
pub(super) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}
