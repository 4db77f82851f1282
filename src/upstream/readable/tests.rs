use proptest::prelude::*;

use super::*;
use crate::markup::{Sanitizer, markdown_to_html, text_to_html};
use crate::upstream::plain_text;

#[test]
fn what_a_reader_sees_is_what_a_program_gets() {
    for (html, expected) in [
        ("plain", "plain"),
        ("  two  spaces \r\n and\n\n  lines ", "two  spaces \n and\n\n  lines"),
        ("a\nb &amp; c", "a\nb & c"),
        ("one<br>two<br/><br>four", "one\ntwo\n\nfour"),
        ("a<br>  indented", "a\n  indented"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<div>a</div><div><br></div><div>b</div>", "a\n\nb"),
        ("<div>a<br></div>\n  <div> b</div>", "a\nb"),
        ("<b>a</b> <i>b</i>c<unknown>d</unknown>", "a bcd"),
        ("a\n <b>b</b>", "a b"),
        ("<i>a \u{200b} b </i> c", "a  b c"),
        ("<p>todo:</p><ul>\n<li>a</li><li>b<ul><li>c<br>d</li></ul></li></ul>done", "todo:\n\n- a\n- b\n  - c\n    d\n\ndone"),
        ("<ol><li><p>a</p></li><li></li><li>c</li></ol><ol start=9><li>i<li>j</ol>", "1. a\n3. c\n\n9. i\n10. j"),
        ("<li>a</li><li>b</li>", "- a\n- b"),
        ("<blockquote><p>a</p><p>b</p></blockquote>c", "> a\n>\n> b\n\nc"),
        ("<blockquote>a<blockquote>b</blockquote></blockquote>", "> a\n>\n> > b"),
        ("x<pre>\nfn a() {\n\tb  &lt;c&gt;\n}\n</pre>y", "x\n\nfn a() {\n\tb  <c>\n}\n\ny"),
        ("<h1>Title</h1>words<hr>more", "Title\n\nwords\n\n---\n\nmore"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a\tb\nc"),
        ("<a href=\"https://e.example/?a=1&amp;b=2&copy=3\">look</a>.", "look (https://e.example/?a=1&b=2&copy=3)."),
        ("<a href=\"https://e.example/\">https://e.example</a>", "https://e.example"),
        ("<a href='mailto:a@e.example'>a@e.example</a>", "a@e.example"),
        ("<a href=https://e.example/></a>", "https://e.example/"),
        ("<a href=\"javascript:x()\">a</a><a href=\"/files\">b</a><a>c</a>", "abc"),
        ("<a href=\"https://e.example/\">never closed", "never closed (https://e.example/)"),
        ("hi <mention id=\"u1\" type=\"user\" value=\"Ana Ruiz\">@Ana Ruiz</mention>!", "hi @Ana Ruiz!"),
        ("<mention id=u1>Ana</mention> <mention id=u2 value=\"Bo &amp; Co\"></mention>", "@Ana @Bo & Co"),
        ("<img src=x alt=\"a smile\"> <img src=y>b", "a smile b"),
        ("a&nbsp;&nbsp;b\u{a0}c&#8203;d\u{200b}e\u{feff}", "a  b cde"),
        ("gr&uuml;&szlig;e &#128075; 👩\u{200d}💻 &#0;&#xD800;&#99999999999;", "grüße 👋 👩\u{200d}💻 \u{FFFD}\u{FFFD}\u{FFFD}"),
        ("1 < 2 && 3 > 2 &unknown; & i <3 u </3", "1 < 2 && 3 > 2 &unknown; & i <3 u </3"),
        ("<ana@e.example> wrote <https://e.example/>", "<ana@e.example> wrote <https://e.example/>"),
        ("<!DOCTYPE html><!-- <b> --><script>alert('</p>')</script><STYLE>p{}</STYLE><o:p>x</o:p>", "x"),
        ("a<p", "a<p"),
        ("a <b unclosed", "a <b unclosed"),
        ("a <!-- open <b>b</b>", "a <!-- open b"),
        ("a<script>b<br>c", "ab\nc"),
        ("<b title=\"open>a <i>b</i>", "a b"),
        ("<b title='x>y'>a</b>", "a"),
        ("</ul></li></blockquote></pre></a></mention>a", "a"),
        ("", ""),
    ] {
        assert_eq!(readable_text(html), expected, "{html}");
    }
}

#[test]
fn markdown_reads_as_it_was_written() {
    let markdown = "# Title\n\nwords *here*\nand [there](https://e.example/x)\n\n- a\n- b\n\n1. c\n2. d\n\n> said\n\n```\nlet a = 1;\n  b();\n```";
    let read = readable_text(&markdown_to_html(markdown, &Sanitizer::new()));
    let expected =
        "Title\n\nwords here\nand there (https://e.example/x)\n\n- a\n- b\n\n1. c\n2. d\n\n> said\n\nlet a = 1;\n  b();";
    assert_eq!(read, expected);
}

#[test]
fn hostile_input_grows_by_no_more_than_a_factor() {
    for piece in [
        "<",
        "<a",
        "<!--",
        "<script>",
        "<script ",
        "&",
        "&a",
        "&#",
        "<a \"",
        "<a '>",
        " ",
        "</",
        "<b \"'>",
        "<!a",
        "\u{a0}",
        "<blockquote>",
        "<blockquote><br>a",
        "<ol><li>",
        "<ol><li>a",
        "<ul></ol>",
        "<a href=a:b>",
        "<a href=a:b>x",
        "<mention value=a>",
        "<pre>\n",
        "<br>",
        "<td>",
        "<b a=a a=b ",
        "<a href='&amp;",
        "</a>",
        "<hr>",
        "\r\n",
    ] {
        let html = piece.repeat(50_000);
        assert!(readable_text(&html).len() <= 64 * html.len(), "{piece}");
    }
}

/// Text as it comes back: line breaks are line feeds, no-break spaces are spaces, what has no width is gone, and so is white space
/// at the end of a line and around the whole.
fn as_it_comes_back(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\u{a0}', " ").replace(['\u{200b}', '\u{feff}'], "");
    let ends = [' ', '\t', '\u{c}'];
    text.split('\n').map(|line| line.trim_end_matches(ends)).collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn hostile_html() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        "[<>/!&;='\" a-z\\-\n]{0,12}",
        proptest::sample::select(vec![
            "<p>",
            "</p>",
            "<br>",
            "<ul>",
            "</ul>",
            "<ol start=3>",
            "<li>",
            "</li>",
            "<blockquote>",
            "</blockquote>",
            "<pre>",
            "</pre>",
            "<a href=\"https://e.example/\">",
            "<a href='",
            "</a>",
            "<mention value=x>",
            "</mention>",
            "<img alt=y>",
            "<script>",
            "</script>",
            "<!--",
            "-->",
            "&nbsp;",
            "&#x200b;",
            "&lt;",
            "<td>",
            "ü",
            "👋",
            "\r\n",
            "\u{a0}",
            "\u{feff}",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn text_that_is_sent_comes_back(pieces in proptest::collection::vec(
        prop_oneof![
            "[<>&\"'();# a-zü👋\n\t\r\u{a0}\u{200b}-]{0,16}",
            "https://[a-z]{1,8}\\.example/[a-z&<>\"'?=]{0,8}",
            "&(amp|lt|nbsp|#32);?",
        ], 0..8)
    ) {
        let text = pieces.concat();
        let read = readable_text(&text_to_html(&text));
        prop_assert_eq!(as_it_comes_back(&read), as_it_comes_back(&text));
        prop_assert_eq!(&readable_text(&Sanitizer::new().clean(&text_to_html(&text))), &read);
    }

    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        prop_assert_eq!(as_it_comes_back(&readable_text(&text_to_html(&text))), as_it_comes_back(&text));
    }

    /// Nothing of what a reader sees is lost: the words of the one-line text are all there, in order.
    #[test]
    fn no_word_is_lost(html in hostile_html()) {
        let clean = Sanitizer::new().clean(&html).into_owned();
        let readable = readable_text(&clean);
        let mut characters = readable.chars();
        for wanted in plain_text(&clean).chars().filter(|c| !c.is_whitespace() && !matches!(c, '\u{200b}' | '\u{feff}')) {
            prop_assert!(characters.any(|found| found == wanted), "`{wanted}` of {clean:?} is not in {readable:?}");
        }
    }

    #[test]
    fn nothing_breaks_it(html in hostile_html()) {
        let text = readable_text(&html);
        prop_assert_eq!(text.trim(), &text);
        let is_unseen = |c| matches!(c, '\r' | '\u{200b}' | '\u{feff}' | '\u{a0}');
        // Addresses are passed on as they are.
        prop_assert!(html.contains("href") || !text.contains(is_unseen));
    }
}
