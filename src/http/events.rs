//! The event log, pulled: pages and long polls here, streams in [`super::event_stream`].

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayRead;
use super::error::ApiError;
use super::event_stream::{self, LAST_EVENT_ID};
use super::extract::ApiQuery;
use super::listeners::{Listeners, Place};
use super::page::{self, Limit, PageQuery};
use super::reach::Reach;
use crate::domain::{AccountId, EventPattern, Expression, Filter, SpaceId, Timestamp};
use crate::event_log::{EventPage, START, Selection};
use crate::store::{Cursor, StoredEvent};

/// Longest wait of a long poll, in seconds.
const MAX_WAIT: u8 = 60;

/// Most patterns in `type`.
const MAX_TYPES: usize = 20;

/// An event, as webhooks get it. `GET /event-types` has the schema of each type.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"type": "message.created", "timestamp": "2031-03-14T09:26:53.589Z", "data": {"eventId": "evt_0f3c5a7e9b1d2f4a6c8e0b1d3f5a7c9e", "account": "acc_5a0b1c2d3e4f506172839405"}}))]
pub(super) struct Event {
    /// What happened.
    #[schema(example = "message.created")]
    r#type: String,
    /// When.
    #[schema(format = DateTime)]
    timestamp: String,
    /// The rest, by type; `eventId` and `account` always.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventPage)]
pub(super) struct EventPageBody<'a> {
    /// The events, oldest first.
    #[schema(value_type = Vec<Event>)]
    data: Vec<&'a RawValue>,
    /// Where to go on, also when there is nothing more yet: keep it for the next call.
    next_cursor: String,
    /// Whether there is more now.
    has_more: bool,
    /// Whether events after the cursor may be missing, because they were older than what is kept.
    truncated: bool,
}

/// Which events, from where, and how long to wait for them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    since: Option<Since>,
    cursor: Option<String>,
    limit: Option<Limit>,
    space: Option<SpaceId>,
    #[serde(rename = "type")]
    types: Option<Types>,
    filter: Option<FilterText>,
    #[serde(rename = "ignoreOwn")]
    ignore_own: Option<bool>,
    wait: Option<Wait>,
}

/// Where to begin: a time, or `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Since {
    Now,
    At(Timestamp),
}

impl TryFrom<String> for Since {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "now" => Ok(Self::Now),
            text => Timestamp::parse(text).map(Self::At).ok_or("`since` is a time (RFC 3339) or `now`"),
        }
    }
}

/// Patterns on the type, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Types(Vec<EventPattern>);

impl TryFrom<String> for Types {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let patterns: Vec<EventPattern> =
            text.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|error| format!("`type`: {error}"))?;
        if patterns.len() > MAX_TYPES { Err(format!("`type` has {MAX_TYPES} patterns at most")) } else { Ok(Self(patterns)) }
    }
}

/// A filter as JSON, as webhooks have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FilterText(Arc<Filter>);

impl TryFrom<String> for FilterText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expression: Expression = serde_json::from_str(&text).map_err(|error| format!("`filter`: {error}"))?;
        let filter = Filter::new(expression).map_err(|error| format!("`filter` at `{}`: {}", error.pointer, error.detail))?;
        Ok(Self(Arc::new(filter)))
    }
}

/// How long to wait for something to come, 0 to 60 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub(super) struct Wait(u8);

impl TryFrom<u8> for Wait {
    type Error = &'static str;

    fn try_from(seconds: u8) -> Result<Self, Self::Error> {
        if seconds <= MAX_WAIT { Ok(Self(seconds)) } else { Err("`wait` is a number of seconds from 0 to 60") }
    }
}

/// A place in the log, and what is wanted from there on.
#[derive(Debug, Clone)]
pub(super) struct Pull {
    pub(super) reach: Reach,
    pub(super) cursor: Cursor,
    pub(super) selection: Selection,
    /// Whether events after the cursor may be missing.
    pub(super) truncated: bool,
}

impl Pull {
    /// From `cursor` on.
    pub(super) async fn after(app: &AppState, reach: Reach, cursor: Cursor, selection: Selection) -> Result<Self, ApiError> {
        selection.space.as_ref().map_or(Ok(()), |space| reach.check(space))?;
        let selection = Selection { within: reach.spaces().cloned(), ..selection };
        let truncated = app.event_log.is_forgotten(&reach.account, cursor).await?;
        Ok(Self { reach, cursor, selection, truncated })
    }

