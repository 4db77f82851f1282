//! [`SessionRegistry`]: finds the session of a token, or opens it, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::actor::{self, Known};
use super::interest::InterestSource;
use super::limiter::ConnectLimiter;
use super::{Identity, SessionError, SessionHandle, SessionSettings};
use crate::domain::{AccountId, Clock, ClosedReason, Credential, Sealed, SessionId, SessionState};
use crate::event_log::EventLog;
use crate::metrics::Metrics;
use crate::seal::{Keyring, Purpose};
use crate::send_log::SendLog;
use crate::store::{DocKind, DocWrite, Engine, Expected, Fence, Incarnation, Result as StoreResult, Wanted};
use crate::upstream::{Connector, RestClient};

/// Sessions taken from the store at a time at the start.
const RESTORE_BATCH: usize = 500;

/// Ended sessions that are remembered, beyond which those whose memory serves no purpose any more are dropped.
const MAX_ENDED: usize = 1_000;

const LOCK: &str = "no code panics while it holds this lock";

/// What sessions work with.
pub struct SessionDependencies {
    /// Connects to the socket server.
    pub connector: Connector,
    /// The REST side.
    pub rest: RestClient,
    /// Where events go.
    pub event_log: Arc<EventLog>,
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// The record of unconfirmed sends.
    pub sends: Arc<SendLog>,
    /// What accounts care about.
    pub interests: Arc<dyn InterestSource>,
    /// Names sessions and seals tokens.
    pub keyring: Arc<Keyring>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The settings.
    pub settings: SessionSettings,
    /// This process in the store.
    pub incarnation: Incarnation,
}

/// What all actors share.
pub(super) struct Shared {
    pub(super) given: SessionDependencies,
    pub(super) limiter: ConnectLimiter,
    /// The session that serves each account's webhooks and subscriptions; its token is stored.
    kept: RwLock<HashMap<AccountId, SessionId>>,
    sessions: Mutex<HashMap<SessionId, SessionHandle>>,
}

impl std::ops::Deref for Shared {
    type Target = SessionDependencies;

    fn deref(&self) -> &SessionDependencies {
        &self.given
    }
}

impl Shared {
    /// Whether `session` serves the webhooks and subscriptions of `account`.
    pub(super) fn is_kept(&self, account: &AccountId, session: &SessionId) -> bool {
        self.kept.read().expect(LOCK).get(account) == Some(session)
    }

    /// Whether `account` has webhooks or subscriptions and no session that serves them: the one that did has ended, because its
    /// token was refused for example.
    pub(super) fn is_orphaned(&self, account: &AccountId) -> bool {
        let serving = self.kept.read().expect(LOCK).get(account).cloned();
        let served = serving.and_then(|id| self.get(&id)).is_some_and(|handle| handle.state().is_usable());
        !served && !self.interests.interest(account).is_empty()
    }

    /// Stores a session's token sealed and makes the session serve its account. Takes the place of the one kept before.
    pub(super) async fn keep(&self, id: &SessionId, credential: &Credential, identity: &Identity) -> StoreResult<()> {
        let account = &identity.account;
        let before = self.kept.read().expect(LOCK).get(account).cloned();
        if before.as_ref() == Some(id) {
            return Ok(());
        }
        let stored = StoredToken {
            kind: credential.kind.as_str().to_owned(),
            sealed: self.keyring.seal(Purpose::Token, &credential.token),
            account: account.clone(),
            user_id: identity.user_id.clone(),
            display_name: identity.display_name.clone(),
        };
        let body = serde_json::to_vec(&stored).expect("a record of texts serialises");
        let mut writes = vec![token_write(id, account, Some(body.into()))];
        writes.extend(before.iter().map(|before| token_write(before, account, None)));
        self.engine.doc_put(writes).await?;
        self.kept.write().expect(LOCK).insert(account.clone(), id.clone());
        if let Some(before) = before.and_then(|before| self.get(&before)) {
            before.interest_changed().await;
        }
        Ok(())
    }

    fn get(&self, id: &SessionId) -> Option<SessionHandle> {
        self.sessions.lock().expect(LOCK).get(id).cloned()
    }
}

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

/// A token as the store keeps it.
#[derive(Serialize, Deserialize)]
struct StoredToken {
    kind: String,
    sealed: Sealed,
    account: AccountId,
    user_id: Option<String>,
    display_name: Option<String>,
}

impl SessionRegistry {
    /// A registry without sessions.
    pub fn new(dependencies: SessionDependencies) -> Self {
        let limiter = ConnectLimiter::new(dependencies.settings.connects_per_second);
        let shared = Shared { given: dependencies, limiter, kept: RwLock::default(), sessions: Mutex::default() };
        Self { shared: Arc::new(shared), tasks: TaskTracker::new() }
    }

