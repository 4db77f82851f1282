//! The second path of a send that is waited for: over REST, if the session has been away for too long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::AppState;
use super::auth::AccountCaller;
use super::error::ApiError;
use crate::domain::{AccountId, SessionState};
use crate::outbox::{Sender, Showing, Unsettled};
use crate::send_log::SendRecord;
use crate::session::{OutgoingMessage, SessionError, SessionHandle};
use crate::upstream::{RestError, RestMessage};

/// Waits for the session if it is away, and takes the second path if it stays away. Answers the record of the send if it went there;
/// none if it is to go through the session.
pub(super) async fn take(
    app: &AppState,
    caller: &AccountCaller,
    message: &OutgoingMessage,
    deadline: Instant,
) -> Result<Option<SendRecord>, ApiError> {
    let session = caller.session(app)?;
    let Some(patience) = patience(app, &session, message, deadline) else { return Ok(None) };
    if session.comes_online(patience).await || !is_away(session.state()) {
        return Ok(None);
    }
    let account = session.status().identity.map_or_else(|| AccountId::standing_in(session.id()), |identity| identity.account);
    let (outbox, rest, reference) = (app.outbox.clone(), app.rest.clone(), message.reference.clone());
    let message = message.clone();
    let showing = Arc::new(Showing::default());
    let shown = Arc::clone(&showing);
    let posting = app.to_the_end(async move {
        let sender = Sender { account, session: session.id().clone() };
        Ok(outbox.post_once(message, sender, &rest, session.credential(), &shown).await)
    });
    // It is carried out to its end in any case.
    let Ok(posted) = tokio::time::timeout_at(deadline, posting).await else {
        return if showing.show() { Ok(app.sends.get(&reference).await?) } else { Ok(None) };
    };
    match posted? {
        Ok(record) => Ok(Some(record)),
        Err(Unsettled::NotSent(error @ RestError::Refused { status: 401, .. })) => Err(caller.told(error)),
        // The session may yet come back.
        Err(Unsettled::NotSent(_)) => Ok(None),
        Err(Unsettled::NotRecorded(error)) => Err(error.into()),
        Err(Unsettled::Unrecorded(error)) => Err(ApiError::SentUnrecorded(error)),
    }
}

/// How long to wait for the session before the second path is taken; none if it is not to be taken.
fn patience(app: &AppState, session: &SessionHandle, message: &OutgoingMessage, deadline: Instant) -> Option<Duration> {
    let status = session.status();
    if !is_away(status.state) {
        return None;
    }
    let away = app.clock.now().since(status.since);
    let patience = app.outbox.rest_after()?.saturating_sub(away);
    let in_time = Instant::now() + patience < deadline;
    (in_time && RestMessage::of(&message.payload).is_ok()).then_some(patience)
}

/// Says of a message that found no session why it did not go over REST, if that is for its form.
pub(super) fn explain(app: &AppState, error: ApiError, payload: &str) -> ApiError {
    match (error, RestMessage::of(payload)) {
        (ApiError::Session(SessionError::NotConnected { retry_after, detail }), Err(why))
            if app.outbox.rest_after().is_some() =>
        {
            let detail = format!("{detail}; {why}");
            SessionError::NotConnected { retry_after, detail }.into()
        }
        (error, _) => error,
    }
}

fn is_away(state: SessionState) -> bool {
    match state {
        SessionState::Connecting | SessionState::Reconnecting | SessionState::Degraded => true,
        SessionState::Online | SessionState::AuthFailed | SessionState::Closing | SessionState::Closed => false,
    }
}
