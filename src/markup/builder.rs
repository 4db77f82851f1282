//! HTML in the making.

use super::text::is_web;
use crate::upstream::escape;

/// HTML of the few elements that Spaces shows, put together piece by piece. Whatever is put in is escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds words as they are.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.push_str(&escape(text));
        self
    }

    /// Adds words in bold.
    #[must_use]
    pub fn bold(self, text: &str) -> Self {
        self.within("b", text)
    }

    /// Adds words in italics.
    #[must_use]
    pub fn italic(self, text: &str) -> Self {
        self.within("i", text)
    }

    /// Adds words that are struck through.
    #[must_use]
    pub fn strike(self, text: &str) -> Self {
        self.within("s", text)
    }

    /// Adds code.
    #[must_use]
    pub fn code(self, text: &str) -> Self {
        self.within("code", text)
    }

    /// Adds lines of code.
    #[must_use]
    pub fn code_block(self, text: &str) -> Self {
        self.within("pre", text)
    }

    /// Adds `text` as a link to `address`; only as words if that is no address of the web or of mail.
    #[must_use]
    pub fn link(mut self, address: &str, text: &str) -> Self {
        if !is_web(address) && !address.starts_with("mailto:") {
            return self.text(text);
        }
        self.0.push_str("<a href=\"");
        self.0.push_str(&escape(address));
        self.0.push_str("\">");
        self = self.text(text);
        self.0.push_str("</a>");
        self
    }

    /// Begins a new line, unless nothing was said yet.
    #[must_use]
    pub fn line(mut self) -> Self {
        if !self.0.is_empty() {
            self.0.push_str("<br>");
        }
        self
    }

    /// Adds what was put together elsewhere.
    #[must_use]
    pub fn html(mut self, other: &Self) -> Self {
        self.0.push_str(&other.0);
        self
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The HTML.
    pub fn into_string(self) -> String {
        self.0
    }

    fn within(mut self, element: &str, text: &str) -> Self {
        if text.is_empty() {
            return self;
        }
        self.0.push('<');
        self.0.push_str(element);
        self.0.push('>');
        self = self.text(text);
        self.0.push_str("</");
        self.0.push_str(element);
        self.0.push('>');
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped_and_odd_links_are_words() {
        let html = Html::new()
            .line()
            .bold("a<b")
            .text(" & ")
            .link("https://e.example/?a=\"1\"", "x>y")
            .line()
            .link("javascript:alert(1)", "no")
            .code("")
            .italic("i");
        let expected = "<b>a&lt;b</b> &amp; <a href=\"https://e.example/?a=&quot;1&quot;\">x&gt;y</a><br>no<i>i</i>";
        assert_eq!(html.into_string(), expected);
    }
}
