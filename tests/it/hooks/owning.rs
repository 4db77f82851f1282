//! Making, changing and removing incoming hooks, and their addresses.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use spaces_bridge::domain::{Clock as _, SystemClock};

use super::{Hooks, Made};
use crate::support::bridge::{ADMIN_KEY, Answer, send};
use crate::support::wait::eventually;

#[tokio::test]
async fn an_address_is_shown_once_and_known_by_nothing_else() {
    let mut hooks = Hooks::new().await;
    let answer = hooks.create(&hooks.scene.space, json!({"name": "CI", "format": "slack"})).await;
    let (hook, shown) = (Made::of(&answer), answer.json());
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (201, "no-store"));
    assert_eq!((answer.header("location"), hook.secret().len()), (hook.path().as_str(), 43));
    for (field, expected) in [
        ("name", json!("CI")),
        ("spaceId", json!(hooks.scene.space.as_ref())),
        ("direct", Value::Null),
        ("format", json!("slack")),
        ("check", Value::Null),
        ("rateLimit", json!({"count": 60, "perSeconds": 60})),
        ("expiresAt", Value::Null),
        ("enabled", json!(true)),
        ("previousEndAt", json!([])),
        ("lastCallAt", Value::Null),
        ("lastFailure", Value::Null),
    ] {
        assert_eq!(shown[field], expected, "{field}: {}", answer.text);
    }
    assert_eq!(hooks.post(&hook, &json!({"text": "hello"})).await.text, "ok");
    assert!(hooks.shown(&hook).await["lastCallAt"].is_string());
    hooks.bridge = hooks.bridge.restart().await;
    let list = hooks.bridge.get("/incoming-hooks", &hooks.scene.token).await;
    assert_eq!(list.json()["data"][0]["id"], hook.id.as_str());
    for answer in [list, hooks.bridge.get(&hook.path(), &hooks.scene.token).await] {
        assert!(!answer.text.contains(hook.secret()) && answer.text.contains("CI"), "{}", answer.text);
    }
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn what_ended_is_off_or_never_was_looks_the_same() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({"format": "text", "rateLimit": {"count": 10_000, "perSeconds": 1}})).await;
    let change = async |body: Value| hooks.bridge.patch(&hook.path(), &hooks.scene.token, &body).await;
    let call = async |url: &str| send(hooks.bridge.plain(Method::POST, url).body("words")).await;
    let unknown = async |url: &str| -> (Value, Value) {
        let answer = call(url).await;
        answer.assert_problem(404, "incoming_hook_not_found");
        assert!(!answer.text.contains(hook.secret()));
        (answer.json()["title"].clone(), answer.json()["detail"].clone())
    };
    let never = unknown(&format!("{}/hooks/never-there", hooks.bridge.api)).await;
    assert_eq!(unknown(&format!("{}/hooks/{}", hooks.bridge.api, hook.id)).await, never);
    assert_eq!(change(json!({"enabled": false})).await.json()["enabled"], false);
    assert_eq!(unknown(&hook.url).await, never);
    let soon = SystemClock.now().saturating_add(Duration::from_secs(2));
    let answer = change(json!({"enabled": true, "expiresAt": soon})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // Without words nothing is posted meanwhile.
    eventually("the end", async || (send(hooks.call(&hook)).await.status == 404).then_some(())).await;
    assert_eq!(unknown(&hook.url).await, never);
    assert_eq!(change(json!({"expiresAt": null})).await.status, 200);
    assert_eq!(call(&hook.url).await.status, 202);
    assert_eq!(hooks.bridge.delete(&hook.path(), &hooks.scene.token).await.status, 204);
    assert_eq!(unknown(&hook.url).await, never);
    hooks.bridge.get(&hook.path(), &hooks.scene.token).await.assert_problem(404, "incoming_hook_not_found");
    send(hooks.bridge.plain(Method::GET, &hook.url)).await.assert_problem(405, "method_not_allowed");
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_new_address_takes_over_while_the_old_one_goes_on() {
    let hooks = Hooks::new().await;
    let first = hooks.make(json!({"format": "text"})).await;
    let path = format!("{}/rotate-secret", first.path());
    let rotated = async |body: &Value, key: &str| -> Answer {
        send(hooks.bridge.request(Method::POST, &path, &hooks.scene.token).header("idempotency-key", key).json(body)).await
    };
    let answer = rotated(&json!({"overlapSeconds": 3600}), "a").await;
    let second = Made::of(&answer);
    assert_eq!(answer.json()["previousEndAt"].as_array().map(Vec::len), Some(1), "{}", answer.text);
    assert_eq!(Made::of(&rotated(&json!({"overlapSeconds": 3600}), "a").await).url, second.url, "the same call, the same answer");
    for (hook, words) in [(&first, "by the old one"), (&second, "by the new one")] {
        assert_eq!(send(hooks.call(hook).body(words)).await.status, 202);
    }
    let third = Made::of(&rotated(&json!({"overlapSeconds": 0}), "b").await);
    for gone in [&first, &second] {
        send(hooks.call(gone).body("too late")).await.assert_problem(404, "incoming_hook_not_found");
    }
    assert_eq!(send(hooks.call(&third).body("by the newest")).await.status, 202);
    assert_eq!(hooks.texts(3).await, ["by the old one", "by the new one", "by the newest"]);
    rotated(&json!({"overlapSeconds": 604_801}), "c").await.assert_problem(422, "invalid_body");
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn the_same_call_makes_one_hook() {
    let hooks = Hooks::new().await;
    let body = json!({"spaceId": hooks.scene.space.as_ref()});
    let create = async || {
        let request = hooks.bridge.request(Method::POST, "/incoming-hooks", &hooks.scene.token);
        Made::of(&send(request.header("idempotency-key", "once").json(&body)).await)
    };
    let (once, twice) = (create().await, create().await);
    assert_eq!((once.id, once.url), (twice.id, twice.url));
    let list = hooks.bridge.get("/incoming-hooks", &hooks.scene.token).await.json();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1));
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_hook_can_post_to_a_person() {
    let hooks = Hooks::new().await;
    let person = json!({"type": "user", "id": hooks.scene.bo.id});
    let body = json!({"direct": person, "format": "text"});
    let answer = hooks.bridge.post("/incoming-hooks", &hooks.scene.token, &body).await;
    let hook = Made::of(&answer);
    assert_eq!(answer.json()["direct"], person);
    assert_eq!(send(hooks.call(&hook).body("psst")).await.status, 202);
    let space = answer.json()["spaceId"].as_str().expect("a space").to_owned();
    eventually("the message", async || {
        hooks.scene.upstream.with_world(|world| world.messages_in(&space).iter().any(|one| one.text() == "psst")).then_some(())
    })
    .await;
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn wrong_settings_are_refused_by_name() {
    let hooks = Hooks::new().await;
    let space = hooks.scene.space.as_ref();
    for (body, pointer) in [
        (json!({}), ""),
        (json!({"spaceId": space, "direct": {"type": "user", "id": "u1"}}), "/direct"),
        (json!({"direct": {"type": "user", "id": "../x"}}), "/direct/id"),
        (json!({"spaceId": "a b"}), "/spaceId"),
        (json!({"spaceId": space, "name": ""}), "/name"),
        (json!({"spaceId": space, "name": "x".repeat(101)}), "/name"),
        (json!({"spaceId": space, "format": "teams"}), "/format"),
        (json!({"spaceId": space, "check": {"type": "github", "secret": "short"}}), "/check/secret"),
        (json!({"spaceId": space, "rateLimit": {"count": 0, "perSeconds": 1}}), "/rateLimit/count"),
        (json!({"spaceId": space, "expiresAt": "2001-01-01T00:00:00Z"}), "/expiresAt"),
        (json!({"spaceId": space, "colour": "red"}), "/colour"),
    ] {
        let answer = hooks.bridge.post("/incoming-hooks", &hooks.scene.token, &body).await;
        answer.assert_problem(422, "invalid_body");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_key_needs_both_scopes_and_stays_in_its_spaces() {
    let hooks = Hooks::new().await;
    let lounge = hooks.scene.upstream.space("Lounge", &[&hooks.scene.ana]);
    let (here, there) = (hooks.make(json!({})).await, Made::of(&hooks.create(&lounge, json!({})).await));
    let account = hooks.bridge.get("/me", &hooks.scene.token).await.json()["account"].as_str().expect("an account").to_owned();
    let key = async |scopes: &[&str]| -> String {
        let url = format!("{}/accounts/{account}/keys", hooks.bridge.api);
        let request = hooks.bridge.plain(Method::POST, &url).header("authorization", format!("Bearer {ADMIN_KEY}"));
        let body = json!({"name": "a system", "scopes": scopes, "spaces": [hooks.scene.space.as_ref()]});
        send(request.json(&body)).await.json()["key"].as_str().expect("a key").to_owned()
    };
    let call = async |key: &str, method: Method, path: &str, body: &Value| -> Answer {
        let request = hooks.bridge.plain(method, &format!("{}{path}", hooks.bridge.api));
        send(request.header("authorization", format!("Bearer {key}")).json(body)).await
    };
    for scopes in [&["send"][..], &["webhooks"], &["read"]] {
        let key = key(scopes).await;
        call(&key, Method::GET, "/incoming-hooks", &Value::Null).await.assert_problem(403, "scope_missing");
    }
    let key = key(&["send", "webhooks"]).await;
    let list = call(&key, Method::GET, "/incoming-hooks", &Value::Null).await.json();
    assert_eq!((&list["data"][0]["id"], list["data"].as_array().map(Vec::len)), (&json!(here.id), Some(1)));
    for (method, path) in [(Method::GET, there.path()), (Method::DELETE, there.path())] {
        call(&key, method, &path, &Value::Null).await.assert_problem(404, "incoming_hook_not_found");
    }
    let elsewhere = json!({"spaceId": lounge.as_ref()});
    call(&key, Method::POST, "/incoming-hooks", &elsewhere).await.assert_problem(403, "space_not_in_key");
    let made = Made::of(&call(&key, Method::POST, "/incoming-hooks", &json!({"spaceId": hooks.scene.space.as_ref()})).await);
    assert_eq!(hooks.post(&made, &json!({"text": "made by a key"})).await.text, "ok");
    assert_eq!(hooks.texts(1).await, ["made by a key"]);
    // Another user sees none of them.
    let bos = hooks.bridge.get("/incoming-hooks", hooks.scene.bos_token()).await.json();
    assert_eq!(bos["data"], json!([]));
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_preview_shows_what_would_be_posted_and_posts_nothing() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({"format": "github"})).await;
    let path = format!("{}/preview", hook.path());
    let preview = async |body: Value| hooks.bridge.post(&path, &hooks.scene.token, &body).await;
    let ping = preview(json!({"payload": {"zen": "Keep it <simple>"}, "headers": {"X-GitHub-Event": "ping"}})).await.json();
    assert_eq!(
        ping,
        json!({"format": "github", "understood": true, "error": null, "text": "[GitHub] is connected: Keep it <simple>",
            "html": "[GitHub] is connected: <i>Keep it &lt;simple&gt;</i>"})
    );
    let strange = preview(json!({"payload": {"a": 1}})).await.json();
    assert_eq!((&strange["understood"], &strange["error"]), (&json!(false), &json!("the body makes no sense as `github`")));
    let form = json!({"payload": "payload=%7B%22text%22%3A%22*a*%22%7D", "contentType": "application/x-www-form-urlencoded", "format": "slack"});
    assert_eq!(preview(form).await.json()["html"], "<b>a</b>");
    preview(json!({"payload": ""})).await.assert_problem(400, "payload_unreadable");
    preview(json!({})).await.assert_problem(422, "invalid_body");
    preview(json!({"payload": 1, "headers": {"a b": "c"}})).await.assert_problem(422, "invalid_body");
    assert_eq!(hooks.scene.texts(), Vec::<String>::new());
    assert!(hooks.shown(&hook).await["lastCallAt"].is_null());
    hooks.bridge.stop().await;
}
