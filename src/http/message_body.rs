//! The body of a send: text, Markdown, HTML, files alone, or the upstream's own form; and how it becomes what the upstream gets.

use std::borrow::Cow;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::openapi::{OneOfBuilder, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::AppState;
use super::error::ApiError;
use super::extract::parse_json;
use crate::domain::{InvalidId, MessageRef, SpaceId};
use crate::markup::{markdown_to_html, text_to_html};
use crate::session::{OutgoingMessage, SendClass};
use crate::upstream::{LOOPBACK_BRIDGE, Loopback, plain_text};

/// A message to be sent, in one of its forms.
#[derive(Debug)]
pub(super) enum MessageBody {
    Text(TextMessage),
    Markdown(MarkdownMessage),
    Html(HtmlMessage),
    Files(FileMessage),
    Upstream(Box<UpstreamMessage>),
}

/// Plain text, shown as it is; line breaks are kept, and web addresses become links.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"text": "build 41 is green"}))]
pub(super) struct TextMessage {
    /// What to say.
    #[schema(pattern = r"\S", example = "build 41 is green")]
    text: String,
    /// The post or task to comment on.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    reply_to: Option<MessageId>,
    /// Files to attach, uploaded before.
    #[serde(default)]
    attachments: Vec<Attachment>,
}

/// Markdown (`CommonMark` with strike-through). HTML within it is shown as it is written; pictures become links.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"markdown": "build **41** is [green](https://ci.example/41)"}))]
pub(super) struct MarkdownMessage {
    /// What to say.
    #[schema(min_length = 1, example = "build **41** is green")]
    markdown: String,
    /// The post or task to comment on.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    reply_to: Option<MessageId>,
    /// Files to attach, uploaded before.
    #[serde(default)]
    attachments: Vec<Attachment>,
}

/// HTML. Elements and attributes that Spaces does not show are removed: `a` (with `href`, `title`), `b`, `blockquote`, `br`, `code`,
/// `del`, `div`, `em`, `h1`, `h2`, `h3`, `i`, `li`, `ol`, `p`, `pre`, `s`, `span`, `strike`, `strong`, `sub`, `sup`, `u`, `ul` stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"html": "<p>build <b>41</b> is green</p>"}))]
pub(super) struct HtmlMessage {
    /// What to say.
    #[schema(min_length = 1, example = "<p>build <b>41</b> is green</p>")]
    html: String,
    /// The post or task to comment on.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    reply_to: Option<MessageId>,
    /// Files to attach, uploaded before.
    #[serde(default)]
    attachments: Vec<Attachment>,
}

/// Files without words.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FileMessage {
    /// Files to attach, uploaded before.
    #[schema(min_items = 1)]
    attachments: Vec<Attachment>,
    /// The post or task to comment on.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false, pattern = "^[A-Za-z0-9_-]{1,128}$")]
    reply_to: Option<MessageId>,
}

/// The form that Spaces itself takes, passed on as it is. `topicId` and `loopbackMetadata` are the bridge's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"category": "idea", "content": {"bodyText": "Release 41", "description": "<p>What is new</p>"}}))]
pub(super) struct UpstreamMessage {
    /// What it is: a chat message, a post or a task.
    #[serde(default)]
    category: UpstreamCategory,
    /// What it says.
    #[schema(value_type = UpstreamContent)]
    content: Box<RawValue>,
    /// The space; may be left out, and must otherwise be the one in the path.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false)]
    topic_id: Option<SpaceId>,
    /// The post or task to comment on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    parent_msg: Option<Box<RawValue>>,
    /// Passed on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    chat_messages: Option<Box<RawValue>>,
    /// Passed on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    mentions: Option<Box<RawValue>>,
    /// Passed on; Spaces fills it in by itself.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    sender: Option<Box<RawValue>>,
    /// Passed on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    created: Option<Box<RawValue>>,
    /// Passed on.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    version: Option<Box<RawValue>>,
    /// Taken and replaced by the bridge's own, by which it recognises the message when it comes back.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    #[expect(dead_code, reason = "taken so that callers may leave it in, and not used")]
    loopback_metadata: Option<serde::de::IgnoredAny>,
}

