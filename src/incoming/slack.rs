//! The format of Slack's incoming webhooks, reduced to words.
//!
//! Sources: <https://docs.slack.dev/messaging/formatting-message-text/>, <https://docs.slack.dev/reference/block-kit/blocks/>,
//! <https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments/>. Mattermost takes the same objects with
//! Markdown in them: <https://developers.mattermost.com/integrate/webhooks/incoming/>.

use serde_json::Value;

use super::presets::shorten;
use crate::markup::{Html, Sanitizer, markdown_to_html};

/// Which markup the texts are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Slack's own: `*bold*`, `_italic_`, `~struck~`, `<address|words>`.
    Slack,
    /// Markdown, as Mattermost takes it.
    Markdown,
}

/// Most pieces of a message that are shown; what comes after is counted.
const MAX_PIECES: usize = 50;

/// Longest text that is shown, in characters; the most that Slack takes in a message.
const MAX_TEXT: usize = 40_000;

/// Longest address with its words, in bytes.
const MAX_ADDRESS: usize = 4_000;

/// Longest piece of text between two marks, in bytes.
const MAX_SPAN: usize = 1_000;

/// A message of this format as HTML. `None` if there is nothing in it that could be shown.
pub(super) fn render(message: &Value, dialect: Dialect, sanitizer: &Sanitizer) -> Option<String> {
    let mut pieces = Vec::new();
    let writer = Writer { dialect, sanitizer };
    let blocks = items(message, "blocks");
    // With blocks, the text is what is shown where blocks cannot be.
    if blocks.is_empty() {
        pieces.extend(string(message, "text").map(|text| writer.words(text)));
    }
    pieces.extend(blocks.iter().filter_map(|block| writer.block(block)));
    for attachment in items(message, "attachments") {
        writer.attachment(attachment, &mut pieces);
    }
    if pieces.is_empty() {
        pieces.extend(string(message, "text").map(|text| writer.words(text)));
    }
    pieces.retain(|piece| !piece.is_empty());
    let left_out = pieces.len().saturating_sub(MAX_PIECES);
    pieces.truncate(MAX_PIECES);
    if left_out > 0 {
        pieces.push(Html::new().italic(&format!("… and {left_out} more parts")).into_string());
    }
    (!pieces.is_empty()).then(|| pieces.join("<br>"))
}

struct Writer<'a> {
    dialect: Dialect,
    sanitizer: &'a Sanitizer,
}