    /// Finds the session of `credential`, or opens it. Concurrent first calls get the same session.
    ///
    /// A token that Spaces refused is not tried again for a while: its session is found as it ended.
    pub fn open(&self, credential: Credential) -> Result<SessionHandle, SessionError> {
        let id = self.shared.keyring.session_id(&credential);
        self.find_or_spawn(id, credential, None)
    }

    /// The session with this id, if it is known.
    pub fn get(&self, id: &SessionId) -> Option<SessionHandle> {
        self.shared.get(id)
    }

    /// All sessions, in the order of their ids.
    pub fn list(&self) -> Vec<SessionHandle> {
        let mut handles: Vec<_> = self.shared.sessions.lock().expect(LOCK).values().cloned().collect();
        handles.sort_by(|a, b| a.id().cmp(b.id()));
        handles
    }

    /// The right to append to the log under this session.
    pub fn fence(&self, id: &SessionId) -> Option<Fence> {
        self.get(id)?.fence()
    }

    /// Stores the session's token sealed, so that the session lives on without its caller and comes back after a restart. Takes
    /// the place of the account's session kept before.
    pub async fn keep(&self, handle: &SessionHandle, identity: &Identity) -> Result<(), SessionError> {
        self.shared.keep(handle.id(), handle.credential(), identity).await.map_err(|error| {
            error!(error = &error as &dyn std::error::Error, session.id = %handle.id(), "failed to store a sealed token");
            SessionError::Store
        })?;
        handle.interest_changed().await;
        Ok(())
    }

    /// Lets the account's session follow a change of webhooks or subscriptions. If nothing is cared about any more, the stored token
    /// goes, and the session ends when nobody uses it.
    pub async fn interest_changed(&self, account: &AccountId) -> Result<(), SessionError> {
        let Some(kept) = self.shared.kept.read().expect(LOCK).get(account).cloned() else { return Ok(()) };
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
        self.shared.sessions.lock().expect(LOCK).remove(id);
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
        let Some(document) = self.shared.engine.doc_get(DocKind::Token, id.as_str()).await? else { return Ok(false) };
        let Some((credential, identity)) = self.read_token(&document.body) else {
            error!(session.id = %id, "the stored token of session `{id}` cannot be read; its webhooks wait for a call with a token");
            return Ok(false);
        };
        if self.shared.interests.interest(&identity.account).is_empty() {
            self.shared.engine.doc_put(vec![token_write(id, &identity.account, None)]).await?;
            return Ok(false);
        }
        self.shared.kept.write().expect(LOCK).insert(identity.account.clone(), id.clone());
        match self.find_or_spawn(id.clone(), credential, Some(identity)) {
            Ok(_) => Ok(true),
            Err(error) => {
                error!(session.id = %id, error = &error as &dyn std::error::Error, "failed to restore session `{id}`");
                Ok(false)
            }
        }
    }

    fn read_token(&self, body: &[u8]) -> Option<(Credential, Identity)> {
        let stored: StoredToken = serde_json::from_slice(body).ok()?;
        let kind = stored.kind.parse().ok()?;
        let token = self.shared.keyring.unseal(Purpose::Token, &stored.sealed).ok()?;
        let identity = Identity { account: stored.account, user_id: stored.user_id, display_name: stored.display_name };
        Some((Credential { kind, token }, identity))
    }

    async fn forget(&self, account: &AccountId, session: &SessionId) -> Result<(), SessionError> {
        self.shared.engine.doc_put(vec![token_write(session, account, None)]).await.map_err(|error| {
            error!(error = &error as &dyn std::error::Error, session.id = %session, "failed to remove a stored token");
            SessionError::Store
        })?;
        let mut kept = self.shared.kept.write().expect(LOCK);
        if kept.get(account) == Some(session) {
            kept.remove(account);
        }
        Ok(())
    }

    fn find_or_spawn(
        &self,
        id: SessionId,
        credential: Credential,
        identity: Option<Identity>,
    ) -> Result<SessionHandle, SessionError> {
        let mut sessions = self.shared.sessions.lock().expect(LOCK);
        if let Some(handle) = sessions.get(&id).filter(|handle| self.still_stands(handle)) {
            return Ok(handle.clone());
        }
        let settings = &self.shared.settings;
        if sessions.len() >= settings.max_sessions.saturating_add(MAX_ENDED) {
            sessions.retain(|_, handle| handle.state().is_usable());
        }
        if sessions.len() >= settings.max_sessions && live(&sessions) >= settings.max_sessions {
            return Err(SessionError::Busy { retry_after: settings.idle_timeout.min(Duration::from_secs(60)) });
        }
        let known = Known { id: id.clone(), credential, identity };
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

fn token_write(session: &SessionId, account: &AccountId, body: Option<bytes::Bytes>) -> DocWrite {
    DocWrite {
        kind: DocKind::Token,
        id: session.as_str().to_owned(),
        account: Some(account.clone()),
        body,
        expected: Expected::Any,
        expires_at: None,
        flow: None,
    }
}
