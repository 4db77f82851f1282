//! Making a message fit into what Spaces takes: what is too long is cut at a sensible place, and says so.

use super::format::Rendered;
use crate::domain::{MessageRef, SpaceId};
use crate::markup::{Html, Sanitizer};
use crate::session::OutgoingMessage;
use crate::upstream::plain_text;

/// Bytes that are cut off at least when a piece is still too long.
const STEP: usize = 64;

/// The message for `space` that says what was rendered, in `limit` bytes at most as Spaces gets it; cut if it has to be.
pub fn fitted(
    rendered: &Rendered,
    (reference, space): (MessageRef, SpaceId),
    limit: usize,
    sanitizer: &Sanitizer,
) -> OutgoingMessage {
    let message = |html: &str, text: String| OutgoingMessage::chat(reference.clone(), space.clone(), (html, text), None, &[]);
    let whole = message(&rendered.html, rendered.text.clone());
    let mut size = whole.payload.len();
    if size <= limit {
        return whole;
    }
    let words = format!("… cut here; the whole has {} characters", rendered.text.chars().count());
    let note = Html::new().italic(&words).into_string();
    let mut budget = rendered.html.len();
    loop {
        // What is escaped takes more room in the message than here, so that the share counts, not the difference.
        budget = (budget.saturating_mul(limit) / size.max(1)).min(budget.saturating_sub(STEP));
        let piece = sanitizer.clean(beginning(&rendered.html, budget));
        let html = if piece.is_empty() { note.clone() } else { format!("{piece}<br>{note}") };
        let cut = message(&html, plain_text(&html));
        size = cut.payload.len();
        if size <= limit || budget == 0 {
            return cut;
        }
    }
}

/// The beginning of `html` in `most` bytes at most: up to the end of a line or a word if there is one near, never within a tag or an
/// escaped character. What is open is not closed.
fn beginning(html: &str, most: usize) -> &str {
    let mut end = html.floor_char_boundary(most);
    if end == html.len() {
        return html;
    }
    if let Some(tag) = html[..end].rfind('<').filter(|tag| !html[*tag..end].contains('>')) {
        end = tag;
    }
    if let Some(escape) = html[..end].rfind('&').filter(|escape| !html[*escape..end].contains(';')) {
        end = escape;
    }
    let near = end - end / 4;
    let at = ["<br>", "</p>", "</li>", " "].into_iter().find_map(|mark| html[..end].rfind(mark).filter(|at| *at >= near));
    &html[..at.unwrap_or(end)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::format::Format;
    use super::*;

    fn rendered(html: &str) -> Rendered {
        Rendered { html: html.to_owned(), text: plain_text(html), format: Format::Auto, trouble: None }
    }

    fn fit(html: &str, limit: usize) -> OutgoingMessage {
        let (reference, space) = (MessageRef::random(), "s1".parse().expect("an id"));
        fitted(&rendered(html), (reference, space), limit, &Sanitizer::new())
    }

    fn words(message: &OutgoingMessage) -> String {
        let payload: serde_json::Value = serde_json::from_str(&message.payload).expect("JSON");
        payload["content"]["bodyText"].as_str().expect("a text").to_owned()
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(words(&fit("<b>a</b>", 10_000)), "<b>a</b>");
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_line_and_says_so() {
        let lines = (0..200).map(|number| format!("line {number}")).collect::<Vec<_>>().join("<br>");
        let message = fit(&format!("<b>{lines}</b>"), 1_000);
        let html = words(&message);
        assert!(message.payload.len() <= 1_000 && message.payload.len() > 700, "{}", message.payload.len());
        assert!(html.starts_with("<b>line 0<br>line 1<br>"), "{html}");
        let (kept, note) = html.split_once("</b><br>").expect("the element is closed");
        assert!(kept.rsplit("<br>").next().is_some_and(|last| last.starts_with("line ")), "{html}");
        assert_eq!(note, "<i>… cut here; the whole has 1689 characters</i>");
        assert!(message.plain_text.ends_with("the whole has 1689 characters"), "{}", message.plain_text);
    }

    #[test]
    fn tags_and_escapes_stay_whole() {
        let html = "aaaa &amp; bbbb <a href=\"https://e.example/\">cccc</a>";
        for most in 0..html.len() {
            let kept = beginning(html, most);
            assert!(kept.len() <= most && kept.matches('<').count() == kept.matches('>').count(), "{most}: {kept}");
            assert!(!kept.contains('&') || kept.contains("&amp;"), "{most}: {kept}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_fits(html in "(<b>|</b>|&amp;|ü|[a-z\" ]{0,40}|<br>){0,60}", limit in 400_usize..2_000) {
            let message = fit(&html, limit);
            prop_assert!(message.payload.len() <= limit, "{} of {}", message.payload.len(), limit);
        }
    }
}
