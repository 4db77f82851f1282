//! The connection of a session: being made, up, or gone, and what follows from each failure.

use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use socketio_client::{Backoff, ConnectError, ConnectPhase, Disconnect, EmitError, FailureClass, Refusal};
use tokio::time::Instant;

use crate::domain::SpaceId;
use crate::upstream::{Socket, SocketEvent};

/// How long a connection has to last before earlier failures are forgotten.
const STABLE: Duration = Duration::from_secs(30);

/// The first wait between attempts. Each is a random part of a time that doubles up to the setting.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Wait after a failure that points to a wrong setting, which time alone does not mend.
const MISCONFIGURED_WAIT: Duration = Duration::from_secs(30);

/// Attempts that may end without a word on a token that was never accepted, before it counts as refused.
const MAX_SILENT_REFUSALS: u32 = 3;

/// The connection of a session.
pub(super) enum Link {
    /// There is none and none is being made.
    Down,
    /// It is being made.
    Connecting(BoxFuture<'static, Result<Socket, ConnectError>>),
    /// It is up.
    Online { socket: Box<Socket>, paused: bool },
}

/// What happened to the connection.
#[derive(Debug)]
pub(super) enum LinkStep {
    Connected(Box<Socket>),
    Failed(ConnectError),
    Event(SocketEvent),
    Lost(Disconnect),
}

impl Link {
    pub(super) fn idle() -> Self {
        Self::Down
    }

    pub(super) fn connecting(attempt: impl Future<Output = Result<Socket, ConnectError>> + Send + 'static) -> Self {
        Self::Connecting(Box::pin(attempt))
    }

    pub(super) fn online(socket: Socket) -> Self {
        Self::Online { socket: Box::new(socket), paused: false }
    }

    pub(super) fn is_online(&self) -> bool {
        matches!(self, Self::Online { .. })
    }

    /// Waits for the next step and drives the connection meanwhile. Safe to cancel.
    pub(super) async fn next(&mut self) -> LinkStep {
        match self {
            Self::Down => std::future::pending().await,
            Self::Connecting(attempt) => {
                let result = attempt.await;
                *self = Self::Down;
                match result {
                    Ok(socket) => LinkStep::Connected(Box::new(socket)),
                    Err(error) => LinkStep::Failed(error),
                }
            }
            Self::Online { socket, .. } => match socket.next().await {
                Ok(event) => LinkStep::Event(event),
                Err(disconnect) => {
                    *self = Self::Down;
                    LinkStep::Lost(disconnect)
                }
            },
        }
    }

    pub(super) fn subscribe(&mut self, space: &SpaceId) -> Result<(), EmitError> {
        self.socket()?.subscribe(space)
    }

    pub(super) fn unsubscribe(&mut self, space: &SpaceId) -> Result<(), EmitError> {
        self.socket()?.unsubscribe(space)
    }

    /// Asks Spaces for a sign of life.
    pub(super) fn probe(&mut self) -> Result<(), EmitError> {
        self.socket()?.probe()
    }

    pub(super) fn send_message(&mut self, payload: &str) -> Result<(), EmitError> {
        self.socket()?.send_message(payload)
    }

    pub(super) fn send_presence(&mut self, payload: &str) -> Result<(), EmitError> {
        self.socket()?.send_presence(payload)
    }

    pub(super) fn pause_reading(&mut self, pause: bool) {
        if let Self::Online { socket, paused } = self
            && *paused != pause
        {
            socket.pause_reading(pause);
            *paused = pause;
        }
    }

    /// Closes the connection, if there is one.
    pub(super) async fn close(&mut self) {
        if let Self::Online { socket, .. } = std::mem::replace(self, Self::Down) {
            socket.close().await;
        }
    }

    fn socket(&mut self) -> Result<&mut Socket, EmitError> {
        match self {
            Self::Online { socket, .. } => Ok(socket),
            Self::Down | Self::Connecting(_) => Err(EmitError::Closed),
        }
    }
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// Spaces does not want this token; no further attempt is made with it.
    Refused,
    /// Another attempt after this time.
    Retry(Duration),
    /// Another attempt after this time, and Spaces has turned the token away so often without a word that it is worth a question.
    Doubt(Duration),
    /// Spaces lets the user have no further connection; another attempt after this time, unless there is room before.
    Limited(Duration),
}

/// How the connection has been doing.
#[derive(Debug)]
pub(super) struct LinkHealth {
    backoff: Backoff,
    silent_refusals: u32,
    online_since: Option<Instant>,
    was_online: bool,
    limit_wait: Duration,
}

impl LinkHealth {
    /// A connection that is yet to be made; `longest_wait` is the longest wait between attempts, `limit_wait` the one where Spaces lets
    /// the user have no further connection.
    pub(super) fn new(longest_wait: Duration, limit_wait: Duration) -> Self {
        let backoff = Backoff::new(FIRST_WAIT.min(longest_wait), longest_wait, STABLE);
        Self { backoff, silent_refusals: 0, online_since: None, was_online: false, limit_wait }
    }

