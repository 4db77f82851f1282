//! Webhooks that choose events by what they say, and the call that tries it.

use fake_upstream::Who;
use serde_json::{Value, json};

use super::{Scene, bodies, message_ids};
use crate::support::bridge::Answer;
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

impl Scene {
    async fn filter_test(&self, test: &Value) -> Answer {
        self.bridge.post("/webhooks/filter-test", &self.token, test).await
    }
}

#[tokio::test]
async fn a_filter_chooses_by_category_sender_mention_and_text() {
    let scene = Scene::start().await;
    let carl = scene.upstream.user("Carl");
    let filters = [
        json!({"sender": scene.bo.as_ref()}),
        json!({"mention": "me"}),
        json!({"all": [{"category": "chat"}, {"text": {"regex": r"(?i)\bdeploy\s+\d+"}}, {"not": {"text": {"contains": "dry run"}}}]}),
        json!({"any": [{"category": "post"}, {"text": {"prefix": "last"}}]}),
    ];
    let mut receivers = Vec::new();
    for filter in &filters {
        let receiver = Receiver::start(Reply::status(204)).await;
        let settings = json!({"filter": filter, "ordering": "space"});
        scene.bridge.register_with(&scene.token, &receiver, settings).await;
        receivers.push(receiver);
    }
    scene.listening().await;
    let say = |id: &str, category: &str, sender: &str, html: &str| {
        let message = json!({"_id": id, "category": category, "topicId": scene.space.as_ref(), "sender": {"_id": sender},
            "content": {"bodyText": html}});
        assert_eq!(scene.upstream.inject(&Who::token(&scene.token), "MESSAGE_SENT", &message), 1);
    };
    let mention = format!(r#"hi <mention id="{}" type="user">Ana</mention>"#, scene.ana.as_ref());
    say("m1", "chat", carl.as_ref(), "Please <b>deploy</b> 41");
    say("m2", "chat", scene.bo.as_ref(), "deploy 41, dry run");
    say("m3", "chat", carl.as_ref(), &mention);
    say("m4", "idea", carl.as_ref(), "deploy 42");
    say("m5", "chat", scene.bo.as_ref(), &format!("last deploy 43 {mention}"));
    let expected = [vec!["m2", "m5"], vec!["m3", "m5"], vec!["m1", "m5"], vec!["m4", "m5"]];
    for ((receiver, expected), filter) in receivers.iter().zip(expected).zip(&filters) {
        assert_eq!(message_ids(&bodies(receiver, 2).await), expected, "{filter}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_filter_is_shown_changed_removed_and_survives_a_restart() {
    let mut scene = Scene::start().await;
    let filter = json!({"all": [{"text": {"prefix": "!"}}, {"not": {"sender": "bot@example.com"}}]});
    let id = scene.register(json!({"filter": filter, "reply": true})).await;
    let path = format!("/webhooks/{id}");
    scene.bridge = scene.bridge.restart().await;
    scene.listening().await;
    let shown = scene.bridge.get(&path, &scene.token).await.json();
    assert_eq!((&shown["filter"], &shown["reply"]), (&filter, &json!(true)));
    scene.bo_says("not for it");
    let wanted = scene.bo_says("!deploy");
    assert_eq!(message_ids(&scene.bodies(1).await), [wanted]);

    let unchanged = scene.bridge.patch(&path, &scene.token, &json!({"description": "x"})).await.json();
    assert_eq!(unchanged["filter"], filter);
    let changed = scene.bridge.patch(&path, &scene.token, &json!({"filter": {"category": "post"}})).await.json();
    assert_eq!(changed["filter"], json!({"category": "post"}));
    let removed = scene.bridge.patch(&path, &scene.token, &json!({"filter": null, "reply": false})).await.json();
    assert_eq!((&removed["filter"], &removed["reply"]), (&Value::Null, &json!(false)));
    scene.bo_says("for it now");
    scene.bodies(2).await;
    scene.end().await;
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_is_refused_where_it_is_wrong() {
    let scene = Scene::start().await;
    let existing = scene.register(json!({})).await;
    for (filter, pointer, word) in [
        (json!({}), "/filter", "empty"),
        (json!([]), "/filter", "invalid type"),
        (json!("chat"), "/filter", "invalid type"),
        (json!({"colour": "red"}), "/filter", "unknown field `colour`"),
        (json!({"category": "chat", "sender": "u1"}), "/filter", "more than one member"),
        (json!({"category": ["chat"]}), "/filter/category", "invalid type"),
        (json!({"all": [{"category": "chat"}, {"text": "hi"}]}), "/filter/all/1/text", "invalid type"),
        (json!({"not": {"text": {"regex": "("}}}), "/filter/not/text/regex", "unclosed group"),
        (json!({"any": []}), "/filter/any", "at least one"),
    ] {
        let body = json!({"url": scene.receiver.url(), "filter": filter});
        let refused = scene.bridge.post("/webhooks", &scene.token, &body).await;
        let changed = scene.bridge.patch(&format!("/webhooks/{existing}"), &scene.token, &json!({"filter": filter})).await;
        for answer in [refused, changed] {
            answer.assert_problem(422, "invalid_body");
            let error = &answer.json()["errors"][0];
            assert!(error["pointer"].as_str().is_some_and(|at| at.starts_with(pointer)), "{filter}: {error}");
            assert!(error["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{filter}: {error}");
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn a_filter_can_be_tried_on_samples_and_on_stored_events() {
    let scene = Scene::start().await;
    let id =
        scene.register(json!({"spaces": [scene.space.as_ref()], "filter": {"text": {"prefix": "!"}}, "ignoreOwn": true})).await;
    scene.bo_says("!deploy 41");
    let envelope = scene.bodies(1).await.remove(0);
    let event_id = envelope["data"]["eventId"].clone();
    let object = |text: &str| json!({"category": "chat", "topicId": scene.space.as_ref(), "content": {"bodyText": text}});
    let mut own = envelope.clone();
    own["data"]["own"] = true.into();
    for (test, matches, reason, condition) in [
        (json!({"webhookId": id, "eventId": event_id}), true, Value::Null, Value::Null),
        (json!({"webhookId": id, "event": envelope}), true, Value::Null, Value::Null),
        (json!({"webhookId": id, "event": own}), false, json!("own_message"), Value::Null),
        (json!({"webhookId": id, "event": object("!x")}), true, Value::Null, Value::Null),
        (json!({"webhookId": id, "event": object("x")}), false, json!("filter"), json!("/text/prefix")),
        (json!({"rules": {}, "eventId": event_id}), true, Value::Null, Value::Null),
        (json!({"rules": {"events": ["space.*"]}, "eventId": event_id}), false, json!("type"), Value::Null),
        (json!({"rules": {"spaces": ["direct"]}, "eventId": event_id}), false, json!("space"), Value::Null),
        (
            json!({"rules": {"filter": {"all": [{"category": "chat"}, {"mention": "me"}]}}, "eventId": event_id}),
            false,
            json!("filter"),
            json!("/all/1/mention"),
        ),
    ] {
        let answer = scene.filter_test(&test).await;
        assert_eq!(answer.status, 200, "{test}: {}", answer.text);
        let result = answer.json();
        assert_eq!(result["matches"], matches, "{test}: {result}");
        assert_eq!((&result["reason"], &result["condition"]), (&reason, &condition), "{test}");
        assert!(result["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{result}");
    }
    assert_eq!(scene.receiver.count(), 1, "nothing is delivered by trying");
    scene.end().await;
}

#[tokio::test]
async fn a_test_that_makes_no_sense_is_refused() {
    let scene = Scene::start().await;
    let id = scene.register(json!({})).await;
    let bos = scene.bos_webhook().await;
    let sample = json!({"category": "chat", "topicId": "s1"});
    for (test, status, code, pointer) in [
        (json!({}), 422, "invalid_body", Some("")),
        (json!({"webhookId": id}), 422, "invalid_body", Some("")),
        (json!({"event": sample}), 422, "invalid_body", Some("")),
        (json!({"webhookId": id, "rules": {}, "event": sample}), 422, "invalid_body", Some("/rules")),
        (json!({"rules": {}, "eventId": "evt_1", "event": sample}), 422, "invalid_body", Some("/event")),
        (json!({"rules": {"colour": 1}, "event": sample}), 422, "invalid_body", Some("/rules/colour")),
        (json!({"rules": {"events": []}, "event": sample}), 422, "invalid_body", Some("/rules/events")),
        (json!({"rules": {"filter": {"all": []}}, "event": sample}), 422, "invalid_body", Some("/rules/filter/all")),
        (json!({"rules": {}, "event": 7}), 422, "invalid_body", Some("/event")),
        (json!({"rules": {}, "event": []}), 422, "invalid_body", Some("/event")),
        (json!({"rules": {}, "event": {}}), 422, "invalid_body", Some("/event/topicId")),
        (json!({"rules": {}, "event": {"type": "a b", "data": {}}}), 422, "invalid_body", Some("/event/type")),
        (json!({"rules": {}, "event": {"type": "a", "data": []}}), 422, "invalid_body", Some("/event/data")),
        (
            json!({"rules": {}, "event": {"type": "a", "data": {"spaceId": "a/b"}}}),
            422,
            "invalid_body",
            Some("/event/data/spaceId"),
        ),
        (json!({"webhookId": "wh_none", "event": sample}), 404, "webhook_not_found", None),
        (json!({"webhookId": bos, "event": sample}), 404, "webhook_not_found", None),
        (json!({"rules": {}, "eventId": "evt_none"}), 404, "event_not_found", None),
    ] {
        let answer = scene.filter_test(&test).await;
        assert_eq!(answer.status, status, "{test}: {}", answer.text);
        answer.assert_problem(status, code);
        if let Some(pointer) = pointer {
            assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{test}: {}", answer.text);
        }
    }
    scene.end().await;
}

impl Scene {
    /// A webhook of Bo's. Answers its id.
    async fn bos_webhook(&self) -> String {
        let token = self.upstream.token_for(&self.bo, fake_upstream::TokenKind::Jwt);
        let (id, _) = self.bridge.register(&token, &self.receiver).await;
        eventually("Bo's webhook", async || {
            (self.bridge.get(&format!("/webhooks/{id}"), &token).await.status == 200).then_some(())
        })
        .await;
        id
    }
}
