//! A renewal: one attempt to get an account another token, shared by everyone who wants one meanwhile.
//!
//! The attempt is a task of its own and runs to its end whoever goes away: a server that has given a refresh token counts the one before
//! as dead. What it does, in this order: get a token, make it durable with the credential to use next, ask whose it is, let the
//! sessions have it, write down that they do. A process that ends in between goes on from what is durable.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::record::{Failure, HeldToken, Record, Standing};
use super::registry::{Entry, Inner, LOCK, Live};
use super::schedule::{draw, renew_at, wait_after};
use super::{AccountCredential, AccountRegistry, CredentialKind, MintError};
use crate::domain::{AccountId, Credential, SessionId};
use crate::event_log::SystemEvent;
use crate::session::{RenewalError, SessionError, TokenSource};

/// The longest wait between two tries to make a new refresh token durable.
const STORE_AGAIN: Duration = Duration::from_secs(30);

/// What became of a renewal: the token that the sessions have now.
pub(super) type Outcome = Result<Credential, MintError>;

/// A renewal under way.
pub(super) type Attempt = Shared<BoxFuture<'static, Outcome>>;

/// Why a renewal is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is time.
    Due,
    /// The operator wants it.
    Asked,
    /// Spaces refused the token to the session, which tells of it itself.
    Refused,
    /// There is another token where the credential leads.
    Found,
    /// A token is there, and the sessions do not have it yet.
    Settling,
}

/// What came of a renewal that did not fail.
enum Renewed {
    /// Another token.
    Another,
    /// The same token as before.
    Same,
}

#[async_trait]
impl TokenSource for AccountRegistry {
    fn manages(&self, account: &AccountId) -> bool {
        self.is_managed(account)
    }

    async fn renew(&self, account: &AccountId, refused: &SessionId) -> Result<Credential, RenewalError> {
        let inner = &self.0;
        let not_managed = || RenewalError::Refused("the account is not managed any more".to_owned());
        let entry = inner.entry(account).ok_or_else(not_managed)?;
        let attempt = {
            let mut live = entry.live();
            if live.attempt.is_none() {
                let (token, now) = (&live.record.token, inner.parts.clock.now());
                let session = token.session(&inner.parts.keyring);
                let is_newer = session != *refused;
                let is_good = !inner.sessions().is_some_and(|sessions| sessions.is_refused(&session));
                if is_newer && is_good && token.in_use && !token.has_ended(now) {
                    return Ok(token.credential.clone());
                }
                // Asked at each refusal, a server that said no would be asked all the time.
                if !is_newer && live.record.standing == Standing::CredentialRefused {
                    let failure = live.record.last_failure.as_ref();
                    return Err(RenewalError::Refused(failure.map(|failure| failure.reason.clone()).unwrap_or_default()));
                }
            }
            // Under the same lock, so that everyone who finds the old token shares one renewal.
            inner.attempt_with(&mut live, &entry, Cause::Refused)
        };
        match attempt.await {
            Ok(credential) if inner.parts.keyring.session_id(&credential) == *refused => {
                Err(RenewalError::Refused("the credential still gives the token that Spaces refused".to_owned()))
            }
            Ok(credential) => Ok(credential),
            Err(MintError::Unavailable { detail, retry_after }) => Err(RenewalError::Unavailable { detail, retry_after }),
            Err(MintError::Failed(detail)) => Err(RenewalError::Unavailable { detail, retry_after: None }),
            Err(MintError::Refused(detail)) => Err(RenewalError::Refused(detail)),
        }
    }
}

impl Inner {
    /// The renewal under way, or a new one.
    pub(super) fn attempt(self: &Arc<Self>, entry: &Arc<Entry>, cause: Cause) -> Attempt {
        self.attempt_with(&mut entry.live(), entry, cause)
    }

    fn attempt_with(self: &Arc<Self>, live: &mut Live, entry: &Arc<Entry>, cause: Cause) -> Attempt {
        if let Some(attempt) = &live.attempt {
            return attempt.clone();
        }
        let (done, ended) = oneshot::channel();
        let attempt = ended.map(|outcome| outcome.unwrap_or_else(|_| Err(stopping()))).boxed().shared();
        live.attempt = Some(attempt.clone());
        let (inner, entry) = (Arc::clone(self), Arc::clone(entry));
        self.tasks.spawn(async move {
            let outcome = inner.run_attempt(&entry, cause).await;
            entry.live().attempt = None;
            inner.schedule(&entry);
            // Everyone who waited may have gone.
            let _ = done.send(outcome);
        });
        attempt
    }

