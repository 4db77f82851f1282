//! [`MessageInput`]: the body of a send, as JSON or as a form with files. A form is read only once its sender is known to Spaces, and
//! its files are uploaded only once it is certain that the message is to be posted.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use super::AppState;
use super::auth::AccountCaller;
use super::error::ApiError;
use super::extract::JsonBytes;
use super::form::{Form, FormRules, ReceivedFile};
use super::idempotency::{Call, Keyed, UnprintedCall};
use super::media_type::file_type;
use super::message_body::{Attachment, MessageBody};
use super::multipart::{FormReader, boundary};
use super::steady::SteadyBody;
use super::uploads;
use crate::domain::SpaceId;

/// An id that is as long as those that Spaces gives files.
const STAND_IN: &str = "00000000-0000-4000-8000-000000000000";

/// The body of a send, not read yet.
#[derive(Debug)]
pub(super) struct MessageInput(Request);

impl FromRequest<AppState> for MessageInput {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, ApiError> {
        Ok(Self(request))
    }
}

/// A message as a form: the fields of the JSON form by their names, with lists and objects as JSON, and files.
#[derive(ToSchema)]
#[schema(example = json!({"text": "the report of today"}))]
#[expect(dead_code, reason = "the form as the document shows it")]
pub(super) struct MessageForm {
    /// The whole message as JSON, in place of fields.
    #[schema(nullable = false, example = r#"{"text": "see the report"}"#)]
    message: Option<String>,
    /// `chat`, `post` or `task`.
    #[schema(nullable = false, example = "chat")]
    category: Option<String>,
    /// What to say, as it is.
    #[schema(nullable = false, example = "see the report")]
    text: Option<String>,
    /// What to say, as Markdown.
    #[schema(nullable = false)]
    markdown: Option<String>,
    /// What to say, as HTML.
    #[schema(nullable = false)]
    html: Option<String>,
    /// The title of a post or task.
    #[schema(nullable = false)]
    title: Option<String>,
    /// What a post or task says, as the upstream calls it.
    #[schema(nullable = false)]
    description: Option<String>,
    /// The post or task to comment on.
    #[serde(rename = "replyTo")]
    #[schema(nullable = false)]
    reply_to: Option<String>,
    /// Whom to mention, as JSON.
    #[schema(nullable = false, example = r#"["5a0b1c2d3e4f506172839405"]"#)]
    mentions: Option<String>,
    /// Files that were uploaded before, as JSON.
    #[schema(nullable = false)]
    attachments: Option<String>,
    /// Who is to do a task, as JSON.
    #[schema(nullable = false, example = r#"["bo@corp.example"]"#)]
    assignees: Option<String>,
    /// When a task is due.
    #[serde(rename = "dueDate")]
    #[schema(nullable = false)]
    due_date: Option<String>,
    /// How far a task is.
    #[schema(nullable = false)]
    status: Option<String>,
    /// `true` if words that are too long for one message are to become several.
    #[schema(nullable = false, example = "true")]
    split: Option<String>,
    /// Files to upload and attach, in their order. Any field with a file name is one, whatever the field is called.
    #[schema(nullable = false, value_type = Option<Vec<String>>, format = Binary, content_media_type = "application/octet-stream")]
    file: Option<Vec<u8>>,
}

/// A message that came, with files that are not in Spaces yet.
#[derive(Debug)]
pub(super) struct Draft {
    json: Bytes,
    files: Vec<ReceivedFile>,
    _place: Option<OwnedSemaphorePermit>,
}

impl MessageInput {
    /// Reads the body to its end, and what call it is.
    pub(super) async fn read(self, app: &AppState, caller: &AccountCaller) -> Result<(Call, Draft), ApiError> {
        let boundary = self.0.headers().get(CONTENT_TYPE).and_then(|value| boundary(value.to_str().ok()?));
        match boundary {
            Some(boundary) => read_form(self.0, &boundary?, app, caller).await,
            None => {
                let Keyed(call, JsonBytes(json)) = Keyed::from_request(self.0, app).await?;
                Ok((call, Draft { json, files: Vec::new(), _place: None }))
            }
        }
    }
}

async fn read_form(request: Request, boundary: &str, app: &AppState, caller: &AccountCaller) -> Result<(Call, Draft), ApiError> {
    let place = uploads::take_place(app)?;
    let (call, mut form) = read_parts(request, boundary, app, caller, true).await?;
    Ok((call, Draft { json: form.to_json(), files: std::mem::take(&mut form.files), _place: Some(place) }))
}

/// Reads a form of a caller whom Spaces knows.
pub(super) async fn read_parts(
    request: Request,
    boundary: &str,
    app: &AppState,
    caller: &AccountCaller,
    takes_fields: bool,
) -> Result<(Call, Form), ApiError> {
    let (parts, body) = request.into_parts();
    let unprinted = UnprintedCall::read(&parts)?;
    let file_limit = uploads::file_limit(app, caller).await?;
    let rules = FormRules { file_limit, takes_fields, fingerprinted: unprinted.has_key() };
    let mut reader = FormReader::new(SteadyBody::new(body, app.settings.request_timeout), boundary);
    match Form::read(app, &mut reader, rules).await {
        Ok(form) => {
            let call = unprinted.with_print("multipart/form-data", &form.print);
            Ok((call, form))
        }
        Err(error) => {
            reader.into_pieces().drain().await;
            Err(error)
        }
    }
}

impl Draft {
    /// The message with stand-ins for the files, by which all can be checked that needs no upload.
    pub(super) fn body(&self) -> Result<MessageBody, ApiError> {
        let stand_in = |file: &ReceivedFile| {
            let size = (file.content.size(), file_type(&file.media_type), file.media_type.as_str());
            Attachment::uploaded(STAND_IN.to_owned(), &file.name, size)
        };
        self.with(self.files.iter().map(stand_in).collect())
    }

    /// Whether there are files to be uploaded before the message can be sent.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Uploads the files and answers the message with them.
    pub(super) async fn upload(&self, app: &AppState, caller: &AccountCaller, space: &SpaceId) -> Result<MessageBody, ApiError> {
        self.with(uploads::upload(app, caller, space, &self.files).await?)
    }

    fn with(&self, files: Vec<Attachment>) -> Result<MessageBody, ApiError> {
        let mut body = MessageBody::parse(&self.json)?;
        body.attach(files)?;
        Ok(body)
    }
}

/// Whether a body is announced as a form.
pub(super) fn is_form(content_type: Option<&HeaderValue>) -> bool {
    content_type.and_then(|value| value.to_str().ok()).is_some_and(|said| boundary(said).is_some())
}
