//! Sending over the real service: what callers get, whatever the upstream does.

use std::time::Duration;

use fake_upstream::{EchoFault, FakeUpstream, Options, SendRefusal, Space, Token, TokenKind};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::bridge::{Bridge, send};

/// Ana, her token, and a space that she shares with Bo.
async fn upstream() -> (FakeUpstream, Token, Space) {
    let upstream = FakeUpstream::start(Options::default()).await.expect("a fake upstream");
    let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
    let token = upstream.token_for(&ana, TokenKind::Jwt);
    let space = upstream.space("Ops", &[&ana, &bo]);
    (upstream, token, space)
}

#[tokio::test]
async fn a_message_is_confirmed_with_the_id_that_spaces_gave_it() {
    let (upstream, token, space) = upstream().await;
    let bridge = Bridge::start(&upstream).await;
    let answer = bridge.say(&token, &space, "1 < 2 & \"so\"\non").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let sent = answer.json();
    let id = sent["id"].as_str().expect("an id");
    let stored = upstream.with_world(|world| world.find_message(id).cloned()).expect("the upstream has it");
    assert_eq!(stored.text(), "1 &lt; 2 &amp; &quot;so&quot;<br>on");
    assert_eq!(sent["message"]["_id"], id);
    let reference = sent["ref"].as_str().expect("a reference");
    assert_eq!(answer.header("location"), format!("/messages/{reference}"));
    let state = bridge.get(&format!("/messages/{reference}"), &token).await.json();
    assert_eq!((state["status"].as_str(), state["id"].as_str()), (Some("confirmed"), Some(id)));
    bridge.stop().await;
}

#[tokio::test]
async fn concurrent_first_calls_share_one_connection() {
    let (upstream, token, space) = upstream().await;
    let bridge = Bridge::start(&upstream).await;
    let texts: Vec<_> = (0..20).map(|number| format!("message {number}")).collect();
    let answers = futures_util::future::join_all(texts.iter().map(|text| bridge.say(&token, &space, text))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED));
    assert_eq!(upstream.seen(|seen| seen.opened_with(&token)), 1);
    assert_eq!(upstream.with_world(|world| world.messages_in(space.as_ref()).len()), 20);
    bridge.stop().await;
}

#[tokio::test]
async fn an_echo_after_the_deadline_still_settles_the_send() {
    let (upstream, token, space) = upstream().await;
    let bridge = Bridge::start(&upstream).await;
    assert_eq!(bridge.say(&token, &space, "first").await.status, StatusCode::CREATED);
    upstream.script(|script| {
        script.echo.next(1, EchoFault::Late(Duration::from_secs(2)));
    });
    let path = format!("/spaces/{}/messages", space.as_ref());
    let request = bridge.request(reqwest::Method::POST, &path, &token).header("prefer", "wait=1").json(&json!({"text": "late"}));
    let answer = send(request).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(answer.json()["status"], "unconfirmed");
    let location = answer.header("location").to_owned();
    let settled = crate::support::wait::eventually("the late echo", async || {
        let state = bridge.get(&location, &token).await.json();
        (state["status"] == "confirmed").then_some(state)
    });
    let id = settled.await["id"].as_str().expect("an id").to_owned();
    assert!(upstream.with_world(|world| world.find_message(&id).is_some()));
    bridge.stop().await;
}

#[tokio::test]
async fn a_refusal_by_spaces_is_a_problem_with_its_code() {
    let (upstream, token, space) = upstream().await;
    let bridge = Bridge::start(&upstream).await;
    upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::policy());
    });
    let answer = bridge.say(&token, &space, "not allowed").await;
    answer.assert_problem(403, "message_forbidden");
    assert_eq!(answer.json()["upstreamCode"], "not.authorized.by.topic.policy");
    bridge.stop().await;
}
