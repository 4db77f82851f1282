//! Calls with an `Idempotency-Key` over the real service: done once, answered as often as they are made.

use std::collections::BTreeSet;

use fake_upstream::FakeUpstream;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bridge::{ADMIN_KEY, Answer, Bridge, Scene, send};
use crate::support::process::Service;
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

/// A call with a key, and a body if it is not `null`.
async fn keyed(bridge: &Bridge, path: &str, token: impl AsRef<str>, key: &str, body: &Value) -> Answer {
    let request = bridge.request(Method::POST, path, token).header("idempotency-key", key);
    send(if body.is_null() { request } else { request.json(body) }).await
}

fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap_or_else(|| panic!("no id in {}", answer.text)).to_owned()
}

async fn webhooks(bridge: &Bridge, token: impl AsRef<str>) -> usize {
    bridge.get("/webhooks", token).await.json()["data"].as_array().expect("a list").len()
}

/// Takes back that the calls were answered: what the store looks like if the process is killed between the work and the answer.
pub(crate) fn forget_answers(bridge_data: &std::path::Path) -> usize {
    let database = rusqlite::Connection::open(bridge_data.join("store.db")).expect("the database opens");
    let mut records = database.prepare("SELECT id, body FROM docs WHERE kind = 'idempotency'").expect("a query");
    let found: Vec<(String, Vec<u8>)> =
        records.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows").collect::<Result<_, _>>().expect("rows");
    for (id, body) in &found {
        let mut record: Value = serde_json::from_slice(body).expect("a record");
        assert!(record["answer"].is_string(), "the answer was kept");
        record["answer"] = Value::Null;
        let body = serde_json::to_vec(&record).expect("JSON");
        let changed = database.execute("UPDATE docs SET body = ?1 WHERE kind = 'idempotency' AND id = ?2", (body, id));
        assert_eq!(changed, Ok(1));
    }
    found.len()
}

#[tokio::test]
async fn a_webhook_is_registered_once_however_often_the_call_is_made() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let body = json!({"url": receiver.url()});
    let first = keyed(&bridge, "/webhooks", &scene.token, KEY, &body).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""), "{}", first.text);
    let again = keyed(&bridge, "/webhooks", &scene.token, &format!("\"{KEY}\""), &body).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"), "{}", again.text);
    assert_eq!(again.text, first.text, "the secret included");
    for name in ["location", "content-type", "cache-control"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));

    let other = json!({"url": receiver.url(), "description": "another"});
    keyed(&bridge, "/webhooks", &scene.token, KEY, &other).await.assert_problem(422, "idempotency_key_reused");
    let path = format!("/webhooks/{}/test", id_of(&first));
    keyed(&bridge, &path, &scene.token, KEY, &Value::Null).await.assert_problem(422, "idempotency_key_reused");
    let bos = keyed(&bridge, "/webhooks", scene.bos_token(), KEY, &body).await;
    assert_eq!((bos.status.as_u16(), bos.header("idempotency-replayed")), (201, ""), "{}", bos.text);
    assert_ne!(id_of(&bos), id_of(&first));

    let bridge = bridge.restart().await;
    let later = keyed(&bridge, "/webhooks", &scene.token, KEY, &body).await;
    assert_eq!((later.header("idempotency-replayed"), &later.text), ("true", &first.text));
    assert_eq!(webhooks(&bridge, &scene.token).await, 1);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_calls_at_the_same_time_one_is_done() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let body = json!({"url": receiver.url()});
    let calls = (0..20).map(|_| keyed(&bridge, "/webhooks", &scene.token, KEY, &body));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(answers.iter().map(id_of).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count(), 1);
    assert_eq!(webhooks(&bridge, &scene.token).await, 1);
    for (result, count) in [("first", 1), ("replayed", 19)] {
        let line = format!("spaces_bridge_idempotent_calls_total{{result=\"{result}\"}} {count}");
        assert!(bridge.shows(&line).await, "{line}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn what_a_webhook_is_asked_to_do_is_done_once() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let (webhook, _) = bridge.register(&scene.token, &receiver).await;
    let path = |what: &str| format!("/webhooks/{webhook}/{what}");
    let since = json!({"since": "2020-01-01T00:00:00Z"});

    let test = keyed(&bridge, &path("test"), &scene.token, "test", &Value::Null).await;
    assert_eq!(test.status, 202, "{}", test.text);
    eventually("the test at the receiver", async || (receiver.count() == 1).then_some(())).await;
    let rotated = keyed(&bridge, &path("rotate-secret"), &scene.token, "rotate", &Value::Null).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let enabled = keyed(&bridge, &path("enable"), &scene.token, "enable", &Value::Null).await;
    assert_eq!(enabled.status, 200, "{}", enabled.text);
    let recovered = keyed(&bridge, &path("recover"), &scene.token, "recover", &since).await;
    assert_eq!(recovered.json()["count"], 0, "{}", recovered.text);
    let delivery = bridge.deliveries(&scene.token, &webhook).await[0]["id"].as_str().expect("an id").to_owned();
    let retry = format!("/deliveries/{delivery}/retry");
    let retried = keyed(&bridge, &retry, &scene.token, "retry", &Value::Null).await;
    assert_eq!(retried.status, 202, "{}", retried.text);
    eventually("the second attempt", async || (receiver.count() == 2).then_some(())).await;
    let mut replay = since.clone();
    replay["dryRun"] = true.into();
    let replayed = keyed(&bridge, &path("replay"), &scene.token, "replay", &replay).await;
    assert_eq!(replayed.status, 200, "{}", replayed.text);

    for (path, key, body, first) in [
        (path("test"), "test", &Value::Null, test),
        (path("rotate-secret"), "rotate", &Value::Null, rotated),
        (path("enable"), "enable", &Value::Null, enabled),
        (path("recover"), "recover", &since, recovered),
        (retry, "retry", &Value::Null, retried),
        (path("replay"), "replay", &replay, replayed),
    ] {
        let again = keyed(&bridge, &path, &scene.token, key, body).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text), "{path}");
        assert_eq!(again.header("idempotency-replayed"), "true", "{path}");
    }
    assert_eq!(bridge.deliveries(&scene.token, &webhook).await.len(), 1, "one test");
    let last = keyed(&bridge, &path("test"), &scene.token, "last-test", &Value::Null).await;
    let last = last.json()["eventId"].as_str().expect("an id").to_owned();
    let came = async || receiver.recorded().iter().any(|request| request.header("webhook-id") == last).then_some(());
    eventually("the last test", came).await;
    assert_eq!(receiver.count(), 3, "the first test was tried twice");
    let secret = bridge.get(&path("secret"), &scene.token).await.json();
    assert_eq!(secret["previous"].as_array().map(Vec::len), Some(1), "rotated once: {secret}");
    let further = keyed(&bridge, &path("rotate-secret"), &scene.token, "rotate again", &Value::Null).await;
    further.assert_problem(400, "idempotency_key_invalid");
    let further = keyed(&bridge, &path("rotate-secret"), &scene.token, "rotate-again", &Value::Null).await;
    assert_ne!(further.json()["secret"], secret["secret"], "another key is another call");
    bridge.stop().await;
}

