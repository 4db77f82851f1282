//! [`SessionRegistry`]: finds the session of a token, or opens it, once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::actor::{self, Known};
use super::shared::{SessionDependencies, Shared};
use super::{Identity, SessionError, SessionHandle};
use crate::domain::{AccountId, ClosedReason, Credential, SessionId, SessionState};
use crate::store::{Result as StoreResult, Wanted};

/// Sessions taken from the store at a time at the start.
const RESTORE_BATCH: usize = 500;

/// Ended sessions that are remembered, beyond which those whose memory serves no purpose any more are dropped.
const MAX_ENDED: usize = 1_000;

/// All sessions of this process.
pub struct SessionRegistry {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for SessionRegistry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SessionRegistry").finish_non_exhaustive()
    }
}

impl SessionRegistry {
    /// A registry without sessions.
    pub fn new(dependencies: SessionDependencies) -> Self {
        Self { shared: Arc::new(Shared::new(dependencies)), tasks: TaskTracker::new() }
    }

    /// Finds the session of `credential`, or opens it. Concurrent first calls get the same session.
    ///
    /// A token that Spaces refused is not tried again for a while: its session is found as it ended.
    pub fn open(&self, credential: Credential) -> Result<SessionHandle, SessionError> {
        let id = self.shared.keyring.session_id(&credential);
        self.find_or_spawn(id, credential, None)
    }

    /// The session of `credential`, if it is known.
    pub fn find(&self, credential: &Credential) -> Option<SessionHandle> {
        self.get(&self.shared.keyring.session_id(credential))
    }

    /// The session with this id, if it is known.
    pub fn get(&self, id: &SessionId) -> Option<SessionHandle> {
        self.shared.get(id)
    }

    /// The session that serves the webhooks and subscriptions of `account`, if it has one.
    pub fn of_account(&self, account: &AccountId) -> Option<SessionHandle> {
        self.get(&self.shared.kept(account)?)
    }

    /// All sessions, in the order of their ids.
    pub fn list(&self) -> Vec<SessionHandle> {
        let mut handles: Vec<_> = self.shared.sessions().values().cloned().collect();
        handles.sort_by(|a, b| a.id().cmp(b.id()));
        handles
    }

    /// Stores the session's token sealed, so that the session lives on without its caller and comes back after a restart. Takes
    /// the place of the account's session kept before.
    pub async fn keep(&self, handle: &SessionHandle, identity: &Identity) -> Result<(), SessionError> {
        self.shared.keep(handle.id(), handle.credential(), identity).await.map_err(|error| {
            error!(error = &error as &dyn std::error::Error, session.id = %handle.id(), "failed to store a sealed token");
            SessionError::Store
        })?;
        // It may have closed in the meantime, and is needed from now on.
        let kept = self.find_or_spawn(handle.id().clone(), handle.credential().clone(), Some(identity.clone()))?;
        kept.interest_changed().await;
        Ok(())
    }

    /// Lets the account's session follow a change of webhooks or subscriptions. If nothing is cared about any more, the stored token
    /// goes, and the session ends when nobody uses it.
    pub async fn interest_changed(&self, account: &AccountId) -> Result<(), SessionError> {
        let Some(kept) = self.shared.kept(account) else { return Ok(()) };
        if self.shared.interests.interest(account).is_empty() {
            self.forget(account, &kept).await?;
        }
        if let Some(handle) = self.get(&kept) {
            handle.interest_changed().await;
        }
        Ok(())
    }

    /// Ends a session and forgets its stored token. `false` if there is no such session.
    pub async fn close(&self, id: &SessionId) -> Result<bool, SessionError> {
        let Some(handle) = self.get(id) else { return Ok(false) };
        let account = handle.status().identity.map(|identity| identity.account);
        if let Some(account) = account.filter(|account| self.shared.is_kept(account, id)) {
            self.forget(&account, id).await?;
        }
        handle.close(ClosedReason::Requested).await;
        let mut sessions = self.shared.sessions();
        // A call in the meantime has opened it anew.
        if sessions.get(id).is_some_and(|found| found.is_same(&handle)) {
            sessions.remove(id);
        }
        Ok(true)
    }

    /// Opens the sessions whose tokens are stored. Answers how many.
    pub async fn restore(&self) -> StoreResult<usize> {
        let mut restored = 0;
        loop {
            let taken = self.shared.engine.acquire(self.shared.incarnation, Wanted::Stored(RESTORE_BATCH)).await?;
            if taken.is_empty() {
                return Ok(restored);
            }
            for ownership in taken {
                restored += usize::from(self.restore_one(&ownership.session).await?);
            }
        }
    }

    /// Ends all sessions and waits until their connections are closed, for `grace` at most.
    pub async fn shut_down(&self, grace: Duration) {
        let handles = self.list();
        self.tasks.close();
        let closing = futures_util::future::join_all(handles.iter().map(|handle| handle.close(ClosedReason::Shutdown)));
        let ended = tokio::time::timeout(grace, async {
            closing.await;
            self.tasks.wait().await;
        });
        if ended.await.is_err() {
            warn!("some sessions did not close within the grace time; their connections are dropped");
        }
    }

    async fn restore_one(&self, id: &SessionId) -> StoreResult<bool> {
        let Some((credential, identity)) = self.shared.recall(id).await? else { return Ok(false) };
        match self.find_or_spawn(id.clone(), credential, Some(identity)) {
            Ok(_) => Ok(true),
            Err(error) => {
                error!(session.id = %id, error = &error as &dyn std::error::Error, "failed to restore session `{id}`");
                Ok(false)
            }
        }
    }

    async fn forget(&self, account: &AccountId, session: &SessionId) -> Result<(), SessionError> {
        self.shared.forget(account, session).await.map_err(|error| {
            error!(error = &error as &dyn std::error::Error, session.id = %session, "failed to remove a stored token");
            SessionError::Store
        })
    }

    fn find_or_spawn(
        &self,
        id: SessionId,
        credential: Credential,
        identity: Option<Identity>,
    ) -> Result<SessionHandle, SessionError> {
        let mut sessions = self.shared.sessions();
        let predecessor = match sessions.get(&id) {
            Some(handle) if self.still_stands(handle) => return Ok(handle.clone()),
            predecessor => predecessor.cloned(),
        };
        let settings = &self.shared.settings;
        if sessions.len() >= settings.max_sessions.saturating_add(MAX_ENDED) {
            sessions.retain(|_, handle| handle.state().is_usable());
        }
        if sessions.len() >= settings.max_sessions && live(&sessions) >= settings.max_sessions {
            return Err(SessionError::Busy { retry_after: settings.idle_timeout.min(Duration::from_mins(1)) });
        }
        let known = Known { id: id.clone(), credential, identity, predecessor };
        let (handle, actor) = actor::new(Arc::clone(&self.shared), known);
        self.tasks.spawn(actor);
        info!(session.id = %id, "session `{id}` opened");
        sessions.insert(id, handle.clone());
        Ok(handle)
    }

    /// Whether a known session answers for its token: it lives, or its refusal is recent.
    fn still_stands(&self, handle: &SessionHandle) -> bool {
        let status = handle.status();
        match status.state {
            SessionState::Connecting | SessionState::Online | SessionState::Reconnecting => true,
            SessionState::AuthFailed => self.shared.clock.now().since(status.since) < self.shared.settings.refusal_stands,
            SessionState::Closing | SessionState::Closed => false,
        }
    }
}

fn live(sessions: &HashMap<SessionId, SessionHandle>) -> usize {
    sessions.values().filter(|handle| handle.state().is_usable()).count()
}
