//! The event catalogue: in a list, and as the `webhooks` of the `OpenAPI` document.

use std::collections::BTreeMap;

use axum::Json;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::ApiError;
use super::extract::ApiQuery;
use super::page::{Page, PageQuery};
use crate::catalogue::{EventKind, KINDS};

/// A type of event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventType)]
pub(super) struct EventTypeEntry {
    /// Its name.
    #[schema(example = "message.created")]
    r#type: &'static str,
    /// What it means.
    description: &'static str,
    /// The version that it came with.
    #[schema(example = "0.1.0")]
    since: &'static str,
    /// Whether it has to be asked for by its name or family: `*` leaves it out.
    opt_in: bool,
    /// The JSON Schema (2020-12) of an event of this type.
    #[schema(value_type = Object)]
    schema: Value,
    /// An event of this type.
    #[schema(value_type = Object)]
    example: Value,
}

impl From<&'static EventKind> for EventTypeEntry {
    fn from(kind: &'static EventKind) -> Self {
        Self {
            r#type: kind.event_type.as_str(),
            description: kind.description,
            since: kind.since,
            opt_in: kind.is_opt_in(),
            schema: kind.schema(),
            example: kind.example(),
        }
    }
}

/// List the types of events
///
/// Every type that can occur, in the order of their names: what it means, its schema, and an example. Needs no token.
#[utoipa::path(
    get,
    path = "/event-types",
    tag = "Events",
    params(PageQuery),
    responses((status = 200, description = "A page of types.", body = Page<EventTypeEntry>)),
)]
pub(super) async fn list_event_types(ApiQuery(query): ApiQuery<PageQuery>) -> Result<Json<Page<EventTypeEntry>>, ApiError> {
    let all = KINDS.iter().map(EventTypeEntry::from).collect();
    Ok(Json(Page::cut(all, &query, |entry: &EventTypeEntry| entry.r#type)?))
}

/// The catalogue as the `webhooks` of an `OpenAPI` document: the request that a receiver gets, by type.
pub(super) fn openapi_webhooks() -> BTreeMap<&'static str, Value> {
    KINDS.iter().map(|kind| (kind.event_type.as_str(), webhook(kind))).collect()
}

fn webhook(kind: &EventKind) -> Value {
    let name = kind.event_type.as_str();
    let header = |name: &str, description: &str| json!({"name": name, "in": "header", "required": true, "description": description, "schema": {"type": "string"}});
    json!({
        "post": {
            "operationId": format!("deliver_{}", name.replace('.', "_")),
            "summary": format!("Deliver `{name}`"),
            "description": kind.description,
            "tags": ["Webhooks"],
            "parameters": [
                header("webhook-id", "The event; the same on every repeat."),
                header("webhook-timestamp", "When this attempt was made, in seconds since 1970."),
                header("webhook-signature", "Signatures as Standard Webhooks says, separated by spaces."),
            ],
            "requestBody": {
                "required": true,
                "content": {"application/json": {"schema": kind.schema(), "example": kind.example()}},
            },
            "responses": {
                "2XX": {"description": "Delivered."},
                "410": {"description": "No more of this: the webhook is switched off."},
                "default": {"description": "Not delivered; it is tried again."},
            },
        },
    })
}
