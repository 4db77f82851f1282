//! Whose messages the service sends and hears: a user with the token that it brings along, or with tokens that the service renews.

use std::collections::HashSet;
use std::time::Duration;

use fake_upstream::{ConnectionSeen, FakeUpstream, Seen, Space, TokenKind, User};
use reqwest::Method;
use serde_json::{Value, json};
use spaces_bridge::domain::Timestamp;

use crate::support::bridge::{ADMIN_KEY, Answer, send};
use crate::support::process::Service;
use crate::support::receiver::{Receiver, Reply};
use crate::support::suite_log::note_secret;

/// How long a token lives that the service gets, so that it is renewed again and again.
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(4);

const CLIENT_SECRET: &str = "client-secret-of-the-storm";
const PASSWORD: &str = "password-of-the-storm";

/// Where an account's tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tokens {
    /// Its callers bring one along, always the same.
    Passed,
    /// The service gets them for a refresh token, which each use ends.
    Refreshed,
    /// The service logs in with a password.
    LoggedIn,
}

/// A user whose messages the service sends and hears.
pub(super) struct Account {
    pub(super) user: User,
    pub(super) tokens: Tokens,
    /// What its callers put into `Authorization`: the token, or a bridge key.
    pub(super) authorization: String,
    /// The spaces that it shares with Bo: one of its own, one of all, and the direct one.
    pub(super) spaces: Vec<Space>,
    pub(super) receiver: Receiver,
    /// What nobody is to read anywhere, beside the tokens.
    pub(super) secrets: Vec<String>,
}

impl Account {
    pub(super) async fn new(upstream: &FakeUpstream, service: &Service, user: User, tokens: Tokens, spaces: Vec<Space>) -> Self {
        let mut secrets = Vec::new();
        let authorization = match tokens {
            Tokens::Passed => {
                let token = upstream.token_for(&user, TokenKind::Jwt);
                secrets.push(token.as_ref().to_owned());
                format!("jwt {}", token.as_ref())
            }
            Tokens::Refreshed | Tokens::LoggedIn => {
                let body = json!({"credential": credential(upstream, &user, tokens)});
                let created = operate(service, Method::POST, "/accounts", Some(&body)).await;
                assert_eq!(created.status, 201, "{}", created.text);
                let body = json!({"name": "a system", "scopes": ["send", "read", "webhooks"]});
                let made = operate(service, Method::POST, &format!("/accounts/acc_{}/keys", user.id), Some(&body)).await;
                assert_eq!(made.status, 201, "{}", made.text);
                let key = made.json()["key"].as_str().expect("a key").to_owned();
                secrets.push(key.clone());
                format!("Bearer {key}")
            }
        };
        let receiver = Receiver::start(Reply::status(204)).await;
        let mut account = Self { user, tokens, authorization, spaces, receiver, secrets };
        // Whatever happens to the receiver, the retries come soon and outlast it.
        let webhook = json!({"url": account.receiver.url(), "retry": {"steps": vec![1; 19]}});
        let request = service.request(Method::POST, "/webhooks", &account.authorization);
        let answer = send(request.json(&webhook)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        account.secrets.push(answer.json()["secret"].as_str().expect("a secret").to_owned());
        account.secrets.iter().for_each(|secret| note_secret(secret));
        account
    }

    pub(super) fn is_managed(&self) -> bool {
        self.tokens != Tokens::Passed
    }

    pub(super) async fn get(&self, service: &Service, path: &str) -> Answer {
        send(service.request(Method::GET, path, &self.authorization)).await
    }

    /// Its connections that were let in, open and closed, in the order of their opening.
    pub(super) fn connections<'a>(&'a self, seen: &'a Seen) -> impl DoubleEndedIterator<Item = &'a ConnectionSeen> {
        seen.connections().filter(|connection| connection.user.as_ref() == Some(&self.user.id))
    }

    /// The token with which it was let in last.
    pub(super) fn token(&self, seen: &Seen) -> String {
        let last = self.connections(seen).next_back().expect("it was connected when the storm began");
        last.token.to_string()
    }

    /// Whether its one session is subscribed to the group spaces. What is said in direct ones is heard without.
    pub(super) fn listens(&self, seen: &Seen) -> bool {
        let open: Vec<_> = self.connections(seen).filter(|connection| connection.closed_at.is_none()).collect();
        let [only] = open[..] else { return false };
        self.spaces[..2].iter().all(|space| only.subscriptions.contains(space.as_ref()))
    }

    /// When it had its last token, if its refresh token is taken no more.
    pub(super) async fn is_locked_out_since(&self, service: &Service) -> Option<Timestamp> {
        let shown = operate(service, Method::GET, &format!("/accounts/acc_{}", self.user.id), None).await.json();
        if shown["state"] != "credential_refused" {
            return None;
        }
        assert_eq!(self.tokens, Tokens::Refreshed, "what is not used up is good for ever: {shown}");
        let renewed_at = shown["lastRenewedAt"].as_str().and_then(Timestamp::parse);
        Some(renewed_at.unwrap_or_else(|| panic!("it had a token: {shown}")))
    }

    /// Does what its operator does then: gives it another refresh token. `false` if that does not work out now.
    pub(super) async fn is_mended(&self, upstream: &FakeUpstream, service: &Service) -> bool {
        let credential = credential(upstream, &self.user, self.tokens);
        let path = format!("/accounts/acc_{}/credential", self.user.id);
        operate(service, Method::PUT, &path, Some(&credential)).await.status == 200
    }
}

fn credential(upstream: &FakeUpstream, user: &User, tokens: Tokens) -> Value {
    note_secret(CLIENT_SECRET);
    note_secret(PASSWORD);
    let application = json!({"clientId": "c", "clientSecret": CLIENT_SECRET});
    let own = upstream.with_world(|world| match tokens {
        Tokens::Passed => panic!("its token is no credential of the service"),
        Tokens::Refreshed => json!({"kind": "oauth_refresh", "refreshToken": world.refresh_token_for(user)}),
        Tokens::LoggedIn => {
            world.set_password(user, PASSWORD);
            json!({"kind": "oauth_password", "username": user.username, "password": PASSWORD, "scope": "email profile spaces"})
        }
    });
    let members = [application, own].into_iter().filter_map(|object| object.as_object().cloned()).flatten();
    Value::Object(members.collect())
}

async fn operate(service: &Service, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let request = service.client.request(method, format!("{}{path}", service.internal));
    let request = request.header("authorization", format!("Bearer {ADMIN_KEY}"));
    send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

/// All that nobody is to read in what the service wrote.
pub(super) fn secrets_of(accounts: &[Account], upstream: &FakeUpstream) -> HashSet<String> {
    let mut secrets: HashSet<_> = [ADMIN_KEY, CLIENT_SECRET, PASSWORD].map(str::to_owned).into();
    secrets.extend(accounts.iter().flat_map(|account| account.secrets.iter().cloned()));
    upstream.seen(|seen| secrets.extend(seen.connections().map(|connection| connection.token.to_string())));
    for account in accounts {
        secrets.extend(upstream.with_world(|world| world.unused_refresh_tokens(&account.user)));
    }
    secrets
}
