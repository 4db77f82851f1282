//! Messages to one person: the direct space with them is found or made, remembered, and sent to.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
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
use super::people;
use super::remembered::Remembered;
use crate::domain::{AccountId, SpaceId};
use crate::upstream::DirectKind;

/// Stands in for a space that is not known yet where only its size counts; ids of Spaces look like this.
const STAND_IN: &str = "000000000000000000000000";

/// Whom a direct space is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PeerType {
    /// A registered user.
    User,
    /// An anonymous guest, who must be online in a space with the caller.
    Anonymous,
    /// A registered user, by e-mail address.
    Email,
}

/// A person as the path names them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "(PeerType, String)")]
pub(super) enum Peer {
    /// By an id.
    Id(DirectKind, SpaceId),
    /// By an e-mail address.
    Email(String),
}

impl TryFrom<(PeerType, String)> for Peer {
    type Error = &'static str;

    fn try_from((kind, text): (PeerType, String)) -> Result<Self, Self::Error> {
        let kind = match kind {
            PeerType::User => DirectKind::User,
            PeerType::Anonymous => DirectKind::Anonymous,
            PeerType::Email => return if people::is_email(&text) { Ok(Self::Email(text)) } else { Err("no e-mail address") },
        };
        text.parse().map(|id| Self::Id(kind, id)).map_err(|_| "no id of a person")
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
        ("type" = PeerType, Path, description = "What `id` is."),
        ("id" = String, Path, description = "The person's id in Spaces, or their e-mail address with the type `email`.", pattern = "^([A-Za-z0-9_-]{1,128}|[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,128})$", example = "5a0b1c2d3e4f506172839405"),
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
        (status = 404, description = "`upstream_not_found`: Spaces does not know this person, or the guest is not online. `person_not_found`: Spaces knows nobody by this e-mail address, or does not let this user know."),
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
    ApiPath(peer): ApiPath<Peer>,
    wait: Wait,
    input: MessageInput,
) -> Result<Response, ApiError> {
    let (call, draft) = input.read(&app, &caller).await?;
    let limit = limits::payload_limit(&app, &caller);
    let body = draft.body()?;
    let tried_in = body.named_space().cloned().unwrap_or_else(stand_in);
    let message = body.prepare(&app, limit)?;
    let make = async || {
        let message = message.resolve(&app, &caller).await?;
        // Whatever is wrong with the body is told before Spaces makes a space for it; another id stands in for that space's.
        message.compose_parts(&app, limit, &tried_in)?;
        let space = direct_space(&app, &caller, &peer).await?;
        caller.check_space(&space)?;
        if !draft.has_files() {
            return message.compose_parts(&app, limit, &space);
        }
        let message = draft.upload(&app, &caller, &space).await?.prepare(&app, limit)?;
        message.resolve(&app, &caller).await?.compose_parts(&app, limit, &space)
    };
    messages::carry_out(&app, &caller, (&call, wait), make).await
}

/// An id that stands in for a space where only its size counts.
pub(super) fn stand_in() -> SpaceId {
    STAND_IN.parse().expect("it looks like an id")
}

impl PeerType {
    /// The type in the API's words.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Anonymous => "anonymous",
            Self::Email => "email",
        }
    }
}

/// The direct space of the caller's account with whom a body names. `pointer` is where it does.
pub(super) async fn named_space(
    app: &AppState,
    caller: &AccountCaller,
    (kind, text): (PeerType, &str),
    pointer: &str,
) -> Result<SpaceId, ApiError> {
    let peer = Peer::try_from((kind, text.to_owned())).map_err(|what| ApiError::field(pointer, format!("this is {what}")))?;
    direct_space(app, caller, &peer).await
}

/// The direct space of the caller's account with `peer`.
pub(super) async fn direct_space(app: &AppState, caller: &AccountCaller, peer: &Peer) -> Result<SpaceId, ApiError> {
    let (kind, peer) = match peer {
        Peer::Id(kind, id) => (*kind, id.clone()),
        Peer::Email(email) => {
            let user = people::user_of_email(app, caller, email).await?;
            (DirectKind::User, user.parse().map_err(|_| ApiError::PersonNotFound)?)
        }
    };
    let (session, identity) = caller.identity(app).await?;
    let key = Key { account: identity.account, kind, peer };
    if let Some(space) = app.internals().direct_spaces.get(&key) {
        return Ok(space);
    }
    let found = app.rest.direct_space(session.credential(), kind, key.peer.as_str()).await;
    let space = found.map_err(|error| caller.told(error))?;
    app.internals().direct_spaces.insert(key, space.clone());
    Ok(space)
}

/// A direct space is between an account and someone. Ids of all upstream things are of one alphabet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    account: AccountId,
    kind: DirectKind,
    peer: SpaceId,
}

/// The direct spaces found lately.
pub(super) type DirectSpaces = Remembered<Key, SpaceId>;
