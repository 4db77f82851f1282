//! Whatever is converted, a parser that follows the rules of browsers finds nothing in it but what is allowed.

use std::borrow::Cow;

use html5ever::tendril::TendrilSink as _;
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use proptest::prelude::*;

use super::*;

/// What the parser adds to every document.
const FRAME: [&str; 3] = ["html", "head", "body"];

/// The first thing in `html` that is not allowed, as a browser reads it.
fn fault(html: &str) -> Option<String> {
    let document = html5ever::parse_document(RcDom::default(), html5ever::ParseOpts::default()).one(html);
    let mut nodes: Vec<Handle> = vec![document.document.clone()];
    while let Some(node) = nodes.pop() {
        nodes.extend(node.children.borrow().iter().cloned());
        match &node.data {
            NodeData::Document | NodeData::Text { .. } => {}
            NodeData::Element { name, attrs, .. } => {
                let element = &*name.local;
                let attrs = attrs.borrow();
                let is_frame = FRAME.contains(&element) && attrs.is_empty();
                if name.ns != html5ever::ns!(html) || (!is_frame && !ELEMENTS.contains(&element)) {
                    return Some(format!("<{element}>"));
                }
                for attribute in attrs.iter() {
                    let (key, value) = (&*attribute.name.local, &*attribute.value);
                    if !ATTRIBUTES.iter().any(|(of, names)| *of == element && names.contains(&key)) {
                        return Some(format!("<{element} {key}>"));
                    }
                    // As a browser reads an address: without white space around it and without breaks in it.
                    let address = value.trim_matches(|c: char| c <= ' ').replace(['\t', '\n', '\r'], "").to_lowercase();
                    let is_allowed = address.split_once(':').is_some_and(|(scheme, _)| SCHEMES.contains(&scheme));
                    if key == "href" && !is_allowed {
                        return Some(format!("href={value}"));
                    }
                }
            }
            NodeData::Doctype { .. } | NodeData::Comment { .. } | NodeData::ProcessingInstruction { .. } => {
                return Some("what is neither text nor element".to_owned());
            }
        }
    }
    None
}

#[test]
fn the_judge_finds_what_is_not_allowed() {
    for html in [
        "<img>",
        "a<script>",
        "<p onclick=x>",
        "<a href=javascript:x()>",
        "<a href=' java\nscript:x'>",
        "<a href=/x>",
        "<!-- -->",
        "<svg>",
        "<body onload=x>",
        "<mention onclick=x>",
        "<math><a>",
    ] {
        assert!(fault(html).is_some(), "{html}");
    }
    assert_eq!(fault("<p>a <a href=\"HTTPS://e.example/\" title=x>b</a><mention id=u type=user value=x>@x</mention></p>"), None);
}

fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        "[<>/!&;='\"`()\\[\\]*_~# a-z:\n\t\\-\\x00]{0,12}",
        proptest::sample::select(vec![
            "<svg>",
            "<math>",
            "<style>",
            "</style>",
            "<script>",
            "</script>",
            "<img src=x onerror=y>",
            "<p>",
            "</p>",
            "<a href='",
            "<a href=\"https://e/<img>\">",
            "<a href=javascript:x()>",
            "<a href=\"java&Tab;script:x\">",
            "</a>",
            "<noscript>",
            "<template>",
            "<iframe>",
            "<mtext>",
            "<mglyph>",
            "<annotation-xml encoding=text/html>",
            "<foreignobject>",
            "<!--",
            "--!>",
            "-->",
            "<![CDATA[",
            "]]>",
            "<title>",
            "</title>",
            "<textarea>",
            "<plaintext>",
            "<xmp>",
            "<b x=\"<i>\">",
            "<select>",
            "<option>",
            "<table>",
            "<td>",
            "<caption>",
            "<form>",
            "<frameset>",
            "<body onload=x>",
            "<html>",
            "<pre>\n",
            "<li>",
            "&lt;",
            "&#60;",
            "[x](javascript:x())",
            "[x](java\nscript:x)",
            "[x](data:text/html,<b>)",
            "![x](https://e.example/<)",
            "<javascript:x>",
            "[x]: javascript:x\n\n[x]",
            "https://e.example/\"onclick=x",
            "http://<img>",
            "javascript://x",
            "@[<b>](u1)",
            "@[\"x](u1)",
            "@[x](u1)",
            "```\n",
            "    <b>",
            "> ",
            "- ",
            "\u{a0}",
            "\u{202e}",
            "\r\n",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

/// `html` with its mentions made elements, as it is sent.
fn sent(html: Cow<'_, str>) -> String {
    mark_mentions(html).0.into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn text_becomes_nothing_but_what_is_allowed(text in hostile()) {
        let html = sent(text_to_html(&text));
        prop_assert_eq!(fault(&html), None, "{}", html);
    }

    #[test]
    fn markdown_becomes_nothing_but_what_is_allowed(markdown in hostile()) {
        let html = sent(Cow::Owned(markdown_to_html(&markdown, &Sanitizer::new())));
        prop_assert_eq!(fault(&html), None, "{}", html);
    }

    #[test]
    fn html_becomes_nothing_but_what_is_allowed(html in hostile()) {
        let html = sent(Sanitizer::new().clean(&html));
        prop_assert_eq!(fault(&html), None, "{}", html);
    }

    #[test]
    fn built_html_has_nothing_but_what_is_allowed(words in hostile(), address in hostile()) {
        let html = Html::new().bold(&words).line().link(&address, &words).code(&address).code_block(&words).text(&address).into_string();
        prop_assert_eq!(fault(&html), None, "{}", html);
    }
}
