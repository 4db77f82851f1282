//! What calls become, and what their senders are answered.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Hooks, Made};
use crate::support::bridge::{Answer, send};
use crate::support::wait::eventually;

fn assert_taken(answer: &Answer, format: &str) -> Value {
    assert_eq!(answer.status, 202, "{}", answer.text);
    let body = answer.json();
    // It may have left already.
    assert!(["queued", "sent"].iter().any(|status| body["status"] == *status), "{body}");
    assert_eq!((&body["format"], &body["understood"]), (&json!(format), &json!(true)));
    body
}

fn assert_ok(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "ok"));
    assert!(answer.header("content-type").starts_with("text/plain"), "{:?}", answer.headers);
}

#[tokio::test]
async fn whatever_can_post_posts_without_a_header() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({})).await;
    assert_taken(&send(hooks.call(&hook).body("disk of db-1 is full")).await, "text");
    let form: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", r#"{"text": "*bold* <https://e.example/|link>"}"#)
        .finish();
    let request = hooks.call(&hook).header("content-type", "application/x-www-form-urlencoded");
    assert_ok(&send(request.body(form)).await);
    assert_ok(&hooks.post(&hook, &json!({"attachments": [{"title": "Deploy", "text": "done"}]})).await);
    assert_taken(&hooks.post(&hook, &json!({"message": "just some JSON"})).await, "text");
    let asking = hooks.call(&hook).header("accept", "application/json").json(&json!({"text": "with an answer"}));
    let taken = assert_taken(&send(asking).await, "slack");
    assert_eq!(
        hooks.texts(5).await,
        [
            "disk of db-1 is full",
            "<b>bold</b> <a href=\"https://e.example/\">link</a>",
            "<b>Deploy</b><br>done",
            "just some JSON",
            "with an answer",
        ]
    );
    let path = format!("/messages/{}", taken["ref"].as_str().expect("a reference"));
    eventually("the confirmation", async || {
        (hooks.bridge.get(&path, &hooks.scene.token).await.json()["status"] == "confirmed").then_some(())
    })
    .await;
    assert!(hooks.bridge.shows("spaces_bridge_incoming_hook_calls_total{outcome=\"taken\"} 5").await);
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_product_is_known_by_what_it_posts() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({"format": "auto"})).await;
    let payload = |name: &str| -> Value {
        let path = format!("{}/src/incoming/presets/payloads/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).expect("an example")).expect("JSON")
    };
    for (name, header, format) in [
        ("alertmanager", None, "alertmanager"),
        ("grafana", None, "grafana"),
        ("github_push", Some(("x-github-event", "push")), "github"),
        ("gitlab_pipeline", Some(("x-gitlab-event", "Pipeline Hook")), "gitlab"),
        ("jenkins", None, "jenkins"),
        ("sentry_issue", Some(("sentry-hook-resource", "issue")), "sentry"),
        ("uptime_kuma_down", None, "uptime_kuma"),
    ] {
        let request = hooks.call(&hook).json(&payload(name));
        let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        assert_taken(&send(request).await, format);
    }
    let texts = hooks.texts(7).await;
    for (text, words) in texts.iter().zip(["HighErrorRate", "Disk full", "ana", "#31", "rocket", "ROCKET-1A", "DOWN"]) {
        assert!(text.contains(words), "{words}: {text}");
    }
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_quoted_and_its_owner_is_told() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({"format": "alertmanager", "name": "alerts"})).await;
    let answer = hooks.post(&hook, &json!({"hello": "<world>"})).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["understood"]), (202, &json!(false)));
    let broken = hooks.call(&hook).header("content-type", "application/json").body("{\"alerts\": [");
    assert_eq!(send(broken).await.json()["understood"], false);
    let texts = hooks.texts(2).await;
    assert!(
        texts[0].ends_with("as `alertmanager`:</i><br><code>{&quot;hello&quot;:&quot;&lt;world&gt;&quot;}</code>"),
        "{texts:?}"
    );
    assert!(texts[1].ends_with("<code>{&quot;alerts&quot;: [</code>"), "{texts:?}");

    let told = hooks.event("hook.failed").await;
    let data = &told["data"];
    assert_eq!((&data["hookId"], &data["reason"]), (&json!(hook.id), &json!("not_understood")));
    assert_eq!(data["ref"], answer.json()["ref"]);
    let failure = hooks.shown(&hook).await["lastFailure"].clone();
    assert_eq!(failure["reason"], "not_readable", "{failure}");
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn what_is_no_text_is_refused_and_its_owner_is_told() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({})).await;
    for body in [&b"\xff\xfe"[..], b"", b" \n"] {
        send(hooks.call(&hook).body(body)).await.assert_problem(400, "payload_unreadable");
    }
    send(hooks.call(&hook).body("x".repeat((1 << 20) + 1))).await.assert_problem(413, "body_too_large");
    assert_eq!(hooks.event("hook.failed").await["data"]["reason"], "payload_unreadable");
    assert_eq!(hooks.shown(&hook).await["lastFailure"]["reason"], "body_too_large");
    assert_eq!(hooks.scene.texts(), Vec::<String>::new());
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_call_that_is_made_again_posts_once() {
    let hooks = Hooks::new().await;
    let (hook, other) = (hooks.make(json!({"format": "text"})).await, hooks.make(json!({"format": "text"})).await);
    let call = async |hook: &Made, (name, value): (&str, &str), words: &str| {
        let answer = send(hooks.call(hook).header(name, value).body(words.to_owned())).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["ref"].as_str().expect("a reference").to_owned()
    };
    for name in ["Idempotency-Key", "webhook-id", "X-GitHub-Delivery", "X-Gitlab-Event-UUID"] {
        let (first, again) = (call(&hook, (name, "7"), name).await, call(&hook, (name, "7"), name).await);
        assert_eq!(first, again, "{name}");
    }
    assert_ne!(call(&hook, ("webhook-id", "8"), "another").await, call(&other, ("webhook-id", "8"), "another hook").await);
    let texts = ["Idempotency-Key", "webhook-id", "X-GitHub-Delivery", "X-Gitlab-Event-UUID", "another", "another hook"];
    assert_eq!(hooks.texts(6).await, texts);
    assert!(hooks.bridge.shows("spaces_bridge_incoming_hook_calls_total{outcome=\"repeated\"} 4").await);
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn what_was_taken_outlives_the_service_and_a_lost_connection() {
    let mut hooks = Hooks::new().await;
    let hook = hooks.make(json!({"format": "text"})).await;
    assert_eq!(send(hooks.call(&hook).body("before")).await.status, 202);
    hooks.texts(1).await;
    hooks.scene.upstream.stop().await;
    assert_eq!(send(hooks.call(&hook).body("while it is away")).await.status, 202);
    let stopped = hooks.bridge.stop_for_now().await;
    hooks.scene.upstream.restart().await.expect("the port is free");
    hooks.bridge = stopped.start().await;
    assert_eq!(hooks.texts(2).await, ["before", "while it is away"]);
    // The address has the port of before.
    let again = Made { id: hook.id.clone(), url: format!("{}/hooks/{}", hooks.bridge.api, hook.secret()) };
    assert_eq!(send(hooks.call(&again).body("after")).await.status, 202);
    assert_eq!(hooks.texts(3).await[2], "after");
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_spaces_takes_no_more_of_is_cut_and_says_so() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({"format": "text"})).await;
    let long = (0..40_000).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ");
    assert_eq!(send(hooks.call(&hook).body(long.clone())).await.status, 202);
    let texts = hooks.texts(1).await;
    assert!(texts[0].starts_with("word0 word1 "), "{}", &texts[0][..100]);
    let note = format!("<i>… cut here; the whole has {} characters</i>", long.len());
    assert!(texts[0].ends_with(&note), "{}", &texts[0][texts[0].len() - 100..]);
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_refusal_of_spaces_is_told_and_a_call_made_again_then_posts() {
    let hooks = Hooks::new().await;
    let closed = hooks.scene.upstream.space("Closed", &[&hooks.scene.bo]);
    let hook = Made::of(&hooks.create(&closed, json!({"format": "text"})).await);
    let call = async || send(hooks.call(&hook).header("webhook-id", "1").body("words")).await;
    let first = call().await.json()["ref"].clone();
    let failed = hooks.event("send.failed").await;
    assert_eq!((&failed["data"]["ref"], &failed["data"]["spaceId"]), (&first, &json!(closed.as_ref())));
    let second = call().await;
    assert_eq!(second.status, 202, "{}", second.text);
    assert_ne!(second.json()["ref"], first, "the message that failed is not sent again, another is");
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_hook_is_called_as_often_as_its_rate_allows() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({"format": "text", "rateLimit": {"count": 2, "perSeconds": 3600}})).await;
    for words in ["one", "two"] {
        assert_eq!(send(hooks.call(&hook).body(words)).await.status, 202);
    }
    let refused = send(hooks.call(&hook).body("three")).await;
    refused.assert_problem(429, "incoming_hook_rate_limited");
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!(Duration::from_secs(wait) > Duration::from_mins(29), "{wait}");
    assert_eq!(hooks.event("hook.failed").await["data"]["reason"], "incoming_hook_rate_limited");
    assert_eq!(hooks.texts(2).await, ["one", "two"]);
    let change = json!({"rateLimit": {"count": 5, "perSeconds": 60}});
    assert_eq!(hooks.bridge.patch(&hook.path(), &hooks.scene.token, &change).await.status, 200);
    assert_eq!(send(hooks.call(&hook).body("three")).await.status, 202);
    hooks.bridge.stop().await;
}
