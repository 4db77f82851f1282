//! Who takes part: Spaces, three accounts with a webhook each, and Bo, who writes to all of them and changes what he wrote.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fake_upstream::{FakeUpstream, Limits, Options, User};

use super::account::{Account, TOKEN_LIFE, Tokens};
use super::chance::Chance;
use super::events::{self, MessageEvent};
use super::verdict::DEADLINE;
use crate::support::process::Service;
use crate::support::wait::eventually;

/// The accounts: one with the token of its callers, two whose tokens run out.
const ACCOUNTS: [Tokens; 3] = [Tokens::Passed, Tokens::Refreshed, Tokens::LoggedIn];

/// How far back Bo changes his messages.
const CHANGED: usize = 12;

/// What makes the service quick to give up and quick to try again, so that much happens in little time.
const SETTINGS: &[(&str, &str)] = &[
    ("SPACES_BRIDGE_LOG__FILTER", "debug"),
    ("SPACES_BRIDGE_UPSTREAM__CONNECT_TIMEOUT_SECONDS", "1"),
    ("SPACES_BRIDGE_UPSTREAM__REST_TIMEOUT_SECONDS", "1"),
    ("SPACES_BRIDGE_UPSTREAM__REST_FALLBACK_SECONDS", "1"),
    ("SPACES_BRIDGE_SESSION__REFUSAL_SECONDS", "1"),
    ("SPACES_BRIDGE_SESSION__LONGEST_WAIT_SECONDS", "1"),
    ("SPACES_BRIDGE_SESSION__PROBE_SECONDS", "2"),
    ("SPACES_BRIDGE_SESSION__COMPARE_SECONDS", "2"),
    // Longer than a connection may lose things and yet stay, which the heartbeat allows.
    ("SPACES_BRIDGE_SESSION__RECOVERY_OVERLAP_SECONDS", "3"),
    ("SPACES_BRIDGE_OUTBOX__CONFIRM_SECONDS", "1"),
    ("SPACES_BRIDGE_OUTBOX__SETTLE_SECONDS", "1"),
    ("SPACES_BRIDGE_OUTBOX__SILENCE_SECONDS", "3"),
    ("SPACES_BRIDGE_SHUTDOWN__GRACE_SECONDS", "1"),
];

/// A message of Bo's.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    pub(super) id: String,
    pub(super) space: String,
    /// What it said first, and after each change.
    pub(super) texts: Vec<String>,
    pub(super) is_deleted: bool,
}

impl Posted {
    /// The event that tells how it stands now. Of what was there before, the history does not tell.
    pub(super) fn last_event(&self) -> MessageEvent {
        let text = self.texts.last().expect("its first text").clone();
        let (kind, text) = match (self.is_deleted, self.texts.len()) {
            (true, _) => ("message.deleted", String::new()),
            (false, 1) => ("message.created", text),
            (false, _) => ("message.updated", text),
        };
        MessageEvent { kind: kind.to_owned(), message: self.id.clone(), text }
    }

    /// Whether this is true of it, or was once.
    pub(super) fn has_been(&self, event: &MessageEvent) -> bool {
        match event.kind.as_str() {
            "message.created" => event.text == self.texts[0],
            "message.updated" => self.texts[1..].contains(&event.text),
            "message.deleted" => self.is_deleted,
            _ => false,
        }
    }
}

pub(super) struct Scene {
    pub(super) upstream: Arc<FakeUpstream>,
    pub(super) accounts: Vec<Account>,
    pub(super) bo: User,
    /// All that Bo has written, in order.
    pub(super) posted: Vec<Posted>,
}

