//! [`SessionRegistry`]: finds the session of a token, or opens it, once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, warn};

use super::opening::Refused;
use super::shared::{SessionDependencies, Shared};
use super::watermarks::{self, Wish};
use super::{Identity, SessionError, SessionHandle};
use crate::domain::{AccountId, ClosedReason, Credential, SessionId, SpaceSelector, Timestamp, TokenKind};
use crate::store::{Result as StoreResult, Wanted};

/// Sessions taken from the store at a time at the start.
const RESTORE_BATCH: usize = 500;

/// Tokens that calls were refused with and whose sessions have not been told yet.
const REFUSALS: usize = 64;

/// All sessions of this process.
pub struct SessionRegistry {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for SessionRegistry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SessionRegistry").finish_non_exhaustive()
    }
}

impl SessionRegistry {
    /// A registry without sessions.
    pub fn new(dependencies: SessionDependencies) -> Self {
        let (refusals, refused) = mpsc::channel(REFUSALS);
        dependencies.rest.tell_refusals(refusals);
        let shared = Arc::new(Shared::new(dependencies));
        let (stop, heeding) = (shared.stop.clone(), heed_refusals(Arc::downgrade(&shared), refused));
        shared.tasks.spawn(async move { _ = stop.run_until_cancelled(heeding).await });
        Self { shared }
    }

    /// Finds the session of `credential`, or opens it. Concurrent first calls get the same session.
    ///
    /// A token that Spaces refused is not tried again for a while: its session is found as it ended.
    pub fn open(&self, credential: Credential) -> Result<SessionHandle, SessionError> {
        let id = self.shared.keyring.session_id(&credential);
        self.shared.open(id, credential, None, Refused::Stands)
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
        self.get(&self.shared.serving.kept(account)?)
    }

    /// Whether the bridge holds a token of `account`, or gets one by itself.
    pub fn stands_for(&self, account: &AccountId) -> bool {
        self.shared.serving.kept(account).is_some()
            || self.shared.serving.is_managed(account)
            || self.shared.tokens.manages(account)
    }

    /// All sessions, in the order of their ids.
    pub fn list(&self) -> Vec<SessionHandle> {
        let mut handles: Vec<_> = self.shared.sessions().values().cloned().collect();
        handles.sort_by(|a, b| a.id().cmp(b.id()));
        handles
    }

    /// Stores the session's token sealed, so that the session lives on without its caller and comes back after a restart. If another
    /// session serves the account, this one takes its place as soon as it hears what that one hears; unless that one's token is
    /// fresher or managed.
    pub async fn keep(&self, handle: &SessionHandle, identity: &Identity) -> Result<(), SessionError> {
        let serving = self.shared.served_by(&identity.account);
        if serving.is_some() && !self.shared.may_serve(handle, &identity.account) {
            return self.interest_changed(&identity.account).await;
        }
        // It may have closed in the meantime, and is needed from now on.
        let handle = self.find_or_open(handle, Some(identity.clone()), Refused::Stands)?;
        self.shared.let_serve(&handle, identity.clone()).await?;
        if let Some(serving) = serving {
            serving.interest_changed().await;
        }
        Ok(())
    }

    /// Opens the session of `credential` for the managed account of `identity`, and lets it serve that account from now on: its token
    /// is stored sealed, and it lives without webhooks and subscriptions and over restarts. If another session serves the account, the
    /// new one takes its place once it hears what that one hears. Does not wait for any of that, and does nothing if the session serves
    /// already. A token that was refused a moment ago is not taken.
    ///
    /// Whoever manages the account has to answer [`TokenSource::manages`](super::TokenSource::manages) for it from now on.
    pub async fn adopt(&self, identity: Identity, credential: Credential) -> Result<SessionHandle, SessionError> {
        self.shared.adopt(identity, credential).await
    }

    /// Manages `account` no more. Its session ends, unless webhooks or subscriptions need it.
    pub async fn release_account(&self, account: &AccountId) -> Result<(), SessionError> {
        self.shared.serving.set_managed(account, false);
        let served_by = self.of_account(account);
        self.interest_changed(account).await?;
        if let Some(handle) = served_by.filter(|_| !self.shared.is_needed(account)) {
            handle.retire().await;
        }
        Ok(())
    }

    /// Lets a session give up its connection and make another at once; one that was refused or has ended is opened again. `None` if
    /// there is no such session.
    pub async fn restart(&self, id: &SessionId) -> Result<Option<SessionHandle>, SessionError> {
        let Some(handle) = self.get(id) else { return Ok(None) };
        let identity = handle.status().identity;
        let handle = self.find_or_open(&handle, identity, Refused::IsTriedAgain)?;
        handle.restart().await;
        Ok(Some(handle))
    }

