//! What a payload would become, without posting anything.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayUseHooks;
use super::error::ApiError;
use super::extract::{ApiJson, ApiPath};
use super::hook_template::{TemplateForm, wrong_template};
use super::hooks::render;
use super::incoming_hook_body::{FormatWord, some_format};
use super::incoming_hooks::owned;
use super::webhook_body::some;
use crate::domain::HookId;
use crate::incoming::{Format, HookError, Rendered, TemplateError, Trouble};

/// Most headers of a sample.
const MAX_HEADERS: usize = 50;

/// A sample of what is posted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = IncomingHookPreview, example = json!({"payload": {"text": "build *41* is green"}}))]
pub(super) struct HookPreview {
    /// The body: JSON as it is, anything else as a text.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Value, required)]
    payload: Option<Value>,
    /// What the sender says that the body is; JSON if it is JSON, else nothing, if left out.
    #[serde(default)]
    #[schema(max_length = 256, example = "application/json")]
    content_type: Option<String>,
    /// Headers of the sender that tell what it is, such as `X-GitHub-Event`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A format to try; the hook's own if left out.
    #[serde(default, deserialize_with = "some_format")]
    #[schema(value_type = Option<FormatWord>, nullable = false)]
    format: Option<Format>,
    /// A template to try; the hook's own if left out.
    #[serde(default, deserialize_with = "some")]
    #[schema(nullable = false)]
    template: Option<TemplateForm>,
}

/// What a payload would become.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IncomingHookPreviewResult)]
pub(super) struct HookPreviewResult {
    /// The format that was used.
    #[schema(value_type = FormatWord)]
    format: &'static str,
    /// Whether the body made sense in that format.
    understood: bool,
    /// Why it did not, of a template also the line; `null` if it did.
    #[schema(required)]
    error: Option<String>,
    /// The message, as Spaces would get it.
    html: String,
    /// What it would say to people.
    text: String,
}

/// Show what a payload would become
///
/// Nothing is posted, counted or checked.
#[utoipa::path(
    post,
    path = "/incoming-hooks/{id}/preview",
    tag = "Incoming hooks",
    params(("id" = String, Path, description = "The incoming hook.", pattern = "^hook_[A-Za-z0-9_-]{1,128}$", example = "hook_7d1c0b4a5e6f48a9b2c3d4e5f6a7b8c9")),
    request_body(content = HookPreview, content_type = "application/json"),
    responses(
        (status = 200, description = "What would be posted.", body = HookPreviewResult),
        (status = 400, description = "`payload_unreadable`: such a body would be refused. `malformed_json`, `invalid_path`, `body_unreadable`: the request is not well formed."),
        (status = 404, description = "`incoming_hook_not_found`: there is none, or not of this account."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong, for a template also why. `incoming_hook_template_mismatch`: the format needs a template, or takes none."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn preview_incoming_hook(
    State(app): State<AppState>,
    MayUseHooks(caller): MayUseHooks,
    ApiPath(id): ApiPath<HookId>,
    ApiJson(preview): ApiJson<HookPreview>,
) -> Result<Json<HookPreviewResult>, ApiError> {
    let headers = preview.headers()?;
    let hook = owned(&app, &caller.reach(&app).await?, &id)?;
    let template = preview.template.map(TemplateForm::checked).transpose()?;
    let is_new = template.is_some();
    let recipe = hook.recipe.changed(preview.format, template.map(Some)).ok_or(HookError::TemplateMismatch)?;
    let rendered = render(&app, (&hook.account, &recipe), &headers, &body_of(preview.payload).into()).await?;
    let Rendered { html, text, format, trouble } = rendered;
    if let (true, Some(Trouble::Template(error @ TemplateError::Syntax(_)))) = (is_new, &trouble) {
        return Err(wrong_template(error));
    }
    let error = trouble.map(|trouble| trouble.to_string());
    Ok(Json(HookPreviewResult { format: format.as_str(), understood: error.is_none(), error, html, text }))
}

impl HookPreview {
    fn headers(&self) -> Result<HeaderMap, ApiError> {
        if self.headers.len() > MAX_HEADERS {
            return Err(ApiError::field("/headers", format!("there are more than {MAX_HEADERS}")));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let pair = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            let (name, value) = pair.ok_or_else(|| ApiError::field("/headers", "one of them is no header"))?;
            headers.insert(name, value);
        }
        if let Some(media_type) = &self.content_type {
            let value =
                HeaderValue::try_from(media_type).map_err(|_| ApiError::field("/contentType", "this is no media type"))?;
            headers.insert(CONTENT_TYPE, value);
        } else if !matches!(self.payload, Some(Value::String(_))) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(headers)
    }
}

fn body_of(payload: Option<Value>) -> String {
    match payload {
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
        None => String::new(),
    }
}