impl Scene {
    pub(super) async fn start(seed: u64) -> (Self, Service) {
        let options = Options {
            ping_interval: std::time::Duration::from_millis(400),
            ping_timeout: std::time::Duration::from_millis(1_200),
            limits: Limits { connections: Some(3), ..Limits::none() },
            record: 200_000,
            record_frames: false,
            history: 100_000,
            seed,
            ..Options::default()
        };
        let upstream = Arc::new(FakeUpstream::start(options).await.expect("a fake upstream"));
        upstream.with_world(|world| world.set_oauth_life(TOKEN_LIFE));
        let service = Service::start(&upstream, SETTINGS).await;
        let bo = upstream.user("Bo");
        let users = [1, 2, 3].map(|number| upstream.user(&format!("User {number}")));
        let everybody: Vec<_> = std::iter::once(&bo).chain(&users).collect();
        let common = upstream.space("Common", &everybody);
        let mut accounts = Vec::new();
        for (user, tokens) in users.into_iter().zip(ACCOUNTS) {
            let own = upstream.space(&format!("Bo and {}", user.displayname), &[&bo, &user]);
            let direct = upstream.direct_space(&bo, &user);
            accounts.push(Account::new(&upstream, &service, user, tokens, vec![own, common.clone(), direct]).await);
        }
        let mut scene = Self { upstream, accounts, bo, posted: Vec::new() };
        scene.settle_in(&service).await;
        (scene, service)
    }

    /// Waits until every account listens to its spaces. A space is followed from when it is first seen on.
    async fn settle_in(&mut self, service: &Service) {
        for account in &self.accounts {
            self.upstream.wait_until(DEADLINE, |seen| account.listens(seen)).await.expect("the session listens");
        }
        for account in 0..self.accounts.len() {
            for space in 0..self.accounts[account].spaces.len() {
                self.bo_posts_to(account, space);
            }
        }
        eventually("the first deliveries", async || {
            let missing = self.accounts.iter().find(|account| {
                let received = events::received(&account.receiver);
                !self.posted_for(account).all(|posted| received.contains(&posted.last_event()))
            });
            missing.is_none().then_some(())
        })
        .await;
        for account in &self.accounts {
            assert_eq!(account.get(service, "/me").await.status, 200);
        }
    }

    /// Lets Bo write something, anywhere.
    pub(super) fn bo_posts(&mut self, chance: &mut Chance) {
        let account = chance.below(self.accounts.len());
        let space = chance.below(self.accounts[account].spaces.len());
        self.bo_posts_to(account, space);
    }

    fn bo_posts_to(&mut self, account: usize, space: usize) {
        let space = self.accounts[account].spaces[space].as_ref().to_owned();
        let text = format!("Bo's message {}", self.posted.len());
        let message = self.upstream.post_as(&self.bo, &space, &text).expect("Bo is a member");
        let id = message["_id"].as_str().expect("an id").to_owned();
        self.posted.push(Posted { id, space, texts: vec![text], is_deleted: false });
    }

    /// Lets Bo change or delete one of the messages that he wrote last, if it is still there.
    pub(super) fn bo_changes(&mut self, chance: &mut Chance) {
        let place = self.posted.len() - 1 - chance.below(CHANGED.min(self.posted.len()));
        let posted = &mut self.posted[place];
        if posted.is_deleted {
            return;
        }
        if chance.once_in(3) {
            self.upstream.delete(&posted.id).expect("it is there");
            posted.is_deleted = true;
        } else {
            let text = format!("{}, changed", posted.texts.last().expect("its first text"));
            self.upstream.edit(&posted.id, &text).expect("it is there");
            posted.texts.push(text);
        }
    }

    /// All that Bo wrote where the account is a member, in order.
    pub(super) fn posted_for<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = &'a Posted> {
        self.posted.iter().filter(|posted| account.spaces.iter().any(|space| space.as_ref() == posted.space))
    }

    /// How often each text stands in Spaces, with the id of its first message.
    pub(super) fn texts_upstream(&self) -> HashMap<String, Vec<String>> {
        let mut texts = HashMap::<String, Vec<String>>::new();
        self.upstream.with_world(|world| {
            let spaces: BTreeSet<_> =
                self.accounts.iter().flat_map(|account| &account.spaces).map(|space| space.as_ref().to_owned()).collect();
            for message in spaces.iter().flat_map(|space| world.messages_in(space)) {
                texts.entry(message.text().to_owned()).or_default().push(message.id.clone());
            }
        });
        texts
    }
}