    /// Reads on, and remembers where it has come.
    pub(super) async fn read(&mut self, app: &AppState, limit: usize) -> Result<EventPage, ApiError> {
        let page = app.event_log.read(&self.reach.account, self.cursor, &self.selection, limit).await?;
        self.cursor = page.next;
        if !page.more {
            // Everything older lies behind the cursor now.
            self.selection.since = None;
        }
        Ok(page)
    }

    /// The next page: at once if there is something, else as soon as something comes, but when `wait` is over in any case.
    pub(super) async fn poll(mut self, app: &AppState, limit: usize, wait: Option<Wait>) -> Result<Response, ApiError> {
        let wait = Duration::from_secs(wait.map_or(0, |wait| wait.0.into())).min(app.settings.max_wait);
        let page = if wait.is_zero() { self.read(app, limit).await? } else { self.wait_for_page(app, limit, wait).await? };
        Ok(self.answer(&page.events, page.more).into_response())
    }

    async fn wait_for_page(&mut self, app: &AppState, limit: usize, wait: Duration) -> Result<EventPage, ApiError> {
        let _place = listen(app, &self.reach.account)?;
        let deadline = Instant::now() + wait;
        let mut news = app.event_log.watch(&self.reach.account);
        loop {
            let page = self.read(app, limit).await?;
            if !page.events.is_empty() || Instant::now() >= deadline {
                return Ok(page);
            }
            if page.more {
                continue;
            }
            tokio::select! {
                () = news.wait() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(page),
                () = app.readiness.stopping() => return Ok(page),
                () = self.reach.ended(&*app.clock) => return Ok(page),
            }
        }
    }

    fn answer(&self, events: &[StoredEvent], has_more: bool) -> Response {
        let bodies: Result<Vec<&RawValue>, _> = events.iter().map(|event| serde_json::from_slice(&event.body)).collect();
        match bodies {
            Ok(data) => {
                Json(EventPageBody { data, next_cursor: page::encode(&self.cursor.0), has_more, truncated: self.truncated })
                    .into_response()
            }
            Err(error) => ApiError::Internal(format!("the log has an event that is no JSON: {error}")).into_response(),
        }
    }
}

/// A place among those who wait for events of `account`.
pub(super) fn listen(app: &AppState, account: &AccountId) -> Result<Place, ApiError> {
    let limit = app.settings.max_listeners;
    Listeners::enter(&app.internals().listeners, account, limit).ok_or(ApiError::TooManyListeners { limit })
}

/// The place in the log that `cursor` stands for.
pub(super) fn read_cursor(cursor: &str) -> Option<Cursor> {
    page::decode::<i64>(cursor).filter(|place| *place >= START.0).map(Cursor)
}

impl EventQuery {
    fn selection(&self) -> Selection {
        let since = match self.since {
            Some(Since::At(time)) => Some(time),
            Some(Since::Now) | None => None,
        };
        Selection { since, ..selection(self.space.as_ref(), self.types.as_ref(), self.filter.as_ref(), self.ignore_own) }
    }

    /// Where to begin: after the event that a reconnecting reader saw last, else where `cursor` or `since` say, else at the oldest.
    async fn begin(&self, app: &AppState, reach: Reach, last_event_id: Option<&str>) -> Result<Pull, ApiError> {
        let selection = self.selection();
        let cursor = |name: &str, text: &str| {
            let detail = format!("`{name}` is not a cursor that this list gave");
            read_cursor(text).ok_or(ApiError::InvalidQuery { detail })
        };
        let cursor = match (last_event_id, &self.cursor) {
            (Some(id), _) => cursor(LAST_EVENT_ID, id)?,
            (None, Some(text)) => cursor("cursor", text)?,
            (None, None) if self.since == Some(Since::Now) => app.event_log.tail(&reach.account).await?,
            (None, None) => START,
        };
        Pull::after(app, reach, cursor, selection).await
    }
}