/// The upstream's word for what a message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum UpstreamCategory {
    /// A chat message.
    #[default]
    Chat,
    /// A post.
    Idea,
    /// A task.
    Task,
}

impl UpstreamCategory {
    fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Idea => "idea",
            Self::Task => "task",
        }
    }
}

/// The part of the upstream's content that the bridge reads; the whole is passed on as it came.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpstreamContent<'a> {
    /// The text as HTML; the title of a post or task.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1)]
    body_text: Cow<'a, str>,
    /// Attachments as Spaces takes them.
    #[serde(default)]
    #[schema(value_type = Vec<serde_json::Value>)]
    data: Vec<serde::de::IgnoredAny>,
}

/// A file that was uploaded to Spaces before.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Attachment {
    /// The file's id (`fileKey` of the upload).
    #[schema(min_length = 1, max_length = 256, example = "0b7f3c7e-1d2e-4f30-8a41-5b6c7d8e9f00")]
    file_id: String,
    /// The file's name.
    #[schema(min_length = 1, max_length = 256, example = "report.pdf")]
    name: String,
    /// The file's size in bytes.
    #[schema(minimum = 0, example = 20480)]
    file_size: u64,
    /// What kind of file it is.
    file_type: FileType,
    /// The file's media type.
    #[schema(min_length = 1, max_length = 256, example = "application/pdf")]
    provider_file_type: String,
}

/// The kinds of file that Spaces knows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileType {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Sound.
    Audio,
    /// Anything else.
    Document,
}

/// The id of a message in Spaces.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct MessageId(SpaceId);

impl TryFrom<String> for MessageId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // All ids of the upstream are of one alphabet.
        let id: Result<_, InvalidId> = SpaceId::from_str(&text);
        id.map(Self).map_err(|_| "not a valid message id")
    }
}

/// Which form a body has.
#[derive(Deserialize)]
struct Probe {
    text: Option<serde::de::IgnoredAny>,
    markdown: Option<serde::de::IgnoredAny>,
    html: Option<serde::de::IgnoredAny>,
    content: Option<serde::de::IgnoredAny>,
    attachments: Option<serde::de::IgnoredAny>,
}

impl MessageBody {
    /// Reads a body and names what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let probe: Probe = parse_json(bytes)?;
        if probe.content.is_some() {
            return parse_json(bytes).map(|message| Self::Upstream(Box::new(message)));
        }
        match (&probe.text, &probe.markdown, &probe.html) {
            (Some(_), None, None) => parse_json(bytes).map(Self::Text),
            (None, Some(_), None) => parse_json(bytes).map(Self::Markdown),
            (None, None, Some(_)) => parse_json(bytes).map(Self::Html),
            (None, None, None) if probe.attachments.is_some() => parse_json(bytes).map(Self::Files),
            (None, None, None) => {
                Err(ApiError::field("", "a message has `text`, `markdown`, `html`, `attachments` or `content`"))
            }
            (_, _, html) => {
                let pointer = if html.is_some() { "/html" } else { "/markdown" };
                Err(ApiError::field(pointer, "a message has one of `text`, `markdown` and `html`"))
            }
        }
    }

    /// Adds files that were uploaded for it.
    pub(super) fn attach(&mut self, files: Vec<Attachment>) -> Result<(), ApiError> {
        match self {
            Self::Text(message) => message.attachments.extend(files),
            Self::Markdown(message) => message.attachments.extend(files),
            Self::Html(message) => message.attachments.extend(files),
            Self::Files(message) => message.attachments.extend(files),
            Self::Upstream(_) => return Err(ApiError::field("/content", "files are added to the bridge's own forms only")),
        }
        Ok(())
    }

    /// The space that the body itself names.
    pub(super) fn named_space(&self) -> Option<&SpaceId> {
        match self {
            Self::Upstream(message) => message.topic_id.as_ref(),
            Self::Text(_) | Self::Markdown(_) | Self::Html(_) | Self::Files(_) => None,
        }
    }

    /// The message as the upstream gets it in `space`, which takes `limit` bytes at most.
    pub(super) fn into_outgoing(self, app: &AppState, limit: usize, space: SpaceId) -> Result<OutgoingMessage, ApiError> {
        let message = match self {
            Self::Text(TextMessage { text, reply_to, attachments }) => {
                let words = Words { html: text_to_html(&text), plain: collapse(&text), pointer: "/text" };
                simple(space, &words, reply_to.as_ref(), &attachments)?
            }
            Self::Markdown(MarkdownMessage { markdown, reply_to, attachments }) => {
                refuse_oversized(app, &markdown, limit)?;
                let html = markdown_to_html(&markdown, &app.internals().sanitizer);
                let words = Words { plain: plain_text(&html), html: html.into(), pointer: "/markdown" };
                simple(space, &words, reply_to.as_ref(), &attachments)?
            }
            Self::Html(HtmlMessage { html, reply_to, attachments }) => {
                refuse_oversized(app, &html, limit)?;
                let html = app.internals().sanitizer.clean(&html);
                let words = Words { plain: plain_text(&html), html, pointer: "/html" };
                simple(space, &words, reply_to.as_ref(), &attachments)?
            }
            Self::Files(FileMessage { attachments, reply_to }) => {
                let words = Words { html: Cow::Borrowed(""), plain: String::new(), pointer: "/attachments" };
                simple(space, &words, reply_to.as_ref(), &attachments)?
            }
            Self::Upstream(message) => message.into_outgoing(space)?,
        };
        let size = message.payload.len();
        if size > limit { Err(too_large(app, size, limit)) } else { Ok(message) }
    }
}