impl Writer<'_> {
    /// Text in the dialect.
    fn words(&self, text: &str) -> String {
        let text = &shorten(text, MAX_TEXT);
        match self.dialect {
            Dialect::Slack => mrkdwn(text).into_string(),
            Dialect::Markdown => {
                let html = markdown_to_html(text, self.sanitizer);
                // One paragraph needs no element of its own.
                let inner = html.strip_prefix("<p>").and_then(|rest| rest.strip_suffix("</p>"));
                inner.filter(|inner| !inner.contains("<p>")).map_or(html.clone(), str::to_owned)
            }
        }
    }

    /// A text object: `{type: mrkdwn | plain_text, text}`.
    fn text_object(&self, object: &Value) -> Option<String> {
        let text = string(object, "text")?;
        let plain = string(object, "type") == Some("plain_text");
        Some(if plain { Html::new().text(text).into_string() } else { self.words(text) })
    }

    fn block(&self, block: &Value) -> Option<String> {
        match string(block, "type")? {
            "header" => string(block.get("text")?, "text").map(|text| Html::new().bold(text).into_string()),
            "section" => {
                let mut parts: Vec<String> = block.get("text").and_then(|text| self.text_object(text)).into_iter().collect();
                parts.extend(items(block, "fields").iter().filter_map(|field| self.text_object(field)));
                Some(parts.join("<br>"))
            }
            "context" => {
                let parts = items(block, "elements").iter().filter_map(|element| match string(element, "type") {
                    Some("image") => string(element, "alt_text").map(|text| Html::new().text(text).into_string()),
                    _ => self.text_object(element),
                });
                Some(parts.collect::<Vec<_>>().join(" · "))
            }
            "image" => Some(image(block)),
            "actions" => {
                let buttons = items(block, "elements").iter().filter_map(|element| {
                    let words = element.get("text").and_then(|text| string(text, "text"))?;
                    string(element, "url").map(|address| Html::new().link(address, words).into_string())
                });
                Some(buttons.collect::<Vec<_>>().join(" · "))
            }
            "markdown" => string(block, "text").map(|text| markdown_to_html(text, self.sanitizer)),
            "rich_text" => {
                let sections: Vec<String> = items(block, "elements").iter().map(rich_section).collect();
                Some(sections.join("<br>"))
            }
            "divider" => Some("—".to_owned()),
            _ => None,
        }
    }

    fn attachment(&self, attachment: &Value, pieces: &mut Vec<String>) {
        let before = pieces.len();
        pieces.extend(string(attachment, "pretext").map(|text| self.words(text)));
        pieces.extend(string(attachment, "author_name").map(|name| linked(attachment, "author_link", name).into_string()));
        if let Some(title) = string(attachment, "title") {
            let title = match string(attachment, "title_link") {
                Some(address) => Html::new().link(address, title),
                None => Html::new().bold(title),
            };
            pieces.push(title.into_string());
        }
        pieces.extend(string(attachment, "text").map(|text| self.words(text)));
        pieces.extend(items(attachment, "blocks").iter().filter_map(|block| self.block(block)));
        for field in items(attachment, "fields") {
            let value = match field.get("value") {
                Some(Value::String(text)) => self.words(text),
                Some(Value::Null) | None => continue,
                Some(other) => Html::new().text(&other.to_string()).into_string(),
            };
            let title = Html::new().bold(string(field, "title").unwrap_or_default()).into_string();
            pieces.push(if title.is_empty() { value } else { format!("{title}: {value}") });
        }
        if string(attachment, "image_url").is_some() {
            pieces.push(image(attachment));
        }
        pieces.extend(string(attachment, "footer").map(|text| Html::new().italic(text).into_string()));
        if pieces.len() == before {
            pieces.extend(string(attachment, "fallback").map(|text| self.words(text)));
        }
    }
}

fn image(object: &Value) -> String {
    let title = object.get("title").and_then(|title| title.as_str().or_else(|| string(title, "text")));
    let words = title.or_else(|| string(object, "alt_text")).unwrap_or("image");
    linked(object, "image_url", words).into_string()
}

fn linked(object: &Value, field: &str, words: &str) -> Html {
    match string(object, field) {
        Some(address) => Html::new().link(address, words),
        None => Html::new().text(words),
    }
}

/// A part of rich text: sections, lists, quotes and code, with their leaves.
fn rich_section(section: &Value) -> String {
    let elements = items(section, "elements");
    if string(section, "type") == Some("rich_text_list") {
        let lines: Vec<String> = elements.iter().map(|item| format!("• {}", rich_section(item))).collect();
        return lines.join("<br>");
    }
    let html = elements.iter().fold(Html::new(), |html, element| {
        let text = string(element, "text").unwrap_or_default();
        match string(element, "type").unwrap_or_default() {
            "link" => {
                let address = string(element, "url").unwrap_or_default();
                html.link(address, if text.is_empty() { address } else { text })
            }
            "emoji" => html.text(&format!(":{}:", string(element, "name").unwrap_or_default())),
            "user" => html.text(&format!("@{}", string(element, "user_id").unwrap_or_default())),
            "channel" => html.text(&format!("#{}", string(element, "channel_id").unwrap_or_default())),
            "broadcast" => html.text(&format!("@{}", string(element, "range").unwrap_or_default())),
            _ => {
                let style = |name: &str| element.get("style").and_then(|style| style.get(name)) == Some(&Value::Bool(true));
                if style("code") {
                    html.code(text)
                } else if style("bold") {
                    html.bold(text)
                } else if style("italic") {
                    html.italic(text)
                } else if style("strike") {
                    html.strike(text)
                } else {
                    html.text(text)
                }
            }
        }
    });
    html.into_string()
}

