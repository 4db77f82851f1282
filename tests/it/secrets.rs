//! Tokens, keys and signing secrets appear nowhere but where they have to.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fake_upstream::{FakeUpstream, Fault, Options, Refusal, TokenKind, Who};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::support::bridge::{ADMIN_KEY, send};
use crate::support::process::Service;
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// Collects what was seen from outside, and tells whether a secret is in it.
#[derive(Default)]
struct Evidence(Vec<(String, Vec<u8>)>);

impl Evidence {
    fn add(&mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((what.into(), bytes.into()));
    }

    fn add_files(&mut self, directory: &Path) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.add_files(&path);
            } else {
                self.add(path.display().to_string(), std::fs::read(&path).expect("a file"));
            }
        }
    }

    fn assert_without(&self, what: &str, secret: &[u8]) {
        for (place, bytes) in &self.0 {
            let found = bytes.windows(secret.len()).position(|window| window == secret);
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(120)..at];
                panic!("{what} is in {place}, after {:?}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// Adds headers that only the receiver should see, and answers what the API says to that.
async fn add_hidden_headers(service: &Service, token: &str, webhook: &str) -> String {
    let hidden = json!({
        "headers": {"x-tenant": "hidden-header-value"},
        "authorization": {"basic": {"username": "bridge", "password": "hidden-basic-password"}},
    });
    let request = service.request(Method::PATCH, &format!("/webhooks/{webhook}"), &format!("jwt {token}"));
    let changed = send(request.json(&hidden)).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    changed.text
}

/// Makes a bridge key for the account of `token`, and uses it.
async fn bridge_key(service: &Service, token: &str) -> String {
    let account = service.get("/me", token).await.json()["account"].as_str().expect("an account").to_owned();
    let operators = service.request(Method::POST, &format!("/accounts/{account}/keys"), &format!("Bearer {ADMIN_KEY}"));
    let made = send(operators.json(&json!({"name": "a system", "scopes": ["read"]}))).await.json();
    let key = made["key"].as_str().expect("a key").to_owned();
    assert_eq!(send(service.request(Method::GET, "/events", &format!("Bearer {key}"))).await.status, 200);
    key
}

/// The secret of an incoming hook of Ana's, that was called well and badly.
async fn hook_secret(service: &Service, token: &str, space: &str, evidence: &mut Evidence) -> String {
    let creation = service.request(Method::POST, "/incoming-hooks", &format!("jwt {token}"));
    let made =
        send(creation.json(&json!({"spaceId": space, "check": {"type": "gitlab", "secret": "hidden-hook-check"}}))).await.json();
    let url = made["url"].as_str().expect("an address").to_owned();
    let id = made["id"].as_str().expect("an id");
    let call = |url: &str| service.client.post(url).header("x-gitlab-token", "hidden-hook-check");
    assert_eq!(send(call(&url).body("hello")).await.status, 202);
    for (what, request) in [
        ("an unreadable body", call(&url).body(vec![0xff])),
        ("another address", call(&format!("{url}x")).body("hello")),
        ("a path below", call(&format!("{url}/x")).body("hello")),
        ("another token", service.client.post(&url).header("x-gitlab-token", "hidden-hook-check-2").body("hello")),
        ("another method", service.client.get(&url)),
    ] {
        let answer = send(request).await;
        assert!(answer.status.is_client_error(), "{}", answer.text);
        evidence.add(format!("the answer to an incoming hook with {what}"), format!("{} {:?}", answer.text, answer.headers));
    }
    for path in ["/incoming-hooks".to_owned(), format!("/incoming-hooks/{id}"), "/events?limit=200".to_owned()] {
        evidence.add(format!("the answer to GET {path}"), service.get(&path, token).await.text);
    }
    url.rsplit('/').next().expect("a last segment").to_owned()
}

/// A new secret of `webhook`, by a call whose answer is kept for who makes it again.
async fn rotated_secret(service: &Service, token: &str, webhook: &str) -> String {
    let rotation = service.request(Method::POST, &format!("/webhooks/{webhook}/rotate-secret"), &format!("jwt {token}"));
    let rotated = send(rotation.header("idempotency-key", "rotate")).await.json();
    rotated["secret"].as_str().expect("a secret").to_owned()
}

/// Posts bodies that are refused.
async fn refused_bodies(service: &Service, token: &str, space: &str, evidence: &mut Evidence) {
    for (body, what) in [
        (json!({"text": "x", "secret": "y"}).to_string(), "an unknown field"),
        ("{".to_owned(), "malformed JSON"),
        (json!({"url": "https://ana:hidden-password@example.com/"}).to_string(), "a URL with a password"),
    ] {
        for path in [format!("/spaces/{space}/messages"), "/webhooks".to_owned()] {
            let request =
                service.request(Method::POST, &path, &format!("jwt {token}")).header("content-type", "application/json");
            let answer = send(request.body(body.clone())).await;
            assert!(answer.status.is_client_error(), "{}", answer.text);
            evidence.add(format!("the answer to POST {path} with {what}"), answer.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_logs_metrics_answers_or_files() {
    let upstream = FakeUpstream::start(Options::default()).await.expect("a fake upstream");
    let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
    let token = upstream.token_for(&ana, TokenKind::Jwt).as_ref().to_owned();
    let oauth = upstream.token_for(&bo, TokenKind::Oauth).as_ref().to_owned();
    let expired = upstream.token_for(&bo, TokenKind::Jwt).as_ref().to_owned();
    upstream.expire(&expired);
    let space = upstream.space("Ops", &[&ana, &bo]);
    let receiver = Receiver::start(Reply::status(204)).await;
    let mut service = Service::start(&upstream, &[("SPACES_BRIDGE_LOG__FILTER", "trace")]).await;
    let mut evidence = Evidence::default();

    // A day in the life: sending, a webhook with a retry, refusals of every kind, a lost connection.
    let (webhook, secret) = service.register(&token, &receiver).await;
    evidence.add("the answer to the headers", add_hidden_headers(&service, &token, &webhook).await);
    let listening = upstream.wait_until(Duration::from_secs(30), |seen| seen.is_subscribed(&token, space.as_ref()));
    listening.await.expect("the session listens");
    assert_eq!(service.say(&token, &space, "hello").await.status, 201);
    receiver.script([Reply::status(500)]);
    upstream.post_as(&bo, &space, "hello").expect("Bo is a member");
    eventually("deliveries", async || (receiver.count() >= 2).then_some(())).await;
    upstream.fault(&Who::token(&token), &Fault::Cut);
    let again = upstream.wait_until(Duration::from_secs(30), |seen| seen.opened_with(&token) == 2);
    again.await.expect("the session comes back");

    let (key, rotated) = (bridge_key(&service, &token).await, rotated_secret(&service, &token, &webhook).await);

    let hook = hook_secret(&service, &token, space.as_ref(), &mut evidence).await;
    let (odd, unknown) = ("an-odd-token-ö-that-nobody-should-see", "made.up.token-that-nobody-should-see");
    let authorizations = [
        ("own", format!("jwt {token}")),
        ("oauth", format!("Bearer {oauth}")),
        ("expired", format!("jwt {expired}")),
        ("unknown", format!("jwt {unknown}")),
        ("no scheme", token.clone()),
        ("wrong scheme", format!("Basic {token}")),
        ("two words", format!("Bearer {token} {token}")),
        ("odd", format!("Bearer {odd}")),
        ("operator", format!("Bearer {ADMIN_KEY}")),
        ("almost the operator", format!("Bearer {ADMIN_KEY}x")),
        ("bridge key", format!("Bearer {key}")),
        ("almost a bridge key", format!("Bearer {key}x")),
        ("bridge key as jwt", format!("jwt {key}")),
        ("operator as jwt", format!("jwt {ADMIN_KEY}")),
    ];
    let paths = ["/me", "/spaces", "/sessions", "/webhooks", "/subscriptions", "/nothing"].map(str::to_owned);
    let paths = paths.into_iter().chain([format!("/webhooks/{webhook}"), format!("/webhooks/{webhook}/deliveries")]);
    for path in paths {
        for (name, authorization) in &authorizations {
            let answer = send(service.request(Method::GET, &path, authorization)).await;
            let headers = format!("{:?}", answer.headers);
            evidence.add(format!("the answer to GET {path} ({name})"), answer.text + &headers);
        }
    }
    refused_bodies(&service, &token, space.as_ref(), &mut evidence).await;
    // A token in the query is not looked at, and not written down either.
    let query = send(service.client.get(format!("{}/me?token={token}&access_token={oauth}", service.api))).await;
    evidence.add("the answer to a token in the query", query.text);
    // Upstreams that repeat what they were given.
    upstream.script(|script| {
        script.refuse.next(1, Refusal::Text(format!("no entry with {unknown}-2")));
    });
    let refused = service.get("/me", format!("{unknown}-2")).await;
    evidence.add("the answer to a refusal that repeats the token", refused.text);
    let metrics = send(service.client.get(format!("{}/metrics", service.internal))).await;
    assert!(metrics.text.contains("spaces_bridge_"), "{}", metrics.text);
    evidence.add("the metrics", metrics.text);

    evidence.add_files(service.data());
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit().await.code(), Some(0));
    evidence.add_files(service.data());
    let printed = service.process.printed();
    assert!(printed.contains("TRACE") && printed.len() > 10_000, "the log says too little to prove anything");
    evidence.add("what the process printed", printed);

    for (what, secret) in [
        ("the token", token.as_str()),
        ("the OAuth token", &oauth),
        ("the expired token", &expired),
        ("the unknown token", unknown),
        ("the odd token", odd),
        ("the signing secret", &secret),
        ("the next signing secret", &rotated),
        ("the bridge key", &key),
        ("the secret of an incoming hook", &hook),
        ("the check of an incoming hook", "hidden-hook-check"),
        ("the admin key", ADMIN_KEY),
        ("the password in a URL", "hidden-password"),
        ("a header's value", "hidden-header-value"),
        ("the password towards the receiver", "hidden-basic-password"),
        ("the same as it is sent", "YnJpZGdlOmhpZGRlbi1iYXNpYy1wYXNzd29yZA=="),
    ] {
        evidence.assert_without(what, secret.as_bytes());
    }
    // The payload and the signature of a JWT are as bad as the whole.
    for part in token.split('.').skip(1) {
        evidence.assert_without("a part of the token", part.as_bytes());
    }
    evidence
        .assert_without("the signing key", &STANDARD.decode(secret.strip_prefix("whsec_").expect("a prefix")).expect("base64"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_serving_process_leaves_no_core_file() {
    let upstream = FakeUpstream::start(Options::default()).await.expect("a fake upstream");
    let service = Service::start(&upstream, &[]).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.process.id())).expect("the limits of a process");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[tokio::test]
async fn the_store_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = FakeUpstream::start(Options::default()).await.expect("a fake upstream");
    let service = Service::start(&upstream, &[]).await;
    for entry in std::fs::read_dir(service.data()).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its mode").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
    }
}
