//! Messages to a person.

use fake_upstream::{RestFault, TokenKind, UserKind};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Scene};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_direct_message_finds_its_space_once_or_makes_it() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/direct/user/{}", scene.bo.id);
    let mut spaces = Vec::new();
    for text in ["one", "two"] {
        let answer = bridge.post(&path, &scene.token, &json!({ "text": text })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        spaces.push(answer.json()["spaceId"].as_str().expect("a space").to_owned());
    }
    let direct = scene.upstream.direct_space(&scene.ana, &scene.bo);
    assert_eq!(spaces, [direct.id.as_str(), direct.id.as_str()]);
    let asked = format!("/api/spaces/direct/user/{}", scene.bo.id);
    assert_eq!(scene.upstream.seen(|seen| seen.rest_count("GET", &asked)), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_direct_message_goes_to_who_has_an_email_address() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for (address, text) in [("bo@corp.example", "one"), ("Bo@Corp.Example", "two")] {
        let answer = bridge.post(&format!("/direct/email/{address}"), &scene.token, &json!({ "text": text })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        assert_eq!(answer.json()["spaceId"], scene.upstream.direct_space(&scene.ana, &scene.bo).id);
    }
    assert_eq!(scene.upstream.seen(|seen| seen.rest_count("GET", "/api/users/meetingroom/bo@corp.example")), 1);
    let path = "/direct/email/nobody@corp.example";
    bridge.post(path, &scene.token, &json!({"text": "hi"})).await.assert_problem(404, "person_not_found");
    for body in [json!({"data": {}}), json!({"data": {"cid": "../x"}}), json!([])] {
        scene.upstream.script(|script| {
            let fault = RestFault::Garbled { content_type: "application/json".to_owned(), body: body.to_string() };
            script.rest.on("/api/users/meetingroom/*").off().always(fault);
        });
        let path = "/direct/email/ana@corp.example";
        bridge.post(path, &scene.token, &json!({"text": "hi"})).await.assert_problem(502, "upstream_error");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_guest_gets_direct_messages_while_online_in_a_common_space() {
    let scene = Scene::new().await;
    let (guest, guests_token) = scene.upstream.with_world(|world| {
        world.change_space(scene.space.as_ref(), |space| space.open = true);
        let guest = world.add_user("Guest", "guest-7", UserKind::Anonymous);
        let token = world.token_for(&guest, TokenKind::Anonymous);
        (guest, token)
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/direct/anonymous/{}", guest.id);
    bridge.post(&path, &scene.token, &json!({"text": "away"})).await.assert_problem(403, "upstream_forbidden");
    let subscription = format!("/spaces/{}/subscription", scene.space.as_ref());
    assert_eq!(bridge.put(&subscription, &guests_token).await.status, StatusCode::OK);
    let answer = bridge.post(&path, &scene.token, &json!({"text": "there"})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    bridge.stop().await;
}

#[tokio::test]
async fn direct_messages_that_spaces_does_not_allow_are_clear_problems() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let cleo = scene.upstream.user("Cleo");
    scene.upstream.with_world(|world| world.separate(&scene.ana, &cleo));
    for (path, status, code, upstream_code) in [
        (format!("/direct/user/{}", cleo.id), 403, "upstream_forbidden", json!("direct.not.allowed")),
        ("/direct/user/650000000000000000000000".to_owned(), 404, "upstream_not_found", json!("user.not.found")),
        (format!("/direct/anonymous/{}", scene.bo.id), 404, "upstream_not_found", json!("user.not.found")),
        (format!("/direct/user/{}", scene.ana.id), 422, "upstream_refused", json!("invalid.parameters")),
        (format!("/direct/email/{}", scene.bo.id), 400, "invalid_path", Value::Null),
        ("/direct/user/bo@corp.example".to_owned(), 400, "invalid_path", Value::Null),
    ] {
        let answer = bridge.post(&path, &scene.token, &json!({"text": "hi"})).await;
        answer.assert_problem(status, code);
        assert_eq!(answer.json()["upstreamCode"], upstream_code, "{path}");
    }
    scene.upstream.script(|script| {
        script.rest.on("/api/spaces/direct/**").next(1, RestFault::too_many(1)).next(1, RestFault::status(500, "x", "y"));
    });
    let path = format!("/direct/user/{}", scene.bo.id);
    let limited = bridge.post(&path, &scene.token, &json!({"text": "hi"})).await;
    limited.assert_problem(429, "upstream_rate_limited");
    assert_eq!(limited.header("retry-after"), "1");
    let next = eventually("calls that Spaces wants again", async || {
        let answer = bridge.post(&path, &scene.token, &json!({"text": "hi"})).await;
        (answer.json()["code"] != "call_budget_exhausted").then_some(answer)
    })
    .await;
    next.assert_problem(502, "upstream_error");
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 0);
    let answer = bridge.post(&path, &scene.token, &json!({"text": "hi"})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    bridge.stop().await;
}
