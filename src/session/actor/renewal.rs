//! A refused token: renewed if someone can, else the end of the session.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{End, Job, SessionActor};
use crate::domain::{SessionState, TokenKind};
use crate::session::SessionHandle;
use crate::session::handover::{Handover, Phase};
use crate::session::link::draw;
use crate::session::renewal::RenewalError;
use crate::session::renewing::TOO_SOON;
use crate::session::types::Identity;
use crate::upstream::{Profile, RestError};

impl SessionActor {
    /// Spaces does not want the token.
    pub(super) fn on_refused(&mut self, reason: String) {
        let Some(identity) = self.renewable() else {
            self.end = Some(End::Refused(reason));
            return;
        };
        let mut link = self.disconnect(&reason);
        self.jobs.push(Box::pin(async move {
            link.close().await;
            Job::Disconnected
        }));
        self.shared.serving.note_refusal(&identity.account);
        let told = format!("{reason}; the token is being renewed");
        self.set_state(SessionState::Reconnecting, Some(told));
        if self.renewal.refused() {
            info!(reason, "Spaces refused the token of session `{}`, which is renewed", self.id);
            self.renew(identity);
        }
    }

    /// Who the session acts for, if it serves its account and a newer token can be had. One that is refused right after a renewal
    /// is refused for good.
    fn renewable(&self) -> Option<Identity> {
        let identity = self.status.borrow().identity.clone()?;
        let (account, shared) = (&identity.account, &self.shared);
        let serves = shared.is_kept(account, &self.id) || (self.is_preparing() && !self.is_spare());
        let ours = serves && shared.tokens.manages(account);
        let is_awaited = self.renewal.is_under_way() || self.doubt.is_open;
        let too_soon = !is_awaited && shared.serving.renewed_within(account, TOO_SOON);
        (ours && !too_soon).then_some(identity)
    }

    fn renew(&self, identity: Identity) {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        self.jobs.push(Box::pin(async move { Job::Renewed(shared.renew(identity, &id).await) }));
    }

    /// Asks for a new token again, if it is time.
    pub(super) fn renew_again(&mut self, now: Instant) {
        if self.renewal.ask_again(now) {
            match self.renewable() {
                Some(identity) => self.renew(identity),
                None => self.end = Some(End::Refused("the token was refused, and nobody renews it any more".to_owned())),
            }
        }
    }

    pub(super) fn on_renewed(&mut self, renewed: Result<SessionHandle, RenewalError>) {
        match renewed {
            Ok(after) => {
                info!("session `{}` is about to take the place of session `{}`", after.id(), self.id);
                self.handover = Some(Handover::new(after, Phase::GivingWay));
            }
            Err(RenewalError::Refused(detail)) => self.end = Some(End::Refused(detail)),
            Err(RenewalError::Unavailable { detail, retry_after }) => {
                warn!(reason = detail, "the token of session `{}` cannot be renewed now", self.id);
                self.renewal.unavailable(retry_after, draw(), Instant::now());
                let reason = format!("the token was refused and cannot be renewed now: {detail}");
                self.set_state(SessionState::Reconnecting, Some(reason));
            }
        }
    }

    /// Asks over REST whether the token is still good, since Spaces turns it away without a word. Service applications may not ask.
    pub(super) fn verify(&mut self) {
        if self.credential.kind == TokenKind::ServiceApp {
            if self.renewable().is_some() {
                self.on_refused("Spaces turns the token away without a word".to_owned());
            }
            return;
        }
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        self.jobs.push(Box::pin(async move { Job::Verified(shared.rest.me(&credential).await) }));
    }

    pub(super) fn on_verified(&mut self, profile: Result<Profile, RestError>) {
        if let Err(error) = profile
            && error.is_auth()
            && !self.link.is_online()
        {
            self.on_refused(error.to_string());
        }
    }
    /// A call over REST was refused with the token. If it can be renewed, it is asked about whether that was about the token; the
    /// connection stands meanwhile.
    pub(super) fn on_doubt(&mut self) {
        let now = Instant::now();
        let is_looked_at = self.doubt.is_open || self.renewal.is_under_way() || now < self.doubt.again_at;
        if is_looked_at || !self.link.is_online() || self.renewable().is_none() {
            return;
        }
        self.doubt.is_open = true;
        self.doubt.again_at = now + TOO_SOON;
        let (shared, credential) = (Arc::clone(&self.shared), self.credential.clone());
        self.jobs.push(Box::pin(async move { Job::Reconsidered(shared.rest.me(&credential).await) }));
    }

    /// A token that Spaces does not take any more is replaced, once; the session of the new one takes over from this one.
    pub(super) fn on_reconsidered(&mut self, profile: Result<Profile, RestError>) {
        let is_refused = profile.is_err_and(|error| error.is_auth());
        let renewable = if is_refused && !self.renewal.is_under_way() { self.renewable() } else { None };
        let Some(identity) = renewable else {
            self.doubt.is_open = false;
            return;
        };
        info!("Spaces refuses calls with the token of session `{}`, which is renewed", self.id);
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        self.jobs.push(Box::pin(async move { Job::Replaced(shared.renew(identity, &id).await) }));
    }

    /// The connection stands either way. Without a new token it goes on hearing; the next call that is refused asks again, later.
    pub(super) fn on_replaced(&mut self, replaced: Result<SessionHandle, RenewalError>) {
        self.doubt.is_open = false;
        match replaced {
            Ok(after) => info!("session `{}` is about to take the place of session `{}`", after.id(), self.id),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the token of session `{}` cannot be renewed now", self.id);
                // There was none, so that a refusal by the socket is the first one.
                if let Some(identity) = &self.status.borrow().identity {
                    self.shared.serving.forget_renewal(&identity.account);
                }
            }
        }
    }
}
