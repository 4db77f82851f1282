//! What a call becomes: by the hook's format, or by what the body looks like.

use std::str::FromStr;

use http::HeaderMap;
use serde_json::Value;

use super::payload::{Payload, PayloadError};
use super::presets::{Posted, Preset};
use super::slack::{self, Dialect};
use super::template::{Renderer, Template, TemplateError};
use crate::domain::AccountId;
use crate::markup::{Html, Sanitizer, text_to_html};
use crate::upstream::plain_text;

/// What a hook takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Whatever it looks like.
    #[default]
    Auto,
    /// Words.
    Text,
    /// Slack's messages.
    Slack,
    /// Mattermost's messages.
    Mattermost,
    /// What a product posts.
    Preset(Preset),
    /// Any JSON, by a template.
    Template,
}

/// How a hook makes messages of what it is posted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipe {
    /// What it takes.
    pub format: Format,
    /// Its template; there is one if that is the format.
    pub template: Option<Template>,
}

impl Recipe {
    /// A recipe, if it has a template just where it needs one.
    pub fn new(format: Format, template: Option<Template>) -> Option<Self> {
        ((format == Format::Template) == template.is_some()).then_some(Self { format, template })
    }

    /// The recipe with another format or template; `None` if that is none. A template that comes or goes alone brings the format that
    /// it needs.
    pub fn changed(&self, format: Option<Format>, template: Option<Option<Template>>) -> Option<Self> {
        let format = format.or_else(|| match &template {
            Some(Some(_)) => Some(Format::Template),
            Some(None) if self.format == Format::Template => Some(Format::Auto),
            Some(None) | None => None,
        });
        let format = format.unwrap_or(self.format);
        // Another format needs no word on the template that it does not use.
        let kept = || self.template.clone().filter(|_| format == Format::Template);
        Self::new(format, template.unwrap_or_else(kept))
    }
}

/// The formats by their names in the API and the store.
const NAMES: [(&str, Format); 12] = [
    ("auto", Format::Auto),
    ("text", Format::Text),
    ("slack", Format::Slack),
    ("mattermost", Format::Mattermost),
    ("grafana", Format::Preset(Preset::Grafana)),
    ("alertmanager", Format::Preset(Preset::Alertmanager)),
    ("github", Format::Preset(Preset::Github)),
    ("gitlab", Format::Preset(Preset::Gitlab)),
    ("jenkins", Format::Preset(Preset::Jenkins)),
    ("sentry", Format::Preset(Preset::Sentry)),
    ("uptime_kuma", Format::Preset(Preset::UptimeKuma)),
    ("template", Format::Template),
];

/// A word that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown format; it is one of `auto`, `text`, `slack`, `mattermost`, `grafana`, `alertmanager`, `github`, `gitlab`, `jenkins`, `sentry`, `uptime_kuma` and `template`"
)]
pub struct UnknownFormat;

impl Format {
    /// The format's name in the API and the store.
    pub fn as_str(self) -> &'static str {
        NAMES.iter().find(|(_, format)| *format == self).map_or("auto", |(name, _)| name)
    }

    /// Whether its senders expect the answer `ok`, as Slack gives it.
    pub fn answers_ok(self) -> bool {
        matches!(self, Self::Slack | Self::Mattermost)
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, format)| *format).ok_or(UnknownFormat)
    }
}

/// What a call became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The message.
    pub html: String,
    /// What it says to people.
    pub text: String,
    /// The format that was used.
    pub format: Format,
    /// Why the body made no sense in that format, if it did not. The message then says so, and quotes the body.
    pub trouble: Option<Trouble>,
}

/// Why a body made no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It has nothing of what the format consists of.
    #[error("{}", not_understood(*.0))]
    NotUnderstood(Format),
    /// It cannot be read as what it says that it is.
    #[error(transparent)]
    Unreadable(#[from] PayloadError),
    /// The hook's template makes nothing of it.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl Trouble {
    /// The kind of trouble in one word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotUnderstood(_) => "not_understood",
            Self::Unreadable(_) => "not_readable",
            Self::Template(_) => "template_failed",
        }
    }

    /// What the message says of it before it quotes what came.
    fn headline(&self, format: Format) -> String {
        match self {
            Self::NotUnderstood(_) | Self::Unreadable(_) if format == Format::Auto => {
                "Something came whose format is not known here:".to_owned()
            }
            Self::NotUnderstood(_) | Self::Unreadable(_) => {
                format!("Something came that could not be read as `{}`:", format.as_str())
            }
            Self::Template(error) => format!("Something came and {error}. It begins:"),
        }
    }
}

