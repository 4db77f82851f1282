//! The body of every failure: problem details (RFC 9457).

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::message_view::MessagePart;

/// Why a call failed, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Names the kind of failure; `urn:spaces-bridge:problem:` and the code.
    #[schema(format = "uri-reference", example = "urn:spaces-bridge:problem:not_connected")]
    pub r#type: String,
    /// The kind of failure in words; the same for every failure of the kind.
    #[schema(example = "Not connected to Spaces")]
    pub title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599, example = 503)]
    pub status: u16,
    /// What happened this time, for people.
    #[schema(example = "the session is not connected to Spaces: no connection")]
    pub detail: String,
    /// This very failure: `urn:spaces-bridge:request:` and the request's id, which the log has too.
    #[schema(format = "uri-reference", example = "urn:spaces-bridge:request:8f14e45fceea167a-2a")]
    pub instance: String,
    /// The kind of failure for programs; stable.
    #[schema(pattern = "^[a-z_]+$", example = "not_connected")]
    pub code: String,
    /// In how many seconds to try again; the same as the `Retry-After` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub retry_after: Option<u64>,
    /// What is wrong with which field of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub errors: Option<Vec<FieldError>>,
    /// Bytes of the message as Spaces would get it, where it is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub size: Option<usize>,
    /// Most bytes that Spaces takes, where the message is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub limit: Option<usize>,
    /// How many bytes the message is too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub excess: Option<usize>,
    /// The code that Spaces gave for its refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "not.authorized.by.topic.policy")]
    pub upstream_code: Option<String>,
    /// The parts of a message of which Spaces has only some, with their references and ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub parts: Option<Vec<MessagePart>>,
    /// What became of each target of a message to several: `target`, `status` and `problem`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>, nullable = false)]
    pub results: Option<Box<RawValue>>,
}

impl Problem {
    /// The media type of problem details.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// What every `type` begins with.
    pub(super) const TYPE_PREFIX: &'static str = "urn:spaces-bridge:problem:";

    /// What every `instance` begins with.
    pub(super) const INSTANCE_PREFIX: &'static str = "urn:spaces-bridge:request:";

    /// The problem as that of the request with this id.
    pub(super) fn of_request(self, id: &str) -> Self {
        Self { instance: format!("{}{id}", Self::INSTANCE_PREFIX), ..self }
    }
}

/// What is wrong with a field of the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldError {
    /// Where it is in the body, as a JSON pointer (RFC 6901); empty for the body as a whole.
    #[schema(format = "json-pointer", example = "/attachments/0/fileId")]
    pub pointer: String,
    /// What is wrong with it.
    #[schema(example = "missing field `fileId`")]
    pub detail: String,
}
