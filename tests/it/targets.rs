//! One message to several spaces and persons.

use fake_upstream::{Refusal, RestFault, Space};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::process::Service;
use crate::support::wait::eventually;

/// A second space of Ana and Bo.
fn lounge(scene: &Scene) -> Space {
    scene.upstream.space("Lounge", &[&scene.ana, &scene.bo])
}

async fn say(bridge: &Bridge, scene: &Scene, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut request = bridge.request(Method::POST, "/messages", &scene.token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.json(body)).await
}

fn statuses(answer: &Answer) -> Vec<u64> {
    let results = answer.json()["results"].as_array().expect("results").clone();
    results.iter().map(|result| result["status"].as_u64().expect("a status")).collect()
}

#[tokio::test]
async fn each_target_gets_the_message_and_each_failure_is_told() {
    let scene = Scene::new().await;
    let lounge = lounge(&scene);
    let bridge = Bridge::start(&scene.upstream).await;
    let targets = json!([
        {"space": scene.space.id}, {"email": "bo@corp.example"}, {"space": "nowhere"}, {"email": "nobody@corp.example"},
        {"user": scene.bo.id}, {"space": lounge.id},
    ]);
    let answer = say(&bridge, &scene, &json!({"targets": targets, "message": {"markdown": "**up**"}}), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let results = answer.json()["results"].clone();
    for (result, target) in results.as_array().expect("results").iter().zip(targets.as_array().expect("targets")) {
        assert_eq!(result["target"], *target);
        assert!(result["message"].is_object() != result["problem"].is_object(), "{result}");
    }
    assert_eq!(statuses(&answer), [201, 201, 404, 404, 409, 201], "{}", answer.text);
    let codes: Vec<_> = [2, 3, 4].iter().map(|number| results[*number]["problem"]["code"].clone()).collect();
    assert_eq!(codes, ["space_not_found", "person_not_found", "target_repeated"]);
    let instance = format!("urn:spaces-bridge:request:{}", answer.header("x-request-id"));
    assert_eq!(results[2]["problem"]["instance"], instance);
    let direct = scene.upstream.direct_space(&scene.ana, &scene.bo);
    for (number, space) in [(0, scene.space.as_ref()), (1, direct.as_ref()), (5, lounge.as_ref())] {
        let message = &results[number]["message"];
        assert_eq!((message["spaceId"].as_str(), message["status"].as_str()), (Some(space), Some("confirmed")));
        let reference = message["ref"].as_str().expect("a reference");
        let known = bridge.get(&format!("/messages/{reference}"), &scene.token).await.json();
        assert_eq!(known["id"], message["id"]);
    }
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 3);
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_reaches_nobody_is_a_failure_that_tells_why() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let body = json!({"targets": [{"space": "nowhere"}, {"email": "nobody@corp.example"}], "message": {"text": "up"}});
    let answer = say(&bridge, &scene, &body, &[]).await;
    answer.assert_problem(422, "no_target_reached");
    assert_eq!(statuses(&answer), [404, 404]);
    let fault = RestFault::status(500, "x", "y");
    scene.upstream.script(|script| {
        script.rest.on("/api/users/meetingroom/*").off().always(fault);
    });
    let body = json!({"targets": [{"space": "nowhere"}, {"email": "bo@corp.example"}], "message": {"text": "up"}});
    let answer = say(&bridge, &scene, &body, &[]).await;
    answer.assert_problem(503, "no_target_reached");
    assert_eq!(statuses(&answer), [404, 502]);
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn the_same_call_again_posts_nothing_twice_and_tries_what_could_not_be_found() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let fault = RestFault::status(500, "x", "y");
    scene.upstream.script(|script| {
        script.rest.on("/api/users/meetingroom/*").off().next(1, fault);
    });
    let body = json!({"targets": [{"space": scene.space.id}, {"email": "bo@corp.example"}], "message": {"text": "once"}});
    let key = [("idempotency-key", "build-41")];
    let first = say(&bridge, &scene, &body, &key).await;
    assert_eq!((first.status.as_u16(), statuses(&first)), (200, vec![201, 502]), "{}", first.text);
    let second = say(&bridge, &scene, &body, &key).await;
    assert_eq!((second.status.as_u16(), statuses(&second)), (200, vec![201, 201]), "{}", second.text);
    assert_eq!(second.header("idempotency-replayed"), "");
    let bridge = bridge.restart().await;
    let third = say(&bridge, &scene, &body, &key).await;
    assert_eq!((third.header("idempotency-replayed"), statuses(&third)), ("true", vec![201, 201]));
    let ids = |answer: &Answer| [0, 1].map(|number: usize| answer.json()["results"][number]["message"]["id"].clone());
    assert_eq!(ids(&third), ids(&second));
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
    let other = json!({"targets": [{"space": scene.space.id}], "message": {"text": "once"}});
    say(&bridge, &scene, &other, &key).await.assert_problem(422, "idempotency_key_reused");
    bridge.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_call_is_told_with_its_place_and_nothing_is_sent() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let space = json!({"space": scene.space.id});
    let many: Vec<_> = (0..101).map(|number| json!({"space": format!("s{number}")})).collect();
    for (body, pointer) in [
        (json!({"message": {"text": "a"}}), ""),
        (json!({"targets": [space]}), ""),
        (json!({"targets": [], "message": {"text": "a"}}), "/targets"),
        (json!({"targets": many, "message": {"text": "a"}}), "/targets"),
        (json!({"targets": [space, space], "message": {"text": "a"}}), "/targets/1"),
        (json!({"targets": [space, {"email": "bo"}], "message": {"text": "a"}}), "/targets/1/email"),
        (json!({"targets": [{"space": "../x"}], "message": {"text": "a"}}), "/targets/0/space"),
        (json!({"targets": [space], "message": {"text": " "}}), "/message/text"),
        (json!({"targets": [space], "message": {"text": "a", "split": true}}), "/message/split"),
        (json!({"targets": [space], "message": {"colour": "red"}}), "/message/colour"),
        (json!({"targets": [space], "message": {"content": {"bodyText": "a"}, "topicId": scene.space.id}}), "/message/topicId"),
        (json!({"targets": [space], "message": {"text": "a"}, "colour": "red"}), "/colour"),
    ] {
        let answer = say(&bridge, &scene, &body, &[("idempotency-key", "k")]).await;
        answer.assert_problem(422, "invalid_body");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
    }
    let large = json!({"targets": [space], "message": {"text": "x".repeat(20_000)}});
    say(&bridge, &scene, &large, &[("idempotency-key", "k")]).await.assert_problem(413, "message_too_large");
    let nobody = json!({"targets": [space], "message": {"category": "task", "title": "t", "assignees": ["nobody@corp.example"]}});
    let answer = say(&bridge, &scene, &nobody, &[("idempotency-key", "k")]).await;
    answer.assert_problem(422, "invalid_body");
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 0);
    let right = json!({"targets": [space], "message": {"text": "right"}});
    assert_eq!(say(&bridge, &scene, &right, &[("idempotency-key", "k")]).await.status, 200, "the key is free");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_survives_a_kill_and_is_sent_once_to_each() {
    let scene = Scene::new().await;
    let lounge = lounge(&scene);
    scene.upstream.script(|script| script.refuse.always(Refusal::http(503, "later")).is_on());
    let service = Service::start(&scene.upstream, &[("SPACES_BRIDGE_UPSTREAM__REST_FALLBACK_SECONDS", "0")]).await;
    let authorization = format!("jwt {}", scene.token.as_ref());
    let body = json!({"targets": [{"space": scene.space.id}, {"space": lounge.id}], "message": {"text": "once"}});
    let call = async |service: &Service, headers: &[(&str, &str)]| {
        let mut request = service.request(Method::POST, "/messages", &authorization).header("idempotency-key", "k");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(request.json(&body)).await
    };
    let answer = call(&service, &[("prefer", "respond-async")]).await;
    assert_eq!((answer.status.as_u16(), statuses(&answer)), (200, vec![202, 202]), "{}", answer.text);
    assert_eq!(answer.header("preference-applied"), "respond-async");
    let killed = service.kill().await;
    scene.upstream.clear_script();
    let service = killed.start().await;
    eventually("both messages", async || {
        let answer = call(&service, &[]).await;
        (answer.status == 200 && statuses(&answer) == [201, 201]).then_some(())
    })
    .await;
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
}
