//! HTML from callers, made safe to show.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The elements that survive; Spaces shows text with simple markup. The content of any other element stays, without the element.
pub(crate) const ELEMENTS: [&str; 25] = [
    "a",
    "b",
    "blockquote",
    "br",
    "code",
    "del",
    "div",
    "em",
    "h1",
    "h2",
    "h3",
    "i",
    "li",
    "mention",
    "ol",
    "p",
    "pre",
    "s",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "u",
    "ul",
];

/// The attributes that survive, by element.
pub(super) const ATTRIBUTES: [(&str, &[&str]); 2] = [("a", &["href", "title"]), ("mention", &["id", "type", "value"])];

/// The schemes that links may have; relative links would point into Spaces and lose their address.
pub(super) const SCHEMES: [&str; 4] = ["http", "https", "mailto", "tel"];

/// Makes HTML from callers safe to show.
pub struct Sanitizer(ammonia::Builder<'static>);

impl std::fmt::Debug for Sanitizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sanitizer").finish_non_exhaustive()
    }
}

impl Default for Sanitizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Sanitizer {
    /// One that knows what Spaces shows.
    pub fn new() -> Self {
        let attributes = ATTRIBUTES.map(|(element, names)| (element, names.iter().copied().collect::<HashSet<_>>()));
        let mut builder = ammonia::Builder::empty();
        builder
            .tags(HashSet::from(ELEMENTS))
            .clean_content_tags(HashSet::from(["script", "style"]))
            .tag_attributes(HashMap::from(attributes))
            .generic_attributes(HashSet::new())
            .url_schemes(HashSet::from(SCHEMES))
            .url_relative(ammonia::UrlRelative::Deny)
            .attribute_filter(|element, attribute, value| {
                Some(if (element, attribute) == ("a", "href") { address(value) } else { Cow::Borrowed(value) })
            })
            .link_rel(None);
        Self(builder)
    }

    /// `html` without what Spaces does not show.
    pub fn clean<'a>(&self, html: &'a str) -> Cow<'a, str> {
        if html.contains(['<', '>', '&', '\0', '\r', '\u{a0}']) {
            let clean = self.0.clean(html).to_string();
            // A browser drops a break that follows the tag, and what is written here begins with one of its own (HTML Standard, 13.3).
            Cow::Owned(if clean.contains("<pre>\n") { clean.replace("<pre>\n", "<pre>\n\n") } else { clean })
        } else {
            Cow::Borrowed(html)
        }
    }
}

/// The address that a browser makes of `value`: without controls and spaces around it, and without tabs and breaks in it (URL Standard,
/// 4.4), so that what looks for its scheme in another way finds the one that was checked.
fn address(value: &str) -> Cow<'_, str> {
    let address = value.trim_matches(|c: char| c <= ' ');
    if address.contains(['\t', '\n', '\r']) {
        Cow::Owned(address.replace(['\t', '\n', '\r'], ""))
    } else {
        Cow::Borrowed(address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_shown_goes() {
        let sanitizer = Sanitizer::new();
        for (html, expected) in [
            ("plain", "plain"),
            ("<p>a <b>b</b><br>c</p>", "<p>a <b>b</b><br>c</p>"),
            ("<script>alert(1)</script>x<style>p{}</style>", "x"),
            ("<p onclick=\"x()\" style=\"a\">a</p>", "<p>a</p>"),
            ("<b title=\"t\" lang=\"de\">a</b>", "<b>a</b>"),
            ("<img src=x onerror=alert(1)>a", "a"),
            ("<a href=\"javascript:alert(1)\">a</a>", "<a>a</a>"),
            ("<a href=\"https://example.com/?a=b&c\" target=_blank>a</a>", "<a href=\"https://example.com/?a=b&amp;c\">a</a>"),
            ("<a href=\"/files\">a</a>", "<a>a</a>"),
            ("<a href=\"\u{1} ht\ntps://example.com/\t \">a</a>", "<a href=\"https://example.com/\">a</a>"),
            ("<a href=\"\u{18}java\nscript:alert(1)\">a</a>", "<a>a</a>"),
            ("<table><tr><td>cell</td></tr></table>", "cell"),
            ("1 < 2", "1 &lt; 2"),
            ("<pre>\na\n</pre>", "<pre>a\n</pre>"),
            ("<pre>\n\na</pre>", "<pre>\n\na</pre>"),
            ("<!-- c -->x", "x"),
        ] {
            assert_eq!(sanitizer.clean(html), expected, "{html}");
        }
    }

    /// The names of all elements in `html`, read as a browser reads tags: a `<` in a quoted attribute begins none.
    fn elements(html: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            let tag = rest[at + 1..].trim_start_matches('/');
            names.push(tag.chars().take_while(|c| !c.is_whitespace() && !matches!(c, '>' | '/')).collect());
            let mut quoted = false;
            let end = tag.find(|c| {
                quoted ^= c == '"';
                c == '>' && !quoted
            });
            rest = end.map_or("", |end| &tag[end..]);
        }
        names
    }

    proptest! {
        #[test]
        fn no_input_makes_another_element(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[<>/!&;='\" a-z\\-\\x00]{0,12}",
                    proptest::sample::select(vec![
                        "<svg>", "<math>", "<style>", "</style>", "<script>", "</script>", "<img src=x onerror=y>", "<p>", "</p>",
                        "<a href='", "<a href=\"https://e/<img>\">", "<noscript>", "<template>", "<iframe>", "<mtext>", "<!--", "-->",
                        "<title>", "</title>", "<textarea>", "<plaintext>", "&lt;", "<b x=\"<i>\">", "<select>", "<table>",
                    ]).prop_map(str::to_owned),
                ],
                0..12,
            )
        ) {
            let html = Sanitizer::new().clean(&pieces.concat()).into_owned();
            for name in elements(&html) {
                prop_assert!(ELEMENTS.contains(&name.as_str()), "`{name}` in {html}");
            }
        }
    }
}
