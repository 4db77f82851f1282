//! What goes on by itself: renewals when they are due, and files that change.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::registry::{Inner, LOCK};
use super::renewal::Cause;
use super::{AccountCredential, AccountRegistry, AccountSessions, file};

/// The longest sleep, so that a clock that was set does not keep a renewal waiting.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

impl AccountRegistry {
    /// Lets the sessions have the tokens of all accounts, and renews from now on.
    pub fn start(&self, sessions: Arc<dyn AccountSessions>) {
        if self.0.sessions.set(sessions).is_err() {
            return;
        }
        for work in [Self::settle_all as fn(Self) -> _, Self::keep_time, Self::watch_files] {
            let stop = self.0.stop.clone();
            self.0.tasks.spawn(stop.run_until_cancelled_owned(work(self.clone())));
        }
    }

    /// Ends renewals and waits for those under way, for `grace` at most.
    pub async fn shut_down(&self, grace: Duration) {
        self.0.stop.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            warn!("some renewals did not end within the grace time");
        }
    }
}
