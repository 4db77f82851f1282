//! Managed accounts over the real service: where their tokens come from, when they are renewed, and what survives.

mod changes;
mod crashes;
mod kinds;
mod rekeying;
mod renewals;
mod sharing;

use std::time::Duration;

use fake_upstream::{FakeUpstream, Limits, Options, Seen, Space, User};
use reqwest::Method;
use serde_json::{Value, json};
use spaces_bridge::config::Config;
use tempfile::TempDir;

use crate::support::bridge::{ADMIN_KEY, Answer, Bridge, send};
use crate::support::suite_log::note_secret;
use crate::support::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);
const CLIENT_SECRET: &str = "client-secret-of-these-tests";
const PASSWORD: &str = "password-of-ana-in-these-tests";

/// Ana, whose account is managed, Bo, who posts, and a space that they share.
struct Scene {
    upstream: FakeUpstream,
    ana: User,
    bo: User,
    space: Space,
    directory: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let options = Options { limits: Limits::none(), ..Options::default() };
        let upstream = FakeUpstream::start(options).await.expect("a fake upstream");
        let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
        let space = upstream.space("Ops", &[&ana, &bo]);
        upstream.with_world(|world| world.set_password(&ana, PASSWORD));
        note_secret(PASSWORD);
        note_secret(CLIENT_SECRET);
        Self { upstream, ana, bo, space, directory: tempfile::tempdir().expect("a directory") }
    }

    /// A service that allows every kind of credential.
    async fn bridge(&self) -> Bridge {
        Bridge::start_with(&self.upstream, |config| self.allow_all(config)).await
    }

    fn allow_all(&self, config: &mut Config) {
        config.accounts.allow_commands = true;
        config.accounts.token_directories = vec![self.directory.path().to_owned()];
        config.accounts.file_check_seconds = 1;
        config.session.idle_timeout_seconds = 1;
        config.session.refusal_seconds = 1;
    }

    /// A credential with a fresh refresh token of Ana's.
    fn refresh_credential(&self) -> Value {
        let refresh_token = self.upstream.with_world(|world| world.refresh_token_for(&self.ana));
        note_secret(&refresh_token);
        json!({"kind": "oauth_refresh", "clientId": "c", "clientSecret": CLIENT_SECRET, "refreshToken": refresh_token})
    }

    fn password_credential() -> Value {
        json!({"kind": "oauth_password", "clientId": "c", "clientSecret": CLIENT_SECRET, "username": "ana@corp.example",
            "password": PASSWORD, "scope": "email profile spaces"})
    }

    fn ana_account(&self) -> String {
        format!("acc_{}", self.ana.id)
    }

    /// How often tokens were asked for.
    fn grants(&self) -> usize {
        self.upstream.seen(|seen| seen.rest_count("POST", "/oauth2/access_token"))
    }

    /// The token with which Ana is connected now, once it is another one than `before` and alone.
    async fn goes_over(&self, before: &str) -> String {
        let look = |seen: &Seen| {
            let open: Vec<_> = seen.connections().filter(|connection| is_joined_as(connection, &self.ana)).collect();
            match open.as_slice() {
                [only] if *only.token != *before => Some(only.token.to_string()),
                _ => None,
            }
        };
        let token = self.upstream.wait_for(DEADLINE, look).await.expect("a connection with another token");
        note_secret(&token);
        token
    }

    /// The token with which Ana is connected.
    async fn connected(&self) -> String {
        self.goes_over("").await
    }
}

impl Drop for Scene {
    /// What came from the servers is as secret as what the tests gave.
    fn drop(&mut self) {
        self.upstream.seen(|seen| seen.connections().for_each(|connection| note_secret(&connection.token)));
        let refresh_tokens = self.upstream.with_world(|world| world.unused_refresh_tokens(&self.ana));
        for token in &refresh_tokens {
            note_secret(token);
        }
    }
}

fn is_joined_as(connection: &fake_upstream::ConnectionSeen, user: &User) -> bool {
    connection.closed_at.is_none() && connection.joined_at.is_some() && connection.user.as_ref() == Some(&user.id)
}

async fn operator(bridge: &Bridge, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let request = bridge.plain(method, &format!("{}{path}", bridge.internal));
    let request = request.header("authorization", format!("Bearer {ADMIN_KEY}"));
    send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

/// Makes an account and answers it.
async fn create(bridge: &Bridge, credential: &Value) -> Value {
    let answer = operator(bridge, Method::POST, "/accounts", Some(&json!({"name": "lift", "credential": credential}))).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.header("location"), format!("/accounts/{}", answer.json()["id"].as_str().expect("an id")));
    answer.json()
}

async fn account(bridge: &Bridge, id: &str) -> Value {
    let answer = operator(bridge, Method::GET, &format!("/accounts/{id}"), None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Waits until the account is in this state.
async fn account_is(bridge: &Bridge, id: &str, state: &str) -> Value {
    eventually(&format!("the account to be {state}"), async || {
        let account = account(bridge, id).await;
        (account["state"] == state).then_some(account)
    })
    .await
}

/// Waits until the account's session is online.
async fn account_is_online(bridge: &Bridge, id: &str) -> Value {
    eventually("the account's session to be online", async || {
        let account = account(bridge, id).await;
        (account["state"] == "active" && account["sessionState"] == "online").then_some(account)
    })
    .await
}

async fn renew(bridge: &Bridge, id: &str) -> Answer {
    operator(bridge, Method::POST, &format!("/accounts/{id}/renew"), None).await
}

async fn replace(bridge: &Bridge, id: &str, credential: &Value) -> Answer {
    operator(bridge, Method::PUT, &format!("/accounts/{id}/credential"), Some(credential)).await
}
