//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): the event log as a stream that does not end.
//!
//! The stream reads a page of the log when its reader has taken the one before, so it holds one page at most however slow the reader
//! is; one that takes nothing at all is cut off by the server's write timeout, and goes on later with the id of the last event.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tracing::warn;

use super::AppState;
use super::error::ApiError;
use super::events::{Pull, listen};
use super::listeners::Place;
use super::page;
use crate::event_log::NewEvents;
use crate::store::StoredEvent;

/// The header with which a reader says how far it has come.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// Most events in one piece of the stream.
const PIECE: usize = 50;

/// How often a comment shows that the stream lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream lasts; its reader comes again, and shows that its token is still good.
const LIFE: Duration = Duration::from_hours(1);

/// The first words: come again after a second if the stream breaks off.
const GREETING: &str = "retry: 1000\n\n";
const TRUNCATED: &str = ": events after your last one may be missing, because they were older than what is kept\n\n";
const BEAT: Bytes = Bytes::from_static(b": heartbeat\n\n");

/// Proxies that gather answers before they pass them on are asked not to.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Whether the caller asks for a stream.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("text/event-stream")
    })
}

/// How far the reader says it has come. An empty id is none.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let detail = "`Last-Event-ID` is not a cursor that this list gave";
    let text = value.to_str().map_err(|_| ApiError::InvalidQuery { detail: detail.to_owned() })?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The stream from where `pull` stands.
pub(super) fn answer(app: &AppState, pull: Pull) -> Result<Response, ApiError> {
    let place = listen(app, &pull.reach.account)?;
    let news = app.event_log.watch(&pull.reach.account);
    let now = Instant::now();
    let reader = Reader { app: app.clone(), pull, news, greeted: false, beat_at: now + HEARTBEAT, ends_at: now + LIFE, place };
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/event-stream")), (UNBUFFERED, HeaderValue::from_static("no"))];
    Ok((headers, Body::from_stream(pieces(reader))).into_response())
}

/// The other end of one stream.
struct Reader {
    app: AppState,
    pull: Pull,
    news: NewEvents,
    greeted: bool,
    beat_at: Instant,
    ends_at: Instant,
    #[expect(dead_code, reason = "given back when the stream ends")]
    place: Place,
}

fn pieces(reader: Reader) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        reader.beat_at = Instant::now() + HEARTBEAT;
        Some((Ok(piece), reader))
    })
}

impl Reader {
    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            let notice = if self.pull.truncated { TRUNCATED } else { "" };
            return Some(format!("{GREETING}{notice}").into());
        }
        loop {
            let page = match self.pull.read(&self.app, PIECE).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "a stream of events ends because the log cannot be read");
                    return None;
                }
            };
            if !page.events.is_empty() {
                return Some(write(&page.events));
            }
            if page.more {
                // Much that is not wanted may lie between two events that are.
                if Instant::now() >= self.beat_at {
                    return Some(BEAT);
                }
                continue;
            }
            tokio::select! {
                () = self.news.wait() => {}
                () = tokio::time::sleep_until(self.beat_at.min(self.ends_at)) => {
                    return (Instant::now() < self.ends_at).then_some(BEAT);
                }
                () = self.app.readiness.stopping() => return None,
                () = self.pull.reach.ended(&*self.app.clock) => return None,
            }
        }
    }
}

fn write(events: &[StoredEvent]) -> Bytes {
    let size = events.iter().map(|event| event.body.len() + 100).sum();
    let mut text = Vec::with_capacity(size);
    for event in events {
        let head = format!("id: {}\nevent: {}\n", page::encode(&event.position.0), event.event_type);
        text.extend_from_slice(head.as_bytes());
        // What Spaces sent may have line ends between its fields.
        for line in event.body.split(|byte| matches!(byte, b'\n' | b'\r')) {
            text.extend_from_slice(b"data: ");
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.push(b'\n');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::health::ReadyState;
    use super::super::reach::Reach;
    use super::super::tests::state;
    use super::*;
    use crate::domain::{EventType, Timestamp};
    use crate::event_log::{START, Selection};
    use crate::store::Cursor;

    /// The whole stream of an account without events, from its beginning to its end.
    async fn quiet_stream(app: &AppState) -> String {
        let reach = Reach::new("acc_1".parse().expect("an id"), None);
        let pull = Pull::after(app, reach, START, Selection::default()).await.expect("a place");
        let response = answer(app, pull).expect("a stream");
        assert_eq!(app.metrics.listeners.get(), 1);
        let bytes = response.into_body().collect().await.expect("a whole stream").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("a text")
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_shows_that_it_lives_and_ends_after_its_time() {
        let app = state(|_| {}).await;
        let text = quiet_stream(&app).await;
        let beats = LIFE.as_secs() / HEARTBEAT.as_secs() - 1;
        assert_eq!(text, format!("{GREETING}{}", ": heartbeat\n\n".repeat(usize::try_from(beats).expect("few"))));
        assert_eq!(app.metrics.listeners.get(), 0, "its place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_a_stream() {
        let app = state(|_| {}).await;
        app.readiness.set(ReadyState::Stopping);
        assert_eq!(quiet_stream(&app).await, GREETING);
    }

    #[test]
    fn a_stream_is_given_to_who_asks_for_one() {
        for (accept, expected) in [
            (Some("text/event-stream"), true),
            (Some("application/json, Text/Event-Stream;q=0.9"), true),
            (Some("*/*"), false),
            (Some("text/*"), false),
            (Some("application/json"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(is_wanted(&headers), expected, "{accept:?}");
        }
    }

    #[test]
    fn an_event_with_line_ends_stays_one_event() {
        let event = StoredEvent {
            position: Cursor(7),
            id: "evt_1".parse().expect("an id"),
            account: "acc_1".parse().expect("an id"),
            space: "s1".parse().expect("an id"),
            event_type: EventType::MESSAGE_CREATED,
            occurred_at: Timestamp::from_millis(1),
            appended_at: Timestamp::from_millis(1),
            body: "{\"a\":\r\n\"b\\n\"}".into(),
        };
        let text = write(&[event]);
        let text = std::str::from_utf8(&text).expect("a text");
        assert_eq!(
            text,
            format!("id: {}\nevent: message.created\ndata: {{\"a\":\ndata: \ndata: \"b\\n\"}}\n\n", page::encode(&7))
        );
    }
}
