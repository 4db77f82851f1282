//! A message made ready: its words as HTML, whom it names found, and all of it as Spaces takes it in one space.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::AppState;
use super::super::auth::AccountCaller;
use super::super::error::ApiError;
use super::super::people::user_of_email;
use super::form::{Kind, OwnMessage, Person, TaskStatus, Words};
use super::upstream::UpstreamMessage;
use super::{Attachment, MessageBody};
use crate::domain::{MessageRef, SpaceId, Timestamp};
use crate::markup::{MAX_PARTS, mark_mentions, markdown_to_html, text_to_html};
use crate::session::{OutgoingMessage, SendClass};
use crate::upstream::{
    CHAT_CATEGORY, LOOPBACK_BRIDGE, Loopback, OutgoingContent, OutgoingMention, OutgoingPayload, Parent, UserRef, escape,
    plain_text,
};

/// How many times larger than the upstream's limit a text may be before it is made HTML; pasted HTML is mostly attributes that go.
const MAX_SHRINKING: usize = 4;

/// A message whose words are HTML.
#[derive(Debug)]
pub(in crate::http) enum PreparedMessage {
    Own(Box<OwnPrepared>),
    Upstream(Box<UpstreamMessage>),
}

/// A message of the bridge's own form whose words are HTML.
#[derive(Debug)]
pub(in crate::http) struct OwnPrepared {
    category: &'static str,
    /// The text of a chat message, the title of a post or task, as HTML.
    pub(super) html: String,
    /// The same as a reader sees it.
    plain: String,
    /// What a post or task says beside its title, as HTML.
    description: Option<String>,
    reply_to: Option<String>,
    pub(super) mentions: Vec<OutgoingMention>,
    pub(super) attachments: Vec<Box<RawValue>>,
    task: Option<Task>,
    split: bool,
}

/// What one message of the bridge's own form says: all of it, or a part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) html: &'a str,
    pub(super) plain: &'a str,
    pub(super) mentions: &'a [OutgoingMention],
    pub(super) attachments: &'a [Box<RawValue>],
}

#[derive(Debug)]
struct Task {
    assignees: Vec<Person>,
    due_date: Option<Timestamp>,
    status: TaskStatus,
}

/// A message of which nothing has to be asked any more.
#[derive(Debug)]
pub(in crate::http) enum ResolvedMessage {
    Own { message: Box<OwnPrepared>, assignees: Vec<UserRef> },
    Upstream(Box<UpstreamMessage>),
}

impl MessageBody {
    /// Makes HTML of what the message says, for a space that takes `limit` bytes at most, and names what is wrong with it.
    pub(in crate::http) fn prepare(self, app: &AppState, limit: usize) -> Result<PreparedMessage, ApiError> {
        match self {
            Self::Own(message) => message.prepare(app, limit).map(|message| PreparedMessage::Own(Box::new(message))),
            Self::Upstream(message) => Ok(PreparedMessage::Upstream(message)),
        }
    }
}

impl PreparedMessage {
    /// Asks Spaces for those whom the message names by their e-mail addresses.
    pub(in crate::http) async fn resolve(self, app: &AppState, caller: &AccountCaller) -> Result<ResolvedMessage, ApiError> {
        let mut message = match self {
            Self::Own(message) => message,
            Self::Upstream(message) => return Ok(ResolvedMessage::Upstream(message)),
        };
        let named = message.task.as_mut().map(|task| std::mem::take(&mut task.assignees)).unwrap_or_default();
        let mut assignees: Vec<UserRef> = Vec::with_capacity(named.len());
        for (index, person) in named.into_iter().enumerate() {
            let id = match person {
                Person::Id(id) => id,
                Person::Email(email) => user_of_email(app, caller, &email).await.map_err(|error| match error {
                    ApiError::PersonNotFound => {
                        ApiError::field(format!("/assignees/{index}"), format!("Spaces knows nobody by `{email}`"))
                    }
                    other => other,
                })?,
            };
            if assignees.iter().all(|known| known.id != id) {
                assignees.push(UserRef { id });
            }
        }
        Ok(ResolvedMessage::Own { message, assignees })
    }
}

impl ResolvedMessage {
    /// The message as the upstream gets it in `space`, which takes `limit` bytes at most.
    pub(in crate::http) fn compose(&self, app: &AppState, limit: usize, space: &SpaceId) -> Result<OutgoingMessage, ApiError> {
        let message = self.compose_whole(space)?;
        let size = message.payload.len();
        if size > limit { Err(too_large(app, size, limit)) } else { Ok(message) }
    }

    /// The same in several parts, in their order, if it is too long for one and its sender wants it split.
    pub(in crate::http) fn compose_parts(
        &self,
        app: &AppState,
        limit: usize,
        space: &SpaceId,
    ) -> Result<Vec<OutgoingMessage>, ApiError> {
        let whole = self.compose_whole(space)?;
        let size = whole.payload.len();
        if size <= limit {
            return Ok(vec![whole]);
        }
        let parts = match self {
            Self::Own { message, .. } if message.split => message.compose_in_parts(limit, space),
            Self::Own { .. } | Self::Upstream(_) => None,
        };
        parts.ok_or_else(|| too_large(app, size, limit))
    }

    fn compose_whole(&self, space: &SpaceId) -> Result<OutgoingMessage, ApiError> {
        match self {
            Self::Own { message, assignees } => Ok(message.compose(assignees, space.clone(), message.all())),
            Self::Upstream(message) => message.compose(space),
        }
    }
}

