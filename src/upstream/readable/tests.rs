//! What HTML says, and that nothing of it is lost.

use proptest::prelude::*;

use super::*;
use crate::markup::{Sanitizer, markdown_to_html, text_to_html};
use crate::upstream::plain_text;

#[test]
fn layout_is_kept() {
    for (html, text) in [
        ("plain ü", "plain ü"),
        (" a \n\t b  ", "a b"),
        ("a<br>b<br/><br>c<br>", "a\nb\n\nc"),
        ("<p>one</p><p>two</p>three<div>four</div>five", "one\n\ntwo\n\nthree\nfour\nfive"),
        ("<div>one</div><div>two</div>", "one\ntwo"),
        ("<div>one</div><div><br></div><div>two</div>", "one\ntwo"),
        ("<h2>Title</h2>text", "Title\n\ntext"),
        ("x&nbsp;&nbsp;y&#160;", "x  y"),
        ("<p>&nbsp;</p>", ""),
        ("<b>b</b>old un<u>der</u> 1 &lt; 2", "bold under 1 < 2"),
        ("<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>d", "- a\n- b\n  - c\n\nd"),
        ("<ol><li>a<br>b</li><li><p>c</p><p>d</p></li></ol>", "1. a\n   b\n2. c\n   d"),
        ("<ol start=\"9\"><li>a<li>b</ol>", "9. a\n10. b"),
        ("<ul><li><ul><li>a</li></ul></li><li></li></ul>", "- - a"),
        ("<blockquote><p>a</p><p>b</p></blockquote><p>c</p>", "> a\n>\n> b\n\nc"),
        ("<blockquote>a<blockquote>b</blockquote></blockquote>", "> a\n>\n> > b"),
        ("<ul><li><blockquote>a<br>b</blockquote></li></ul>", "- > a\n  > b"),
        ("x<pre>\n  a\n\n\tb  \n</pre>y", "x\n\n  a\n\n\tb\n\ny"),
        ("<pre><code>if a &lt; b:\r\n    c</code></pre>", "if a < b:\n    c"),
        ("<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td></td><td>2</td></tr></table>", "a | b\n1 | | 2"),
        ("a<hr>b", "a\n\n---\n\nb"),
        ("<img alt=\"a &lt; b\" src=x> <img>c", "a < b c"),
        ("<script>a</script><!-- b -->c<style>d</style>", "c"),
        ("one<foo>two", "one two"),
        ("a <", "a <"),
    ] {
        assert_eq!(readable_text(html), text, "{html}");
    }
}

#[test]
fn links_and_mentions_say_where_and_whom() {
    for (html, text) in [
        ("see <a href=\"https://e.example/?a=1&amp;b=2\">the <b>log</b> </a>.", "see the log (https://e.example/?a=1&b=2) ."),
        ("<a href=\"https://e.example/\">https://e.example/</a>", "https://e.example/"),
        ("<a href=\"https://e.example/\">e.example</a>", "e.example"),
        ("<a href='mailto:ana@e.example'>ana@e.example</a>", "ana@e.example"),
        ("<a href=\"https://e.example/x\"></a>", "https://e.example/x"),
        ("<a href=\"https://e.example/x\"><img alt=\"plan\"></a>", "plan (https://e.example/x)"),
        ("<a href=\"javascript:alert(1)\">a</a> <a href=\"#b\">b</a> <a name=c>c</a> <a href=\"/d\">d</a>", "a b c d"),
        ("<a href=\"https://a.example\">a<a href=\"https://b.example\">b", "a (https://a.example)b (https://b.example)"),
        ("ask <mention id=\"u1\" type=\"user\" value=\"Ana\">@Ana</mention>!", "ask @Ana!"),
        ("ask <mention id=\"u1\" type=\"user\" value=\"Ana Ruiz\"></mention> now", "ask @Ana Ruiz now"),
    ] {
        assert_eq!(readable_text(html), text, "{html}");
    }
}

#[test]
fn markdown_reads_as_it_was_meant() {
    let html = markdown_to_html(
        "# Build 41\n\n- **red**\n- [log](https://ci.example/41)\n\n> why?\n\n```\na  b\n```\n",
        &Sanitizer::new(),
    );
    assert_eq!(readable_text(&html), "Build 41\n\n- red\n- log (https://ci.example/41)\n\n> why?\n\na  b");
}

#[test]
fn long_hostile_input_takes_time_in_proportion() {
    for piece in [
        "<ul>",
        "<blockquote>",
        "<li>",
        "<ul><li>",
        "<blockquote>a",
        "<a href=x>",
        "<td>",
        "<br>",
        "<pre>\n",
        "</ul>",
        "<ol start=4294967295><li>a",
    ] {
        let text = readable_text(&piece.repeat(50_000));
        assert!(text.len() <= 50_000 * (piece.len() + MAX_DEPTH * 12), "{piece}: {}", text.len());
    }
}

fn lines_of(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(|line| line.replace('\t', " ").trim_end().to_owned()).collect();
    lines.join("\n").trim_start_matches('\n').trim_end().to_owned()
}

proptest! {
    #[test]
    fn no_word_is_lost(html in "[<>&;#/!a-c \"'xéü👋=pubrlioh-]{0,60}") {
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        // Where there is no link, entry or quotation nothing is added either.
        let kept = letters(&readable_text(&html));
        for word in plain_text(&html).split_whitespace() {
            prop_assert!(kept.contains(word), "{} lacks {}", kept, word);
        }
    }

    #[test]
    fn no_line_ends_in_white_space(html in proptest::collection::vec(prop_oneof![
        "[a-c &]{0,6}", Just("<br>".to_owned()), Just("<p>".to_owned()), Just("</p>".to_owned()), Just("<ul>".to_owned()),
        Just("<li>".to_owned()), Just("</ul>".to_owned()), Just("<blockquote>".to_owned()), Just("</blockquote>".to_owned()),
        Just("&nbsp;".to_owned()), Just("<pre>".to_owned()), Just("</pre>".to_owned()), Just("\n".to_owned()),
        Just("<a href=\"https://e.example\">".to_owned()), Just("</a>".to_owned()), Just("<td>".to_owned()),
    ], 0..30)) {
        let text = readable_text(&html.concat());
        prop_assert!(text.split('\n').all(|line| line.trim_end() == line), "{:?}", text);
        prop_assert!(!text.starts_with('\n') && !text.ends_with('\n'), "{:?}", text);
    }

    #[test]
    fn text_comes_back(text in proptest::collection::vec(prop_oneof![
        "[<>&\"' a-zü\\n;#-]{0,12}", "https://[a-z]{1,8}\\.example/[a-z&=]{0,8}", Just("\r\n".to_owned()), Just("  ".to_owned())
    ], 0..8).prop_map(|pieces| pieces.concat())) {
        prop_assert_eq!(readable_text(&text_to_html(&text)), lines_of(&text.replace("\r\n", "\n")));
    }
}