fn too_large(app: &AppState, size: usize, limit: usize) -> ApiError {
    app.metrics.limit_refusals.with_label_values(&["payload"]).inc();
    ApiError::MessageTooLarge { size, limit }
}

/// How many times larger than the upstream's limit HTML may be before it is sanitised; pasted HTML is mostly attributes that go.
const MAX_SHRINKING: usize = 4;

/// Markup is read whole before it is known how much of it stays; what is many times too large is refused before.
fn refuse_oversized(app: &AppState, markup: &str, limit: usize) -> Result<(), ApiError> {
    let size = markup.len();
    if size > limit.saturating_mul(MAX_SHRINKING) { Err(too_large(app, size, limit)) } else { Ok(()) }
}

/// What a message says.
struct Words<'a> {
    html: Cow<'a, str>,
    plain: String,
    /// Where it stood in the body.
    pointer: &'static str,
}

/// The message of one of the bridge's own forms.
fn simple(
    space: SpaceId,
    words: &Words<'_>,
    reply_to: Option<&MessageId>,
    attachments: &[Attachment],
) -> Result<OutgoingMessage, ApiError> {
    if words.plain.is_empty() && attachments.is_empty() {
        return Err(ApiError::field(words.pointer, "the message is empty"));
    }
    for (index, attachment) in attachments.iter().enumerate() {
        attachment.check().map_err(|error| below(&format!("/attachments/{index}"), error))?;
    }
    let reference = MessageRef::random();
    let data: Vec<Box<RawValue>> = attachments.iter().map(Attachment::to_upstream).collect();
    let reply_to = reply_to.map(|id| id.0.as_str());
    Ok(OutgoingMessage::chat(reference, space, (&words.html, words.plain.clone()), reply_to, &data))
}

/// Longest text of an attachment, in characters.
const MAX_ATTACHMENT_TEXT: usize = 256;

impl Attachment {
    /// A file that is in Spaces now: its id, name, size, kind and media type.
    pub(super) fn uploaded(file_id: String, name: &str, (file_size, file_type, media_type): (u64, FileType, &str)) -> Self {
        Self { file_id, name: name.to_owned(), file_size, file_type, provider_file_type: media_type.to_owned() }
    }

    fn check(&self) -> Result<(), ApiError> {
        let texts = [("/fileId", &self.file_id), ("/name", &self.name), ("/providerFileType", &self.provider_file_type)];
        match texts.iter().find(|(_, text)| !(1..=MAX_ATTACHMENT_TEXT).contains(&text.chars().count())) {
            Some((pointer, _)) => Err(ApiError::field(*pointer, format!("it has 1 to {MAX_ATTACHMENT_TEXT} characters"))),
            None => Ok(()),
        }
    }

