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
use crate::send_log::SendRecord;
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

/// The right to take the messages of one call into the outbox.
pub(super) struct Place {
    /// The reference of the first message.
    reference: MessageRef,
    /// The turn of the call's key. What is remembered of the call are the messages' own records.
    claim: Option<Claim>,
}

impl Place {
    /// A place for a call that has no key.
    pub(super) fn unclaimed() -> Self {
        Self { reference: MessageRef::random(), claim: None }
    }

    /// What is known of the `number`th message, counted from zero, if the call was made before.
    pub(super) async fn known(&self, app: &AppState, number: usize) -> Result<Option<SendRecord>, ApiError> {
        if !self.claim.as_ref().is_some_and(Claim::is_repeat) {
            return Ok(None);
        }
        Ok(app.sends.get(&self.reference.numbered(number + 1)).await?)
    }

    /// `message` as the `number`th of the call, counted from zero.
    pub(super) fn name(&self, number: usize, message: OutgoingMessage) -> OutgoingMessage {
        message.renamed(self.reference.numbered(number + 1))
    }
}

/// Finds out how the caller wants a message sent, and whether that was done before.
pub(super) async fn begin(app: &AppState, caller: &AccountCaller, call: &Call, wait: Wait) -> Result<Begun, ApiError> {
    if !call.has_key() && !wait.respond_async {
        return Ok(Begun::AtOnce);
    }
    let place = place(app, caller, call).await?;
    Ok(match place.known(app, 0).await? {
        Some(known) => Begun::Known(app.outbox.attach_parts(known).await?),
        None => Begun::New(Box::new(place)),
    })
}

/// The right to take the messages of a call into the outbox. Waits while the same call is being done.
pub(super) async fn place(app: &AppState, caller: &AccountCaller, call: &Call) -> Result<Place, ApiError> {
    if !call.has_key() {
        return Ok(Place::unclaimed());
    }
    match call.begin(app, &caller.scope(app).await?, app.settings.default_wait).await? {
        Some(idempotency::Begun::Run(claim)) => Ok(Place { reference: MessageRef::of_seed(claim.seed()), claim: Some(claim) }),
        // Answers to sends are never kept: their records tell more.
        Some(idempotency::Begun::Answered(_)) | None => {
            Err(ApiError::Internal("the record of a send's key holds an answer".to_owned()))
        }
    }
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
    place: Place,
    parts: Vec<OutgoingMessage>,
) -> Result<Vec<Ticket>, ApiError> {
    let parts = parts.into_iter().enumerate().map(|(number, part)| place.name(number, part)).collect();
    submit_all(app, caller, place, parts, Together::Parts).await
}

/// Takes the messages, which [`Place::name`] named, into the outbox: all of them or none.
pub(super) async fn submit_all(
    app: &AppState,
    caller: &AccountCaller,
    place: Place,
    messages: Vec<OutgoingMessage>,
    together: Together,
) -> Result<Vec<Ticket>, ApiError> {
    let (session, identity) = caller.identity(app).await?;
    let (sessions, outbox) = (std::sync::Arc::clone(&app.sessions), app.outbox.clone());
    app.to_the_end(async move {
        let is_served = sessions.of_account(&identity.account).is_some_and(|serving| serving.state().is_usable());
        if !is_served {
            sessions.keep(&session, &identity).await?;
        }
        let sender = Sender { account: identity.account, session: session.id().clone() };
        let tickets = outbox.submit_all(messages, sender, together).await?;
        // From here on the records of the messages tell.
        drop(place);
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
