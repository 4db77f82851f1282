//! Mentions: `@[Name](userId)` in what callers write, and the element that Spaces' own clients read.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::upstream::{escape, plain_text};

/// Longest id of a user.
const MAX_ID: usize = 128;

/// Longest name, in bytes as it stands in the HTML.
const MAX_NAME: usize = 1_024;

/// Elements in which words mean themselves, or lead somewhere already.
const LITERAL: [&str; 4] = ["a", "code", "mention", "pre"];

/// Whether `text` may be the id of a user.
pub(super) fn is_user_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// `html`, which is well formed, with an element for each `@[Name](userId)` in its text; and the ids and names of those who are mentioned.
/// What only looks like a mention stays as it is.
pub fn mark_mentions(html: Cow<'_, str>) -> (Cow<'_, str>, Vec<(String, String)>) {
    if !html.contains("@[") {
        return (html, Vec::new());
    }
    let (mut marked, mut mentioned) = (String::with_capacity(html.len() + 64), Vec::new());
    let (mut rest, mut literal) = (&*html, 0_usize);
    while let Some(at) = rest.find(['<', '@']) {
        marked.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = if rest.starts_with('<') {
            let length = rest.find('>').map_or(rest.len(), |end| end + 1);
            let tag = &rest[1..length];
            let (name, closes) = tag.strip_prefix('/').map_or((tag, false), |name| (name, true));
            let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            if LITERAL.contains(&name) {
                literal = if closes { literal.saturating_sub(1) } else { literal + 1 };
            }
            marked.push_str(&rest[..length]);
            length
        } else if let Some((id, name, length)) = read(rest).filter(|_| literal == 0) {
            let name = plain_text(name);
            let shown = escape(&name);
            let written = write!(marked, "<mention id=\"{id}\" type=\"user\" value=\"{shown}\">@{shown}</mention>");
            written.expect("writing to a String cannot fail");
            if mentioned.iter().all(|(known, _)| known != id) {
                mentioned.push((id.to_owned(), name));
            }
            length
        } else {
            marked.push('@');
            1
        };
        rest = &rest[taken..];
    }
    marked.push_str(rest);
    (Cow::Owned(marked), mentioned)
}

/// The id and the name of the mention that `text` begins with, and its length.
fn read(text: &str) -> Option<(&str, &str, usize)> {
    let inside = text.strip_prefix("@[")?;
    let (name, after) = inside.split_at_checked(inside.bytes().take(MAX_NAME + 1).position(|byte| byte == b']')?)?;
    if name.contains(['<', '\n']) || plain_text(name).is_empty() {
        return None;
    }
    let target = after.strip_prefix("](")?;
    let id = &target[..target.bytes().take(MAX_ID + 1).position(|byte| byte == b')')?];
    is_user_id(id).then(|| (id, name, "@[".len() + name.len() + "](".len() + id.len() + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::markup::{Sanitizer, markdown_to_html, text_to_html};

    #[test]
    fn a_mention_becomes_an_element_and_what_only_looks_like_one_stays() {
        for (html, expected, mentioned) in [
            (
                "hi @[Ana Ruiz](u1), see",
                "hi <mention id=\"u1\" type=\"user\" value=\"Ana Ruiz\">@Ana Ruiz</mention>, see",
                &[("u1", "Ana Ruiz")][..],
            ),
            (
                "@[A &amp; B](u-1_2)",
                "<mention id=\"u-1_2\" type=\"user\" value=\"A &amp; B\">@A &amp; B</mention>",
                &[("u-1_2", "A & B")],
            ),
            ("@[a\"b](u1)", "<mention id=\"u1\" type=\"user\" value=\"a&quot;b\">@a&quot;b</mention>", &[("u1", "a\"b")]),
            ("a@b.example @[] @[x]( @[x](u 1) @[x](https://e.example) @[ ](u1)", "", &[]),
            ("<code>@[x](u1)</code> <pre>@[x](u1)</pre> <a href=\"https://e.example/\">@[x](u1)</a>", "", &[]),
            ("@[<b>x</b>](u1)", "", &[]),
        ] {
            let (marked, found) = mark_mentions(Cow::Borrowed(html));
            assert_eq!(marked, if expected.is_empty() { html } else { expected });
            let found: Vec<_> = found.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
            assert_eq!(found, mentioned, "{html}");
        }
    }

    #[test]
    fn somebody_may_be_mentioned_in_markdown() {
        let html = markdown_to_html("**hi** @[Ana *R*](u1) and `@[x](u2)`, [link](u3)", &Sanitizer::new());
        let (_, mentioned) = mark_mentions(Cow::Owned(markdown_to_html("hi @[Ana Ruiz](u1) and `@[x](u2)`", &Sanitizer::new())));
        assert_eq!(mentioned, [("u1".to_owned(), "Ana Ruiz".to_owned())]);
        // Markup within the name makes it none.
        assert!(mark_mentions(Cow::Owned(html)).1.is_empty());
    }

    proptest! {
        #[test]
        fn no_name_escapes_from_its_element(text in "(@\\[[a-z<>&\"'\\]) ]{0,12}\\]\\([a-z0-9\"<>]{0,6}\\)| |<|a){0,6}") {
            let sanitizer = Sanitizer::new();
            let (marked, _) = mark_mentions(text_to_html(&text));
            prop_assert_eq!(plain_text(&sanitizer.clean(&marked)), plain_text(&marked));
        }
    }
}
