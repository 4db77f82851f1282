//! Named consumers: how far the caller's programs have come with the account's events.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayRead;
use super::error::ApiError;
use super::events::{ConsumerEventQuery, EventPageBody, Pull, read_cursor};
use super::extract::{ApiJson, ApiPath, ApiQuery};
use super::page::{self, Page, PageQuery};
use crate::consumers::{self, Acknowledged, Acknowledgement, ConsumerError, ConsumerName};
use crate::domain::Timestamp;
use crate::store::Cursor;

/// A named consumer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Consumer {
    /// Its name.
    #[schema(value_type = String, example = "nightly-report")]
    name: ConsumerName,
    /// How far it has come: everything up to here is done.
    cursor: String,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last moved.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<consumers::Consumer> for Consumer {
    fn from(consumer: consumers::Consumer) -> Self {
        Self {
            name: consumer.name,
            cursor: page::encode(&consumer.cursor.0),
            created_at: consumer.created_at,
            updated_at: consumer.updated_at,
        }
    }
}

/// How far a consumer has come.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Acknowledgement, example = json!({"cursor": "MTc", "from": "MTI"}))]
pub(super) struct AcknowledgementBody {
    /// Everything up to here is done: `nextCursor` of the page that was worked off. Left out, the consumer stays where it is, and a
    /// new one begins with the oldest event.
    #[serde(default)]
    #[schema(max_length = 4096)]
    cursor: Option<String>,
    /// Where the consumer must stand for this to count: `cursor` of the consumer when the page was read. Of two runs that read the
    /// same page, one is refused then.
    #[serde(default)]
    #[schema(max_length = 4096)]
    from: Option<String>,
}

impl AcknowledgementBody {
    fn checked(self) -> Result<Acknowledgement, ApiError> {
        let place = |pointer: &str, text: Option<String>| -> Result<Option<Cursor>, ApiError> {
            let read = |text: String| read_cursor(&text).ok_or(ApiError::field(pointer, "it is not a cursor that this API gave"));
            text.map(read).transpose()
        };
        Ok(Acknowledgement { to: place("/cursor", self.cursor)?, from: place("/from", self.from)? })
    }
}

