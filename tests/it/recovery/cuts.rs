//! Connections that are cut, services that stop or are killed: everything is in the log once, in order, and reaches the webhooks.

use std::time::Duration;

use fake_upstream::{ChangeStyle, EchoFault, Expiry, Fault, Refusal, RestFault, SendFault, TokenKind, Who};
use reqwest::StatusCode;
use serde_json::json;

use super::{DEADLINE, Talk, bo_says, events, next_millisecond, text};
use crate::support::bridge::{Bridge, Scene};
use crate::support::process::Service;
use crate::support::receiver::{Receiver, Recorded, Reply};
use crate::support::wait::eventually;

#[tokio::test]
async fn what_was_said_while_the_connection_was_cut_comes_in_order_and_is_marked() {
    let talk = Talk::start().await;
    talk.bo_says("before");
    talk.texts(1).await;
    talk.while_cut(async || {
        for text in ["one", "two", "three"] {
            talk.bo_says(text);
            next_millisecond().await;
        }
    })
    .await;
    talk.texts(4).await;
    talk.recovered().await;
    talk.bo_says("after");
    assert_eq!(talk.texts(5).await, ["before", "+one", "+two", "+three", "after"]);
    let recovery = talk.recovered().await;
    assert_eq!((&recovery["state"], &recovery["eventsRecovered"], &recovery["gaps"]), (&json!("idle"), &json!(3), &json!([])));
    assert!(recovery["lastAt"].is_string());
    assert!(talk.bridge.shows("spaces_bridge_events_recovered_total 3").await);
    assert!(talk.bridge.shows("spaces_bridge_recoveries_total{result=\"closed\"} 1").await);
    assert!(talk.bridge.shows("spaces_bridge_recoveries_open 0").await);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn every_way_to_lose_a_connection_is_followed_by_a_recovery() {
    let talk = Talk::start().await;
    let mut expected = Vec::new();
    for (number, fault) in [Fault::Kick, Fault::Disconnect, Fault::Close, Fault::Cut, Fault::Reset].into_iter().enumerate() {
        talk.scene.upstream.fault(&Who::Everybody, &Fault::Deafen);
        talk.bo_says(&format!("unheard {number}"));
        talk.scene.upstream.fault(&Who::Everybody, &fault);
        expected.push(format!("+unheard {number}"));
        assert_eq!(talk.texts(expected.len()).await, expected, "{fault:?}");
        talk.listening_to(&talk.scene.space).await;
    }
    talk.bridge.stop().await;
}

#[tokio::test]
async fn edits_and_deletions_that_nobody_heard_are_events() {
    let talk = Talk::start().await;
    let (edited, deleted) = (talk.bo_says("first"), talk.bo_says("second"));
    talk.texts(2).await;
    next_millisecond().await;
    talk.while_cut(async || {
        talk.scene.upstream.edit(&edited, "first, corrected").expect("it exists");
        talk.scene.upstream.delete(&deleted).expect("it exists");
    })
    .await;
    talk.texts(4).await;
    let query = format!("type=message.*&space={}", talk.scene.space.as_ref());
    let found = talk.events(&query).await;
    let types: Vec<_> = found.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!(types, ["message.created", "message.created", "message.updated", "message.deleted"]);
    assert_eq!(text(&found[2]), "+first, corrected");
    assert_eq!(found[3]["data"]["message"]["id"], deleted);
    talk.recovered().await;
    assert_eq!(talk.events(&query).await.len(), 4);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn what_was_said_while_the_service_stood_still_reaches_the_webhooks_after_the_restart() {
    let scene = Scene::new().await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let bridge = Bridge::start(&scene.upstream).await;
    bridge.register_with(&scene.token, &receiver, json!({"ordering": "space"})).await;
    let listening = async || {
        let seen = scene.upstream.wait_until(DEADLINE, |seen| seen.is_subscribed(&scene.token, scene.space.as_ref()));
        seen.await.expect("the session listens");
    };
    listening().await;
    bo_says(&scene, &scene.space, "before");
    eventually("the first event", async || (receiver.count() == 1).then_some(())).await;
    let stopped = bridge.stop_for_now().await;
    bo_says(&scene, &scene.space, "while it stood still");
    let bridge = stopped.start().await;
    eventually("the missed event", async || (receiver.count() == 2).then_some(())).await;
    listening().await;
    bo_says(&scene, &scene.space, "after");
    eventually("the last event", async || (receiver.count() == 3).then_some(())).await;
    let texts: Vec<String> = receiver.recorded().iter().map(Recorded::json).map(|event| text(&event)).collect();
    assert_eq!(texts, ["before", "+while it stood still", "after"]);
    drop(receiver);
    bridge.stop().await;
}

#[tokio::test]
async fn what_was_said_while_a_killed_service_was_down_is_recovered() {
    let scene = Scene::new().await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let service = Service::start(&scene.upstream, &[]).await;
    service.register(&scene.token, &receiver).await;
    let seen = scene.upstream.wait_until(DEADLINE, |seen| seen.is_subscribed(&scene.token, scene.space.as_ref()));
    seen.await.expect("the session listens");
    bo_says(&scene, &scene.space, "before");
    eventually("the first event", async || (receiver.count() >= 1).then_some(())).await;
    let killed = service.kill().await;
    let ids: Vec<String> = (0..60).map(|number| bo_says(&scene, &scene.space, &format!("missed {number}"))).collect();
    let service = killed.start().await;
    eventually("every message", async || {
        let bodies: Vec<_> = receiver.recorded().iter().map(Recorded::json).collect();
        ids.iter().all(|id| bodies.iter().any(|body| body["data"]["message"]["id"] == **id)).then_some(())
    })
    .await;
    let page = service.get("/events?type=message.*&limit=200", &scene.token).await.json();
    let texts: Vec<String> = page["data"].as_array().expect("a list").iter().map(text).collect();
    let missed = (0..60).map(|number| format!("+missed {number}"));
    assert_eq!(texts, std::iter::once("before".to_owned()).chain(missed).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_comes_in_while_the_history_is_slow_waits_for_it_and_other_spaces_do_not() {
    let talk = Talk::with(|config| config.upstream.rest_timeout_seconds = 2).await;
    let lounge = talk.scene.upstream.space("Lounge", &[&talk.scene.ana, &talk.scene.bo]);
    talk.subscribe(&lounge).await;
    let slow = format!("/api/spaces/{}/messages/query", talk.scene.space.as_ref());
    talk.scene.upstream.script(|script| {
        script.rest.on("/api/activitiesrecord/messages").always(RestFault::status(404, "not.found", "no such endpoint"));
        script.rest.on(&slow).next(2, RestFault::Hang);
    });
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    talk.listening_to(&talk.scene.space).await;
    talk.listening_to(&lounge).await;
    talk.bo_says("live");
    bo_says(&talk.scene, &lounge, "elsewhere");
    let elsewhere = talk.texts_in(&lounge, 1).await;
    assert_eq!(elsewhere[0].trim_start_matches('+'), "elsewhere", "its own history may have been quicker");
    assert_eq!(talk.texts(0).await, Vec::<String>::new());
    assert_eq!(talk.texts(2).await, ["+missed", "live"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn what_was_heard_of_a_message_before_it_changed_goes_before_the_change_that_the_history_tells() {
    let talk = Talk::start().await;
    talk.scene.upstream.script(|script| {
        script.rest.on("/api/activitiesrecord/messages").next(1, RestFault::Slow(Duration::from_secs(1)));
    });
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    talk.listening_to(&talk.scene.space).await;
    let (edited, deleted) = (talk.bo_says("first"), talk.bo_says("second"));
    talk.scene.upstream.edit(&edited, "changed").expect("it exists");
    talk.scene.upstream.delete(&deleted).expect("it exists");
    talk.texts(5).await;
    let events = talk.events("type=message.*").await;
    for (message, types) in
        [(&edited, ["message.created", "message.updated"]), (&deleted, ["message.created", "message.deleted"])]
    {
        let told = events.iter().filter(|event| event["data"]["message"]["id"] == **message);
        assert_eq!(told.map(|event| &event["type"]).collect::<Vec<_>>(), types);
    }
    talk.bridge.stop().await;
}

#[tokio::test]
async fn what_comes_in_waits_no_longer_than_its_time_and_nothing_is_lost() {
    let talk = Talk::with(|config| {
        config.session.recovery_hold_seconds = 0;
        config.upstream.rest_timeout_seconds = 1;
    })
    .await;
    talk.scene.upstream.script(|script| {
        script.rest.on("/api/activitiesrecord/messages").always(RestFault::Hang);
        script.rest.on("/api/spaces/*/messages/query").always(RestFault::Hang);
    });
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    talk.listening_to(&talk.scene.space).await;
    talk.bo_says("live");
    assert_eq!(talk.texts(1).await, ["live"]);
    assert_eq!(talk.bridge.session().await["recovery"]["state"], "running");
    talk.scene.upstream.script(|script| script.rest.off());
    assert_eq!(talk.texts(2).await, ["live", "+missed"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_recovery_begins_it_anew() {
    let talk = Talk::with(|config| {
        config.session.recovery_hold_seconds = 0;
        config.upstream.rest_timeout_seconds = 1;
    })
    .await;
    for path in ["/api/activitiesrecord/messages", "/api/spaces/*/messages/query"] {
        talk.scene.upstream.script(|script| {
            script.rest.on(path).always(RestFault::status(503, "unavailable", "come back later"));
        });
    }
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    talk.listening_to(&talk.scene.space).await;
    talk.bo_says("live");
    talk.texts(1).await;
    let bridge = talk.bridge.restart().await;
    talk.scene.upstream.script(|script| script.rest.off());
    let query = format!("type=message.*&space={}", talk.scene.space.as_ref());
    let found = eventually("the missed message", async || {
        let found = events(&bridge, &talk.scene, &query).await;
        (found.len() == 2).then_some(found)
    });
    assert_eq!(found.await.iter().map(text).collect::<Vec<_>>(), ["live", "+missed"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_change_that_was_heard_is_the_same_event_in_the_words_of_the_history() {
    let styles = [ChangeStyle::Flag, ChangeStyle::Category("chat.updated".to_owned())];
    let deletions = [ChangeStyle::Flag, ChangeStyle::Category("chat.deleted".to_owned())];
    for (edits, deletions) in styles.into_iter().zip(deletions) {
        let talk = Talk::start().await;
        talk.scene.upstream.script(|script| {
            script.edits.always(edits.clone());
            script.deletions.always(deletions);
        });
        let (edited, deleted) = (talk.bo_says("first"), talk.bo_says("second"));
        next_millisecond().await;
        talk.scene.upstream.edit(&edited, "first, corrected").expect("it exists");
        talk.scene.upstream.delete(&deleted).expect("it exists");
        talk.texts(4).await;
        talk.while_cut(async || {
            talk.bo_says("missed");
        })
        .await;
        talk.texts(5).await;
        talk.recovered().await;
        assert_eq!(talk.texts(5).await.len(), 5, "{edits:?}");
        assert_eq!(talk.bridge.session().await["recovery"]["eventsRecovered"], 1, "{edits:?}");
        talk.bridge.stop().await;
    }
}

#[tokio::test]
async fn a_fresh_token_closes_the_gap_that_a_refused_one_left() {
    let talk = Talk::start().await;
    talk.bo_says("before");
    talk.texts(1).await;
    talk.scene.upstream.script(|script| {
        script.expiry.always(Expiry::Fault(Fault::Kick));
    });
    talk.scene.upstream.expire(&talk.scene.token);
    eventually("the refusal", async || (talk.bridge.session().await["state"] == "auth_failed").then_some(())).await;
    talk.bo_says("missed");
    next_millisecond().await;
    let fresh = talk.scene.upstream.token_for(&talk.scene.ana, TokenKind::Jwt);
    assert_eq!(talk.bridge.say(&fresh, &talk.scene.space, "I am back").await.status, StatusCode::CREATED);
    let path = format!("/events?type=message.*&space={}", talk.scene.space.as_ref());
    let found = eventually("all three", async || {
        let found = talk.bridge.get(&path, &fresh).await.json()["data"].as_array().expect("a list").clone();
        (found.len() == 3).then_some(found)
    });
    let mut texts: Vec<String> = found.await.iter().map(text).collect();
    texts.sort();
    assert_eq!(texts, ["+missed", "I am back", "before"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_session_that_takes_over_closes_the_gap_of_the_one_before() {
    let talk = Talk::start().await;
    let (upstream, token) = (&talk.scene.upstream, &talk.scene.token);
    talk.bo_says("before");
    talk.texts(1).await;
    upstream.script_for(token, |script| {
        script.refuse.always(Refusal::Hangup);
    });
    upstream.fault(&Who::token(token), &Fault::Cut);
    upstream.wait_until(DEADLINE, |seen| seen.open_now_with(token) == 0).await.expect("the connection ends");
    talk.bo_says("missed");
    let fresh = upstream.token_for(&talk.scene.ana, TokenKind::Jwt);
    let path = format!("/spaces/{}/subscription", talk.scene.space.as_ref());
    assert_eq!(talk.bridge.put(&path, &fresh).await.status, StatusCode::OK);
    assert_eq!(talk.texts(2).await, ["before", "+missed"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_send_whose_echo_was_lost_with_the_connection_is_found_in_the_history() {
    let talk = Talk::start().await;
    talk.bo_says("the same words");
    talk.scene.upstream.post_as(&talk.scene.ana, &talk.scene.space, "the same words").expect("Ana is a member");
    talk.texts(2).await;
    talk.scene.upstream.script(|script| {
        script.send_fault.next(1, SendFault::AfterStoring(Fault::Cut));
        script.echo.next(1, EchoFault::Missing);
    });
    let answer = talk.bridge.say(&talk.scene.token, &talk.scene.space, "the same words").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let path = format!("/messages/{}", answer.json()["ref"].as_str().expect("a reference"));
    let record = eventually("the confirmation", async || {
        let record = talk.bridge.get(&path, &talk.scene.token).await.json();
        (record["status"] == "confirmed").then_some(record)
    })
    .await;
    let ids: Vec<String> = talk
        .scene
        .upstream
        .with_world(|world| world.messages_in(talk.scene.space.as_ref()).iter().map(|message| message.id.clone()).collect());
    assert_eq!(ids.len(), 3, "nothing was sent twice");
    assert_eq!(record["id"], ids[2].as_str());
    talk.texts(3).await;
    let found = talk.events(&format!("type=message.*&space={}", talk.scene.space.as_ref())).await;
    assert_eq!((&found[2]["data"]["own"], &found[2]["data"]["recovered"]), (&json!(true), &json!(true)));
    assert_eq!(found[1]["data"]["own"], false);
    talk.bridge.stop().await;
}
