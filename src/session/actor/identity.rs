//! Who the session acts for: asked for over REST, or known from whoever opened it.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::SessionActor;
use crate::domain::{AccountId, TokenKind};
use crate::session::types::Identity;
use crate::upstream::{Profile, RestError};

/// When the user behind the token is asked for again after a passing failure.
const IDENTIFY_AGAIN: Duration = Duration::from_secs(5);

impl SessionActor {
    pub(super) fn on_identified(&mut self, profile: Result<Profile, RestError>) {
        let identity = match profile {
            Ok(profile) => AccountId::of_user(&profile.id).ok().map(|account| Identity {
                account,
                user_id: Some(profile.id),
                display_name: profile.displayname,
            }),
            Err(error) if error.is_auth() && self.credential.kind != TokenKind::ServiceApp => {
                self.on_refused(error.to_string());
                return;
            }
            // Service applications may not ask who they are; the session then stands for its user.
            Err(error) if error.is_final() => None,
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "the user behind the token is not known yet");
                self.identify_at = Some(Instant::now() + error.retry_after().unwrap_or_default().max(IDENTIFY_AGAIN));
                return;
            }
        };
        let identity =
            identity.unwrap_or_else(|| Identity { account: AccountId::standing_in(&self.id), user_id: None, display_name: None });
        // Whoever manages the account may have said it in the meantime.
        if self.status.borrow().identity.is_some() {
            return;
        }
        self.identified(identity.clone());
        self.serve_if_better(identity);
    }

    /// Notes who the session acts for.
    pub(super) fn identified(&mut self, identity: Identity) {
        self.user_id = self.user_id.take().or_else(|| identity.user_id.clone());
        self.own_sends = Some(self.shared.own_sends.join(&identity.account));
        self.join_governor(&identity.account);
        self.status.send_modify(|status| status.identity = Some(identity));
        for (raw, received_at) in std::mem::take(&mut self.unidentified) {
            self.take_message(&raw, received_at);
        }
        self.follow_interest();
    }
}