/// Create a consumer, or acknowledge
///
/// A new name makes a consumer that stands at `cursor`, or before the oldest event. A known one moves there; forward only, so that a
/// late run takes nothing back. The same acknowledgement again changes nothing.
#[utoipa::path(
    put,
    path = "/consumers/{name}",
    tag = "Events",
    params(("name" = String, Path, description = "The consumer's name.", pattern = "^[A-Za-z0-9_-]{1,64}$", example = "nightly-report")),
    request_body(content = AcknowledgementBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The consumer as it stands now.", body = Consumer),
        (status = 201, description = "The consumer is new.", body = Consumer, headers(("Location" = String, description = "The consumer's address."))),
        (status = 404, description = "`consumer_not_found`: there is none that could stand at `from`."),
        (status = 409, description = "`acknowledgement_stale`: it stands beyond `cursor`, or not at `from`; the detail says where. `consumer_limit_reached`: the account has as many as it may have. `consumer_changed`: try again."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn put_consumer(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(name): ApiPath<ConsumerName>,
    ApiJson(body): ApiJson<AcknowledgementBody>,
) -> Result<Response, ApiError> {
    let done = body.checked()?;
    let account = caller.account(&app).await?;
    match app.consumers.acknowledge(&account, &name, done).await? {
        Acknowledged::Known(consumer) => Ok(Json(Consumer::from(consumer)).into_response()),
        Acknowledged::Created(consumer) => {
            let location = format!("/consumers/{}", consumer.name.as_str());
            let location = HeaderValue::from_str(&location).expect("names are safe in headers");
            Ok((StatusCode::CREATED, [(LOCATION, location)], Json(Consumer::from(consumer))).into_response())
        }
    }
}

/// List consumers
///
/// The consumers of the caller's account, in the order of their names.
#[utoipa::path(
    get,
    path = "/consumers",
    tag = "Events",
    params(PageQuery),
    responses((status = 200, description = "A page of consumers.", body = Page<Consumer>)),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_consumers(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<Page<Consumer>>, ApiError> {
    let after = query.place::<String>()?;
    let account = caller.account(&app).await?;
    let limit = query.limit();
    let mut found = app.consumers.list(&account, after.as_deref(), limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(Page::new(found.into_iter().map(Consumer::from).collect(), next)))
}

/// Show a consumer
///
/// Tells how far the consumer has come.
#[utoipa::path(
    get,
    path = "/consumers/{name}",
    tag = "Events",
    params(("name" = String, Path, description = "The consumer's name.", pattern = "^[A-Za-z0-9_-]{1,64}$", example = "nightly-report")),
    responses(
        (status = 200, description = "The consumer.", body = Consumer),
        (status = 404, description = "`consumer_not_found`: there is none of this name."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_consumer(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(name): ApiPath<ConsumerName>,
) -> Result<Json<Consumer>, ApiError> {
    let account = caller.account(&app).await?;
    Ok(Json(app.consumers.get(&account, &name).await?.into()))
}

/// Delete a consumer
///
/// Its place is forgotten; the events stay.
#[utoipa::path(
    delete,
    path = "/consumers/{name}",
    tag = "Events",
    params(("name" = String, Path, description = "The consumer's name.", pattern = "^[A-Za-z0-9_-]{1,64}$", example = "nightly-report")),
    responses(
        (status = 204, description = "The consumer is gone."),
        (status = 404, description = "`consumer_not_found`: there is none of this name."),
        (status = 409, description = "`consumer_changed`: it moved at the same time; try again."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn delete_consumer(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(name): ApiPath<ConsumerName>,
) -> Result<StatusCode, ApiError> {
    let account = caller.account(&app).await?;
    app.consumers.delete(&account, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the events that a consumer has not acknowledged
///
/// From where the consumer stands, oldest first. Reading moves nothing: work the page off, then acknowledge its `nextCursor`. A run
/// that breaks off in between leaves the page to the next one.
#[utoipa::path(
    get,
    path = "/consumers/{name}/events",
    tag = "Events",
    params(
        ("name" = String, Path, description = "The consumer's name.", pattern = "^[A-Za-z0-9_-]{1,64}$", example = "nightly-report"),
        ("limit" = Option<u16>, Query, description = "Most events of the page.", minimum = 1, maximum = 200, nullable = false),
        ("space" = Option<String>, Query, description = "Of this space only.", pattern = "^[A-Za-z0-9_-]{1,128}$", nullable = false, example = "64f0a1b2c3d4e5f601020304"),
        ("type" = Option<String>, Query, description = "Of these types only: patterns as for webhooks, separated by commas.", nullable = false, example = "message.*,space.updated"),
        ("filter" = Option<String>, Query, description = "Messages of which this holds, as JSON: an expression as webhooks have it. What happened in no space is chosen by its type alone.", nullable = false, example = json!("{\"text\":{\"prefix\":\"!deploy\"}}")),
        ("ignoreOwn" = Option<bool>, Query, description = "Whether what this account sent through the bridge is left out.", nullable = false),
        ("wait" = Option<u8>, Query, description = "Seconds to wait for something to come.", minimum = 0, maximum = 60, nullable = false),
    ),
    responses(
        (status = 200, description = "A page of events.", body = EventPageBody),
        (status = 404, description = "`consumer_not_found`: there is none of this name."),
        (status = 429, description = "`too_many_listeners`: the account has as many streams and long polls open as it may have. Also `session_busy`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_consumer_events(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(name): ApiPath<ConsumerName>,
    ApiQuery(query): ApiQuery<ConsumerEventQuery>,
) -> Result<Response, ApiError> {
    let reach = caller.reach(&app).await?;
    let consumer = app.consumers.get(&reach.account, &name).await?;
    let limit = PageQuery::new(query.limit, None).limit();
    let pull = Pull::after(&app, reach, consumer.cursor, query.selection()).await?;
    pull.poll(&app, limit, query.wait).await
}

impl From<ConsumerError> for ApiError {
    fn from(error: ConsumerError) -> Self {
        match error {
            ConsumerError::NotFound => Self::NotFound(super::error::Resource::Consumer),
            ConsumerError::Stale { stands } => Self::AcknowledgementStale { stands: page::encode(&stands.0) },
            ConsumerError::TooMany => Self::TooManyConsumers,
            ConsumerError::Contended => Self::ConsumerChanged,
            ConsumerError::Store(error) => Self::Store(error),
        }
    }
}
