//! Who takes part: Spaces, three accounts with a webhook each, and Bo, who writes to all of them.

use std::sync::Arc;

use fake_upstream::{FakeUpstream, Limits, Options, Seen, Space, Token, TokenKind, User};
use serde_json::json;

use super::chance::Chance;
use super::verdict::DEADLINE;
use crate::support::process::Service;
use crate::support::receiver::{Receiver, Reply};
use crate::support::suite_log;
use crate::support::wait::eventually;

/// How many accounts there are.
const ACCOUNTS: usize = 3;

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
    ("SPACES_BRIDGE_SESSION__RECOVERY_OVERLAP_SECONDS", "1"),
    ("SPACES_BRIDGE_OUTBOX__CONFIRM_SECONDS", "1"),
    ("SPACES_BRIDGE_OUTBOX__SETTLE_SECONDS", "1"),
    ("SPACES_BRIDGE_OUTBOX__SILENCE_SECONDS", "3"),
    ("SPACES_BRIDGE_SHUTDOWN__GRACE_SECONDS", "1"),
];

/// A user whose token the service holds.
pub(super) struct Account {
    pub(super) token: Token,
    /// The spaces that it shares with Bo: one of its own, one of all, and the direct one.
    pub(super) spaces: Vec<Space>,
    pub(super) receiver: Receiver,
}

impl Account {
    /// Whether its session is subscribed to the group spaces. What is said in direct ones is heard without.
    pub(super) fn listens(&self, seen: &Seen) -> bool {
        self.spaces[..2].iter().all(|space| seen.is_subscribed(&self.token, space.as_ref()))
    }
}

/// A message of Bo's.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    pub(super) id: String,
    pub(super) space: String,
}

pub(super) struct Scene {
    pub(super) upstream: Arc<FakeUpstream>,
    pub(super) accounts: Vec<Account>,
    pub(super) bo: User,
    /// All that Bo has written, in order.
    pub(super) posted: Vec<Posted>,
    /// Signing secrets of the webhooks.
    pub(super) secrets: Vec<String>,
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
        let service = Service::start(&upstream, SETTINGS).await;
        let bo = upstream.user("Bo");
        let users: Vec<_> = (1..=ACCOUNTS).map(|number| upstream.user(&format!("User {number}"))).collect();
        let everybody: Vec<_> = std::iter::once(&bo).chain(&users).collect();
        let common = upstream.space("Common", &everybody);
        let (mut accounts, mut secrets) = (Vec::new(), Vec::new());
        for user in users {
            let token = upstream.token_for(&user, TokenKind::Jwt);
            suite_log::note_secret(token.as_ref());
            let own = upstream.space(&format!("Bo and {}", user.displayname), &[&bo, &user]);
            let direct = upstream.direct_space(&bo, &user);
            let receiver = Receiver::start(Reply::status(204)).await;
            // Whatever happens to the receiver, the retries come soon and outlast it.
            let webhook = json!({"url": receiver.url(), "retry": {"steps": vec![1; 19]}});
            let answer = service.post("/webhooks", &token, &webhook).await;
            assert_eq!(answer.status, 201, "{}", answer.text);
            secrets.push(answer.json()["secret"].as_str().expect("a secret").to_owned());
            accounts.push(Account { token, spaces: vec![own, common.clone(), direct], receiver });
        }
        let mut scene = Self { upstream, accounts, bo, posted: Vec::new(), secrets };
        scene.settle_in(&service).await;
        (scene, service)
    }

    /// Waits until every account listens to its spaces. A space is followed from when it is first seen on.
    async fn settle_in(&mut self, service: &Service) {
        for account in &self.accounts {
            self.upstream.wait_until(DEADLINE, |seen| account.listens(seen)).await.expect("the session listens");
        }
        for account in 0..ACCOUNTS {
            for space in 0..self.accounts[account].spaces.len() {
                self.bo_posts_to(account, space);
            }
        }
        eventually("the first deliveries", async || {
            let missing = self.accounts.iter().find(|account| {
                let received = received(&account.receiver);
                !self.ids_for(account).iter().all(|id| received.contains(*id))
            });
            missing.is_none().then_some(())
        })
        .await;
        for account in &self.accounts {
            assert_eq!(service.get("/me", &account.token).await.status, 200);
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
        self.posted.push(Posted { id: message["_id"].as_str().expect("an id").to_owned(), space });
    }

    /// The ids of all that Bo wrote where the account is a member, in order.
    pub(super) fn ids_for(&self, account: &Account) -> Vec<&str> {
        let shared = |posted: &&Posted| account.spaces.iter().any(|space| space.as_ref() == posted.space);
        self.posted.iter().filter(shared).map(|posted| posted.id.as_str()).collect()
    }

    /// How often each text stands in Spaces, with the id of its first message.
    pub(super) fn texts_upstream(&self) -> std::collections::HashMap<String, Vec<String>> {
        let mut texts = std::collections::HashMap::<String, Vec<String>>::new();
        self.upstream.with_world(|world| {
            let spaces: std::collections::BTreeSet<_> =
                self.accounts.iter().flat_map(|account| &account.spaces).map(|space| space.as_ref().to_owned()).collect();
            for message in spaces.iter().flat_map(|space| world.messages_in(space)) {
                texts.entry(message.text().to_owned()).or_default().push(message.id.clone());
            }
        });
        texts
    }
}

/// The ids of the messages that came to a receiver.
pub(super) fn received(receiver: &Receiver) -> std::collections::HashSet<String> {
    let ids = receiver.recorded().into_iter().filter_map(|request| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).ok()?;
        body["data"]["message"]["id"].as_str().map(str::to_owned)
    });
    ids.collect()
}