    /// When the first token ends that sessions have, by kind of token, as far as tokens say.
    pub fn soonest_token_ends(&self) -> Vec<(TokenKind, Timestamp)> {
        let mut soonest: Vec<(TokenKind, Timestamp)> = Vec::new();
        for (kind, ends) in self.shared.sessions().values().filter_map(SessionHandle::token_end) {
            match soonest.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, known)) => *known = ends.min(*known),
                None => soonest.push((kind, ends)),
            }
        }
        soonest
    }

    /// Lets the account's session follow a change of webhooks or subscriptions. If nothing is cared about any more, the stored token
    /// goes, and the session ends when nobody uses it.
    pub async fn interest_changed(&self, account: &AccountId) -> Result<(), SessionError> {
        let Some(kept) = self.shared.serving.kept(account) else { return Ok(()) };
        if !self.shared.is_needed(account) {
            self.forget(account, &kept).await?;
            watermarks::forget(&*self.shared.engine, account).await.map_err(|error| {
                error!(error = &error as &dyn std::error::Error, "failed to remove the watermarks of an account");
                SessionError::Store
            })?;
        }
        let successor = self.shared.serving.successor(account);
        for handle in [Some(kept), successor].into_iter().flatten().filter_map(|id| self.get(&id)) {
            handle.interest_changed().await;
        }
        Ok(())
    }

    /// Has the history of spaces read from `since` on, once, by the session that serves `account`: now, or when there is one. Events
    /// that are not in the log yet go into it.
    pub async fn read_back(&self, account: &AccountId, spaces: Vec<SpaceSelector>, since: Timestamp) -> Result<(), SessionError> {
        let (wish, now) = (Wish { spaces, since }, self.shared.clock.now());
        let stored = watermarks::store_wish(&*self.shared.engine, account, &wish, now).await;
        let id = stored.map_err(|error| {
            error!(error = &error as &dyn std::error::Error, "failed to store a wish for history");
            SessionError::Store
        })?;
        if let Some(handle) = self.of_account(account) {
            handle.wish(id, wish).await;
        }
        Ok(())
    }

    /// Ends a session and forgets its stored token. `false` if there is no such session.
    pub async fn close(&self, id: &SessionId) -> Result<bool, SessionError> {
        let Some(handle) = self.get(id) else { return Ok(false) };
        let account = handle.status().identity.map(|identity| identity.account);
        if let Some(account) = account.filter(|account| self.shared.is_kept(account, id)) {
            self.forget(&account, id).await?;
            if let Some(successor) = self.shared.serving.successor(&account) {
                self.shared.serving.clear_successor(&account, &successor);
            }
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
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let closing = futures_util::future::join_all(handles.iter().map(|handle| handle.close(ClosedReason::Shutdown)));
        let ended = tokio::time::timeout(grace, async {
            closing.await;
            self.shared.tasks.wait().await;
        });
        if ended.await.is_err() {
            warn!("some sessions did not close within the grace time; their connections are dropped");
        }
    }

    async fn restore_one(&self, id: &SessionId) -> StoreResult<bool> {
        let Some((credential, identity)) = self.shared.recall(id).await? else { return Ok(false) };
        match self.shared.open(id.clone(), credential, Some(identity), Refused::Stands) {
            Ok(_) => Ok(true),
            Err(error) => {
                error!(session.id = %id, error = &error as &dyn std::error::Error, "failed to restore session `{id}`");
                Ok(false)
            }
        }
    }

    fn find_or_open(
        &self,
        handle: &SessionHandle,
        identity: Option<Identity>,
        refused: Refused,
    ) -> Result<SessionHandle, SessionError> {
        self.shared.open(handle.id().clone(), handle.credential().clone(), identity, refused)
    }

    async fn forget(&self, account: &AccountId, session: &SessionId) -> Result<(), SessionError> {
        self.shared.forget(account, session).await.map_err(|error| {
            error!(error = &error as &dyn std::error::Error, session.id = %session, "failed to remove a stored token");
            SessionError::Store
        })
    }
}

/// Lets the session of each token that a call was refused with look whether it is still good.
async fn heed_refusals(shared: Weak<Shared>, mut refused: mpsc::Receiver<Credential>) {
    while let Some(credential) = refused.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        if let Some(handle) = shared.get(&shared.keyring.session_id(&credential)) {
            handle.doubt();
        }
    }
}
