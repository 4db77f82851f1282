//! What Avaya leaves open of its words, and the settings that say them.

use fake_upstream::{EchoFault, Limits, Options, Token, TokenKind, Who};
use reqwest::Method;
use serde_json::json;
use spaces_bridge::config::UnknownCategories;

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::wait::eventually;

#[tokio::test]
async fn calls_ask_for_a_version_of_the_api_only_if_the_settings_name_one() {
    for version in [None, Some("1.2".to_owned())] {
        let scene = Scene::new().await;
        let bridge = Bridge::start_with(&scene.upstream, |config| config.upstream.accept_version.clone_from(&version)).await;
        assert_eq!(bridge.get("/spaces", &scene.token).await.status, 200);
        let asked: Vec<_> =
            scene.upstream.seen(|seen| seen.rest_calls().map(|call| (call.path.clone(), call.accept_version.clone())).collect());
        assert!(asked.iter().any(|(path, _)| path == "/api/users/me/spaces"), "{asked:?}");
        assert!(asked.iter().all(|(_, asked)| *asked == version), "{asked:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn tokens_of_service_applications_are_shown_with_the_scheme_of_the_settings() {
    let scene = Scene::new().await;
    let robot = scene.upstream.token_for(&scene.ana, TokenKind::Service);
    let bridge = Bridge::start_with(&scene.upstream, |config| config.upstream.service_app_scheme = "robot".to_owned()).await;
    say(&bridge, &scene, &robot, 1, "hi").await;
    let shown = scene.upstream.seen(|seen| seen.rest_calls().filter_map(|call| call.authorization.clone()).collect::<Vec<_>>());
    assert!(!shown.is_empty() && shown.iter().all(|shown| *shown == format!("robot {}", robot.as_ref())), "{shown:?}");
    bridge.stop().await;
}

#[tokio::test]
async fn messages_of_unknown_categories_are_events_unless_the_settings_leave_them_out() {
    for policy in [UnknownCategories::Forward, UnknownCategories::Drop] {
        let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
        let bridge = Bridge::start_with(&scene.upstream, |config| config.session.unknown_categories = policy).await;
        bridge.put(&format!("/spaces/{}/subscription", scene.space.as_ref()), &scene.token).await;
        let odd = json!({"_id": "650a0b0c0d0e0f1011121399", "category": "meeting.recap", "topicId": scene.space.as_ref(),
            "created": "2031-03-14T09:26:53.589Z", "content": {"bodyText": "what was said"}});
        assert_eq!(scene.upstream.inject(&Who::Everybody, "MESSAGE_SENT", &odd), 1);
        scene.upstream.post_as(&scene.bo, &scene.space, "known").expect("Bo is a member");
        let logged = eventually("the message after it", async || {
            let page = bridge.get("/events?type=message.*", &scene.token).await.json();
            let types: Vec<_> =
                page["data"].as_array()?.iter().filter_map(|event| Some(event["type"].as_str()?.to_owned())).collect();
            types.iter().any(|kind| kind == "message.created").then_some(types)
        })
        .await;
        match policy {
            UnknownCategories::Forward => assert_eq!(logged, ["message.other", "message.created"]),
            UnknownCategories::Drop => {
                assert_eq!(logged, ["message.created"]);
                assert!(bridge.shows("spaces_bridge_events_total{result=\"left_out\"} 1").await);
            }
        }
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_service_application_learns_who_it_is_from_its_first_echo() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let robot = scene.upstream.token_for(&scene.ana, TokenKind::Service);
    let bridge = Bridge::start(&scene.upstream).await;
    let lose = || scene.upstream.script(|script| _ = script.echo.next(1, EchoFault::WithoutLoopback));
    lose();
    let unknown = say(&bridge, &scene, &robot, 1, "who am I").await;
    assert_eq!(unknown.status, 202, "an echo that could be anybody's confirms nothing: {}", unknown.text);
    assert_eq!(unknown.json()["status"], "unconfirmed");
    assert_eq!(say(&bridge, &scene, &robot, 10, "this is me").await.status, 201);
    lose();
    let known = say(&bridge, &scene, &robot, 10, "now you know").await;
    assert_eq!(known.status, 201, "{}", known.text);
    assert_eq!(scene.texts(), ["who am I", "this is me", "now you know"], "nothing is sent twice");
    bridge.stop().await;
}

/// Says something with the token of a service application, and waits for so many seconds.
async fn say(bridge: &Bridge, scene: &Scene, robot: &Token, wait: u32, text: &str) -> Answer {
    let path = format!("{}/spaces/{}/messages", bridge.api, scene.space.as_ref());
    let request = bridge.plain(Method::POST, &path).header("authorization", format!("service_app {}", robot.as_ref()));
    send(request.header("prefer", format!("wait={wait}")).json(&json!({"text": text}))).await
}