fn not_understood(format: Format) -> String {
    match format {
        Format::Auto => "the body has no known format, and no words where they usually are".to_owned(),
        format => format!("the body makes no sense as `{}`", format.as_str()),
    }
}

/// Longest piece of a body that is quoted when it is not understood, in characters.
const MAX_QUOTE: usize = 500;

/// Makes a message of what was posted. There is one of everything that is text: what is not understood is quoted.
pub fn render(format: Format, headers: &HeaderMap, body: &[u8], sanitizer: &Sanitizer) -> Result<Rendered, PayloadError> {
    match Reading::of(format, headers, body)? {
        Reading::Payload(payload) => Ok(turn(format, headers, &payload, sanitizer)),
        Reading::Quoted(rendered) => Ok(rendered),
    }
}

/// Makes a message of what was posted to a hook of `account`, by a template of its owner's. What the template fails at is quoted.
pub async fn render_by(
    (template, account): (&Template, &AccountId),
    renderer: &Renderer,
    (headers, body): (&HeaderMap, &[u8]),
    sanitizer: &Sanitizer,
) -> Result<Rendered, PayloadError> {
    let payload = match Reading::of(Format::Template, headers, body)? {
        Reading::Payload(payload) => payload,
        Reading::Quoted(quoted) => return Ok(quoted),
    };
    let made = renderer.fill(account, template, (&payload, event(headers))).await;
    Ok(match made.and_then(|made| template.to_html(&made, sanitizer)) {
        Ok(html) => Rendered { text: plain_text(&html), html, format: Format::Template, trouble: None },
        Err(error) => Rendered::quoted(Format::Template, &payload.to_text(), error.into()),
    })
}

/// What came of reading a body.
enum Reading {
    /// What was posted.
    Payload(Payload),
    /// It is text, and not what it says that it is.
    Quoted(Rendered),
}

impl Reading {
    fn of(format: Format, headers: &HeaderMap, body: &[u8]) -> Result<Self, PayloadError> {
        let media_type = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match Payload::read(media_type, body) {
            Ok(payload) => Ok(Self::Payload(payload)),
            Err(error) if error.is_text() => {
                Ok(Self::Quoted(Rendered::quoted(format, &String::from_utf8_lossy(body), error.into())))
            }
            Err(error) => Err(error),
        }
    }
}

fn turn(format: Format, headers: &HeaderMap, payload: &Payload, sanitizer: &Sanitizer) -> Rendered {
    let used = if format == Format::Auto { detect(headers, payload) } else { format };
    let html = match (used, payload) {
        // It is the owner's to say what it means.
        (Format::Template, _) => None,
        (_, Payload::Text(text)) if !matches!(used, Format::Preset(_)) => Some(text_to_html(text).into_owned()),
        (Format::Slack, Payload::Json(body)) => slack::render(body, Dialect::Slack, sanitizer),
        (Format::Mattermost, Payload::Json(body)) => slack::render(body, Dialect::Markdown, sanitizer),
        (Format::Preset(preset), Payload::Json(body)) => preset.render(Posted { headers, body }).map(Html::into_string),
        (Format::Auto | Format::Text, Payload::Json(body)) => words(body).map(|text| text_to_html(text).into_owned()),
        (_, Payload::Text(_)) => None,
    };
    let html = html.filter(|html| !plain_text(html).is_empty());
    match html {
        Some(html) => Rendered { text: plain_text(&html), html, format: used, trouble: None },
        None => {
            // What looks like nothing that is known is taken for words, and has none.
            let tried = if (format, used) == (Format::Auto, Format::Text) { Format::Auto } else { used };
            Rendered::quoted(tried, &payload.to_text(), Trouble::NotUnderstood(tried))
        }
    }
}