    async fn run_attempt(&self, entry: &Entry, cause: Cause) -> Outcome {
        let permit = tokio::select! {
            permit = self.running.acquire() => permit,
            () = self.stop.cancelled() => return Err(stopping()),
        };
        let _permit = permit.map_err(|_| stopping())?;
        let _changing = entry.changing.lock().await;
        let mut record = entry.record();
        if entry.live().deleted {
            return Err(MintError::Refused("the account is not managed any more".to_owned()));
        }
        let result = self.renew(entry, &mut record, cause).await;
        let label = match &result {
            Ok(Renewed::Another) => "renewed",
            Ok(Renewed::Same) => "unchanged",
            Err(MintError::Refused(_)) => "refused",
            Err(MintError::Failed(_)) => "failed",
            Err(MintError::Unavailable { .. }) => "unavailable",
        };
        if cause != Cause::Settling || result.is_err() {
            self.parts.metrics.account_renewals.with_label_values(&[label]).inc();
        }
        match result {
            Ok(Renewed::Another) => {
                let mut live = entry.live();
                (live.failures, live.patience) = (0, None);
                info!(account.id = %entry.id, "account `{}` has a new token", entry.id);
                Ok(record.token.credential)
            }
            Ok(Renewed::Same) => {
                // It is looked at again, and less and less often.
                let mut live = entry.live();
                (live.failures, live.patience) = (live.failures.saturating_add(1), None);
                Ok(record.token.credential)
            }
            Err(error) => {
                self.failed(entry, record, cause, &error).await;
                Err(error)
            }
        }
    }

    /// The steps of a renewal. `record` is what is durable, at each of them.
    async fn renew(&self, entry: &Entry, record: &mut Record, cause: Cause) -> Result<Renewed, MintError> {
        let now = self.parts.clock.now();
        if !record.token.in_use && !record.token.has_ended(now) {
            match self.take_into_use(entry, record, true).await {
                // It was got earlier and may have been revoked since.
                Err(MintError::Refused(_)) => {}
                result => return result.map(|()| Renewed::Another),
            }
        }
        let minted = self.parts.sources.mint(&record.credential, now).await?;
        if minted.credential != record.token.credential {
            let mut next = record.clone();
            next.credential = minted.rotated.clone().unwrap_or(next.credential);
            next.token = HeldToken::from(minted);
            self.save_surely(entry, next.clone()).await?;
            *record = next;
            return self.take_into_use(entry, record, true).await.map(|()| Renewed::Another);
        }
        if cause == Cause::Refused {
            return Err(MintError::Refused("the credential still gives the token that Spaces refused".to_owned()));
        }
        if record.token.has_ended(now) {
            return Err(MintError::Refused("the credential still gives a token that has ended".to_owned()));
        }
        self.take_into_use(entry, record, false).await.map(|()| Renewed::Same)
    }

    /// Lets the sessions have the token of `record`, once it is known that it is of the right user.
    async fn take_into_use(&self, entry: &Entry, record: &mut Record, is_new: bool) -> Result<(), MintError> {
        let mut next = record.clone();
        self.identify(&mut next).await?;
        self.hand_over(&next).await?;
        if is_new || record.standing != Standing::Active {
            next.token.in_use = true;
            next.standing = Standing::Active;
            if is_new {
                next.last_renewed_at = self.parts.clock.now();
            }
            // If this is not written, a restart goes these steps once more.
            if let Err(error) = self.save(entry, next.clone()).await {
                warn!(account.id = %entry.id, error = &error as &dyn std::error::Error, "the account's state could not be stored");
                entry.live().record = next.clone();
            }
        }
        *record = next;
        Ok(())
    }

    /// Makes a token durable that may have cost the credential before it: until that succeeds, or the service stops, nothing else is
    /// done for the account.
    async fn save_surely(&self, entry: &Entry, record: Record) -> Result<(), MintError> {
        let mut wait = Duration::from_secs(1);
        loop {
            match self.save(entry, record.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => warn!(
                    account.id = %entry.id,
                    error = &error as &dyn std::error::Error,
                    "a new token could not be stored and is not used before it is"
                ),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(STORE_AGAIN),
                () = self.stop.cancelled() => return Err(stopping()),
            }
        }
    }