    /// Notes a connection. `true` if it is not the first.
    pub(super) fn connected(&mut self, now: Instant) -> bool {
        self.online_since = Some(now);
        self.silent_refusals = 0;
        std::mem::replace(&mut self.was_online, true)
    }

    pub(super) fn was_online(&self) -> bool {
        self.was_online
    }

    /// Notes a failed attempt. `trusted` tells that Spaces has accepted the token at some time, so that a failure without a word
    /// says nothing against it.
    pub(super) fn failed(&mut self, error: &ConnectError, trusted: bool) -> AfterFailure {
        if is_connection_limit(error) {
            return self.limited(error.retry_after());
        }
        if is_silent_refusal(error) && !trusted && !self.was_online {
            self.silent_refusals += 1;
            return if self.silent_refusals >= MAX_SILENT_REFUSALS { AfterFailure::Refused } else { self.retry(None) };
        }
        if is_silent_refusal(error) {
            self.silent_refusals += 1;
            let wait = self.wait(None);
            let doubtful = self.silent_refusals.is_multiple_of(MAX_SILENT_REFUSALS);
            return if doubtful { AfterFailure::Doubt(wait) } else { AfterFailure::Retry(wait) };
        }
        match error.class() {
            FailureClass::Auth => AfterFailure::Refused,
            FailureClass::Config | FailureClass::Protocol => self.retry(Some(MISCONFIGURED_WAIT)),
            FailureClass::Unavailable => self.retry(error.retry_after()),
        }
    }

    /// Notes the loss of a connection.
    pub(super) fn lost(&mut self, disconnect: &Disconnect, now: Instant) -> AfterFailure {
        let lasted = self.online_since.take().map(|since| now.saturating_duration_since(since));
        self.backoff.ended_after(lasted.unwrap_or_default());
        match disconnect {
            Disconnect::Refused(refusal) if is_limit(refusal) => self.limited(None),
            Disconnect::Refused(_) => AfterFailure::Refused,
            Disconnect::ServerClosed { reason, .. } if names_limit(reason) => self.limited(None),
            _ => self.retry(None),
        }
    }

    fn limited(&self, retry_after: Option<Duration>) -> AfterFailure {
        // Never all at once, and never before Spaces wants it.
        AfterFailure::Limited(retry_after.unwrap_or(self.limit_wait).mul_f64(1.0 + draw() / 4.0))
    }

    fn retry(&mut self, at_least: Option<Duration>) -> AfterFailure {
        AfterFailure::Retry(self.wait(at_least))
    }

    fn wait(&mut self, at_least: Option<Duration>) -> Duration {
        let wait = self.backoff.next_delay(draw());
        at_least.map_or(wait, |at_least| at_least.saturating_add(wait))
    }
}

/// Whether the upstream ended the attempt without saying why, as it may do with a token that it does not want.
fn is_silent_refusal(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Kicked | ConnectError::Closed { .. } | ConnectError::Timeout { phase: ConnectPhase::Join, .. })
}

/// Whether the upstream has nothing against the token but lets its user have no further connection.
fn is_connection_limit(error: &ConnectError) -> bool {
    match error {
        ConnectError::Unavailable { status: Some(429), .. } => true,
        ConnectError::Refused(refusal) => is_limit(refusal),
        ConnectError::Closed { reason, .. } => names_limit(reason),
        _ => false,
    }
}

fn is_limit(refusal: &Refusal) -> bool {
    refusal.payload.as_deref().is_some_and(|payload| names_limit(payload.get()) || says_429(payload))
}

/// Whether an error object has the number of "too many requests" where such objects have one.
fn says_429(payload: &RawValue) -> bool {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Shape {
        code: Option<serde_json::Value>,
        status: Option<serde_json::Value>,
        data: Option<Box<RawValue>>,
    }
    let read = |payload: &RawValue| serde_json::from_str::<Shape>(payload.get()).unwrap_or_default();
    let outer = read(payload);
    let inner = outer.data.as_deref().map(read).unwrap_or_default();
    let numbers = [outer.code, outer.status, inner.code, inner.status];
    numbers.iter().flatten().any(|number| *number == 429 || *number == "429")
}

