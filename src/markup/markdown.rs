//! Markdown as HTML that Spaces shows.
//!
//! `CommonMark` (<https://spec.commonmark.org/0.31.2/>) with strike-through, and with web addresses made links. HTML within it is
//! not passed on but shown as it is written; who wants HTML has a field for it.

use std::borrow::Cow;

use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd, html};

use super::Sanitizer;
use super::mention::is_user_id;
use super::text::is_web;

/// `markdown` as HTML of the elements that Spaces shows.
pub fn markdown_to_html(markdown: &str, sanitizer: &Sanitizer) -> String {
    let (mut in_link, mut mention) = (0_usize, None);
    let mut events = Vec::new();
    for event in Parser::new_ext(markdown, Options::ENABLE_STRIKETHROUGH) {
        match event {
            Event::InlineHtml(text) => events.push(Event::Text(text)),
            Event::Start(Tag::HtmlBlock) => events.push(Event::Start(Tag::Paragraph)),
            Event::Html(line) => {
                events.push(Event::Text(CowStr::from(line.trim_end_matches('\n').to_owned())));
                events.push(Event::HardBreak);
            }
            Event::End(TagEnd::HtmlBlock) => {
                events.pop_if(|last| *last == Event::HardBreak);
                events.push(Event::End(TagEnd::Paragraph));
            }
            // A line that the writer broke is a line that the reader sees.
            Event::SoftBreak => events.push(Event::HardBreak),
            // Spaces shows no pictures in texts; a link to it is what can be given.
            Event::Start(Tag::Image { dest_url, title, .. }) => {
                in_link += 1;
                let (link_type, id) = (LinkType::Inline, CowStr::Borrowed(""));
                events.push(Event::Start(Tag::Link { link_type, dest_url, title, id }));
            }
            Event::End(TagEnd::Image) => {
                in_link = in_link.saturating_sub(1);
                events.push(Event::End(TagEnd::Link));
            }
            // A mention looks like a link; it is left as it was written, for who makes mentions of it.
            Event::Start(Tag::Link { dest_url, .. }) if is_user_id(&dest_url) && ends_with_at(&events) => {
                mention = Some(dest_url);
                events.push(Event::Text(CowStr::Borrowed("[")));
            }
            Event::End(TagEnd::Link) if mention.is_some() => {
                let id = mention.take().unwrap_or(CowStr::Borrowed(""));
                events.push(Event::Text(CowStr::from(format!("]({id})"))));
            }
            Event::Start(Tag::Link { .. }) => {
                in_link += 1;
                events.push(event);
            }
            Event::End(TagEnd::Link) => {
                in_link = in_link.saturating_sub(1);
                events.push(event);
            }
            // Headings below the third level, which Spaces does not know, are third-level headings.
            Event::Start(Tag::Heading { level, id, classes, attrs }) => {
                events.push(Event::Start(Tag::Heading { level: level.min(LOWEST), id, classes, attrs }));
            }
            Event::End(TagEnd::Heading(level)) => events.push(Event::End(TagEnd::Heading(level.min(LOWEST)))),
            Event::Text(text) if in_link == 0 && text.contains("://") => push_with_links(&mut events, &text),
            other => events.push(other),
        }
    }
    let mut html = String::with_capacity(markdown.len() + markdown.len() / 2);
    html::push_html(&mut html, events.into_iter());
    match sanitizer.clean(html.trim_end()) {
        Cow::Owned(clean) => clean,
        Cow::Borrowed(clean) => clean.to_owned(),
    }
}

/// Whether what was said so far ends in an `@`.
fn ends_with_at(events: &[Event<'_>]) -> bool {
    matches!(events.last(), Some(Event::Text(text)) if text.ends_with('@'))
}

/// The lowest level of headings that Spaces shows.
const LOWEST: pulldown_cmark::HeadingLevel = pulldown_cmark::HeadingLevel::H3;

/// Pushes a text with its web addresses as links.
fn push_with_links(events: &mut Vec<Event<'_>>, text: &str) {
    let mut finder = linkify::LinkFinder::new();
    finder.kinds(&[linkify::LinkKind::Url]);
    for span in finder.spans(text) {
        let shown = CowStr::from(span.as_str().to_owned());
        if span.kind().is_some() && is_web(span.as_str()) {
            let (dest_url, empty) = (shown.clone(), CowStr::Borrowed(""));
            let link = Tag::Link { link_type: LinkType::Autolink, dest_url, title: empty.clone(), id: empty };
            events.extend([Event::Start(link), Event::Text(shown), Event::End(TagEnd::Link)]);
        } else {
            events.push(Event::Text(shown));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::markup::ELEMENTS;

    #[test]
    fn markdown_becomes_the_html_that_spaces_shows() {
        for (markdown, html) in [
            ("plain", "<p>plain</p>"),
            ("**a** _b_ ~~c~~ `d<e`", "<p><strong>a</strong> <em>b</em> <del>c</del> <code>d&lt;e</code></p>"),
            ("a\nb", "<p>a<br>\nb</p>"),
            ("#### deep", "<h3>deep</h3>"),
            ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
            ("> q", "<blockquote>\n<p>q</p>\n</blockquote>"),
            ("[x](https://e.example/?a=1&b=2 \"t\")", "<p><a href=\"https://e.example/?a=1&amp;b=2\" title=\"t\">x</a></p>"),
            ("[x](javascript:alert(1))", "<p><a>x</a></p>"),
            ("![alt](https://e.example/p.png)", "<p><a href=\"https://e.example/p.png\">alt</a></p>"),
            ("see https://e.example/a.", "<p>see <a href=\"https://e.example/a\">https://e.example/a</a>.</p>"),
            ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
            ("<div>\na\n</div>", "<p>&lt;div&gt;<br>\na<br>\n&lt;/div&gt;</p>"),
            ("a <b>c</b>", "<p>a &lt;b&gt;c&lt;/b&gt;</p>"),
            ("```\nx < y\n```", "<pre><code>x &lt; y\n</code></pre>"),
        ] {
            assert_eq!(markdown_to_html(markdown, &Sanitizer::new()), html, "{markdown}");
        }
    }

    proptest! {
        #[test]
        fn no_markdown_makes_another_element(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[<>/!&;='\" a-z*_`#\\[\\]()\\n~-]{0,12}",
                    proptest::sample::select(vec![
                        "<svg onload=x>", "<img src=x onerror=y>", "[a](javascript:x)", "![a](data:text/html,x)", "<!--", "-->",
                        "```\n", "[^1]", "| a | b |\n|---|---|\n", "- [ ] t\n", "<iframe>", "&lt;script&gt;",
                    ]).prop_map(str::to_owned),
                ],
                0..12,
            )
        ) {
            let html = markdown_to_html(&pieces.concat(), &Sanitizer::new());
            for tag in html.split('<').skip(1) {
                let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
                prop_assert!(ELEMENTS.contains(&name.as_str()), "`{}` in {}", name, html);
            }
            for address in html.split("href=\"").skip(1) {
                let allowed = ["http://", "https://", "mailto:", "tel:"].iter().any(|scheme| address.starts_with(scheme));
                prop_assert!(allowed, "{}", html);
            }
        }
    }
}
