//! Templates of hooks: any JSON becomes a message, and no template harms the service.

use serde_json::{Value, json};

use super::Hooks;
use crate::support::bridge::send;

#[tokio::test]
async fn any_json_becomes_a_message_by_a_template() {
    let mut hooks = Hooks::new().await;
    let source = "**{{ payload.host|e }}**: {% for disk in payload.disks if disk.free < 10 %}`{{ disk.name }}` {% endfor %}";
    let hook = hooks.make(json!({"template": {"source": source}})).await;
    let payload = json!({"host": "db_1", "disks": [{"name": "/", "free": 3}, {"name": "/var", "free": 50}]});
    let taken = hooks.post(&hook, &payload).await;
    assert_eq!((taken.status.as_u16(), &taken.json()["format"]), (202, &json!("template")));
    let shown = hooks.shown(&hook).await;
    assert_eq!((&shown["format"], &shown["template"]), (&json!("template"), &json!({"source": source, "output": "markdown"})));
    hooks.texts(1).await;

    hooks.bridge = hooks.bridge.restart().await;
    let url = format!("{}/hooks/{}", hooks.bridge.api, hook.secret());
    let change = json!({"template": {"source": "{{ event }}: <{{ payload }}>", "output": "text"}});
    assert_eq!(hooks.bridge.patch(&hook.path(), &hooks.scene.token, &change).await.status, 200);
    let request = hooks.bridge.plain(reqwest::Method::POST, &url).header("x-github-event", "star");
    assert_eq!(send(request.body("plain words")).await.status, 202);
    assert_eq!(hooks.texts(2).await, ["<p><strong>db_1</strong>: <code>/</code></p>", "star: &lt;plain words&gt;"]);
    let without = hooks.bridge.patch(&hook.path(), &hooks.scene.token, &json!({"template": null})).await.json();
    assert_eq!((&without["format"], &without["template"]), (&json!("auto"), &Value::Null));
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_template_that_fails_posts_a_word_of_it_and_its_owner_is_told() {
    let hooks = Hooks::new().await;
    let doubling = format!("{{% set x = 'x' * 1000 %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60));
    let looping = format!("{}{}", "{% for a in range(10000) %}".repeat(4), "{% endfor %}".repeat(4));
    let costly = "Something came and the template takes more time or memory than templates may.";
    let cases = [
        ("{{ payload.a / 0 }}", "Something came and the template fails: "),
        (&doubling, costly),
        (&looping, costly),
        ("{{ 'x' * 70000 }}", "Something came and the template makes more than 65536 bytes."),
        ("{{ payload.nothing }}", "Something came and the template makes nothing of it."),
    ];
    for (number, (source, words)) in cases.into_iter().enumerate() {
        let hook = hooks.make(json!({"template": {"source": source}})).await;
        let taken = hooks.post(&hook, &json!({"a": number})).await;
        assert_eq!((taken.status.as_u16(), &taken.json()["understood"]), (202, &json!(false)));
        let text = hooks.texts(number + 1).await[number].clone();
        assert!(text.starts_with(&format!("<i>{words}")), "{text}");
        assert!(text.ends_with(&format!("<code>{{&quot;a&quot;:{number}}}</code>")), "{text}");
        assert_eq!(hooks.shown(&hook).await["lastFailure"]["reason"], "template_failed");
    }
    assert_eq!(hooks.event("hook.failed").await["data"]["reason"], "template_failed");
    assert!(hooks.bridge.shows("spaces_bridge_incoming_hook_calls_total{outcome=\"template_failed\"} 5").await);
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_template_is_tried_before_it_is_used() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({})).await;
    let path = format!("{}/preview", hook.path());
    let preview = async |body: Value| hooks.bridge.post(&path, &hooks.scene.token, &body).await;
    let template = json!({"source": "_{{ payload.n * 2 }}_"});
    let shown = preview(json!({"payload": {"n": 21}, "template": template})).await.json();
    assert_eq!((&shown["html"], &shown["text"], &shown["error"]), (&json!("<p><em>42</em></p>"), &json!("42"), &Value::Null));
    let shown = preview(json!({"payload": {"n": "x"}, "template": {"source": "{{ payload.n / 2 }}"}})).await.json();
    assert!(shown["error"].as_str().is_some_and(|error| error.starts_with("the template fails")), "{shown}");
    let wrong = json!({"source": "one\n{{ payload.", "output": "text"});
    for answer in [
        preview(json!({"payload": 1, "template": wrong})).await,
        hooks.create(&hooks.scene.space, json!({"template": wrong})).await,
        hooks.bridge.patch(&hook.path(), &hooks.scene.token, &json!({"template": wrong})).await,
    ] {
        answer.assert_problem(422, "invalid_body");
        let error = answer.json()["errors"][0].clone();
        assert_eq!(error["pointer"], "/template/source");
        assert!(error["detail"].as_str().is_some_and(|detail| detail.ends_with("(line 2)")), "{error}");
    }
    for settings in [json!({"format": "template"}), json!({"format": "slack", "template": template})] {
        let answer = hooks.create(&hooks.scene.space, settings).await;
        answer.assert_problem(422, "incoming_hook_template_mismatch");
    }
    assert_eq!(hooks.shown(&hook).await["format"], "auto");
    hooks.bridge.stop().await;
}