/// List events
///
/// The events of the caller's account, oldest first, as far back as they are kept: the same bodies that webhooks get. `nextCursor`
/// is there also at the end, for the next call; with `wait` the call answers as soon as something comes.
///
/// With `Accept: text/event-stream` the answer is a stream of server-sent events that does not end: `id` is the cursor, `event` the
/// type, `data` the event. `Last-Event-ID` goes on where a stream broke off. A comment comes every 15 seconds; a reader that takes
/// nothing for half a minute is cut off.
///
/// What is pulled is what the account's session hears: a webhook or a subscription decides which spaces that is.
#[utoipa::path(
    get,
    path = "/events",
    tag = "Events",
    params(
        ("since" = Option<String>, Query, description = "Begin with what was stored at this time (RFC 3339) or later, or with what comes from `now` on. Without it and without `cursor`: the oldest.", nullable = false, example = "2031-03-14T09:26:53Z"),
        ("cursor" = Option<String>, Query, description = "Go on here: `nextCursor` of the call before.", max_length = 4096, nullable = false),
        ("limit" = Option<u16>, Query, description = "Most events of the page.", minimum = 1, maximum = 200, nullable = false),
        ("space" = Option<String>, Query, description = "Of this space only.", pattern = "^[A-Za-z0-9_-]{1,128}$", nullable = false, example = "64f0a1b2c3d4e5f601020304"),
        ("type" = Option<String>, Query, description = "Of these types only: patterns as for webhooks, separated by commas.", nullable = false, example = "message.*,space.updated"),
        ("filter" = Option<String>, Query, description = "Messages of which this holds, as JSON: an expression as webhooks have it. What happened in no space is chosen by its type alone.", nullable = false, example = json!("{\"text\":{\"prefix\":\"!deploy\"}}")),
        ("ignoreOwn" = Option<bool>, Query, description = "Whether what this account sent through the bridge is left out.", nullable = false),
        ("wait" = Option<u8>, Query, description = "Seconds to wait for something to come.", minimum = 0, maximum = 60, nullable = false),
        ("Last-Event-ID" = Option<String>, Header, description = "For a stream: go on after this event. Comes before `cursor`.", nullable = false),
    ),
    responses(
        (status = 200, description = "A page of events, or a stream.", content((EventPageBody = "application/json"), (String = "text/event-stream"))),
        (status = 429, description = "`too_many_listeners`: the account has as many streams and long polls open as it may have. Also `session_busy`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn list_events(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiQuery(query): ApiQuery<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let reach = caller.reach(&app).await?;
    if event_stream::is_wanted(&headers) {
        let last_event_id = event_stream::last_event_id(&headers)?;
        let pull = query.begin(&app, reach, last_event_id).await?;
        return event_stream::answer(&app, pull);
    }
    let limit = PageQuery::new(query.limit, None).limit();
    let pull = query.begin(&app, reach, None).await?;
    pull.poll(&app, limit, query.wait).await
}

/// What a named consumer's page may be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsumerEventQuery {
    pub(super) limit: Option<Limit>,
    pub(super) space: Option<SpaceId>,
    #[serde(rename = "type")]
    pub(super) types: Option<Types>,
    pub(super) filter: Option<FilterText>,
    #[serde(rename = "ignoreOwn")]
    pub(super) ignore_own: Option<bool>,
    pub(super) wait: Option<Wait>,
}

impl ConsumerEventQuery {
    pub(super) fn selection(&self) -> Selection {
        selection(self.space.as_ref(), self.types.as_ref(), self.filter.as_ref(), self.ignore_own)
    }
}

fn selection(space: Option<&SpaceId>, types: Option<&Types>, filter: Option<&FilterText>, ignore_own: Option<bool>) -> Selection {
    Selection {
        space: space.cloned(),
        types: types.map(|types| types.0.clone()).unwrap_or_default(),
        since: None,
        within: None,
        filter: filter.map(|filter| Arc::clone(&filter.0)),
        ignore_own: ignore_own.unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused() {
        let read = |query: &str| {
            let uri = format!("/events?{query}").parse().expect("an address");
            axum::extract::Query::<EventQuery>::try_from_uri(&uri).map(|query| query.0)
        };
        let query = read("type=message.*,space.updated&wait=60&since=2031-03-14T09:26:53Z&limit=7").expect("a query");
        assert_eq!(query.selection().types.len(), 2);
        assert!(query.selection().since.is_some());
        let query = read("filter=%7B%22category%22%3A%22chat%22%7D&ignoreOwn=true").expect("a query");
        assert!(query.selection().filter.is_some() && query.selection().ignore_own);
        assert_eq!(read("since=now").expect("a query").since, Some(Since::Now));
        for odd in [
            "wait=61",
            "wait=-1",
            "since=yesterday",
            "type=",
            "type=a,,b",
            "type=%2F",
            "filter=x",
            "filter=%7B%22colour%22%3A%22red%22%7D",
            "ignoreOwn=maybe",
            "limit=0",
            "space=a%2Fb",
            "x=1",
        ] {
            assert!(read(odd).is_err(), "{odd} was accepted");
        }
    }
}