#[tokio::test]
async fn what_the_operator_asks_for_is_done_once() {
    let scene = Scene::new().await;
    let token = scene.upstream.token_for(&scene.ana, fake_upstream::TokenKind::Jwt);
    let bridge = Bridge::start(&scene.upstream).await;
    let asked = async |bridge: &Bridge, path: &str, key: &str, body: &Value| {
        let request = bridge.plain(Method::POST, &format!("{}{path}", bridge.api));
        let request = request.header("authorization", format!("Bearer {ADMIN_KEY}")).header("idempotency-key", key);
        send(if body.is_null() { request } else { request.json(body) }).await
    };
    let body = json!({"name": "Ana", "credential": {"kind": "token", "token": token.as_ref(), "tokenKind": "jwt"}});
    let created = asked(&bridge, "/accounts", "create", &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let renew = format!("/accounts/{}/renew", id_of(&created));
    let session = created.json()["sessionId"].as_str().expect("an id").to_owned();
    let restart = format!("/sessions/{session}/restart");
    let renewed = asked(&bridge, &renew, "renew", &Value::Null).await;
    let restarted = asked(&bridge, &restart, "restart", &Value::Null).await;
    assert_eq!(restarted.status, 202, "{}", restarted.text);
    for (path, key, body, first) in
        [("/accounts".to_owned(), "create", &body, &created), (restart.clone(), "restart", &Value::Null, &restarted)]
    {
        let again = asked(&bridge, &path, key, body).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text), "{path}");
        assert_eq!(again.header("idempotency-replayed"), "true", "{path}");
    }
    asked(&bridge, &renew, "restart", &Value::Null).await.assert_problem(422, "idempotency_key_reused");
    let again = asked(&bridge, &renew, "renew", &Value::Null).await;
    assert_eq!((again.status, &again.text), (renewed.status, &renewed.text));

    let bridge = bridge.restart_after(|data| assert!(forget_answers(data) >= 2)).await;
    let again = asked(&bridge, "/accounts", "create", &body).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, ""), "it runs again: {}", again.text);
    assert_eq!(id_of(&again), id_of(&created));
    asked(&bridge, "/accounts", "another", &body).await.assert_problem(409, "account_exists");
    bridge.stop().await;
}

#[tokio::test]
async fn a_process_that_ends_before_its_answer_leaves_nothing_to_be_made_twice() {
    for signing in ["hmac", "ed25519"] {
        nothing_is_made_twice(signing).await;
    }
}

