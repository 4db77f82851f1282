//! What nobody outside knows of Spaces, and what the service does whichever way it turns out to be.

use std::collections::HashMap;
use std::time::Duration;

use fake_upstream::{
    ChangeStyle, EchoFault, EventFault, FakeUpstream, Fault, Limits, Options, OverLimit, Refusal, RestFault, Seen, Space, Token,
    TokenKind, Who,
};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Scene, send};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

async fn seen(upstream: &FakeUpstream, what: impl FnMut(&Seen) -> bool) {
    upstream.wait_until(DEADLINE, what).await.expect("seen in time");
}

async fn subscribed(scene: &Scene, space: &Space) {
    seen(&scene.upstream, |seen| seen.is_subscribed(&scene.token, space.as_ref())).await;
}

/// How the only session stands to a space.
async fn channel(bridge: &Bridge, space: &str) -> Value {
    let session = bridge.session().await;
    let channels = session["spaces"].as_array().cloned().unwrap_or_default();
    channels.into_iter().find(|channel| channel["spaceId"] == space).unwrap_or_default()
}

/// All messages that the account's log tells of, as type, text and id, in its order.
async fn logged(bridge: &Bridge, token: &Token) -> Vec<(String, String, String)> {
    let page = bridge.get("/events?limit=200&type=message.*", token).await.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = page["data"].as_array().expect("a list").iter();
    let told = events.map(|event| {
        let message = &event["data"]["message"];
        (text(&event["type"]), text(&message["text"]), text(&message["id"]))
    });
    told.collect()
}