fn string<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str().filter(|text| !text.trim().is_empty())
}

fn items<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Slack's markup as HTML.
fn mrkdwn(text: &str) -> Html {
    let mut html = Html::new();
    let mut rest = text;
    let mut before = None;
    while let Some(character) = rest.chars().next() {
        let found = match character {
            '<' => angle(rest),
            '`' if rest.starts_with("```") => fenced(rest),
            '*' | '_' | '~' | '`' if starts_word(before) => span(rest, character),
            _ => None,
        };
        let (piece, length) = found.unwrap_or_else(|| {
            // Up to what may begin something else.
            let end = rest.char_indices().skip(1).find(|(_, next)| matches!(next, '<' | '*' | '_' | '~' | '`'));
            let length = end.map_or(rest.len(), |(at, _)| at);
            (Html::new().text(&unescape(&rest[..length])), length)
        });
        html = html.html(&piece);
        before = rest[..length].chars().next_back();
        rest = &rest[length..];
    }
    html
}

/// Whether markup may begin after `before`.
fn starts_word(before: Option<char>) -> bool {
    before.is_none_or(|character| !character.is_alphanumeric())
}

/// `<address|words>`, `<@user|name>`, `<#channel|name>`, `<!here>`.
fn angle(text: &str) -> Option<(Html, usize)> {
    let end = text[..text.floor_char_boundary(MAX_ADDRESS)].find('>')?;
    let inner = &text[1..end];
    if inner.contains(['<', '\n']) {
        return None;
    }
    let (target, words) = inner.split_once('|').map_or((inner, None), |(target, words)| (target, Some(words)));
    let words = words.filter(|words| !words.is_empty());
    let html = match target.chars().next()? {
        '@' => Html::new().text(&format!("@{}", unescape(words.unwrap_or(&target[1..])))),
        '#' => Html::new().text(&format!("#{}", unescape(words.unwrap_or(&target[1..])))),
        '!' => match words {
            // Dates and groups carry the words to show instead.
            Some(words) => Html::new().text(&unescape(words)),
            None => Html::new().text(&format!("@{}", &target[1..])),
        },
        _ if target.contains("://") || target.starts_with("mailto:") => {
            let target = unescape(target);
            Html::new().link(&target, &words.map_or_else(|| target.clone(), unescape))
        }
        _ => return None,
    };
    Some((html, end + 1))
}

fn fenced(text: &str) -> Option<(Html, usize)> {
    let inner = &text[3..];
    let end = inner.find("```")?;
    Some((Html::new().code_block(unescape(&inner[..end]).trim_matches('\n')), end + 6))
}

/// `*bold*` and the like: on one line, tight at both ends.
fn span(text: &str, mark: char) -> Option<(Html, usize)> {
    let inner = &text[1..text.floor_char_boundary(MAX_SPAN)];
    let end = inner.char_indices().find_map(|(at, character)| {
        let after = text[1 + at + character.len_utf8()..].chars().next();
        let tight = !inner[..at].ends_with(char::is_whitespace);
        (character == mark && at > 0 && tight && after.is_none_or(|after| !after.is_alphanumeric())).then_some(at)
    })?;
    let words = &inner[..end];
    if words.starts_with(char::is_whitespace) || words.contains('\n') {
        return None;
    }
    let words = unescape(words);
    let html = match mark {
        '*' => Html::new().bold(&words),
        '_' => Html::new().italic(&words),
        '~' => Html::new().strike(&words),
        _ => Html::new().code(&words),
    };
    Some((html, end + 2))
}