/// The format that a call looks like.
fn detect(headers: &HeaderMap, payload: &Payload) -> Format {
    let Payload::Json(body) = payload else { return Format::Text };
    let has = |name: &str| body.get(name).is_some();
    let sent = |name: &str| headers.contains_key(name);
    if sent("x-github-event") {
        Format::Preset(Preset::Github)
    } else if sent("x-gitlab-event") || has("object_kind") && has("project") {
        Format::Preset(Preset::Gitlab)
    } else if sent("sentry-hook-resource") {
        Format::Preset(Preset::Sentry)
    } else if body.get("alerts").is_some_and(Value::is_array) && has("groupLabels") {
        Format::Preset(if has("orgId") { Preset::Grafana } else { Preset::Alertmanager })
    } else if has("heartbeat") && has("monitor") {
        Format::Preset(Preset::UptimeKuma)
    } else if has("build") && has("display_name") {
        Format::Preset(Preset::Jenkins)
    } else if has("blocks") || has("attachments") || has("text") {
        Format::Slack
    } else {
        Format::Text
    }
}

/// What the sender calls the event, where products say so in a header.
fn event(headers: &HeaderMap) -> Option<&str> {
    let names = ["x-github-event", "x-gitlab-event", "sentry-hook-resource"];
    names.into_iter().find_map(|name| headers.get(name)?.to_str().ok())
}

/// The words in JSON of no known shape: the field that usually holds them.
fn words(body: &Value) -> Option<&str> {
    ["text", "message", "msg", "content", "summary", "title", "description", "body"]
        .into_iter()
        .find_map(|name| body.get(name)?.as_str().filter(|text| !text.trim().is_empty()))
}