#[tokio::test]
async fn a_refusal_that_repeats_the_token_is_told_without_it() {
    let scene = Scene::new().await;
    let words = format!("jwt {} expired", scene.token.as_ref());
    scene.upstream.script(|script| {
        script.rest.on("/api/users/me/spaces").always(RestFault::status(403, "no.access", &words));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let answer = bridge.get("/spaces", &scene.token).await;
    assert!(answer.text.contains("expired") && !answer.text.contains(scene.token.as_ref()), "{}", answer.text);
    bridge.stop().await;

    let shapes: [fn(String) -> Refusal; 4] = [
        Refusal::Text,
        |words| Refusal::Object(json!({"message": words, "data": {"code": 401}})),
        Refusal::RootText,
        |words| Refusal::http(401, &words),
    ];
    for shape in shapes {
        let scene = Scene::new().await;
        let shape = shape(format!("jwt {} expired", scene.token.as_ref()));
        scene.upstream.script(|script| {
            script.refuse.always(shape);
        });
        let bridge = Bridge::start(&scene.upstream).await;
        let answer = bridge.say(&scene.token, &scene.space, "let me in").await;
        answer.assert_problem(401, "token_refused");
        let session = bridge.session().await;
        assert!(session["reason"].is_string(), "{session}");
        for told in [answer.text, session.to_string()] {
            assert!(!told.contains(scene.token.as_ref()), "{told}");
        }
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_hundred_spaces_share_one_connection_and_one_that_is_refused_harms_none() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let spaces: Vec<_> =
        (0..100).map(|number| scene.upstream.space(&format!("Space {number}"), &[&scene.ana, &scene.bo])).collect();
    let foreign = scene.upstream.space("Foreign", &[&scene.bo]);
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    bridge.register_with(&scene.token, &receiver, json!({"spaces": ["*", foreign.as_ref()]})).await;
    seen(&scene.upstream, |seen| spaces.iter().all(|space| seen.is_subscribed(&scene.token, space.as_ref()))).await;
    eventually("the refusal", async || (channel(&bridge, foreign.as_ref()).await["state"] == "refused").then_some(())).await;
    for space in &spaces {
        scene.upstream.post_as(&scene.bo, space, "here").expect("Bo is a member");
    }
    eventually("all deliveries", async || (receiver.count() >= spaces.len()).then_some(())).await;
    assert_eq!(scene.upstream.seen(|seen| (seen.opened_with(&scene.token), seen.peak_with(&scene.token))), (1, 1));
    bridge.stop().await;
}

#[tokio::test]
async fn a_space_is_not_subscribed_to_again_on_a_connection_however_many_want_it() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let wanted = async |number: usize| match number % 3 {
        0 => bridge.put(&format!("/spaces/{}/subscription", scene.space.as_ref()), &scene.token).await.status,
        1 => bridge.say(&scene.token, &scene.space, &format!("message {number}")).await.status,
        _ => {
            let webhook = json!({"url": receiver.url(), "spaces": [scene.space.as_ref()]});
            bridge.post("/webhooks", &scene.token, &webhook).await.status
        }
    };
    let statuses = join_all((0..12).map(wanted)).await;
    assert!(statuses.iter().all(StatusCode::is_success), "{statuses:?}");
    scene.upstream.fault(&Who::token(&scene.token), &Fault::Cut);
    seen(&scene.upstream, |seen| seen.opened_with(&scene.token) == 2).await;
    subscribed(&scene, &scene.space).await;
    // Let go and wanted again is another matter; that is asked for anew.
    let mut listens = HashMap::new();
    for emit in scene.upstream.seen(|seen| seen.emits().cloned().collect::<Vec<_>>()) {
        let before = match emit.event.as_str() {
            "SUBSCRIBE_CHANNEL" => listens.insert(emit.connection, true),
            "UNSUBSCRIBE_CHANNEL" => listens.insert(emit.connection, false),
            _ => continue,
        };
        assert_ne!(before, Some(emit.event == "SUBSCRIBE_CHANNEL"), "asked for twice: {emit:?}");
    }
    assert_eq!(listens.values().collect::<Vec<_>>(), [&true, &true], "on both connections");
    bridge.stop().await;
}

#[tokio::test]
async fn the_token_type_of_service_applications_is_what_the_setting_says() {
    let scene = Scene::new().await;
    let service = scene.upstream.token_for(&scene.ana, TokenKind::Service);
    let bridge = Bridge::start_with(&scene.upstream, |config| {
        config.upstream.service_app_token_type = "service_app".to_owned();
    })
    .await;
    let path = format!("{}/spaces/{}/messages", bridge.api, scene.space.as_ref());
    let request = bridge.plain(Method::POST, &path).header("authorization", format!("service_app {}", service.as_ref()));
    let answer = send(request.json(&json!({"text": "hi"}))).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let query = scene.upstream.seen(|seen| seen.connections_with(&service).next().map(|connection| connection.query.clone()));
    let expected = ("tokenType".to_owned(), "service_app".to_owned());
    assert!(query.clone().is_some_and(|query| query.contains(&expected)), "{query:?}");
    bridge.stop().await;
}

#[tokio::test]
async fn an_edit_or_deletion_under_a_category_of_its_own_is_an_event_of_its_own() {
    for category in ["chat.updated", "no.such.category"] {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.edits.always(ChangeStyle::Category(category.to_owned()));
            script.deletions.always(ChangeStyle::Category(category.to_owned()));
        });
        let bridge = Bridge::start(&scene.upstream).await;
        assert_eq!(bridge.put(&format!("/spaces/{}/subscription", scene.space.as_ref()), &scene.token).await.status, 200);
        let message = scene.upstream.post_as(&scene.bo, &scene.space, "first").expect("Bo is a member");
        let id = message["_id"].as_str().expect("an id");
        scene.upstream.edit(id, "second").expect("the message exists");
        scene.upstream.delete(id).expect("the message exists");
        let told = eventually("three events", async || {
            let told = logged(&bridge, &scene.token).await;
            (told.len() >= 3).then_some(told)
        })
        .await;
        assert_eq!(told.len(), 3, "{category}: {told:?}");
        assert!(told.iter().all(|(_, _, told)| told == id), "{category}: {told:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn events_stand_in_the_log_in_the_order_in_which_they_came_with_the_time_of_their_making() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    assert_eq!(bridge.put(&format!("/spaces/{}/subscription", scene.space.as_ref()), &scene.token).await.status, 200);
    scene.upstream.script(|script| {
        script.events.next(1, EventFault::Overtaken);
    });
    let mut made = Vec::new();
    for text in ["overtaken", "first to come"] {
        let message = scene.upstream.post_as(&scene.bo, &scene.space, text).expect("Bo is a member");
        made.push(message["created"].as_str().expect("a time").to_owned());
    }
    scene.upstream.release();
    let events = eventually("both events", async || {
        let page = bridge.get("/events?type=message.*", &scene.token).await.json();
        page["data"].as_array().filter(|events| events.len() == 2).cloned()
    })
    .await;
    let told: Vec<_> =
        events.iter().map(|event| (&event["data"]["message"]["text"], &event["data"]["message"]["createdAt"])).collect();
    assert_eq!(told, [(&json!("first to come"), &json!(made[1])), (&json!("overtaken"), &json!(made[0]))]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_post_or_task_is_confirmed_also_if_its_echo_has_lost_the_reference() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        script.echo.always(EchoFault::WithoutLoopback);
    });
    for category in ["idea", "task"] {
        let path = format!("/spaces/{}/messages", scene.space.as_ref());
        let body = json!({"category": category, "content": {"bodyText": "Rotate keys", "description": "before Friday"}});
        let answer = bridge.post(&path, &scene.token, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{category}: {}", answer.text);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_spaces_finds_too_large_all_the_same_is_refused_in_its_words() {
    let limits = Limits { payload_kib: Some(1), ..Limits::default() };
    let scene = Scene::with(Options { limits, ..Options::default() }).await;
    scene.upstream.report_limits(Some(json!({})));
    scene.upstream.script(|script| {
        script.over_payload.always(OverLimit::Failed("payload.too.large".to_owned()));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let answer = bridge.say(&scene.token, &scene.space, &"x".repeat(3_000)).await;
    assert!(answer.status.is_client_error(), "{}", answer.text);
    assert_eq!(answer.json()["upstreamCode"], "payload.too.large", "{}", answer.text);
    assert_eq!(scene.texts(), Vec::<String>::new());
    bridge.stop().await;
}

#[tokio::test]
async fn a_join_that_fails_does_not_matter_where_the_subscription_works() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.rest.on("/api/spaces/*/join").always(RestFault::status(500, "internal", "later"));
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let answer = bridge.say(&scene.token, &scene.space, "hi").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    bridge.stop().await;
}

#[tokio::test]
async fn who_was_removed_from_a_space_is_told_so_once_it_is_subscribed_to_again_and_other_spaces_go_on() {
    let scene = Scene::new().await;
    let other = scene.upstream.space("Other", &[&scene.ana, &scene.bo]);
    let bridge = Bridge::start(&scene.upstream).await;
    for space in [&scene.space, &other] {
        assert_eq!(bridge.put(&format!("/spaces/{}/subscription", space.as_ref()), &scene.token).await.status, 200);
    }
    let ana = scene.ana.id.clone();
    scene.upstream.with_world(|world| {
        world.change_space(scene.space.as_ref(), |space| space.members.retain(|member| *member != ana));
    });
    scene.upstream.fault(&Who::token(&scene.token), &Fault::Cut);
    eventually("the refusal", async || (channel(&bridge, scene.space.as_ref()).await["state"] == "refused").then_some(())).await;
    subscribed(&scene, &other).await;
    bridge.say(&scene.token, &scene.space, "hi").await.assert_problem(403, "space_forbidden");
    assert_eq!(bridge.say(&scene.token, &other, "hi").await.status, StatusCode::CREATED);
    bridge.stop().await;
}

#[tokio::test]
async fn the_service_is_ready_while_spaces_is_out_of_reach_and_says_what_is_wrong() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let health = async |path: &str| send(bridge.plain(Method::GET, &format!("{}{path}", bridge.internal))).await.status;
    eventually("the end of the start", async || (health("/readyz").await == StatusCode::OK).then_some(())).await;
    scene.upstream.stop().await;
    let answer = bridge.say_within(1, &scene.token, &scene.space, "hi").await;
    answer.assert_problem(503, "not_connected");
    assert_eq!((health("/livez").await, health("/readyz").await), (StatusCode::OK, StatusCode::OK));
    scene.upstream.restart().await.expect("the same port is free");
    assert_eq!(bridge.say_within(60, &scene.token, &scene.space, "hi again").await.status, StatusCode::CREATED);
    assert_eq!(scene.texts(), ["hi again"]);
    bridge.stop().await;
}
