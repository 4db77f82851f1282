//! What goes on by itself: renewals when they are due, and files that change.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::record::{Record, Standing};
use super::registry::{Entry, Inner, LOCK};
use super::renewal::Cause;
use super::{AccountCredential, AccountRegistry, AccountSessions, file, found};

/// The longest sleep, so that a clock that was set does not keep a renewal waiting.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

impl AccountRegistry {
    /// Says which sessions get the tokens. Only the first word counts.
    pub fn meet(&self, sessions: &Arc<dyn AccountSessions>) {
        self.0.sessions.get_or_init(|| Arc::downgrade(sessions));
    }

    /// Lets the sessions have the tokens of all accounts, and renews from now on.
    pub fn start(&self) {
        let inner = &self.0;
        let until_stop = || inner.stop.clone();
        inner.tasks.spawn(until_stop().run_until_cancelled_owned(Arc::clone(inner).keep_time()));
        inner.tasks.spawn(until_stop().run_until_cancelled_owned(Arc::clone(inner).watch_files()));
        inner.tasks.spawn(until_stop().run_until_cancelled_owned(Arc::clone(inner).settle_all()));
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

impl Inner {
    /// Lets the sessions have the tokens that outlived the last process, and gets new ones where they did not.
    async fn settle_all(self: Arc<Self>) {
        for entry in self.all() {
            let record = entry.record();
            let has_ended = record.token.has_ended(self.parts.clock.now());
            if record.token.in_use && !has_ended {
                self.keep_going(&record).await;
                self.schedule(&entry);
            } else if record.standing != Standing::CredentialRefused || record.credential.kind().leads_elsewhere() {
                drop(self.attempt(&entry, Cause::Settling));
            }
        }
    }

    /// The sessions usually have the token already.
    async fn keep_going(&self, record: &Record) {
        let Some(sessions) = self.sessions() else { return };
        if let Err(error) = sessions.adopt(record.identity(), record.token.credential.clone()).await {
            let account = &record.account;
            warn!(account.id = %account, error = &error as &dyn std::error::Error, "account `{account}` could not go on with its token");
        }
    }

    async fn keep_time(self: Arc<Self>) {
        loop {
            let now = self.parts.clock.now();
            let (due, next) = {
                let mut queue = self.queue.lock().expect(LOCK);
                let due: Vec<_> = std::iter::from_fn(|| queue.take_due(now)).collect();
                (due, queue.next())
            };
            for entry in due.iter().filter_map(|account| self.entry(account)) {
                // It runs by itself, and sets the account's next time.
                drop(self.attempt(&entry, Cause::Due));
            }
            let sleep = next.map_or(LONGEST_SLEEP, |next| next.since(now)).min(LONGEST_SLEEP);
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    async fn watch_files(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.parts.settings.file_check);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for entry in self.all() {
                if self.has_another_token(&entry).await {
                    drop(self.attempt(&entry, Cause::Found));
                }
            }
        }
    }

    /// Whether the file of the account's credential holds a token that was not tried yet. A file that cannot be read is told of when the
    /// token is due.
    async fn has_another_token(&self, entry: &Entry) -> bool {
        let record = entry.record();
        let AccountCredential::TokenFile { path, token_kind } = &record.credential else { return false };
        let Ok(bytes) = file::read(path, &self.parts.settings.token_directories).await else { return false };
        let Ok(minted) = found::read(&bytes, *token_kind, self.parts.clock.now()) else { return false };
        let hash: [u8; 32] = Sha256::digest(minted.credential.token.expose()).into();
        let was_found = entry.live().found.replace(hash) == Some(hash);
        !was_found && minted.credential != record.token.credential
    }
}
