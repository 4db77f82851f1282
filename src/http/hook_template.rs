//! Templates of incoming hooks in the API.

use serde::Deserialize;
use utoipa::ToSchema;

use super::AppState;
use super::error::ApiError;
use crate::domain::AccountId;
use crate::incoming::{Template, TemplateError, TemplateOutput};

/// A text with gaps in the language of Jinja: `{{ payload.host }}`, `{% for disk in payload.disks %}`, filters such as `upper`, `round`,
/// `tojson`, and `e`, which escapes what would be taken for markup. `payload` is what was posted, `event` what GitHub, GitLab or
/// Sentry call it. There are no includes, and time, memory and output are limited.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IncomingHookTemplate, example = json!({"source": "**{{ payload.host }}** is {{ payload.state }}"}))]
pub(super) struct TemplateForm {
    /// The text, 16384 bytes at most.
    #[schema(min_length = 1, max_length = 16384)]
    source: String,
    /// What comes out of it.
    #[serde(default)]
    #[schema(value_type = TemplateOutputWord, default = "markdown")]
    output: TemplateOutput,
}

/// What comes out of a template.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = IncomingHookTemplateOutput)]
#[expect(dead_code, reason = "the outputs as the document shows them")]
pub(super) enum TemplateOutputWord {
    /// Markdown, made safe as that of any message.
    Markdown,
    /// HTML, made safe as that of any message; what fills the gaps is escaped.
    Html,
    /// Plain text, shown as it is.
    Text,
}

impl TemplateForm {
    pub(super) fn checked(self) -> Result<Template, ApiError> {
        let template = Template { source: self.source, output: self.output };
        template.check_size().map_err(|error| wrong_template(&error))?;
        Ok(template)
    }
}

/// Refuses a template that cannot be read.
pub(super) async fn check_template(app: &AppState, account: &AccountId, template: Option<&Template>) -> Result<(), ApiError> {
    let Some(template) = template else { return Ok(()) };
    let checked = app.renderer.check(account, template).await;
    checked.map_err(|error| if error.is_ours() { ApiError::TemplateUnchecked } else { wrong_template(&error) })
}

pub(super) fn wrong_template(error: &TemplateError) -> ApiError {
    ApiError::field("/template/source", error.to_string())
}