    /// Asks whose the token is. It has to be the account's user, except that a guest is another one each time.
    async fn identify(&self, record: &mut Record) -> Result<(), MintError> {
        let user = match self.user_of(&record.token.credential).await {
            Ok(user) => user,
            Err(error @ MintError::Unavailable { .. }) if record.credential.is_vouched_for() => {
                debug!(account.id = %record.account, error = %error, "the token's user is not asked for: the server vouches for it");
                None
            }
            Err(error) => return Err(error),
        };
        let Some(user) = user else { return Ok(()) };
        let is_guest = record.credential.kind() == CredentialKind::Anonymous;
        if !is_guest && record.user_id.as_ref().is_some_and(|known| *known != user.id) {
            return Err(MintError::Refused("the token is another user's".to_owned()));
        }
        record.user_id = Some(user.id);
        record.display_name = user.displayname;
        Ok(())
    }

    async fn hand_over(&self, record: &Record) -> Result<(), MintError> {
        let sessions = self.sessions().ok_or_else(stopping)?;
        let adopted = sessions.adopt(record.identity(), record.token.credential.clone()).await;
        adopted.map(|_| ()).map_err(|error| match error {
            // A server would give another one; what is fixed, or lies somewhere, stays what it is.
            SessionError::AuthFailed { detail } if !record.credential.is_minted() => MintError::Refused(detail),
            error => MintError::Unavailable { detail: error.to_string(), retry_after: None },
        })
    }

    /// Writes a failure down, and tells of a credential that is not valid any more.
    async fn failed(&self, entry: &Entry, mut record: Record, cause: Cause, error: &MintError) {
        let reason = error.to_string();
        let standing = match error {
            MintError::Refused(_) => Standing::CredentialRefused,
            MintError::Failed(_) | MintError::Unavailable { .. } => Standing::Unavailable,
        };
        let is_news = record.standing != standing || record.last_failure.as_ref().is_none_or(|before| before.reason != reason);
        let is_end = standing == Standing::CredentialRefused && record.standing != standing;
        warn!(account.id = %entry.id, reason, "account `{}` gets no new token", entry.id);
        record.standing = standing;
        record.last_failure = Some(Failure { at: self.parts.clock.now(), reason: reason.clone() });
        let session_id = record.token.session(&self.parts.keyring);
        if is_news && let Err(error) = self.save(entry, record.clone()).await {
            warn!(account.id = %entry.id, error = &error as &dyn std::error::Error, "the account's state could not be stored");
        }
        {
            let mut live = entry.live();
            live.record = record;
            live.failures = live.failures.saturating_add(1);
            live.patience = match error {
                MintError::Unavailable { retry_after, .. } => *retry_after,
                MintError::Refused(_) | MintError::Failed(_) => None,
            };
        }
        // The session tells of its own refusals.
        if is_end && cause != Cause::Refused {
            let event = SystemEvent::SessionAuthFailed { session_id, reason };
            if let Err(error) = self.parts.event_log.append_system(&entry.id, &event).await {
                warn!(account.id = %entry.id, error = &error as &dyn std::error::Error, "`session.auth_failed` could not be told");
            }
        }
    }

    /// Sets the time at which something is to be done for the account next.
    pub(super) fn schedule(&self, entry: &Entry) {
        let now = self.parts.clock.now();
        let at = {
            let live = entry.live();
            let (record, token) = (&live.record, &live.record.token);
            let again = || now.saturating_add(wait_after(live.failures.max(1), live.patience, draw()));
            let is_fixed = matches!(record.credential, AccountCredential::Token { .. });
            match record.standing {
                _ if live.deleted => None,
                Standing::CredentialRefused if record.credential.kind().leads_elsewhere() => Some(again()),
                Standing::CredentialRefused => None,
                Standing::Unavailable | Standing::Renewing => Some(again()),
                Standing::Active if !token.in_use => Some(again()),
                Standing::Active if is_fixed => None,
                Standing::Active => {
                    let due = token.expires_at.map(|expires_at| renew_at(token.obtained_at, expires_at, draw()));
                    due.map(|due| if live.failures > 0 { due.max(again()) } else { due })
                }
            }
        };
        self.queue.lock().expect(LOCK).set(&entry.id, at);
        self.changed.notify_one();
    }
}

fn stopping() -> MintError {
    MintError::Unavailable { detail: "the service is starting or stopping".to_owned(), retry_after: None }
}