/// Slack escapes three characters and no others.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn slack(message: &Value) -> String {
        render(message, Dialect::Slack, &Sanitizer::new()).unwrap_or_default()
    }

    #[test]
    fn slacks_markup_becomes_html() {
        for (text, html) in [
            ("plain & <b>", "plain &amp; &lt;b&gt;"),
            ("a &lt;b&gt; &amp;amp;", "a &lt;b&gt; &amp;amp;"),
            ("*bold* _it_ ~no~ `x<y`", "<b>bold</b> <i>it</i> <s>no</s> <code>x&lt;y</code>"),
            ("snake_case_name and 2*3*4", "snake_case_name and 2*3*4"),
            ("* no * and _ no _", "* no * and _ no _"),
            ("<https://e.example/?a=1&amp;b=2|the *run*>", "<a href=\"https://e.example/?a=1&amp;b=2\">the *run*</a>"),
            ("<https://e.example/>", "<a href=\"https://e.example/\">https://e.example/</a>"),
            ("<javascript:alert(1)|x>", "&lt;javascript:alert(1)|x&gt;"),
            ("<@U1|ana> <#C1> <!here> <!date^1^x|noon>", "@ana #C1 @here noon"),
            ("```\nlet x;\n```", "<pre>let x;</pre>"),
            ("line 1\nline 2", "line 1<br>line 2"),
            ("*", "*"),
            ("<", "&lt;"),
        ] {
            assert_eq!(slack(&json!({"text": text})), html, "{text}");
        }
    }

    #[test]
    fn blocks_and_attachments_are_reduced_to_words() {
        let message = json!({
            "text": "not shown where blocks are",
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": "Deploy"}},
                {"type": "section", "text": {"type": "mrkdwn", "text": "*api* is live"},
                 "fields": [{"type": "mrkdwn", "text": "by _ana_"}, {"type": "plain_text", "text": "*3* min"}]},
                {"type": "divider"},
                {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Open"}, "url": "https://e.example/"}]},
                {"type": "context", "elements": [{"type": "mrkdwn", "text": "v1"}, {"type": "image", "image_url": "x", "alt_text": "logo"}]},
                {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [
                    {"type": "text", "text": "b", "style": {"bold": true}}, {"type": "link", "url": "https://e.example/l"}]}]},
                {"type": "unheard_of"},
            ],
            "attachments": [{"color": "good", "title": "Log", "title_link": "https://e.example/log", "text": "`ok`",
                "fields": [{"title": "Host", "value": "a1"}, {"title": "Runs", "value": 3}], "footer": "ci"},
                {"fallback": "in *short*"}],
        });
        let expected = [
            "<b>Deploy</b>",
            "<b>api</b> is live<br>by <i>ana</i><br>*3* min",
            "—",
            "<a href=\"https://e.example/\">Open</a>",
            "v1 · logo",
            "<b>b</b><a href=\"https://e.example/l\">https://e.example/l</a>",
            "<a href=\"https://e.example/log\">Log</a>",
            "<code>ok</code>",
            "<b>Host</b>: a1",
            "<b>Runs</b>: 3",
            "<i>ci</i>",
            "in <b>short</b>",
        ];
        assert_eq!(slack(&message), expected.join("<br>"));
    }

    #[test]
    fn mattermosts_texts_are_markdown() {
        let message = json!({"text": "**bold** *it* [x](https://e.example/)", "username": "ci"});
        let html = render(&message, Dialect::Markdown, &Sanitizer::new());
        assert_eq!(html.as_deref(), Some("<strong>bold</strong> <em>it</em> <a href=\"https://e.example/\">x</a>"));
    }

    #[test]
    fn what_says_nothing_is_nothing() {
        for message in
            [json!({}), json!({"text": " "}), json!({"blocks": [{"type": "x"}]}), json!([1]), json!({"attachments": [{}]})]
        {
            assert_eq!(render(&message, Dialect::Slack, &Sanitizer::new()), None, "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_another_element(text in "[<>&|*_~`@#!a-z :/.\\n]{0,60}") {
            let html = slack(&json!({"text": text}));
            prop_assert_eq!(Sanitizer::new().clean(&html).replace("<br>", ""), html.replace("<br>", ""));
        }
    }
}
