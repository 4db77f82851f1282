//! [`Shared`]: what all session actors and the registry have in common, and which session serves each account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::interest::InterestSource;
use super::limiter::ConnectLimiter;
use super::own_sends::OwnSendsOfAccounts;
use super::renewal::TokenSource;
use super::serving::Serving;
use super::{Identity, SessionHandle, SessionSettings};
use crate::domain::{AccountId, Clock, Credential, Sealed, SessionId};
use crate::event_log::EventLog;
use crate::metrics::Metrics;
use crate::seal::{Keyring, Purpose};
use crate::send_log::SendLog;
use crate::store::{DocKind, DocWrite, Engine, Expected, Incarnation, Result as StoreResult};
use crate::upstream::{Connector, RestClient};

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
    /// Renews the tokens of managed accounts.
    pub tokens: Arc<dyn TokenSource>,
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
    /// Whether Spaces has ever answered a probe, so that one without an answer means something.
    pub(super) probes_are_answered: std::sync::atomic::AtomicBool,
    pub(super) limiter: ConnectLimiter,
    /// Which session serves each account; its token is stored.
    pub(super) serving: Serving,
    /// Held while the store and [`Self::serving`] are changed together, so that they tell the same.
    storing: tokio::sync::Mutex<()>,
    /// What the sessions of each account have emitted of late.
    pub(super) own_sends: OwnSendsOfAccounts,
    /// The tasks of all sessions.
    pub(super) tasks: TaskTracker,
    /// Ends what waits without a session.
    pub(super) stop: CancellationToken,
    sessions: Mutex<HashMap<SessionId, SessionHandle>>,
}

impl std::ops::Deref for Shared {
    type Target = SessionDependencies;

    fn deref(&self) -> &SessionDependencies {
        &self.given
    }
}

impl Shared {
    pub(super) fn new(given: SessionDependencies) -> Self {
        let limiter = ConnectLimiter::new(given.settings.connects_per_second);
        Self {
            given,
            probes_are_answered: std::sync::atomic::AtomicBool::new(false),
            limiter,
            serving: Serving::default(),
            storing: tokio::sync::Mutex::default(),
            own_sends: OwnSendsOfAccounts::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            sessions: Mutex::default(),
        }
    }

    /// Whether `session` serves the webhooks and subscriptions of `account`.
    pub(super) fn is_kept(&self, account: &AccountId, session: &SessionId) -> bool {
        self.serving.is_kept(account, session)
    }

    /// Whether something needs a session of `account`: webhooks, subscriptions, or whoever manages its token.
    pub(super) fn is_needed(&self, account: &AccountId) -> bool {
        self.serving.is_managed(account) || !self.interests.interest(account).is_empty()
    }

    /// Whether something needs a session of `account` and none serves it: the one that did has ended, because its token was refused
    /// for example.
    pub(super) fn is_orphaned(&self, account: &AccountId) -> bool {
        self.served_by(account).is_none() && self.is_needed(account)
    }

    /// The session that serves `account`, if it has not ended.
    pub(super) fn served_by(&self, account: &AccountId) -> Option<SessionHandle> {
        self.get(&self.serving.kept(account)?).filter(|handle| handle.state().is_usable())
    }

    /// Stores a session's token sealed and makes the session serve its account. Takes the place of the one kept before, which ends.
    pub(super) async fn keep(&self, id: &SessionId, credential: &Credential, identity: &Identity) -> StoreResult<()> {
        let _storing = self.storing.lock().await;
        let account = &identity.account;
        let before = self.serving.kept(account);
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
        self.serving.set_kept(account, id);
        if let Some(before) = before.and_then(|before| self.get(&before)) {
            before.retire().await;
        }
        Ok(())
    }

    /// Removes the stored token of a kept session, which serves its account no more.
    pub(super) async fn forget(&self, account: &AccountId, session: &SessionId) -> StoreResult<()> {
        let _storing = self.storing.lock().await;
        self.engine.doc_put(vec![token_write(session, account, None)]).await?;
        self.serving.clear_kept(account, session);
        Ok(())
    }

    /// Reads the stored token of a session and makes the session serve its account again. `None` if there is none, it cannot be
    /// read, or nothing needs it any more.
    pub(super) async fn recall(&self, id: &SessionId) -> StoreResult<Option<(Credential, Identity)>> {
        let Some(document) = self.engine.doc_get(DocKind::Token, id.as_str()).await? else { return Ok(None) };
        let Some((credential, identity)) = self.read_token(&document.body) else {
            error!(session.id = %id, "the stored token of session `{id}` cannot be read; its webhooks wait for a call with a token");
            return Ok(None);
        };
        if self.tokens.manages(&identity.account) {
            self.serving.set_managed(&identity.account, true);
        }
        if !self.is_needed(&identity.account) {
            self.engine.doc_put(vec![token_write(id, &identity.account, None)]).await?;
            return Ok(None);
        }
        self.serving.set_kept(&identity.account, id);
        Ok(Some((credential, identity)))
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<SessionHandle> {
        self.sessions().get(id).cloned()
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, SessionHandle>> {
        self.sessions.lock().expect(LOCK)
    }

    fn read_token(&self, body: &[u8]) -> Option<(Credential, Identity)> {
        let stored: StoredToken = serde_json::from_slice(body).ok()?;
        let kind = stored.kind.parse().ok()?;
        let token = self.keyring.unseal(Purpose::Token, &stored.sealed).ok()?;
        let identity = Identity { account: stored.account, user_id: stored.user_id, display_name: stored.display_name };
        Some((Credential { kind, token }, identity))
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
