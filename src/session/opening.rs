//! Opening sessions, letting them serve their account, and renewing them: what the registry and the sessions themselves ask for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info};

use super::actor::{self, Known};
use super::freshness::{self, is_fresher};
use super::link::draw;
use super::renewal::RenewalError;
use super::shared::Shared;
use super::{Identity, SessionError, SessionHandle};
use crate::domain::{AccountId, Credential, SessionId, SessionState, TokenLife};

/// Ended sessions that are remembered, beyond which those whose memory serves no purpose any more are dropped.
const MAX_ENDED: usize = 1_000;

/// When a managed account whose token was refused for good is given another try, about: someone may have mended it without a word.
const TRY_AGAIN: Duration = Duration::from_mins(10);

/// What becomes of a token that was refused a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its session is found as it ended.
    Stands,
    /// It is tried again.
    IsTriedAgain,
}

impl Shared {
    /// Finds the session of a token, or opens it.
    pub(super) fn open(
        self: &Arc<Self>,
        id: SessionId,
        credential: Credential,
        identity: Option<Identity>,
        refused: Refused,
    ) -> Result<SessionHandle, SessionError> {
        let mut sessions = self.sessions();
        let predecessor = match sessions.get(&id) {
            Some(handle) if self.still_stands(handle, refused) => return Ok(handle.clone()),
            predecessor => predecessor.cloned(),
        };
        let settings = &self.settings;
        if sessions.len() >= settings.max_sessions.saturating_add(MAX_ENDED) {
            sessions.retain(|_, handle| handle.state().is_usable());
        }
        if sessions.len() >= settings.max_sessions && live(&sessions) >= settings.max_sessions {
            return Err(SessionError::Busy { retry_after: settings.idle_timeout.min(Duration::from_mins(1)) });
        }
        let known = Known { id: id.clone(), credential, identity, predecessor };
        let (handle, actor) = actor::new(Arc::clone(self), known);
        self.tasks.spawn(actor);
        info!(session.id = %id, "session `{id}` opened");
        sessions.insert(id, handle.clone());
        Ok(handle)
    }

    /// Whether a known session answers for its token: it lives, or its refusal is recent.
    fn still_stands(&self, handle: &SessionHandle, refused: Refused) -> bool {
        let status = handle.status();
        match status.state {
            SessionState::Connecting | SessionState::Online | SessionState::Reconnecting | SessionState::Degraded => true,
            SessionState::AuthFailed => {
                refused == Refused::Stands && self.clock.now().since(status.since) < self.settings.refusal_stands
            }
            SessionState::Closing | SessionState::Closed => false,
        }
    }

    /// Opens the session of a managed account's token and lets it serve the account.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        identity: Identity,
        credential: Credential,
    ) -> Result<SessionHandle, SessionError> {
        self.serving.set_managed(&identity.account, true);
        let id = self.keyring.session_id(&credential);
        let handle = self.open(id, credential, Some(identity.clone()), Refused::Stands)?;
        if let Some(detail) = handle.refusal() {
            return Err(SessionError::AuthFailed { detail });
        }
        self.let_serve(&handle, identity).await?;
        Ok(handle)
    }

    /// Lets a session serve its account: at once if none does, else as soon as it hears what the one hears that does.
    pub(super) async fn let_serve(&self, handle: &SessionHandle, identity: Identity) -> Result<(), SessionError> {
        if self.served_by(&identity.account).is_none() {
            self.keep(handle.id(), handle.credential(), &identity).await.map_err(|error| {
                error!(error = &error as &dyn std::error::Error, session.id = %handle.id(), "failed to store a sealed token");
                SessionError::Store
            })?;
        }
        handle.serve(identity).await;
        Ok(())
    }

    /// Whether the session of a pass-through token should serve its account in place of the one that does.
    pub(super) fn is_fresher(&self, session: &SessionHandle, account: &AccountId) -> bool {
        self.rival(account)
            .is_some_and(|rival| rival.id() != session.id() && is_fresher(known(session), known(&rival), self.clock.now()))
            && !self.serving.is_managed(account)
    }

    /// Whether `session`, whose token someone wants to be stored, should serve its account: unless the token of the session that does
    /// is renewed by the bridge itself, or fresher.
    pub(super) fn may_serve(&self, session: &SessionHandle, account: &AccountId) -> bool {
        let fresher = |rival: &SessionHandle| is_fresher(known(rival), known(session), self.clock.now());
        !self.serving.is_managed(account) && !self.rival(account).is_some_and(|rival| fresher(&rival))
    }

    /// The session that serves the account, or is about to.
    fn rival(&self, account: &AccountId) -> Option<SessionHandle> {
        let successor = self.serving.successor(account).and_then(|id| self.get(&id));
        successor.filter(|handle| handle.state().is_usable()).or_else(|| self.served_by(account))
    }

    /// Gets a new token in place of the refused one, and lets its session serve the account.
    pub(super) async fn renew(self: &Arc<Self>, identity: Identity, refused: &SessionId) -> Result<SessionHandle, RenewalError> {
        let account = identity.account.clone();
        // Before the new token's session exists, which may be refused at once.
        self.serving.note_renewal(&account);
        let credential = self.tokens.renew(&account, refused).await?;
        let successor = self.adopt(identity, credential).await.map_err(|error| match error {
            SessionError::AuthFailed { detail } => RenewalError::Refused(detail),
            other => RenewalError::Unavailable { detail: other.to_string(), retry_after: None },
        })?;
        if successor.id() == refused && successor.state() != SessionState::Connecting {
            return Err(RenewalError::Refused("there is no token but the refused one".to_owned()));
        }
        Ok(successor)
    }

    /// Another session of the account serves it, since the one that did was refused; if there is none and the account is managed, it is
    /// given another try later.
    pub(super) async fn bequeath(self: &Arc<Self>, identity: Identity, refused: &SessionId) {
        let account = &identity.account;
        if !self.is_orphaned(account) {
            return;
        }
        if let Some(heir) = self.heir(account) {
            debug!(session.id = %heir.id(), "session `{}` may serve its account from now on", heir.id());
            heir.serve(identity).await;
        } else if self.tokens.manages(account) && self.serving.begin_revival(account) {
            self.tasks.spawn(Arc::clone(self).revive(identity, refused.clone()));
        }
    }

    fn heir(&self, account: &AccountId) -> Option<SessionHandle> {
        let sessions = self.sessions();
        let of_account = sessions.values().filter(|handle| handle.state().is_usable() && handle.is_of(account));
        of_account.max_by_key(|handle| handle.state() == SessionState::Online).cloned()
    }

    async fn revive(self: Arc<Self>, identity: Identity, refused: SessionId) {
        let account = identity.account.clone();
        let work = async {
            loop {
                tokio::time::sleep(TRY_AGAIN.mul_f64(0.75 + draw() / 2.0)).await;
                if !self.is_orphaned(&account) || !self.tokens.manages(&account) {
                    return;
                }
                match self.renew(identity.clone(), &refused).await {
                    Ok(_) => info!("account `{account}` has a new token"),
                    Err(error) => debug!(error = &error as &dyn std::error::Error, "account `{account}` has no valid token"),
                }
            }
        };
        self.stop.run_until_cancelled(work).await;
        self.serving.end_revival(&account);
    }
}

fn known(handle: &SessionHandle) -> freshness::Known {
    freshness::Known { life: TokenLife::read(handle.credential()), seen_at: handle.opened_at() }
}

fn live(sessions: &HashMap<SessionId, SessionHandle>) -> usize {
    sessions.values().filter(|handle| handle.state().is_usable()).count()
}
