//! Messages to one person: the direct space with them is found or made, remembered, and sent to.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MaySend};
use super::error::ApiError;
use super::extract::{ApiPath, Wait};
use super::idempotency::IdempotencyHeader;
use super::limits;
use super::message_body::MessageBody;
use super::message_input::{MessageForm, MessageInput};
use super::message_view::Message;
use super::messages;
use crate::domain::{AccountId, SpaceId};
use crate::upstream::DirectKind;

/// Direct spaces remembered; beyond that the oldest are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Whom a direct space is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PeerType {
    /// A registered user.
    User,
    /// An anonymous guest, who must be online in a space with the caller.
    Anonymous,
}

impl From<PeerType> for DirectKind {
    fn from(peer: PeerType) -> Self {
        match peer {
            PeerType::User => Self::User,
            PeerType::Anonymous => Self::Anonymous,
        }
    }
}

/// Send a message to one person
///
/// Finds or makes the direct space with a person, and sends there as `POST /spaces/{spaceId}/messages` does. Spaces allows it for
/// people of one company and for those who share a space.
#[utoipa::path(
    post,
    path = "/direct/{type}/{id}",
    tag = "Messages",
    params(
        ("type" = PeerType, Path, description = "What `id` is the id of."),
        ("id" = String, Path, description = "The person's id in Spaces.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "5a0b1c2d3e4f506172839405"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait N seconds for the outcome, 60 at most; `respond-async`: take the message into the outbox and answer at once (RFC 7240).", example = "wait=20", nullable = false),
        IdempotencyHeader,
    ),
    request_body(content((MessageBody = "application/json"), (MessageForm = "multipart/form-data"))),
    responses(
        (status = 201, description = "Spaces has the message.", body = Message, headers(
            ("Location" = String, description = "Where to read this again."),
            ("Preference-Applied" = String, description = "What was heeded of `Prefer`."),
        )),
        (status = 202, description = "The message was sent or is queued; its outcome is not known yet.", body = Message, headers(
            ("Location" = String, description = "Where to read what became of it."),
            ("Preference-Applied" = String, description = "What was heeded of `Prefer`."),
        )),
        (status = 403, description = "`upstream_forbidden`: Spaces makes no direct space with this person. Otherwise as for a space."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know this person, or the guest is not online."),
        (status = 409, description = "`upstream_conflict`, or as for a space."),
        (status = 413, description = "`message_too_large`, `file_too_large`, `body_too_large`: as for a space."),
        (status = 422, description = "`invalid_body`, `message_refused`: as for a space. `upstream_refused`: Spaces does not take this id."),
        (status = 429, description = "`upstream_rate_limited`: Spaces wants fewer calls. Otherwise as for a space."),
        (status = 502, description = "`upstream_error`: Spaces failed. Otherwise as for a space."),
        (status = 503, description = "`upstream_unreachable`: Spaces is out of reach. Otherwise as for a space."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn post_direct_message(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    ApiPath((peer, id)): ApiPath<(PeerType, SpaceId)>,
    wait: Wait,
    input: MessageInput,
) -> Result<Response, ApiError> {
    // Whatever is wrong with the body is told before Spaces makes a space for it; another id stands in for that space's.
    let (call, draft) = input.read(&app, &caller).await?;
    let tried = draft.body()?;
    let (stand_in, limit) = (tried.named_space().unwrap_or(&id).clone(), limits::payload_limit(&app, &caller));
    tried.into_outgoing(&app, limit, stand_in)?;
    let make = async || {
        let space = direct_space(&app, &caller, peer.into(), &id).await?;
        caller.check_space(&space)?;
        draft.upload(&app, &caller, &space).await?.into_outgoing(&app, limit, space)
    };
    messages::carry_out(&app, &caller, (&call, wait), make).await
}

/// The direct space of the caller's account with `peer`.
async fn direct_space(app: &AppState, caller: &AccountCaller, kind: DirectKind, peer: &SpaceId) -> Result<SpaceId, ApiError> {
    let (session, identity) = caller.identity(app).await?;
    let key = Key { account: identity.account, kind, peer: peer.clone() };
    if let Some(space) = app.internals().direct_spaces.get(&key) {
        return Ok(space);
    }
    let found = app.rest.direct_space(session.credential(), kind, peer.as_str()).await;
    let space = found.map_err(|error| caller.told(error))?;
    app.internals().direct_spaces.insert(key, space.clone());
    Ok(space)
}

/// A direct space is between an account and someone. Ids of all upstream things are of one alphabet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    account: AccountId,
    kind: DirectKind,
    peer: SpaceId,
}

/// The direct spaces found lately.
pub(super) struct DirectSpaces {
    ttl: Duration,
    found: Mutex<HashMap<Key, (SpaceId, Instant)>>,
}

impl DirectSpaces {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, found: Mutex::default() }
    }

    fn get(&self, key: &Key) -> Option<SpaceId> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(key).filter(|(_, since)| since.elapsed() < self.ttl).map(|(space, _)| space.clone())
    }

    fn insert(&self, key: Key, space: SpaceId) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= MAX_REMEMBERED {
            forget_older_half(&mut found);
        }
        found.insert(key, (space, Instant::now()));
    }
}

/// Half at a time, so that the sorting is paid for by many insertions.
fn forget_older_half(found: &mut HashMap<Key, (SpaceId, Instant)>) {
    let mut times: Vec<Instant> = found.values().map(|(_, since)| *since).collect();
    let (_, &mut median, _) = times.select_nth_unstable(MAX_REMEMBERED / 2);
    found.retain(|_, (_, since)| *since > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        let account = AccountId::of_user("u1").expect("an account");
        Key { account, kind: DirectKind::User, peer: format!("p{number}").parse().expect("an id") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_direct_space_is_remembered_for_its_time_only() {
        let spaces = DirectSpaces::new(Duration::from_secs(10));
        let space: SpaceId = "s1".parse().expect("a space");
        spaces.insert(key(1), space.clone());
        assert_eq!(spaces.get(&key(1)), Some(space));
        assert_eq!(spaces.get(&key(2)), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(spaces.get(&key(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_keeps_the_newest() {
        let spaces = DirectSpaces::new(Duration::from_hours(1));
        let space: SpaceId = "s1".parse().expect("a space");
        for number in 0..=MAX_REMEMBERED {
            spaces.insert(key(number), space.clone());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(spaces.found.lock().expect("no panic").len() <= MAX_REMEMBERED);
        assert_eq!(spaces.get(&key(MAX_REMEMBERED)), Some(space));
        assert_eq!(spaces.get(&key(0)), None);
    }
}
