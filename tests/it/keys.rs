//! Bridge keys over the real service: what they open, and what they do not.

use std::path::Path;
use std::time::Duration;

use fake_upstream::{Fault, Space, Who};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::bridge::{ADMIN_KEY, Answer, Bridge, Scene, send};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// Ana, whose session lives because of a webhook, and the operator, who makes keys for her account.
struct Office {
    scene: Scene,
    bridge: Bridge,
    receiver: Receiver,
    /// Another space of Ana and Bo.
    lounge: Space,
    account: String,
    webhook: String,
}

/// A bridge key, as its maker got it.
struct Made {
    id: String,
    key: String,
}

impl Office {
    async fn open() -> Self {
        let scene = Scene::new().await;
        let lounge = scene.upstream.space("Lounge", &[&scene.ana, &scene.bo]);
        let bridge = Bridge::start(&scene.upstream).await;
        let receiver = Receiver::start(Reply::status(204)).await;
        let (webhook, _) = bridge.register(&scene.token, &receiver).await;
        let account = text(&bridge.get("/me", &scene.token).await.json()["account"]);
        let office = Self { scene, bridge, receiver, lounge, account, webhook };
        for space in [&office.scene.space, &office.lounge] {
            let upstream = &office.scene.upstream;
            let listens =
                upstream.wait_until(Duration::from_secs(30), |seen| seen.is_subscribed(&office.scene.token, space.as_ref()));
            listens.await.expect("the session listens");
        }
        office
    }

    fn keys(&self) -> String {
        format!("/accounts/{}/keys", self.account)
    }

    async fn operator(&self, method: Method, path: &str, body: &Value) -> Answer {
        send(self.operators(method, path).json(body)).await
    }

    fn operators(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.bridge.plain(method, &format!("{}{path}", self.bridge.api));
        request.header("authorization", format!("Bearer {ADMIN_KEY}"))
    }

    async fn make(&self, settings: Value) -> Made {
        let mut body = json!({"name": "a system", "scopes": ["send", "read", "webhooks"]});
        body.as_object_mut().expect("an object").extend(settings.as_object().expect("settings").clone());
        made(&self.operator(Method::POST, &self.keys(), &body).await)
    }

    async fn of_the_space(&self) -> Made {
        self.make(json!({"spaces": [self.scene.space.as_ref()]})).await
    }

    fn with(&self, key: &Made, method: Method, path: &str) -> RequestBuilder {
        let request = self.bridge.plain(method, &format!("{}{path}", self.bridge.api));
        request.header("authorization", format!("Bearer {}", key.key))
    }

    async fn get(&self, key: &Made, path: &str) -> Answer {
        send(self.with(key, Method::GET, path)).await
    }

    async fn post(&self, key: &Made, path: &str, body: &Value) -> Answer {
        send(self.with(key, Method::POST, path).json(body)).await
    }

    async fn say(&self, key: &Made, space: &Space, words: &str) -> Answer {
        self.post(key, &format!("/spaces/{}/messages", space.as_ref()), &json!({"text": words})).await
    }

    /// Lets Bo say something and waits until it is in the log.
    async fn bo_says(&self, space: &Space, words: &str) {
        self.scene.upstream.post_as(&self.scene.bo, space, words).expect("Bo is a member");
        eventually("the message in the log", async || {
            self.bridge.get("/events?limit=200", &self.scene.token).await.text.contains(words).then_some(())
        })
        .await;
    }
}

fn made(answer: &Answer) -> Made {
    assert_eq!(answer.status, 201, "{}", answer.text);
    let body = answer.json();
    let key = text(&body["key"]);

    Made { id: text(&body["id"]), key }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn texts(answer: &Answer, of: impl Fn(&Value) -> &Value) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].as_array().expect("a list").iter().map(|entry| text(of(entry))).collect()
}

