//! The body of a send, and how it becomes what the upstream gets, in steps: [`MessageBody::parse`] reads it, [`MessageBody::prepare`]
//! makes HTML of what it says, [`PreparedMessage::resolve`] asks Spaces for whom it only names, and [`ResolvedMessage::compose_parts`] makes
//! the message for one space, in several parts if it has to and may. Only the third needs the upstream.

mod attachment;
mod compose;
mod form;
mod parts;
mod shapes;
mod upstream;

use std::borrow::Cow;

use utoipa::openapi::{OneOfBuilder, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

pub(super) use self::attachment::{Attachment, FileType};
pub(super) use self::compose::{ResolvedMessage, words_to_html};
use self::form::OwnMessage;
pub(super) use self::form::{TaskStatus, Words};
use self::shapes::{FileMessage, HtmlMessage, MarkdownMessage, PostMessage, TaskMessage, TextMessage};
use self::upstream::UpstreamMessage;
use super::error::ApiError;
use super::extract::parse_json;
use crate::domain::SpaceId;

/// A message to be sent.
#[derive(Debug)]
pub(super) enum MessageBody {
    /// In the bridge's own form.
    Own(Box<OwnMessage>),
    /// In the form that Spaces itself takes.
    Upstream(Box<UpstreamMessage>),
}

/// Which form a body has.
#[derive(serde::Deserialize)]
struct Probe {
    content: Option<serde::de::IgnoredAny>,
}

impl MessageBody {
    /// Reads a body and names what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let probe: Probe = parse_json(bytes)?;
        match probe.content {
            Some(_) => parse_json(bytes).map(|message| Self::Upstream(Box::new(message))),
            None => OwnMessage::parse(bytes).map(|message| Self::Own(Box::new(message))),
        }
    }

    /// The space that the body itself names.
    pub(super) fn named_space(&self) -> Option<&SpaceId> {
        match self {
            Self::Upstream(message) => message.topic_id.as_ref(),
            Self::Own(_) => None,
        }
    }

    /// Whether its words become several messages if they are too long for one.
    pub(super) fn is_split(&self) -> bool {
        matches!(self, Self::Own(message) if message.split)
    }

    /// Adds files that were uploaded for this message.
    pub(super) fn attach(&mut self, files: Vec<Attachment>) -> Result<(), ApiError> {
        match self {
            Self::Own(message) => {
                message.attachments.extend(files);
                Ok(())
            }
            Self::Upstream(_) if files.is_empty() => Ok(()),
            Self::Upstream(_) => Err(ApiError::field("/content", "files come with a message in the bridge's own form only")),
        }
    }
}

/// The failure of a part of the body, as one of the whole.
pub(super) fn below(prefix: &str, error: ApiError) -> ApiError {
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

impl PartialSchema for MessageBody {
    fn schema() -> RefOr<Schema> {
        let forms = OneOfBuilder::new()
            .item(Ref::from_schema_name(TextMessage::name()))
            .item(Ref::from_schema_name(MarkdownMessage::name()))
            .item(Ref::from_schema_name(HtmlMessage::name()))
            .item(Ref::from_schema_name(FileMessage::name()))
            .item(Ref::from_schema_name(PostMessage::name()))
            .item(Ref::from_schema_name(TaskMessage::name()))
            .item(Ref::from_schema_name(UpstreamMessage::name()))
            .description(Some(
                "A message: text, Markdown, HTML, files alone, a post, a task, or the form that Spaces itself takes.",
            ));
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
        schemas.push((PostMessage::name().into_owned(), PostMessage::schema()));
        schemas.push((TaskMessage::name().into_owned(), TaskMessage::schema()));
        schemas.push((UpstreamMessage::name().into_owned(), UpstreamMessage::schema()));
        TextMessage::schemas(schemas);
        PostMessage::schemas(schemas);
        TaskMessage::schemas(schemas);
        UpstreamMessage::schemas(schemas);
    }
}
