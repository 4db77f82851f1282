//! Cuts by example, and what holds of all of them.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::markup::{Sanitizer, mark_mentions, markdown_to_html, text_to_html};
use crate::upstream::plain_text;

fn room(most: usize) -> Room<'static> {
    Room { first: most, others: most, mention: &|_| 0 }
}

fn parts(html: &str, most: usize) -> Vec<String> {
    split_html(html, &room(most)).expect("parts")
}

#[test]
fn the_best_place_is_taken() {
    for (html, most, expected) in [
        ("<p>one two</p>\n<p>three. four</p>", 24, &["<p>one two</p>", "<p>three. four</p>"][..]),
        ("one two six<br><br>three<br>four", 22, &["one two six", "three<br>four"]),
        ("one two<br>three four<br>five", 26, &["one two<br>three four", "five"]),
        ("One two. Three four five", 16, &["One two.", "Three four five"]),
        ("He said &quot;no.&quot; Then he left", 26, &["He said &quot;no.&quot;", "Then he left"]),
        ("one two three", 8, &["one two", "three"]),
        ("abcdefgh", 3, &["abc", "def", "gh"]),
        ("一二。三四五", 12, &["一二。", "三四五"]),
    ] {
        assert_eq!(parts(html, most), expected, "{html}");
    }
}

#[test]
fn what_is_open_is_closed_and_opened_again() {
    assert_eq!(
        parts("<ul><li><b>one two three</b></li><li>four</li></ul>", 34),
        ["<ul><li><b>one two</b></li></ul>", "<ul><li><b>three</b></li></ul>", "<ul><li>four</li></ul>"]
    );
    assert_eq!(
        parts("<p>one <b>two</b></p><p><i>three</i></p>", 24),
        ["<p>one <b>two</b></p>", "<p><i>three</i></p>"],
        "no element is left empty"
    );
    assert_eq!(
        parts("<pre><code>if a:\n    b\n\n    c\n</code></pre>", 41),
        ["<pre><code>if a:\n    b</code></pre>", "<pre><code>    c</code></pre>"],
        "lines keep their indentation"
    );
}

#[test]
fn links_mentions_escapes_and_joined_characters_stay_whole() {
    let link = "<a href=\"https://e.example/x\">one two</a>";
    assert_eq!(parts(&format!("see here {link} now"), weight(link)), ["see here", link, "now"]);
    assert!(split_html(link, &room(weight(link) - 1)).is_none(), "what has no room is not cut");
    let mention = "<mention id=\"u1\" type=\"user\" value=\"Ana Ruiz\">@Ana Ruiz</mention>";
    assert_eq!(parts(&format!("hello {mention}"), weight(mention)), ["hello", mention]);
    let tight = Room { mention: &|_| 1, ..room(weight(mention)) };
    assert!(split_html(&format!("hello {mention}"), &tight).is_none(), "what it takes elsewhere counts");
    assert_eq!(mentioned_in(&format!("{mention}<mention type=\"user\" id=\"u2\">x</mention>")).collect::<Vec<_>>(), ["u1", "u2"]);
    assert_eq!(parts("aa&amp;&amp;", 8), ["aa&amp;", "&amp;"]);
    assert_eq!(parts("ae\u{301}o\u{308}", 4), ["ae\u{301}", "o\u{308}"]);
    let family = "👨\u{200d}👩\u{200d}👧";
    assert_eq!(parts(&format!("{family}{family}"), family.len()), [family, family]);
    assert_eq!(parts("🇩🇪🇫🇷", 12), ["🇩🇪", "🇫🇷"]);
}

#[test]
fn there_are_not_too_many() {
    assert_eq!(parts(&"a".repeat(10 * MAX_PARTS), 10).len(), MAX_PARTS);
    assert!(split_html(&"a".repeat(10 * MAX_PARTS + 1), &room(10)).is_none());
    // Cut at ease there would be more.
    assert!(parts(&"aaaaa<br>bbbb ".repeat(MAX_PARTS), 16).len() <= MAX_PARTS);
    assert!(split_html("a", &room(0)).is_none());
    assert!(parts(" <p> </p><br>&#32;", 100).len() <= 1);
}

#[test]
fn long_hostile_input_is_read_in_time() {
    for piece in ["<", "<b>", "<a href=\"", "<mention ", "&", "\u{301}", " ", "<p> </p>", "<br>", "\u{1f1e6}"] {
        let html = piece.repeat(100_000);
        if let Some(parts) = split_html(&html, &room(50_000)) {
            assert!(parts.iter().all(|part| weight(part) <= 50_000), "{piece}");
        }
    }
}

/// Without white space, which may go at a cut.
fn letters(text: &str) -> String {
    text.split_whitespace().collect()
}

fn html() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zü&<>\"'.!? ]{0,24}",
        1 => "[\\n ]{1,3}",
        1 => proptest::sample::select(vec![
            "https://e.example/a?b=c&d", "@[Ana Ruiz](u1)", "**", "_", "`", "```\n", "- a\n", "1. b\n", "> q\n", "# h\n", "\n\n", "<b>",
            "</b>", "<p>", "</p>", "<pre>", "</pre>", "<li>", "<br>", "<a href=\"https://e.example/\">", "</a>", "<a title=\"x>y\">",
            "<mention id=\"u2\" type=\"user\">", "</mention>", "&nbsp;", "🇩🇪", "e\u{301}", "👩\u{200d}👧", "。", "\\", "\t",
        ]).prop_map(str::to_owned),
    ];
    (0..3, proptest::collection::vec(piece, 0..40)).prop_map(|(form, pieces)| {
        let (text, sanitizer) = (pieces.concat(), Sanitizer::new());
        let html = match form {
            0 => text_to_html(&text),
            1 => Cow::Owned(markdown_to_html(&text, &sanitizer)),
            _ => Cow::Owned(sanitizer.clean(&text).into_owned()),
        };
        mark_mentions(html).0.into_owned()
    })
}

proptest! {
    #[test]
    fn the_parts_fit_are_whole_and_say_all_that_was_said(html in html(), most in 100_usize..600) {
        let Some(parts) = split_html(&html, &room(most)) else {
            // Something was not to be cut, or there is too much of it.
            return Ok(());
        };
        let sanitizer = Sanitizer::new();
        let mut said = String::new();
        for part in &parts {
            let size = serde_json::to_string(part).expect("a text").len() - 2;
            prop_assert!(size == weight(part) && size <= most, "{} of {most}: {part}", weight(part));
            // What is well formed and of the elements that are allowed comes out of the sanitiser as it went in.
            let clean = |html: &str| sanitizer.clean(html).into_owned();
            prop_assert_eq!(clean(part), clean(&clean(part)));
            prop_assert_eq!(letters(&plain_text(&clean(part))), letters(&plain_text(part)));
            prop_assert_eq!(part.matches('<').count(), clean(part).matches('<').count(), "{}", part);
            said.push_str(&letters(&plain_text(part)));
        }
        prop_assert_eq!(said, letters(&plain_text(&html)), "{:?}", parts);
    }

    #[test]
    fn plain_text_of_some_length_can_always_be_split(text in "[a-zü&<>.! \\n]{1,900}") {
        let html = text_to_html(&text);
        let parts = parts(&html, 400);
        prop_assert!(parts.len() <= 20 && parts.iter().all(|part| weight(part) <= 400));
    }
}