#[tokio::test]
async fn a_key_is_shown_once_works_over_restarts_and_ends_when_it_is_revoked() {
    let mut office = Office::open().await;
    let body = json!({"name": "CI server", "scopes": ["send", "read"]});
    let answer = office.operator(Method::POST, &office.keys(), &body).await;
    let (key, shown) = (made(&answer), answer.json());
    assert_eq!(answer.header("cache-control"), "no-store");
    let path = format!("{}/{}", office.keys(), key.id);
    assert_eq!(answer.header("location"), path);
    for (field, expected) in [
        ("account", json!(office.account)),
        ("name", json!("CI server")),
        ("scopes", json!(["send", "read"])),
        ("spaces", Value::Null),
        ("expiresAt", Value::Null),
        ("rateLimit", Value::Null),
        ("lastUsedAt", Value::Null),
    ] {
        assert_eq!(shown[field], expected, "{field}: {}", answer.text);
    }

    assert_eq!(office.say(&key, &office.scene.space, "by key").await.status, 201);
    assert_eq!(office.scene.texts(), ["by key"]);
    office.bridge = office.bridge.restart().await;
    eventually("the session", async || (office.bridge.session().await["state"] == "online").then_some(())).await;
    assert_eq!(office.say(&key, &office.scene.space, "after the restart").await.status, 201);
    for listed in
        [office.operator(Method::GET, &path, &Value::Null).await, office.bridge.operator(Method::GET, &office.keys()).await]
    {
        assert!(listed.text.contains(&key.id) && !listed.text.contains(&key.key), "{}", listed.text);
    }
    let used = office.bridge.operator(Method::GET, &path).await.json();
    assert!(used["lastUsedAt"].is_string() && used.get("key").is_none(), "{used}");
    let internal = office.bridge.plain(Method::GET, &format!("{}{path}", office.bridge.internal));
    let internal = send(internal.header("authorization", format!("Bearer {ADMIN_KEY}"))).await;
    assert_eq!(internal.json()["id"], key.id.as_str());

    assert_eq!(office.bridge.operator(Method::DELETE, &path).await.status, 204);
    let refused = office.say(&key, &office.scene.space, "revoked").await;
    refused.assert_problem(401, "key_invalid");
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    office.bridge.operator(Method::GET, &path).await.assert_problem(404, "key_not_found");
    office.bridge.operator(Method::DELETE, &path).await.assert_problem(404, "key_not_found");
    assert_eq!(office.bridge.operator(Method::GET, &office.keys()).await.json()["data"], json!([]));
    assert_eq!(office.scene.texts(), ["by key", "after the restart"]);
    office.bridge.stop().await;
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_nothing_else() {
    let office = Office::open().await;
    let send_path = format!("/spaces/{}/messages", office.scene.space.as_ref());
    let direct = format!("/direct/user/{}", office.scene.bo.id);
    let subscription = format!("/spaces/{}/subscription", office.scene.space.as_ref());
    let webhook = |rest: &str| format!("/webhooks/{}{rest}", office.webhook);
    let keys = [
        ("send", office.make(json!({"scopes": ["send"]})).await),
        ("read", office.make(json!({"scopes": ["read"]})).await),
        ("webhooks", office.make(json!({"scopes": ["webhooks"]})).await),
    ];
    let (message, url) = (json!({"text": "x"}), json!({"url": office.receiver.url()}));
    let sent = office.say(&keys[0].1, &office.scene.space, "seen by two scopes").await.json();
    let message_path = format!("/messages/{}", text(&sent["ref"]));
    let nothing = &Value::Null;
    for (method, path, body, scopes) in [
        (Method::POST, send_path, &message, &["send"][..]),
        (Method::POST, direct, &message, &["send"]),
        (Method::GET, message_path, nothing, &["send", "read"]),
        (Method::GET, "/me".to_owned(), nothing, &["read"]),
        (Method::GET, "/spaces".to_owned(), nothing, &["read"]),
        (Method::PUT, subscription.clone(), nothing, &["read"]),
        (Method::GET, "/subscriptions".to_owned(), nothing, &["read"]),
        (Method::DELETE, subscription, nothing, &["read"]),
        (Method::GET, "/events".to_owned(), nothing, &["read"]),
        (Method::PUT, "/consumers/c".to_owned(), &json!({}), &["read"]),
        (Method::GET, "/consumers/c".to_owned(), nothing, &["read"]),
        (Method::GET, "/consumers/c/events".to_owned(), nothing, &["read"]),
        (Method::GET, "/consumers".to_owned(), nothing, &["read"]),
        (Method::DELETE, "/consumers/c".to_owned(), nothing, &["read"]),
        (Method::POST, "/webhooks".to_owned(), &url, &["webhooks"]),
        (Method::GET, "/webhooks".to_owned(), nothing, &["webhooks"]),
        (Method::GET, webhook(""), nothing, &["webhooks"]),
        (Method::PATCH, webhook(""), &json!({"description": "by key"}), &["webhooks"]),
        (Method::GET, webhook("/secret"), nothing, &["webhooks"]),
        (Method::POST, webhook("/rotate-secret"), nothing, &["webhooks"]),
        (Method::POST, webhook("/test"), nothing, &["webhooks"]),
        (Method::POST, webhook("/enable"), nothing, &["webhooks"]),
        (Method::GET, webhook("/deliveries"), nothing, &["webhooks"]),
        (Method::GET, "/dead-letters".to_owned(), nothing, &["webhooks"]),
        (Method::GET, "/sessions".to_owned(), nothing, &[]),
        (Method::GET, format!("/accounts/{}/keys", office.account), nothing, &[]),
    ] {
        for (scope, key) in &keys {
            let request = office.with(key, method.clone(), &path);
            let answer = send(if body.is_null() { request } else { request.json(body) }).await;
            if scopes.contains(scope) {
                assert!(answer.status.is_success(), "{method} {path} with {scope}: {}", answer.text);
            } else {
                let code = if path.starts_with("/accounts") { "operator_required" } else { "scope_missing" };
                answer.assert_problem(403, code);
            }
        }
    }
    office.bridge.stop().await;
}

#[tokio::test]
async fn a_key_of_one_space_reaches_that_space_only() {
    let office = Office::open().await;
    let (key, space, lounge) = (office.of_the_space().await, &office.scene.space, &office.lounge);
    assert_eq!(office.say(&key, space, "within").await.status, 201);
    office.say(&key, lounge, "beyond").await.assert_problem(403, "space_not_in_key");
    let direct = office.post(&key, &format!("/direct/user/{}", office.scene.bo.id), &json!({"text": "beyond"})).await;
    direct.assert_problem(403, "space_not_in_key");
    let (ana, bo) = (&office.scene.token, &office.scene.bo);
    let beyond = office.bridge.say(ana, lounge, "Ana's own").await.json();
    let message = format!("/messages/{}", text(&beyond["ref"]));
    assert_eq!(office.bridge.get(&message, ana).await.status, 200);
    office.get(&key, &message).await.assert_problem(404, "message_not_found");

    assert_eq!(texts(&office.get(&key, "/spaces").await, |space| &space["id"]), [space.as_ref()]);
    let listen = |space: &Space| format!("/spaces/{}/subscription", space.as_ref());
    send(office.with(&key, Method::PUT, &listen(lounge))).await.assert_problem(403, "space_not_in_key");
    send(office.with(&key, Method::DELETE, &listen(lounge))).await.assert_problem(403, "space_not_in_key");
    for space in [space, lounge] {
        assert_eq!(office.bridge.put(&listen(space), ana).await.status, 200);
    }
    assert_eq!(texts(&office.get(&key, "/subscriptions").await, |subscription| &subscription["spaceId"]), [space.as_ref()]);

    office.scene.upstream.post_as(bo, lounge, "elsewhere").expect("Bo is a member");
    office.bo_says(space, "nearby").await;
    let said = |answer: &Answer| texts(answer, |event| &event["data"]["message"]["text"]);
    assert_eq!(said(&office.get(&key, "/events?type=message.*").await), ["within", "nearby"]);
    assert_eq!(said(&office.get(&key, "/events").await), ["within", "nearby"], "what happened in no space is not told");
    office.get(&key, &format!("/events?space={}", lounge.as_ref())).await.assert_problem(403, "space_not_in_key");
    let all = office.bridge.get("/events?limit=200", ana).await.json();
    let elsewhere = all["data"].as_array().expect("a list").iter().find(|event| event["data"]["spaceId"] == lounge.as_ref());
    let elsewhere = format!("/events/{}", text(&elsewhere.expect("an event")["data"]["eventId"]));
    assert_eq!(office.bridge.get(&elsewhere, ana).await.status, 200);
    office.get(&key, &elsewhere).await.assert_problem(404, "event_not_found");
    office.bridge.stop().await;
}

#[tokio::test]
async fn a_key_of_one_space_has_webhooks_of_that_space_only() {
    let office = Office::open().await;
    let (key, space) = (office.of_the_space().await, office.scene.space.as_ref());
    for spaces in [json!(["*"]), json!(["direct"]), json!([space, office.lounge.as_ref()])] {
        let wide = office.post(&key, "/webhooks", &json!({"url": office.receiver.url(), "spaces": spaces})).await;
        wide.assert_problem(403, "space_not_in_key");
    }
    office.post(&key, "/webhooks", &json!({"url": office.receiver.url()})).await.assert_problem(403, "space_not_in_key");
    let own = office.post(&key, "/webhooks", &json!({"url": office.receiver.url(), "spaces": [space]})).await;
    assert_eq!(own.status, 201, "{}", own.text);
    let own = text(&own.json()["id"]);
    assert_eq!(texts(&office.get(&key, "/webhooks").await, |webhook| &webhook["id"]), [own.as_str()]);
    let change = office.with(&key, Method::PATCH, &format!("/webhooks/{own}")).json(&json!({"spaces": ["*"]}));
    send(change).await.assert_problem(403, "space_not_in_key");

    let anas = format!("/webhooks/{}", office.webhook);
    for (method, path) in [
        (Method::GET, anas.clone()),
        (Method::DELETE, anas.clone()),
        (Method::GET, format!("{anas}/secret")),
        (Method::POST, format!("{anas}/test")),
        (Method::GET, format!("{anas}/deliveries")),
    ] {
        send(office.with(&key, method, &path)).await.assert_problem(404, "webhook_not_found");
    }
    assert_eq!(office.bridge.get(&anas, &office.scene.token).await.status, 200);
    assert_eq!(send(office.with(&key, Method::DELETE, &format!("/webhooks/{own}"))).await.status, 204);
    office.bridge.stop().await;
}

#[tokio::test]
async fn a_key_ends_at_its_time_and_goes_as_fast_as_it_may() {
    let office = Office::open().await;
    let slow = office.make(json!({"rateLimit": {"count": 2, "perSeconds": 3600}})).await;
    for _ in 0..2 {
        assert_eq!(office.get(&slow, "/webhooks").await.status, 200);
    }
    let refused = office.get(&slow, "/webhooks").await;
    refused.assert_problem(429, "key_rate_limited");
    assert_eq!((refused.header("x-ratelimit-limit"), refused.header("x-ratelimit-remaining")), ("2", "0"));
    let seconds = |name: &str| refused.header(name).parse::<u64>().unwrap_or_else(|_| panic!("{name}: {:?}", refused.headers));
    assert!((1..=1800).contains(&seconds("retry-after")) && (1801..=3600).contains(&seconds("x-ratelimit-reset")));
    let other = office.make(json!({})).await;
    assert_eq!(office.get(&other, "/webhooks").await.status, 200, "another key has its own rate");

    let ends = jiff::Timestamp::now() + Duration::from_secs(2);
    let short = office.make(json!({"expiresAt": ends.to_string()})).await;
    let over = eventually("the end of the key", async || {
        let answer = office.get(&short, "/webhooks").await;
        (answer.status != 200).then_some(answer)
    });
    over.await.assert_problem(401, "key_invalid");
    assert!(jiff::Timestamp::now() >= ends);
    office.bridge.stop().await;
}

#[tokio::test]
async fn revoking_a_key_ends_its_streams() {
    let office = Office::open().await;
    let key = office.make(json!({})).await;
    let request = office.with(&key, Method::GET, "/events?since=now").header("accept", "text/event-stream");
    let mut stream = request.send().await.expect("a stream");
    assert_eq!(stream.status(), 200);
    assert!(stream.chunk().await.expect("a stream").is_some(), "it greets");
    let path = format!("{}/{}", office.keys(), key.id);
    assert_eq!(office.bridge.operator(Method::DELETE, &path).await.status, 204);
    let end = tokio::time::timeout(Duration::from_secs(10), async { while let Ok(Some(_)) = stream.chunk().await {} });
    end.await.expect("the stream ends, long before the next heartbeat");
    office.bridge.stop().await;
}

#[tokio::test]
async fn a_key_of_an_account_without_a_token_says_so() {
    let office = Office::open().await;
    let key = office.make(json!({})).await;
    let upstream = &office.scene.upstream;
    upstream.expire(&office.scene.token);
    upstream.fault(&Who::token(&office.scene.token), &Fault::Cut);
    let refused = eventually("the refusal of the token", async || {
        let answer = office.say(&key, &office.scene.space, "x").await;
        (answer.json()["code"] == "account_token_refused").then_some(answer)
    });
    refused.await.assert_problem(503, "account_token_refused");
    assert_eq!(office.get(&key, "/events").await.status, 200, "what is stored needs no session");

    let session = text(&office.bridge.session().await["id"]);
    assert_eq!(office.bridge.operator(Method::DELETE, &format!("/sessions/{session}")).await.status, 204);
    office.say(&key, &office.scene.space, "x").await.assert_problem(503, "account_has_no_session");
    assert_eq!(office.get(&key, "/events").await.status, 200);
    let body = json!({"name": "late", "scopes": ["send"]});
    office.operator(Method::POST, &office.keys(), &body).await.assert_problem(404, "account_not_found");
    let listed = office.bridge.operator(Method::GET, &office.keys()).await;
    assert_eq!(texts(&listed, |key| &key["id"]), [key.id.as_str()], "keys that are there can be seen and revoked");
    office.bridge.operator(Method::GET, "/accounts/acc_nobody/keys").await.assert_problem(404, "account_not_found");
    office.bridge.stop().await;
}

#[tokio::test]
async fn making_a_key_is_for_the_operator_and_wants_a_whole_description() {
    let office = Office::open().await;
    let good = json!({"name": "x", "scopes": ["send"]});
    let by_ana = office.bridge.post(&office.keys(), &office.scene.token, &good).await;
    by_ana.assert_problem(403, "operator_required");
    for (change, pointer) in [
        (json!({"name": ""}), "/name"),
        (json!({"name": "x".repeat(101)}), "/name"),
        (json!({"name": "a\nb"}), "/name"),
        (json!({"scopes": []}), "/scopes"),
        (json!({"scopes": ["admin"]}), "/scopes/0"),
        (json!({"spaces": []}), "/spaces"),
        (json!({"spaces": ["*"]}), "/spaces/0"),
        (json!({"spaces": ["-"]}), "/spaces/0"),
        (json!({"expiresAt": "2020-01-01T00:00:00Z"}), "/expiresAt"),
        (json!({"expiresAt": "soon"}), "/expiresAt"),
        (json!({"rateLimit": {"count": 0, "perSeconds": 1}}), "/rateLimit/count"),
        (json!({"key": "sbk_mine"}), "/key"),
    ] {
        let mut body = good.clone();
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let answer = office.operator(Method::POST, &office.keys(), &body).await;
        answer.assert_problem(422, "invalid_body");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
    }
    assert_eq!(office.bridge.operator(Method::GET, &office.keys()).await.json()["data"], json!([]));
    office.bridge.stop().await;
}

#[tokio::test]
async fn a_key_asked_for_again_is_the_same_key_and_one_that_was_never_told_opens_nothing() {
    let mut office = Office::open().await;
    let body = json!({"name": "x", "scopes": ["read"]});
    let ask = async |office: &Office| {
        send(office.operators(Method::POST, &office.keys()).header("idempotency-key", "make-it").json(&body)).await
    };
    let first = ask(&office).await;
    let again = ask(&office).await;
    assert_eq!((again.header("idempotency-replayed"), &again.text), ("true", &first.text));
    office.bridge = office.bridge.restart_after(|data| assert_eq!(super::idempotency::forget_answers(data), 1)).await;
    eventually("the session", async || (office.bridge.session().await["state"] == "online").then_some(())).await;
    let anew = ask(&office).await;
    let (lost, told) = (made(&first), made(&anew));
    assert_eq!(lost.id, told.id);
    office.get(&lost, "/events").await.assert_problem(401, "key_invalid");
    assert_eq!(office.get(&told, "/events").await.status, 200);
    assert_eq!(office.bridge.operator(Method::GET, &office.keys()).await.json()["data"].as_array().map(Vec::len), Some(1));
    assert_no_file_has(office.bridge.data(), &told.key);
    office.bridge.stop().await;
}

fn assert_no_file_has(directory: &Path, secret: &str) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_no_file_has(&path, secret);
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
    }
}

#[tokio::test]
async fn a_key_limited_to_a_space_reaches_no_other_target() {
    let office = Office::open().await;
    let key = office.of_the_space().await;
    let (space, bo) = (office.scene.space.as_ref(), &office.scene.bo.id);
    let targets = json!([{"space": space}, {"space": office.lounge.as_ref()}, {"user": bo}]);
    let answer = office.post(&key, "/messages", &json!({"targets": targets, "message": {"text": "mine"}})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let results = answer.json()["results"].clone();
    assert_eq!([0, 1, 2].map(|number: usize| results[number]["status"].as_u64()), [Some(201), Some(403), Some(403)]);
    assert_eq!(results[1]["problem"]["code"], "space_not_in_key");
    let sent = office.scene.upstream.seen(|seen| seen.sends().len());
    assert_eq!(sent, 1);
    office.bridge.stop().await;
}