/// Whether words speak of a limit. None are documented, so likely ones are looked for.
fn names_limit(words: &str) -> bool {
    let words = words.to_ascii_lowercase().replace(['_', '.', '-'], " ");
    let hints = ["too many", "connection limit", "connections limit", "limit exceeded", "limit reached", "limit of connections"];
    hints.iter().any(|hint| words.contains(hint)) || (words.contains("max") && words.contains("connections"))
}

/// A random number from 0 up to 1.
pub(super) fn draw() -> f64 {
    // A clock that cannot be random is no reason to fail: half the time is as good.
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / f64::from(u32::MAX)
}

/// The class of a failure, for metrics.
pub(super) fn class_name(error: &ConnectError) -> &'static str {
    if is_connection_limit(error) {
        return "limit";
    }
    match error.class() {
        FailureClass::Auth => "auth",
        FailureClass::Config => "config",
        FailureClass::Protocol => "protocol",
        FailureClass::Unavailable => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use socketio_client::RefusedBy;

    use super::*;

    const LONGEST_WAIT: Duration = Duration::from_mins(1);
    const LIMIT_WAIT: Duration = Duration::from_mins(5);

    fn refused(payload: &str) -> ConnectError {
        let payload = RawValue::from_string(payload.to_owned()).expect("JSON");
        ConnectError::Refused(Refusal { by: RefusedBy::Namespace, payload: Some(payload) })
    }

    fn closed(reason: &str) -> ConnectError {
        ConnectError::Closed { code: Some(1008), reason: reason.to_owned() }
    }

    #[test]
    fn a_limit_is_told_from_a_bad_token() {
        let too_many = |retry_after| ConnectError::Unavailable { status: Some(429), retry_after, source: None };
        for (error, class) in [
            (refused(r#""Too many connections""#), "limit"),
            (refused(r#"{"message":"max_connections reached"}"#), "limit"),
            (refused(r#"{"message":"refused","data":{"code":429}}"#), "limit"),
            (refused(r#"{"code":"429"}"#), "limit"),
            (refused(r#""The maximum number of connections is 3""#), "limit"),
            (refused(r#""connection.limit""#), "limit"),
            (closed("Too Many Connections"), "limit"),
            (too_many(None), "limit"),
            (refused(r#""Not authorized""#), "auth"),
            (refused(r#"{"message":"jwt expired","data":{"code":401}}"#), "auth"),
            (refused(r#""Maximum token age exceeded""#), "auth"),
            (closed("going away"), "unavailable"),
            (ConnectError::Unavailable { status: Some(503), retry_after: None, source: None }, "unavailable"),
        ] {
            assert_eq!(class_name(&error), class, "{error:?}");
            let after = LinkHealth::new(LONGEST_WAIT, LIMIT_WAIT).failed(&error, true);
            assert_eq!(matches!(after, AfterFailure::Limited(_)), class == "limit", "{error:?}: {after:?}");
        }
        let asked = Duration::from_secs(40);
        for (error, least) in [(too_many(Some(asked)), asked), (too_many(None), LIMIT_WAIT), (closed("too many"), LIMIT_WAIT)] {
            let AfterFailure::Limited(wait) = LinkHealth::new(LONGEST_WAIT, LIMIT_WAIT).failed(&error, false) else {
                panic!("{error:?}")
            };
            assert!(wait >= least && wait <= least.mul_f64(1.25), "{error:?}: {wait:?}");
        }
    }

    #[test]
    fn a_limit_on_an_open_connection_is_one_too() {
        let ConnectError::Refused(refusal) = refused(r#""Too many connections""#) else { unreachable!("as it was made") };
        for disconnect in [
            Disconnect::Refused(refusal),
            Disconnect::ServerClosed { code: Some(4029), reason: "connection limit exceeded".to_owned() },
        ] {
            let after = LinkHealth::new(LONGEST_WAIT, LIMIT_WAIT).lost(&disconnect, Instant::now());
            assert!(matches!(after, AfterFailure::Limited(_)), "{disconnect:?}: {after:?}");
        }
    }

    #[test]
    fn a_token_that_was_accepted_once_is_asked_about_after_each_third_silence() {
        let mut health = LinkHealth::new(LONGEST_WAIT, LIMIT_WAIT);
        let mut doubts = 0;
        for attempt in 1..=9 {
            match health.failed(&ConnectError::Kicked, true) {
                AfterFailure::Doubt(_) => {
                    doubts += 1;
                    assert_eq!(attempt % 3, 0);
                }
                AfterFailure::Retry(_) => {}
                after => panic!("{after:?}"),
            }
        }
        assert_eq!(doubts, 3);
        health.connected(Instant::now());
        assert!(matches!(health.failed(&ConnectError::Kicked, true), AfterFailure::Retry(_)), "it was let in meanwhile");
    }
}