impl Rendered {
    /// The beginning of a body, as it came, with a word of why it is shown like that.
    fn quoted(format: Format, body: &str, trouble: Trouble) -> Self {
        let mut shown: String = body.chars().take(MAX_QUOTE).collect();
        if shown.len() < body.len() {
            shown.push('…');
        }
        let html = Html::new().italic(&trouble.headline(format)).line().code(&shown).into_string();
        Self { text: plain_text(&html), html, format, trouble: Some(trouble) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::markup::ELEMENTS;

    fn rendered(format: Format, payload: &Payload) -> Rendered {
        turn(format, &HeaderMap::new(), payload, &Sanitizer::new())
    }

    #[test]
    fn a_format_has_one_name() {
        for (name, format) in NAMES {
            assert_eq!((format.as_str(), name.parse()), (name, Ok(format)));
        }
        assert!("teams".parse::<Format>().is_err());
    }

    #[test]
    fn what_it_looks_like_decides_if_nothing_is_said() {
        for (body, format) in [
            (json!({"text": "a"}), "slack"),
            (json!({"alerts": [], "groupLabels": {}}), "alertmanager"),
            (json!({"alerts": [], "groupLabels": {}, "orgId": 1}), "grafana"),
            (json!({"heartbeat": null, "monitor": null, "msg": "x"}), "uptime_kuma"),
            (json!({"object_kind": "push", "project": {}}), "gitlab"),
            (json!({"display_name": "a", "build": {}}), "jenkins"),
            (json!({"message": "a"}), "text"),
            (json!([1]), "auto"),
        ] {
            assert_eq!(rendered(Format::Auto, &Payload::Json(body.clone())).format.as_str(), format, "{body}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-github-event", http::HeaderValue::from_static("ping"));
        let github = turn(Format::Auto, &headers, &Payload::Json(json!({"zen": "z"})), &Sanitizer::new());
        assert_eq!((github.format.as_str(), github.text.as_str()), ("github", "[GitHub] is connected: z"));
        assert_eq!(
            rendered(Format::Auto, &Payload::Text("see https://e.example/".to_owned())).html,
            "see <a href=\"https://e.example/\">https://e.example/</a>"
        );
    }

    #[test]
    fn what_is_not_understood_is_quoted_and_never_lost() {
        let strange = rendered(Format::Preset(Preset::Github), &Payload::Json(json!({"a": "<b>"})));
        assert_eq!(
            (strange.trouble, strange.text.as_str()),
            (
                Some(Trouble::NotUnderstood(Format::Preset(Preset::Github))),
                "Something came that could not be read as `github`: {\"a\":\"<b>\"}"
            )
        );
        let unknown = rendered(Format::Auto, &Payload::Json(json!({"x": 1})));
        assert_eq!(unknown.text, "Something came whose format is not known here: {\"x\":1}");
        assert_eq!(
            unknown.trouble.map(|trouble| trouble.to_string()).as_deref(),
            Some("the body has no known format, and no words where they usually are")
        );
        let text = rendered(Format::Preset(Preset::Grafana), &Payload::Text("x".repeat(600)));
        assert!(text.trouble.is_some() && text.text.ends_with("x…"));
        let empty = rendered(Format::Slack, &Payload::Json(json!({"text": ""})));
        assert!(empty.trouble.is_some());
        assert!(rendered(Format::Auto, &Payload::Json(json!({"title": "up"}))).trouble.is_none());
        let broken = |body: &[u8]| {
            let json = [(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"))];
            render(Format::Slack, &json.into_iter().collect(), body, &Sanitizer::new())
        };
        let shown = broken(b"{\"text\": \"<disk> full").expect("a quotation");
        assert!(shown.text.ends_with("as `slack`: {\"text\": \"<disk> full"), "{}", shown.text);
        assert_eq!(shown.trouble.map(|trouble| trouble.reason()), Some("not_readable"));
        assert_eq!(broken(b"\xff"), Err(PayloadError::NotText));
        assert_eq!(broken(b" "), Err(PayloadError::Empty));
    }

    #[test]
    fn a_template_that_fails_says_so_and_quotes_what_came() {
        let failed = Trouble::from(TemplateError::Failed("division by zero (line 1)".to_owned()));
        let shown = Rendered::quoted(Format::Template, "{\"a\":1}", failed);
        assert_eq!(shown.text, "Something came and the template fails: division by zero (line 1). It begins: {\"a\":1}");
        assert_eq!(shown.trouble.map(|trouble| trouble.reason()), Some("template_failed"));
    }

    #[test]
    fn a_recipe_has_a_template_just_where_it_needs_one() {
        let template = |source: &str| Template { source: source.to_owned(), output: super::super::TemplateOutput::Text };
        let plain = Recipe { format: Format::Slack, template: None };
        let filled = plain.changed(None, Some(Some(template("a")))).expect("the format comes with it");
        assert_eq!((filled.format, &filled.template), (Format::Template, &Some(template("a"))));
        assert_eq!(filled.changed(Some(Format::Template), None), Some(filled.clone()));
        assert_eq!(filled.changed(None, Some(None)), Some(Recipe::default()), "without it the format is whatever it looks like");
        assert_eq!(filled.changed(Some(Format::Slack), None), Some(plain.clone()));
        assert_eq!(plain.changed(None, Some(None)), Some(plain.clone()));
        assert_eq!(plain.changed(Some(Format::Template), None), None);
        assert_eq!(plain.changed(Some(Format::Text), Some(Some(template("a")))), None);
        assert_eq!(filled.changed(Some(Format::Template), Some(None)), None);
    }

    proptest! {
        #[test]
        fn whatever_is_posted_becomes_something_safe_or_is_refused(
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..80),
                "(payload=|text=|\\{\"text\":\"|[a-z<>&*_`~|@#!%\"{}\\[\\]:,=+ \\n]{0,12}){0,8}".prop_map(String::into_bytes),
            ],
            media_type in proptest::sample::select(vec!["", "application/json", "application/x-www-form-urlencoded", "text/plain"]),
            format in proptest::sample::select(NAMES.to_vec()),
        ) {
            let headers = [(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media_type))].into_iter().collect();
            if let Ok(rendered) = render(format.1, &headers, &body, &Sanitizer::new()) {
                prop_assert!(!rendered.text.is_empty(), "{}", rendered.html);
                for tag in rendered.html.split('<').skip(1) {
                    let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
                    prop_assert!(ELEMENTS.contains(&name.as_str()), "`{}` in {}", name, rendered.html);
                }
            }
        }
    }
}
