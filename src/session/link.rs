//! The connection of a session: being made, up, or gone, and what follows from each failure.

use std::future::Future;
use std::time::Duration;

use futures_util::future::BoxFuture;
use socketio_client::{Backoff, ConnectError, ConnectPhase, Disconnect, EmitError, FailureClass};
use tokio::time::Instant;

use crate::domain::SpaceId;
use crate::upstream::{Socket, SocketEvent};

/// How long a connection has to last before earlier failures are forgotten.
const STABLE: Duration = Duration::from_secs(30);

/// Waits between attempts: a random part of a time that doubles from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_mins(1);

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

    pub(super) fn send_message(&mut self, payload: &str) -> Result<(), EmitError> {
        self.socket()?.send_message(payload)
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
}

/// How the connection has been doing.
#[derive(Debug)]
pub(super) struct LinkHealth {
    backoff: Backoff,
    silent_refusals: u32,
    online_since: Option<Instant>,
    was_online: bool,
}

impl Default for LinkHealth {
    fn default() -> Self {
        let backoff = Backoff::new(FIRST_WAIT, LAST_WAIT, STABLE);
        Self { backoff, silent_refusals: 0, online_since: None, was_online: false }
    }
}

impl LinkHealth {
    /// Notes a connection. `true` if it is not the first.
    pub(super) fn connected(&mut self, now: Instant) -> bool {
        self.online_since = Some(now);
        std::mem::replace(&mut self.was_online, true)
    }

    pub(super) fn was_online(&self) -> bool {
        self.was_online
    }

    /// Notes a failed attempt. `trusted` tells that Spaces has accepted the token at some time, so that a failure without a word
    /// says nothing against it.
    pub(super) fn failed(&mut self, error: &ConnectError, trusted: bool) -> AfterFailure {
        if is_silent_refusal(error) && !trusted && !self.was_online {
            self.silent_refusals += 1;
            return if self.silent_refusals >= MAX_SILENT_REFUSALS { AfterFailure::Refused } else { self.retry(None) };
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
            Disconnect::Refused(_) => AfterFailure::Refused,
            _ => self.retry(None),
        }
    }

    fn retry(&mut self, at_least: Option<Duration>) -> AfterFailure {
        let wait = self.backoff.next_delay(draw());
        AfterFailure::Retry(at_least.map_or(wait, |at_least| at_least + wait))
    }
}

/// Whether the upstream ended the attempt without saying why, as it may do with a token that it does not want.
fn is_silent_refusal(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Kicked | ConnectError::Closed { .. } | ConnectError::Timeout { phase: ConnectPhase::Join, .. })
}

/// A random number from 0 up to 1.
pub(super) fn draw() -> f64 {
    // A clock that cannot be random is no reason to fail: half the time is as good.
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / f64::from(u32::MAX)
}

/// The class of a failure, for metrics.
pub(super) fn class_name(error: &ConnectError) -> &'static str {
    match error.class() {
        FailureClass::Auth => "auth",
        FailureClass::Config => "config",
        FailureClass::Protocol => "protocol",
        FailureClass::Unavailable => "unavailable",
    }
}
