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
async fn html_is_made_of_what_came_and_stays_safe() {
    let hooks = Hooks::new().await;
    let source = "{% macro cell(x) %}<li>{{ x }}</li>{% endmacro %}<b>{{ payload.title }}</b><ul onclick=\"x()\">\
        {% for x in payload.rows %}{{ cell(x) }}{% endfor %}</ul>";
    let hook = hooks.make(json!({"template": {"source": source, "output": "html"}})).await;
    hooks.post(&hook, &json!({"title": "<script>1</script>", "rows": ["a & b", 2]})).await;
    let expected = "<b>&lt;script&gt;1&lt;/script&gt;</b><ul><li>a &amp; b</li><li>2</li></ul>";
    assert_eq!(hooks.texts(1).await, [expected]);
    hooks.bridge.stop().await;
}

/// What Prometheus Alertmanager posts, made into a table of one's own.
#[tokio::test]
async fn what_a_product_posts_can_be_said_in_other_words() {
    let hooks = Hooks::new().await;
    let source = "### {{ payload.status|upper }}: {{ payload.commonLabels.alertname }}\n\
        {% for name, alerts in payload.alerts|groupby('labels.severity') %}{{ name }}: \
        {{ alerts|map(attribute='labels.instance')|sort|join(', ') }}\n{% endfor %}";
    let hook = hooks.make(json!({"template": {"source": source}})).await;
    let alert = |severity: &str, instance: &str| {
        json!({
            "status": "firing", "labels": {"alertname": "DiskFull", "severity": severity, "instance": instance},
            "annotations": {"summary": "almost full"}, "startsAt": "2026-11-20T08:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph", "fingerprint": "b1c2",
        })
    };
    let payload = json!({
        "version": "4", "groupKey": "{}:{alertname=\"DiskFull\"}", "truncatedAlerts": 0, "status": "firing", "receiver": "spaces",
        "groupLabels": {"alertname": "DiskFull"}, "commonLabels": {"alertname": "DiskFull"}, "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": [alert("page", "db-2"), alert("ticket", "web-1"), alert("page", "db-1")],
    });
    assert_eq!(hooks.post(&hook, &payload).await.json()["understood"], true);
    let text = hooks.texts(1).await.remove(0);
    assert!(text.contains("FIRING: DiskFull") && text.contains("page: db-1, db-2") && text.contains("ticket: web-1"), "{text}");
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_template_that_fails_posts_a_word_of_it_and_its_owner_is_told() {
    let hooks = Hooks::new().await;
    let strings = format!("{{% set x = 'x' * 1000 %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60));
    let looping = format!("{}{}", "{% for a in range(10000) %}".repeat(4), "{% endfor %}".repeat(4));
    let costly = "Something came and the template does more than templates may.";
    let cases = [
        ("{{ payload.a / 0 }}", "Something came and the template fails: "),
        ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(1) }}", "Something came and the template fails: "),
        (&strings, costly),
        (&looping, costly),
        ("{{ range(100000)|sum }}{{ range(100000)|list|tojson * 1000 }}", costly),
        ("{{ 'x' * 70000 }}", "Something came and the template makes more than 65536 bytes."),
        ("{{ payload.nothing }}", "Something came and the template makes nothing of it."),
    ];
    for (number, (source, words)) in cases.into_iter().enumerate() {
        let hook = hooks.make(json!({"template": {"source": source}})).await;
        let taken = hooks.post(&hook, &json!({"a": number})).await;
        assert_eq!((taken.status.as_u16(), &taken.json()["understood"]), (202, &json!(false)));
        let text = hooks.texts(number + 1).await[number].clone();
        assert!(text.starts_with(&format!("<i>{words}")), "{source}: {text}");
        assert!(text.ends_with(&format!("<code>{{&quot;a&quot;:{number}}}</code>")), "{text}");
        assert_eq!(hooks.shown(&hook).await["lastFailure"]["reason"], "template_failed");
    }
    assert_eq!(hooks.event("hook.failed").await["data"]["reason"], "template_failed");
    assert!(hooks.bridge.shows("spaces_bridge_incoming_hook_calls_total{outcome=\"template_failed\"} 7").await);
    assert!(hooks.bridge.shows("spaces_bridge_template_renderings_total{outcome=\"too_long\"} 1").await);
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