impl OwnMessage {
    fn prepare(self, app: &AppState, limit: usize) -> Result<OwnPrepared, ApiError> {
        let Self { kind, words, mentions, attachments, split } = self;
        let limit = if split { limit.saturating_mul(MAX_PARTS) } else { limit };
        let rendered = words.as_ref().map(|words| Rendered::of(words, app, limit)).transpose()?;
        let mut mentions: Vec<_> = mentions.into_iter().map(|named| OutgoingMention::user(named.id, named.name)).collect();
        let named = rendered.as_ref().map(|rendered| rendered.mentions.as_slice()).unwrap_or_default();
        for (id, name) in named {
            match mentions.iter_mut().find(|known| known.id == *id) {
                Some(known) if known.title.is_empty() => known.title.clone_from(name),
                Some(_) => {}
                None => mentions.push(OutgoingMention::user(id.clone(), name.clone())),
            }
        }
        let attachments: Vec<_> = attachments.iter().map(Attachment::to_upstream).collect();
        let (category, title, reply_to, task) = match kind {
            Kind::Chat { reply_to } => (CHAT_CATEGORY, None, reply_to, None),
            Kind::Post { title } => ("idea", Some(title), None, None),
            Kind::Task { title, assignees, due_date, status } => {
                ("task", Some(title), None, Some(Task { assignees, due_date, status }))
            }
        };
        let (html, plain, description) = match title {
            Some(title) => {
                let title = collapse(&title);
                (escape(&title).into_owned(), title, rendered.map(|rendered| rendered.html))
            }
            None => {
                let Rendered { html, plain, .. } = rendered.unwrap_or_default();
                if plain.is_empty() && attachments.is_empty() {
                    return Err(ApiError::field(words.map_or("", |words| words.pointer()), "the message is empty"));
                }
                (html, plain, None)
            }
        };
        Ok(OwnPrepared { category, html, plain, description, reply_to, mentions, attachments, task, split })
    }
}

impl OwnPrepared {
    /// All that it says.
    fn all(&self) -> Said<'_> {
        let Self { html, plain, mentions, attachments, .. } = self;
        Said { html, plain, mentions, attachments }
    }

    pub(super) fn compose(&self, assignees: &[UserRef], space: SpaceId, said: Said<'_>) -> OutgoingMessage {
        let reference = MessageRef::random();
        let is_chat = self.category == CHAT_CATEGORY;
        let task = self.task.as_ref();
        let payload = OutgoingPayload {
            category: self.category,
            topic_id: &space,
            content: OutgoingContent {
                body_text: Cow::Borrowed(said.html),
                description: self.description.as_deref().map(Cow::Borrowed),
                data: said.attachments,
                assignees: task.map(|_| assignees),
                due_date: task.and_then(|task| task.due_date),
                status: task.map(|task| task.status.as_upstream()),
            },
            parent_msg: self.reply_to.as_deref().map(|id| Parent { id }),
            chat_messages: (!is_chat).then(Default::default),
            mentions: said.mentions,
            version: (!is_chat).then_some("1.1"),
            loopback_metadata: Loopback { bridge: LOOPBACK_BRIDGE, reference: &reference },
        };
        let payload = serde_json::to_string(&payload).expect("a message of texts serialises").into_boxed_str();
        let (category, plain_text, class) = (self.category.to_owned(), said.plain.to_owned(), SendClass::default());
        OutgoingMessage { reference, space, category, payload, plain_text, class }
    }
}

impl TaskStatus {
    pub(in crate::http) fn as_upstream(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
        }
    }
}

impl Words {
    /// Where the words stand in the body.
    pub(in crate::http) fn pointer(&self) -> &'static str {
        match self {
            Self::Text(_) => "/text",
            Self::Markdown(_) => "/markdown",
            Self::Html(_) => "/html",
            Self::Description(_) => "/description",
        }
    }
}

/// Words as HTML, for a message that has them in place of others: with mentions marked, and not empty.
pub(in crate::http) fn words_to_html(words: &Words, app: &AppState, limit: usize) -> Result<String, ApiError> {
    let Rendered { html, plain, .. } = Rendered::of(words, app, limit)?;
    if plain.is_empty() { Err(ApiError::field(words.pointer(), "the message would be empty")) } else { Ok(html) }
}

/// Words as Spaces shows them.
#[derive(Debug, Default)]
struct Rendered {
    html: String,
    /// As a reader sees them.
    plain: String,
    /// Ids and names of those whom the words mention.
    mentions: Vec<(String, String)>,
}

impl Rendered {
    fn of(words: &Words, app: &AppState, limit: usize) -> Result<Self, ApiError> {
        let sanitizer = &app.internals().sanitizer;
        let html = match words {
            Words::Text(text) | Words::Description(text) => text_to_html(text),
            Words::Markdown(markdown) => {
                refuse_oversized(app, markdown, limit)?;
                Cow::Owned(markdown_to_html(markdown, sanitizer))
            }
            Words::Html(html) => {
                refuse_oversized(app, html, limit)?;
                sanitizer.clean(html)
            }
        };
        let (html, mentions) = mark_mentions(html);
        let plain = match words {
            // The same in less time.
            Words::Text(text) | Words::Description(text) if mentions.is_empty() => collapse(text),
            _ => plain_text(&html),
        };
        Ok(Self { html: html.into_owned(), plain, mentions })
    }
}

/// What is made HTML is read as a whole; what is many times too large is refused before.
fn refuse_oversized(app: &AppState, markup: &str, limit: usize) -> Result<(), ApiError> {
    let size = markup.len();
    if size > limit.saturating_mul(MAX_SHRINKING) { Err(too_large(app, size, limit)) } else { Ok(()) }
}

fn too_large(app: &AppState, size: usize, limit: usize) -> ApiError {
    app.metrics.limit_refusals.with_label_values(&["payload"]).inc();
    ApiError::MessageTooLarge { size, limit }
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
