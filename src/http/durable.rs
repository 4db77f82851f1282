//! Sends that are on disk before anything leaves: those with an `Idempotency-Key` and those that need not be waited for.

use axum::response::Response;
use tokio::time::Instant;

use super::AppState;
use super::auth::AccountCaller;
use super::error::ApiError;
use super::extract::Wait;
use super::idempotency::{Call, mark_replayed};
use super::messages::answer;
use crate::domain::MessageRef;
use crate::idempotency::{self, Claim};
use crate::outbox::{Sender, Ticket, Together};
use crate::session::OutgoingMessage;

/// How a send goes on.
pub(super) enum Begun {
    /// Without the outbox.
    AtOnce,
    /// It was taken before; the tickets of its parts.
    Known(Vec<Ticket>),
    /// Through the outbox.
    New(Box<Place>),
}

/// The right to take one message, in one piece or in parts, into the outbox.
pub(super) struct Place {
    reference: MessageRef,
    /// The turn of the message's key. What is remembered of the call is the message's own record.
    claim: Option<Claim>,
}

impl Place {
    /// A place for a message that has no key.
    pub(super) fn unclaimed() -> Self {
        Self { reference: MessageRef::random(), claim: None }
    }
}

/// Finds out how the caller wants a message sent, and whether that was done before.
pub(super) async fn begin(app: &AppState, caller: &AccountCaller, call: &Call, wait: Wait) -> Result<Begun, ApiError> {
    if !call.has_key() {
        return Ok(if wait.respond_async { Begun::New(Box::new(Place::unclaimed())) } else { Begun::AtOnce });
    }
    let claim = match call.begin(app, &caller.scope(app).await?, app.settings.default_wait).await? {
        Some(idempotency::Begun::Run(claim)) => claim,
        // Answers to sends are never kept: their records tell more.
        Some(idempotency::Begun::Answered(_)) | None => {
            return Err(ApiError::Internal("the record of a send's key holds an answer".to_owned()));
        }
    };
    let reference = MessageRef::of_seed(claim.seed());
    let known = if claim.is_repeat() { app.sends.get(&reference).await? } else { None };
    Ok(match known {
        Some(known) => Begun::Known(app.outbox.attach_parts(known).await?),
        None => Begun::New(Box::new(Place { reference, claim: Some(claim) })),
    })
}

/// Gives the right back: the message cannot be made, and its key is free for another.
pub(super) async fn give_up(app: &AppState, place: Place) {
    if let Some(claim) = place.claim {
        app.idempotency.withdraw(claim).await;
    }
}

/// Takes the parts of a message into the outbox, and keeps the caller's session for it if the account has none.
pub(super) async fn submit(
    app: &AppState,
    caller: &AccountCaller,
    place: Box<Place>,
    parts: Vec<OutgoingMessage>,
) -> Result<Vec<Ticket>, ApiError> {
    let (session, identity) = caller.identity(app).await?;
    let (sessions, outbox) = (std::sync::Arc::clone(&app.sessions), app.outbox.clone());
    app.to_the_end(async move {
        let Place { reference, claim } = *place;
        let is_served = sessions.of_account(&identity.account).is_some_and(|serving| serving.state().is_usable());
        if !is_served {
            sessions.keep(&session, &identity).await?;
        }
        let sender = Sender { account: identity.account, session: session.id().clone() };
        let named = |(part, number): (OutgoingMessage, usize)| part.renamed(reference.numbered(number));
        let tickets = outbox.submit_all(parts.into_iter().zip(1..).map(named).collect(), sender, Together::Parts).await?;
        // From here on the records of the message tell.
        drop(claim);
        Ok(tickets)
    })
    .await
}

/// Answers what is known of the message once all of its parts have ended, or at `deadline`.
pub(super) async fn answer_in_time(tickets: Vec<Ticket>, deadline: Instant, wait: Wait) -> Result<Response, ApiError> {
    let is_new = tickets.iter().all(Ticket::is_new);
    let mut records = Vec::with_capacity(tickets.len());
    for ticket in tickets {
        records.push(ticket.outcome(deadline).await);
    }
    let mut response = answer(records, wait)?;
    if !is_new {
        mark_replayed(&mut response);
    }
    Ok(response)
}
