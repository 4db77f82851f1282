//! Who calls, and what spaces he may see.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::answer::Failure;
use crate::state::{Shared, State};
use crate::world::{Space, TokenKind, User};

/// The holder of a valid token; a service app's token is refused.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) user: User,
    pub(super) token: Arc<str>,
    pin: Option<String>,
}

/// As [`Caller`], with service apps let in.
#[derive(Debug)]
pub(super) struct AnyCaller(pub(super) Caller);

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Failure> {
        authenticate(&parts.headers, shared, |kind| kind != TokenKind::Service)
    }
}

impl FromRequestParts<Arc<Shared>> for AnyCaller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Failure> {
        authenticate(&parts.headers, shared, |_| true).map(Self)
    }
}

fn authenticate(headers: &HeaderMap, shared: &Shared, admits: impl Fn(TokenKind) -> bool) -> Result<Caller, Failure> {
    let (scheme, value) = credentials(headers).ok_or(Failure::UNAUTHORIZED)?;
    let state = shared.lock();
    let token = state.world.valid_token(value).ok_or(Failure::UNAUTHORIZED)?;
    if !scheme.eq_ignore_ascii_case(token.kind.scheme()) || !admits(token.kind) {
        return Err(Failure::UNAUTHORIZED);
    }
    let user = state.world.users.get(&token.user).ok_or(Failure::UNAUTHORIZED)?.clone();
    let pin = headers.get("spaces-x-space-password").and_then(|pin| pin.to_str().ok()).map(str::to_owned);
    Ok(Caller { user, token: value.into(), pin })
}

/// The scheme and the token of the `Authorization` header.
pub(super) fn credentials(headers: &HeaderMap) -> Option<(&str, &str)> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some((scheme, value.trim()))
}

impl Caller {
    /// The space, if the caller may see it.
    pub(super) fn space<'a>(&self, state: &'a State, space_id: &str) -> Result<&'a Space, Failure> {
        let space = state.world.find_space(space_id).ok_or(Failure::UNKNOWN_SPACE)?;
        if !space.admits(&self.user.id) {
            return Err(Failure::NOT_A_MEMBER);
        }
        if !space.accepts_pin(self.pin.as_deref()) {
            return Err(Failure::WRONG_PIN);
        }
        Ok(space)
    }

    /// The space, if the caller may read what was said in it.
    pub(super) fn readable_space<'a>(&self, state: &'a State, space_id: &str) -> Result<&'a Space, Failure> {
        let space = self.space(state, space_id)?;
        if space.role_of(&self.user) == "guest" && space.restricts("deny_guest_access_history_msg") {
            return Err(Failure::GUESTS_BARRED);
        }
        Ok(space)
    }

    /// The space, if the caller may write into it.
    pub(super) fn writable_space<'a>(&self, state: &'a State, space_id: &str) -> Result<&'a Space, Failure> {
        let space = self.space(state, space_id)?;
        if space.muted.contains(&self.user.id) {
            return Err(Failure::POLICY);
        }
        if space.archived {
            return Err(Failure::ARCHIVED);
        }
        Ok(space)
    }
}
