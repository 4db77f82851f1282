//! Pages and long polls.

use fake_upstream::{Fault, Seen, SendRefusal, Who};
use reqwest::StatusCode;
use serde_json::json;

use super::{Talk, messages, text};
use crate::support::bridge::{Bridge, Scene, send};
use crate::support::receiver::{Receiver, Recorded, Reply};
use crate::support::wait::eventually;

#[tokio::test]
async fn pages_follow_each_other_from_the_oldest_event_to_the_newest() {
    let talk = Talk::start().await;
    let said: Vec<String> = (0..5).map(|number| talk.bo_says(&number.to_string())).collect();
    talk.stored(5).await;
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = talk.events(&format!("type=message.*&limit=2{cursor}")).await;
        seen.extend(messages(&page));
        cursor = format!("&cursor={}", text(&page["nextCursor"]));
        assert_eq!(page["truncated"], false);
        if page["hasMore"] == false {
            break;
        }
    }
    assert_eq!(seen, said);
    let later = talk.bo_says("later");
    talk.stored(6).await;
    assert_eq!(messages(&talk.events(&format!("type=message.*{cursor}")).await), [later], "the last cursor goes on");
    talk.bridge.stop().await;
}

#[tokio::test]
async fn space_type_and_time_choose_the_events() {
    let talk = Talk::start().await;
    let id = talk.bo_says("hello");
    talk.stored(1).await;
    let space = talk.scene.space.as_ref();
    assert_eq!(messages(&talk.events(&format!("space={space}")).await), [id.as_str()]);
    assert_eq!(messages(&talk.events("type=message.created,space.*").await), [id.as_str()]);
    for nothing in ["space=64f0a1b2c3d4e5f601020399", "type=space.*", "since=now", "since=2231-01-01T00:00:00Z"] {
        let page = talk.events(nothing).await;
        assert_eq!((&page["data"], &page["hasMore"]), (&json!([]), &json!(false)), "{nothing}");
        let on = talk.events(&format!("cursor={}", text(&page["nextCursor"]))).await;
        assert_eq!(on["data"], json!([]), "{nothing}: what was passed over does not come after all");
    }
    let everything = talk.events("since=2001-01-01T00:00:00Z").await;
    let types: Vec<String> = everything["data"].as_array().expect("a list").iter().map(|event| text(&event["type"])).collect();
    assert_eq!(types, ["session.connected", "message.created"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn the_filters_of_webhooks_choose_the_events_too() {
    let talk = Talk::start().await;
    let own = talk.bridge.say(&talk.scene.token, &talk.scene.space, "!deploy from here").await.json();
    let deploy = talk.bo_says("!deploy 41");
    talk.bo_says("lunch?");
    talk.stored(3).await;
    let ask = async |query: &[(&str, &str)]| {
        let request = talk.bridge.request(reqwest::Method::GET, "/events", &talk.scene.token).query(query);
        let answer = send(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        messages(&answer.json())
    };
    let (types, filter) = (("type", "message.*"), ("filter", r#"{"text":{"prefix":"!deploy"}}"#));
    assert_eq!(ask(&[types, filter]).await, [text(&own["id"]), deploy.clone()]);
    assert_eq!(ask(&[types, filter, ("ignoreOwn", "true")]).await, [deploy]);
    let odd = talk.bridge.request(reqwest::Method::GET, "/events", &talk.scene.token).query(&[("filter", r#"{"all":[]}"#)]);
    send(odd).await.assert_problem(400, "invalid_query");
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_long_poll_answers_as_soon_as_something_comes() {
    let talk = Talk::start().await;
    let cursor = talk.now().await;
    let path = format!("/events?cursor={cursor}&type=message.*&wait=60");
    let (page, id) = tokio::join!(talk.page(&path), async {
        talk.listeners(1).await;
        talk.bo_says("at last")
    });
    assert_eq!(messages(&page), [id]);
    talk.listeners(0).await;
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_long_poll_without_events_ends_with_its_time_and_can_go_on() {
    let talk = Talk::start().await;
    let page = talk.events("since=now&wait=1").await;
    assert_eq!(page["data"], json!([]));
    let id = talk.bo_says("too late");
    talk.stored(1).await;
    assert_eq!(messages(&talk.events(&format!("cursor={}", text(&page["nextCursor"]))).await), [id]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_stop_ends_a_long_poll_with_an_answer() {
    let talk = Talk::start().await;
    let cursor = talk.now().await;
    let request =
        talk.bridge.request(reqwest::Method::GET, &format!("/events?cursor={cursor}&type=message.*&wait=60"), &talk.scene.token);
    let polling = tokio::spawn(send(request));
    talk.listeners(1).await;
    talk.bridge.stop().await;
    let answer = polling.await.expect("no panic");
    assert_eq!((answer.status, &answer.json()["data"]), (StatusCode::OK, &json!([])));
}

#[tokio::test]
async fn an_account_has_so_many_long_polls_and_no_more() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.http.max_listeners_per_account = 1).await;
    let talk = Talk::on(scene, bridge).await;
    let cursor = talk.now().await;
    let path = format!("/events?cursor={cursor}&type=message.*&wait=60");
    let (page, ()) = tokio::join!(talk.page(&path), async {
        talk.listeners(1).await;
        talk.bridge.get(&path, &talk.scene.token).await.assert_problem(429, "too_many_listeners");
        let others = talk.bridge.get("/events?since=now&wait=1", talk.scene.bos_token()).await;
        assert_eq!(others.status, StatusCode::OK, "another account has its own");
        assert_eq!(talk.events("").await["truncated"], false, "who does not wait needs no place");
        talk.bo_says("go");
    });
    assert_eq!(messages(&page).len(), 1);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn what_is_no_query_is_refused() {
    let talk = Talk::start().await;
    for query in ["wait=61", "limit=201", "since=yesterday", "cursor=x", "cursor=LTE", "type=,", "colour=red"] {
        talk.bridge.get(&format!("/events?{query}"), &talk.scene.token).await.assert_problem(400, "invalid_query");
    }
    talk.bridge.operator(reqwest::Method::GET, "/events").await.assert_problem(403, "account_required");
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_session_tells_when_it_comes_and_goes() {
    let talk = Talk::start().await;
    talk.scene.upstream.fault(&Who::token(&talk.scene.token), &Fault::Cut);
    let told = eventually("the loss and the return", async || {
        let page = talk.events("type=session.*").await;
        let told: Vec<(String, u64)> = page["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|event| (text(&event["type"]), event["data"]["lostConnections"].as_u64().expect("a number")))
            .collect();
        (told.len() == 3).then_some(told)
    });
    let expected = [("session.connected", 0), ("session.disconnected", 1), ("session.connected", 0)];
    assert_eq!(told.await, expected.map(|(kind, lost)| (kind.to_owned(), lost)));
    let bridge = talk.bridge.restart().await;
    let talk = Talk { scene: talk.scene, bridge };
    let page = talk.events("type=session.disconnected").await;
    let causes: Vec<String> =
        page["data"].as_array().expect("a list").iter().map(|event| text(&event["data"]["cause"])).collect();
    assert_eq!(causes, ["connection_lost", "shutdown"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_token_that_is_refused_later_is_told_of() {
    let talk = Talk::start().await;
    talk.stored(0).await;
    talk.scene.upstream.expire(&talk.scene.token);
    talk.scene.upstream.fault(&Who::token(&talk.scene.token), &Fault::Cut);
    let other = talk.scene.upstream.token_for(&talk.scene.ana, fake_upstream::TokenKind::Jwt);
    let reason = eventually("the refusal", async || {
        let page = talk.bridge.get("/events?type=session.auth_failed", &other).await.json();
        page["data"].get(0).map(|event| text(&event["data"]["reason"]))
    });
    assert!(!reason.await.is_empty());
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_send_that_turns_out_refused_is_told_of_once() {
    let talk = Talk::start().await;
    let receiver = Receiver::start(Reply::status(204)).await;
    // Another space: what happened in none is chosen by its type.
    let settings = json!({"events": ["send.failed"], "spaces": ["64f0a1b2c3d4e5f601020399"]});
    let webhook = talk.bridge.register_with(&talk.scene.token, &receiver, settings).await;
    talk.scene.upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::Silence);
    });
    let answer = talk.bridge.say_within(1, &talk.scene.token, &talk.scene.space, "slowly refused").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let mut refused = talk.scene.upstream.seen(Seen::sends).pop().expect("a send");
    refused["error"] = "not.authorized.by.topic.policy".into();
    talk.scene.upstream.inject(&Who::token(&talk.scene.token), "SEND_MESSAGE_FAILED", &refused);
    let event = eventually("the delivery", async || receiver.recorded().first().map(Recorded::json)).await;
    let data = &event["data"];
    assert_eq!((&event["type"], &data["ref"]), (&json!("send.failed"), &answer.json()["ref"]));
    assert_eq!((&data["spaceId"], &data["code"]), (&json!(talk.scene.space.as_ref()), &json!("not.authorized.by.topic.policy")));
    assert_eq!(talk.events("type=send.*").await["data"], json!([event]), "who pulls gets the same");
    let delivery = &talk.bridge.deliveries(&talk.scene.token, &webhook).await[0];
    assert_eq!(delivery["spaceId"], json!(null));
    drop(receiver);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn presence_and_media_come_to_who_asks_for_them() {
    let talk = Talk::start().await;
    let (all, asking) = (Receiver::start(Reply::status(204)).await, Receiver::start(Reply::status(204)).await);
    talk.scene.upstream.presence_as(&talk.scene.bo, &talk.scene.space, "party.typing").expect("Bo is a member");
    talk.bridge.register_with(&talk.scene.token, &all, json!({"events": ["*"]})).await;
    talk.bridge
        .register_with(&talk.scene.token, &asking, json!({"events": ["presence.*", "media.started"], "ordering": "space"}))
        .await;
    talk.scene
        .upstream
        .presence_as(&talk.scene.bo, &talk.scene.space, "app.event.presence.party.online")
        .expect("Bo is a member");
    talk.scene.upstream.media(&talk.scene.space, "app.event.meeting.ended");
    talk.scene.upstream.media(&talk.scene.space, "app.event.meeting.started");
    let last = talk.bo_says("enough");
    let types = eventually("both", async || {
        let recorded = asking.recorded();
        (recorded.len() >= 2).then(|| recorded.iter().map(|request| text(&request.json()["type"])).collect::<Vec<_>>())
    });
    assert_eq!(types.await, ["presence.online", "media.started"]);
    let messages = eventually("the message", async || {
        let recorded = all.recorded();
        (!recorded.is_empty())
            .then(|| recorded.iter().map(|request| request.json()["data"]["message"]["id"].clone()).collect::<Vec<_>>())
    });
    assert_eq!(messages.await, [json!(last)], "`*` leaves them out");
    drop((all, asking));
    talk.bridge.stop().await;
}
