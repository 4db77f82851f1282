//! The catalogue, and that real events are as it says.

use std::collections::BTreeMap;

use fake_upstream::{Fault, Who};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Talk, text};
use crate::support::bridge::{Bridge, Scene, send};
use crate::support::receiver::{Receiver, Recorded, Reply};
use crate::support::wait::eventually;

/// The catalogue as the service tells it, to anyone.
async fn catalogue(bridge: &Bridge) -> BTreeMap<String, Value> {
    let answer = send(bridge.plain(Method::GET, &format!("{}/event-types?limit=200", bridge.api))).await;
    let types = answer.json()["data"].as_array().expect("a list").clone();
    types.into_iter().map(|kind| (text(&kind["type"]), kind)).collect()
}

#[tokio::test]
async fn the_catalogue_is_the_same_in_the_list_and_in_the_description_of_the_api() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let document = send(bridge.plain(Method::GET, &format!("{}/openapi.json", bridge.api))).await.json();
    let types = catalogue(&bridge).await;
    let webhooks = document["webhooks"].as_object().expect("an object");
    assert_eq!(webhooks.keys().collect::<Vec<_>>(), types.keys().collect::<Vec<_>>());
    for (name, kind) in &types {
        let content = &webhooks[name]["post"]["requestBody"]["content"]["application/json"];
        assert_eq!((&content["schema"], &content["example"]), (&kind["schema"], &kind["example"]), "{name}");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn every_delivery_is_as_the_catalogue_says() {
    let talk = Talk::start().await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let settings = json!({"events": ["*", "presence.*", "media.*"], "ordering": "space"});
    let webhook = talk.bridge.register_with(&talk.scene.token, &receiver, settings).await;
    let (upstream, bo, space) = (&talk.scene.upstream, &talk.scene.bo, &talk.scene.space);
    upstream
        .send_as(bo, space, &json!({"category": "task", "content": {"bodyText": "look", "description": "into it"}}))
        .expect("sent");
    let id = talk.bo_says("first");
    // Spaces tells changes apart by milliseconds.
    let before = jiff::Timestamp::now().as_millisecond();
    eventually("the next millisecond", async || (jiff::Timestamp::now().as_millisecond() > before).then_some(())).await;
    upstream.edit(&id, "second").expect("the message exists");
    upstream.delete(&id).expect("the message exists");
    upstream.rename_space(bo, space, "Operations").expect("the space exists");
    let odd = json!({"_id": "x1", "category": "meeting.recap", "topicId": space.as_ref(), "sender": [], "content": 7});
    upstream.inject(&Who::space(space), "MESSAGE_SENT", &odd);
    for category in ["app.event.presence.party.online", "app.event.presence.party.leaves", "party.typing", "party.hides"] {
        upstream.presence_as(bo, space, category).expect("Bo is a member");
    }
    for category in ["app.event.meeting.started", "app.event.meeting.ended", "tracksstatus"] {
        upstream.media(space, category);
    }
    let tested = talk.bridge.post(&format!("/webhooks/{webhook}/test"), &talk.scene.token, &json!({})).await;
    assert_eq!(tested.status, 202, "{}", tested.text);
    upstream.fault(&Who::token(&talk.scene.token), &Fault::Cut);

    let expected = [
        "media.ended",
        "media.other",
        "media.started",
        "message.created",
        "message.deleted",
        "message.other",
        "message.updated",
        "presence.left",
        "presence.online",
        "presence.other",
        "presence.typing",
        "session.connected",
        "session.disconnected",
        "space.updated",
        "webhook.test",
    ];
    let bodies = eventually("one of each", async || {
        let bodies: Vec<Value> = receiver.recorded().iter().map(Recorded::json).collect();
        let types: Vec<&str> = bodies.iter().filter_map(|body| body["type"].as_str()).collect();
        expected.iter().all(|kind| types.contains(kind)).then_some(bodies)
    });
    let types = catalogue(&talk.bridge).await;
    for body in bodies.await {
        let kind = &types[body["type"].as_str().expect("a type")];
        let validator = jsonschema::options().should_validate_formats(true).build(&kind["schema"]).expect("a schema");
        validator.validate(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let known = kind["schema"]["properties"]["data"]["properties"].as_object().expect("an object");
        let unknown: Vec<_> =
            body["data"].as_object().expect("an object").keys().filter(|name| !known.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "the schema of {} says nothing of {unknown:?}", body["type"]);
    }
    drop(receiver);
    talk.bridge.stop().await;
}
