//! Answers of the REST side.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

/// A refusal in the documented form, `{"code":…,"message":…}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

pub(super) type Answer = Result<Json<Value>, Failure>;

impl Failure {
    pub(super) const UNAUTHORIZED: Self =
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or not valid");
    pub(super) const UNKNOWN_SPACE: Self = Self::new(StatusCode::NOT_FOUND, "topic.not.found", "the space does not exist");
    pub(super) const UNKNOWN_USER: Self = Self::new(StatusCode::NOT_FOUND, "user.not.found", "the user does not exist");
    pub(super) const UNKNOWN_MESSAGE: Self = Self::new(StatusCode::NOT_FOUND, "message.not.found", "the message does not exist");
    pub(super) const BEING_EDITED: Self =
        Self::new(StatusCode::BAD_REQUEST, "message.update.conflict", "the message is being updated by someone else");
    pub(super) const NOT_A_MEMBER: Self = Self::new(StatusCode::FORBIDDEN, "not.authorized", "not a member of the space");
    pub(super) const WRONG_PIN: Self =
        Self::new(StatusCode::FORBIDDEN, "invalid.password", "the password of the space is wrong or missing");
    pub(super) const GUESTS_BARRED: Self =
        Self::new(StatusCode::FORBIDDEN, "not.authorized.by.topic.policy", "guests may not do this");
    pub(super) const POLICY: Self =
        Self::new(StatusCode::FORBIDDEN, "not.authorized.by.topic.policy", "the settings of the space do not allow this");
    pub(super) const ARCHIVED: Self =
        Self::new(StatusCode::FORBIDDEN, "topic.invalid_acesss_to_archived_topic", "the space is archived");
    pub(super) const NO_DIRECT_SPACE: Self =
        Self::new(StatusCode::FORBIDDEN, "direct.not.allowed", "the two users have no company and no space in common");

    pub(super) const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message }
    }

    pub(super) const fn invalid(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid.parameters", message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"code": self.code, "message": self.message}))).into_response()
    }
}

/// A JSON object out of a body, whatever its content type says.
pub(super) fn object(body: &[u8]) -> Result<serde_json::Map<String, Value>, Failure> {
    serde_json::from_slice(body).map_err(|_| Failure::invalid("the body is not a JSON object"))
}

pub(super) async fn unknown_path() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "not.found", "no such endpoint")
}