async fn nothing_is_made_twice(signing: &str) {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let body = json!({"url": receiver.url(), "signing": signing});
    let created = keyed(&bridge, "/webhooks", &scene.token, "create", &body).await;
    let webhook = id_of(&created);
    let (test, rotate) = (format!("/webhooks/{webhook}/test"), format!("/webhooks/{webhook}/rotate-secret"));
    let tested = keyed(&bridge, &test, &scene.token, "test", &Value::Null).await;
    eventually("the test at the receiver", async || (receiver.count() == 1).then_some(())).await;
    let rotated = keyed(&bridge, &rotate, &scene.token, "rotate", &Value::Null).await;
    let bridge = bridge.restart_after(|data| assert_eq!(forget_answers(data), 3)).await;

    let again = keyed(&bridge, "/webhooks", &scene.token, "create", &body).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, ""), "it runs again: {}", again.text);
    assert_eq!(id_of(&again), webhook);
    assert_eq!(webhooks(&bridge, &scene.token).await, 1);
    let again = keyed(&bridge, &test, &scene.token, "test", &Value::Null).await;
    assert_eq!(again.json(), tested.json());
    assert_eq!(bridge.deliveries(&scene.token, &webhook).await.len(), 1);
    let again = keyed(&bridge, &rotate, &scene.token, "rotate", &Value::Null).await;
    assert_eq!(again.json(), rotated.json());
    let repeated = keyed(&bridge, &rotate, &scene.token, "rotate", &Value::Null).await;
    assert_eq!(repeated.header("idempotency-replayed"), "true");
    bridge.stop().await;
}

#[tokio::test]
async fn a_key_outlives_a_kill_in_the_middle_of_its_call() {
    let upstream = FakeUpstream::start(fake_upstream::Options::default()).await.expect("a fake upstream");
    let token = upstream.token_for(&upstream.user("Ana"), fake_upstream::TokenKind::Jwt);
    let receiver = Receiver::start(Reply::Hang).await;
    let service = Service::start(&upstream, &[]).await;
    let body = json!({"url": receiver.url(), "handshake": true});
    let call = |service: &Service, body: &Value| {
        let request = service.request(Method::POST, "/webhooks", &format!("jwt {}", token.as_ref()));
        request.header("idempotency-key", KEY).json(body)
    };
    let cut_off = tokio::spawn(call(&service, &body).send());
    eventually("the question to the receiver", async || (receiver.count() == 1).then_some(())).await;
    let service = service.kill().await.start().await;
    assert!(cut_off.await.expect("no panic").is_err(), "nobody was answered");

    receiver.reply(Reply::Answer(200, vec![("WebHook-Allowed-Origin", "*".to_owned())], Vec::new()));
    send(call(&service, &json!({"url": receiver.url()}))).await.assert_problem(422, "idempotency_key_reused");
    let created = send(call(&service, &body)).await;
    assert_eq!((created.status.as_u16(), created.header("idempotency-replayed")), (201, ""), "{}", created.text);
    let again = send(call(&service, &body)).await;
    assert_eq!((again.header("idempotency-replayed"), &again.text), ("true", &created.text));
    let listed = service.get("/webhooks", &token).await.json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test]
async fn a_refusal_is_not_remembered() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let webhook = bridge.register_with(&scene.token, &receiver, json!({"enabled": false})).await;
    let path = format!("/webhooks/{webhook}/test");
    for _ in 0..2 {
        let refused = keyed(&bridge, &path, &scene.token, KEY, &Value::Null).await;
        refused.assert_problem(409, "webhook_not_enabled");
        assert_eq!(refused.header("idempotency-replayed"), "");
    }
    bridge.patch(&format!("/webhooks/{webhook}"), &scene.token, &json!({"enabled": true})).await;
    let done = keyed(&bridge, &path, &scene.token, KEY, &Value::Null).await;
    assert_eq!((done.status.as_u16(), done.header("idempotency-replayed")), (202, ""), "{}", done.text);
    let wrong = keyed(&bridge, "/webhooks", &scene.token, "wrong", &json!({"url": "nowhere"})).await;
    wrong.assert_problem(422, "invalid_body");
    let right = keyed(&bridge, "/webhooks", &scene.token, "wrong", &json!({"url": receiver.url()})).await;
    assert_eq!(right.status, 201, "what is wrong uses up no key: {}", right.text);
    bridge.stop().await;
}

#[tokio::test]
async fn what_is_no_key_is_refused_before_anything_is_done() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let long = "k".repeat(256);
    for path in [
        "/webhooks",
        "/webhooks/wh_1/test",
        "/webhooks/wh_1/rotate-secret",
        "/webhooks/wh_1/enable",
        "/webhooks/wh_1/recover",
        "/webhooks/wh_1/replay",
        "/deliveries/dlv_1/retry",
    ] {
        for key in ["", "a b", "\"a", "\"\"", &long] {
            let answer = keyed(&bridge, path, &scene.token, key, &json!({})).await;
            answer.assert_problem(400, "idempotency_key_invalid");
        }
        let twice = bridge.request(Method::POST, path, &scene.token).header("idempotency-key", "a");
        send(twice.header("idempotency-key", "a")).await.assert_problem(400, "idempotency_key_invalid");
    }
    assert_eq!(scene.upstream.seen(fake_upstream::Seen::opened), 0);
    bridge.stop().await;
}