    fn to_upstream(&self) -> Box<RawValue> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry<'a> {
            file_id: &'a str,
            file_size: u64,
            file_type: FileType,
            name: &'a str,
            provider: &'static str,
            provider_file_type: &'a str,
            icon: &'static str,
        }
        let entry = Entry {
            file_id: &self.file_id,
            file_size: self.file_size,
            file_type: self.file_type,
            name: &self.name,
            provider: "native",
            provider_file_type: &self.provider_file_type,
            icon: "",
        };
        serde_json::value::to_raw_value(&entry).expect("an attachment of texts serialises")
    }
}

impl UpstreamMessage {
    fn into_outgoing(self, space: SpaceId) -> Result<OutgoingMessage, ApiError> {
        if self.topic_id.as_ref().is_some_and(|named| *named != space) {
            return Err(ApiError::field("/topicId", "it names another space than the path"));
        }
        let content: UpstreamContent<'_> = parse_json(self.content.get().as_bytes()).map_err(|error| below("/content", error))?;
        let plain_text = plain_text(&content.body_text);
        if plain_text.is_empty() && content.data.is_empty() {
            return Err(ApiError::field("/content/bodyText", "the message is empty"));
        }
        let reference = MessageRef::random();
        let payload = Passed {
            category: self.category,
            topic_id: &space,
            content: &self.content,
            parent_msg: self.parent_msg.as_deref(),
            chat_messages: self.chat_messages.as_deref(),
            mentions: self.mentions.as_deref(),
            sender: self.sender.as_deref(),
            created: self.created.as_deref(),
            version: self.version.as_deref(),
            loopback_metadata: Loopback { bridge: LOOPBACK_BRIDGE, reference: &reference },
        };
        let payload = serde_json::to_string(&payload).expect("a message of JSON serialises").into_boxed_str();
        let (category, class) = (self.category.as_str().to_owned(), SendClass::default());
        Ok(OutgoingMessage { reference, space, category, payload, plain_text, class })
    }
}

/// The upstream's own form on its way to the upstream.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Passed<'a> {
    category: UpstreamCategory,
    topic_id: &'a SpaceId,
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_msg: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_messages: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mentions: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a RawValue>,
    loopback_metadata: Loopback<'a>,
}

/// The failure of a part of the body, as one of the whole.
fn below(prefix: &str, error: ApiError) -> ApiError {
    match error {
        ApiError::InvalidBody(mut errors) => {
            for error in &mut errors {
                error.pointer.insert_str(0, prefix);
            }
            ApiError::InvalidBody(errors)
        }
        other => other,
    }
}

/// `text` with every run of white space as one space, as [`plain_text`] leaves it.
fn collapse(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !plain.is_empty() {
            plain.push(' ');
        }
        plain.push_str(word);
    }
    plain
}

impl PartialSchema for MessageBody {
    fn schema() -> RefOr<Schema> {
        let forms = OneOfBuilder::new()
            .item(Ref::from_schema_name(TextMessage::name()))
            .item(Ref::from_schema_name(MarkdownMessage::name()))
            .item(Ref::from_schema_name(HtmlMessage::name()))
            .item(Ref::from_schema_name(FileMessage::name()))
            .item(Ref::from_schema_name(UpstreamMessage::name()))
            .description(Some("A message: text, Markdown, HTML, files alone, or the form that Spaces itself takes."));
        forms.into()
    }
}

impl ToSchema for MessageBody {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("MessageBody")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((TextMessage::name().into_owned(), TextMessage::schema()));
        schemas.push((MarkdownMessage::name().into_owned(), MarkdownMessage::schema()));
        schemas.push((HtmlMessage::name().into_owned(), HtmlMessage::schema()));
        schemas.push((FileMessage::name().into_owned(), FileMessage::schema()));
        schemas.push((UpstreamMessage::name().into_owned(), UpstreamMessage::schema()));
        TextMessage::schemas(schemas);
        UpstreamMessage::schemas(schemas);
    }
}
