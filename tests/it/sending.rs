//! Sending over the real service: what callers get, whatever the upstream does.

use std::time::Duration;

use fake_upstream::{
    EchoFault, FakeUpstream, Fault, Limits, Options, Place, Refusal, RestFault, Seen, SendFault, SendRefusal, TextStyle, Token,
    TokenKind, UserKind, Who,
};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// Long enough for everything that happens at all.
const SOON: Duration = Duration::from_secs(30);

fn messages(scene: &Scene) -> String {
    format!("/spaces/{}/messages", scene.space.as_ref())
}

/// Waits until the upstream has seen this many `SEND_MESSAGE`.
async fn sent(upstream: &FakeUpstream, count: usize) {
    upstream.wait_until(SOON, |seen| seen.emits_of("SEND_MESSAGE").count() >= count).await.expect("the sends");
}

/// A session that is online, subscribed and knows its user.
async fn warm_up(bridge: &Bridge, scene: &Scene) {
    assert_eq!(bridge.get("/me", &scene.token).await.status, StatusCode::OK);
    let answer = bridge.say(&scene.token, &scene.space, "warm-up").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
}

/// Waits until `location` tells that the message is confirmed.
async fn confirmed_later(bridge: &Bridge, token: &Token, location: &str) -> Value {
    eventually("the late echo", async || {
        let state = bridge.get(location, token).await.json();
        (state["status"] == "confirmed").then_some(state)
    })
    .await
}

#[tokio::test]
async fn a_message_is_confirmed_with_the_id_that_spaces_gave_it() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let answer = bridge.say(&scene.token, &scene.space, "1 < 2 & \"so\"\non").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let sent = answer.json();
    let id = sent["id"].as_str().expect("an id");
    let stored = scene.upstream.with_world(|world| world.find_message(id).cloned()).expect("the upstream has it");
    assert_eq!(stored.text(), "1 &lt; 2 &amp; &quot;so&quot;<br>on");
    assert_eq!(sent["message"]["_id"], id);
    let reference = sent["ref"].as_str().expect("a reference");
    assert_eq!(answer.header("location"), format!("/messages/{reference}"));
    let state = bridge.get(&format!("/messages/{reference}"), &scene.token).await.json();
    assert_eq!((state["status"].as_str(), state["id"].as_str()), (Some("confirmed"), Some(id)));
    bridge.stop().await;
}

#[tokio::test]
async fn html_keeps_what_spaces_shows_and_loses_the_rest() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let html = concat!(
        r#"<p onclick="x()">a <b style="x">b</b><script>x()</script><img src="x" onerror="x()">"#,
        r#"<a href="javascript:x()">c</a><a href="https://example.com/?a=1&amp;b=2">d</a></p>"#,
    );
    let answer = bridge.post(&messages(&scene), &scene.token, &json!({ "html": html })).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(scene.texts(), [r#"<p>a <b>b</b><a>c</a><a href="https://example.com/?a=1&amp;b=2">d</a></p>"#]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_reply_becomes_a_comment_of_its_post() {
    let scene = Scene::new().await;
    let post = json!({"category": "idea", "content": {"bodyText": "Plan"}});
    let post = scene.upstream.send_as(&scene.bo, &scene.space, &post).expect("a post");
    let bridge = Bridge::start(&scene.upstream).await;
    let body = json!({"text": "agreed", "replyTo": post["_id"]});
    let answer = bridge.post(&messages(&scene), &scene.token, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["message"]["parentMsg"]["_id"], post["_id"]);
    bridge.stop().await;
}

#[tokio::test]
async fn files_uploaded_before_are_attached() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let attachment = json!({"fileId": "0b7f3c7e", "name": "report.pdf", "fileSize": 20480, "fileType": "document",
        "providerFileType": "application/pdf"});
    for body in [json!({"text": "see", "attachments": [attachment]}), json!({"attachments": [attachment]})] {
        let answer = bridge.post(&messages(&scene), &scene.token, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let sent = &answer.json()["message"]["content"]["data"][0];
        assert_eq!(
            (&sent["fileId"], &sent["name"], &sent["fileSize"]),
            (&json!("0b7f3c7e"), &json!("report.pdf"), &json!(20480))
        );
        assert_eq!((&sent["fileType"], &sent["provider"]), (&json!("document"), &json!("native")));
    }
    bridge.stop().await;
}

#[tokio::test]
async fn the_form_that_spaces_takes_is_passed_on_as_it_is() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let content = json!({"bodyText": "Rotate keys", "description": "<p>soon</p>", "dueDate": "2031-03-14T17:00:00.000Z",
        "assignees": [{"_id": scene.bo.id}], "status": "pending", "data": [], "of": {"tomorrow": [1, null, "ä"]}});
    let body = json!({"category": "task", "topicId": scene.space.id, "content": content, "version": "1.1", "chatMessages": {},
        "loopbackMetadata": {"mine": 1}});
    let answer = bridge.post(&messages(&scene), &scene.token, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["category"], "task");
    let emitted = scene.upstream.seen(Seen::sends).pop().expect("a send");
    assert_eq!((&emitted["content"], &emitted["version"]), (&content, &json!("1.1")));
    assert_eq!(emitted["loopbackMetadata"]["ref"], answer.json()["ref"]);
    bridge.stop().await;
}

#[tokio::test]
async fn concurrent_first_calls_share_one_connection() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let texts: Vec<_> = (0..20).map(|number| format!("message {number}")).collect();
    let answers = join_all(texts.iter().map(|text| bridge.say(&scene.token, &scene.space, text))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED));
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&scene.token)), 1);
    assert_eq!(scene.texts().len(), 20);
    bridge.stop().await;
}

#[tokio::test]
async fn messages_to_one_space_leave_in_the_order_they_came() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.echo.always(EchoFault::Held);
    });
    let texts: Vec<_> = (0..20).map(|number| format!("message {number}")).collect();
    let sends = join_all(texts.iter().map(|text| bridge.say(&scene.token, &scene.space, text)));
    let release = async {
        sent(&scene.upstream, 21).await;
        scene.upstream.release();
    };
    let (answers, ()) = tokio::join!(sends, release);
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED));
    let emitted: Vec<_> = scene.upstream.seen(Seen::sends).iter().map(|send| send["content"]["bodyText"].clone()).collect();
    assert_eq!(scene.texts(), emitted.iter().map(|text| text.as_str().expect("a text").to_owned()).collect::<Vec<_>>());
    for (text, answer) in texts.iter().zip(&answers) {
        assert_eq!(answer.json()["message"]["content"]["bodyText"], *text, "each caller gets its own message");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn an_echo_that_never_comes_leaves_the_message_unconfirmed_and_sent_once() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Missing);
    });
    let answer = bridge.say_within(1, &scene.token, &scene.space, "lost").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!((answer.json()["status"].as_str(), answer.header("preference-applied")), (Some("unconfirmed"), "wait=1"));
    let location = answer.header("location").to_owned();
    assert_eq!(bridge.say(&scene.token, &scene.space, "next").await.status, StatusCode::CREATED);
    let state = bridge.get(&location, &scene.token).await;
    assert_eq!(state.json()["status"], "unconfirmed", "{}", state.text);
    bridge.get(&location, scene.bos_token()).await.assert_problem(404, "message_not_found");
    assert_eq!(scene.texts(), ["warm-up", "lost", "next"]);
    let bridge = bridge.restart().await;
    assert_eq!(bridge.get(&location, &scene.token).await.json()["status"], "unconfirmed", "it is remembered over a restart");
    assert_eq!(scene.texts().len(), 3);
    bridge.stop().await;
}

#[tokio::test]
async fn an_echo_after_the_deadline_still_settles_the_send() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Held);
    });
    let answer = bridge.say_within(1, &scene.token, &scene.space, "late").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    scene.upstream.release();
    let state = confirmed_later(&bridge, &scene.token, answer.header("location")).await;
    let id = state["id"].as_str().expect("an id");
    assert!(scene.upstream.with_world(|world| world.find_message(id).is_some()));
    bridge.stop().await;
}

#[tokio::test]
async fn a_caller_who_does_not_wait_finds_the_outcome_later() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    let answer = bridge.say_within(0, &scene.token, &scene.space, "no wait").await;
    assert!([StatusCode::ACCEPTED, StatusCode::CREATED].contains(&answer.status), "{}", answer.text);
    confirmed_later(&bridge, &scene.token, answer.header("location")).await;
    assert_eq!(scene.texts(), ["warm-up", "no wait"]);
    bridge.stop().await;
}

#[tokio::test]
async fn an_echo_without_metadata_is_known_by_sender_and_text() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    let odd = json!({"text": "it's \"odd\" & <b>\nold"});
    let html = json!({"html": "<p>it's \"<b>odd</b>\" &amp; so</p>"});
    let files = json!({"attachments": [{"fileId": "f", "name": "n", "fileSize": 1, "fileType": "image", "providerFileType": "image/png"}]});
    for (style, body) in [
        (None, &odd),
        (Some(TextStyle::Paragraph), &odd),
        (Some(TextStyle::Paragraph), &html),
        (Some(TextStyle::Entities), &html),
        (Some(TextStyle::ParagraphAndEntities), &odd),
        (Some(TextStyle::ParagraphAndEntities), &html),
        (Some(TextStyle::Escaped), &json!({"text": "plain words"})),
        (None, &files),
    ] {
        scene.upstream.script(|script| {
            script.echo.next(1, EchoFault::WithoutLoopback);
            if let Some(style) = style {
                script.text.next(1, style);
            }
        });
        let answer = bridge.post(&messages(&scene), &scene.token, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{style:?} {body}: {}", answer.text);
        assert_eq!(answer.json()["message"].get("loopbackMetadata"), None);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn equal_texts_in_flight_get_an_id_each() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.echo.always(EchoFault::WithoutLoopback);
    });
    let answers = join_all((0..5).map(|_| bridge.say(&scene.token, &scene.space, "same"))).await;
    let mut ids: Vec<_> = answers.iter().map(|answer| answer.json()["id"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    bridge.stop().await;
}

#[tokio::test]
async fn the_same_words_of_someone_else_confirm_nothing() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Held);
    });
    let others = async {
        sent(&scene.upstream, 2).await;
        scene.upstream.post_as(&scene.bo, &scene.space, "yes").expect("a message");
        scene.upstream.release();
    };
    let (answer, ()) = tokio::join!(bridge.say(&scene.token, &scene.space, "yes"), others);
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["message"]["sender"]["_id"], scene.ana.id);
    bridge.stop().await;
}

#[tokio::test]
async fn a_duplicate_echo_is_one_event() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    bridge.register(&scene.token, &receiver).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Twice);
    });
    for text in ["twice", "once"] {
        assert_eq!(bridge.say(&scene.token, &scene.space, text).await.status, StatusCode::CREATED);
    }
    eventually("both deliveries", async || (receiver.count() >= 2).then_some(())).await;
    let mut ids: Vec<_> = receiver.recorded().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 2);
    assert_eq!(receiver.count(), 2);
    bridge.stop().await;
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_a_send_never_posts_twice() {
    for stored in [false, true] {
        for fault in [Fault::Cut, Fault::Reset, Fault::Close, Fault::Kick, Fault::Disconnect] {
            let scene = Scene::new().await;
            let bridge = Bridge::start(&scene.upstream).await;
            warm_up(&bridge, &scene).await;
            scene.upstream.script(|script| {
                let fault = fault.clone();
                let blow = if stored { SendFault::AfterStoring(fault) } else { SendFault::BeforeStoring(fault) };
                script.send_fault.next(1, blow);
            });
            let answer = bridge.say(&scene.token, &scene.space, "doubtful").await;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{fault:?}: {}", answer.text);
            let state = answer.json();
            assert_eq!(state["status"], "unconfirmed");
            assert!(state["reason"].as_str().is_some_and(|reason| reason.contains("connection")), "{state}");
            let next = bridge.say(&scene.token, &scene.space, "after").await;
            assert_eq!(next.status, StatusCode::CREATED, "{fault:?}: {}", next.text);
            let expected: &[&str] = if stored { &["warm-up", "doubtful", "after"] } else { &["warm-up", "after"] };
            assert_eq!(scene.texts(), expected, "{fault:?}");
            // What Spaces stored is found in the history; of what it did not, nothing can be known.
            let known = if stored { "confirmed" } else { "unconfirmed" };
            eventually(known, async || {
                let session = bridge.session().await;
                let record = bridge.get(answer.header("location"), &scene.token).await.json();
                (session["recovery"]["spacesLeft"] == 0 && record["status"] == known).then_some(())
            })
            .await;
            bridge.stop().await;
        }
    }
}

#[tokio::test]
async fn every_shape_of_refusal_is_a_problem_with_the_upstreams_code() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    let object = SendRefusal::Object { code: "too.odd".to_owned(), message: "too odd for us".to_owned() };
    let archived = SendRefusal::Text("topic.invalid_acesss_to_archived_topic".to_owned());
    for without_loopback in [false, true] {
        for (refusal, status, code, upstream_code) in [
            (SendRefusal::policy(), 403, "message_forbidden", json!("not.authorized.by.topic.policy")),
            (object.clone(), 422, "message_refused", json!("too.odd")),
            (archived.clone(), 422, "message_refused", json!("topic.invalid_acesss_to_archived_topic")),
            (SendRefusal::Bare, 422, "message_refused", Value::Null),
        ] {
            scene.upstream.script(|script| {
                script.send_refusal.next(1, refusal.clone());
                if without_loopback {
                    script.failure_without_loopback.next(1, ());
                }
            });
            let answer = bridge.say(&scene.token, &scene.space, "it's \"refused\"").await;
            answer.assert_problem(status, code);
            assert_eq!(answer.json()["upstreamCode"], upstream_code, "{refusal:?}");
        }
    }
    assert_eq!(scene.texts(), ["warm-up"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_refusal_after_the_deadline_is_told_by_the_reference() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::Silence);
    });
    let answer = bridge.say_within(1, &scene.token, &scene.space, "slowly refused").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let mut refused = scene.upstream.seen(Seen::sends).pop().expect("a send");
    refused["error"] = "not.authorized.by.topic.policy".into();
    scene.upstream.inject(&Who::token(&scene.token), "SEND_MESSAGE_FAILED", &refused);
    let state = eventually("the refusal", async || {
        let state = bridge.get(answer.header("location"), &scene.token).await.json();
        (state["status"] == "failed").then_some(state)
    });
    assert_eq!(state.await["upstreamCode"], "not.authorized.by.topic.policy");
    bridge.stop().await;
}

#[tokio::test]
async fn a_lost_subscription_is_renewed_and_the_message_sent_once_more() {
    for without_loopback in [false, true] {
        for place in [Place::Error, Place::ErrorCode, Place::Category, Place::Type, Place::Code] {
            let scene = Scene::new().await;
            let bridge = Bridge::start(&scene.upstream).await;
            warm_up(&bridge, &scene).await;
            scene.upstream.script(|script| {
                script.subscription_required.next(1, place);
                if without_loopback {
                    script.failure_without_loopback.next(1, ());
                }
            });
            scene.upstream.fault(&Who::token(&scene.token), &Fault::Unsubscribe(scene.space.id.clone()));
            let answer = bridge.say(&scene.token, &scene.space, "again").await;
            assert_eq!(answer.status, StatusCode::CREATED, "{place:?}: {}", answer.text);
            assert_eq!(scene.texts(), ["warm-up", "again"]);
            let counts = scene.upstream.seen(|seen| (seen.sends().len(), seen.emits_of("SUBSCRIBE_CHANNEL").count()));
            assert_eq!(counts, (3, 2), "{place:?}");
            bridge.stop().await;
        }
    }
}

#[tokio::test]
async fn a_subscription_that_does_not_help_is_a_conflict_after_one_more_try() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        script.send_refusal.always(SendRefusal::SubscriptionRequired(Place::Error));
    });
    bridge.say(&scene.token, &scene.space, "never").await.assert_problem(409, "subscription_required");
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 2);
    bridge.stop().await;
}

#[tokio::test]
async fn messages_that_wait_for_a_renewed_subscription_keep_their_order() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    scene.upstream.script(|script| {
        // All are accepted before the first one can leave.
        script.ack_delay.next(1, Duration::from_secs(1));
        script.send_refusal.next(5, SendRefusal::SubscriptionRequired(Place::Error));
    });
    let texts: Vec<_> = (0..5).map(|number| format!("message {number}")).collect();
    let answers = join_all(texts.iter().map(|text| bridge.say(&scene.token, &scene.space, text))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED));
    let mut order: Vec<String> = Vec::new();
    for send in scene.upstream.seen(Seen::sends) {
        let text = send["content"]["bodyText"].as_str().expect("a text").to_owned();
        if !order.contains(&text) {
            order.push(text);
        }
    }
    assert_eq!(scene.texts(), order);
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_spaces_would_not_take_is_refused_with_both_sizes() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for body in [
        json!({"text": "x".repeat(20_000)}),
        json!({"text": "<".repeat(5_000)}),
        json!({"html": "<p>x</p>".repeat(10_000)}),
        json!({"content": {"bodyText": "x", "extra": "y".repeat(20_000)}}),
    ] {
        let answer = bridge.post(&messages(&scene), &scene.token, &body).await;
        answer.assert_problem(413, "message_too_large");
        let problem = answer.json();
        assert_eq!(problem["limit"], 16 << 10);
        assert!(problem["size"].as_u64() > problem["limit"].as_u64(), "{problem}");
    }
    assert_eq!(scene.upstream.seen(|seen| (seen.opened(), seen.emits_total())), (0, 0));
    bridge.stop().await;
}

#[tokio::test]
async fn a_subscription_that_the_budget_holds_is_told_so_too() {
    let scene = Scene::new().await;
    let other = scene.upstream.space("Other", &[&scene.ana]);
    let bridge = Bridge::start_with(&scene.upstream, |config| config.upstream.emits_per_minute = Some(1)).await;
    let path = |space: &str| format!("/spaces/{space}/subscription");
    assert_eq!(bridge.put(&path(scene.space.as_ref()), &scene.token).await.status, StatusCode::OK);
    for answer in [
        bridge.say_within(1, &scene.token, &scene.space, "held").await,
        bridge.say_within(1, &scene.token, &other, "held").await,
        bridge.put(&path(other.as_ref()), &scene.token).await,
    ] {
        answer.assert_problem(429, "emit_budget_exhausted");
        let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=62).contains(&seconds), "{seconds}");
    }
    assert_eq!(scene.upstream.seen(Seen::emits_total), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_send_under_way_when_the_service_stops_is_still_confirmed() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    warm_up(&bridge, &scene).await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Held);
    });
    let request = bridge.request(Method::POST, &messages(&scene), &scene.token).json(&json!({"text": "last words"}));
    let sending = tokio::spawn(send(request));
    sent(&scene.upstream, 2).await;
    let address = bridge.api.trim_start_matches("http://").to_owned();
    let stopping = tokio::spawn(bridge.stop());
    eventually("a closed listener", async || tokio::net::TcpStream::connect(&address).await.err()).await;
    scene.upstream.release();
    let answer = sending.await.expect("no panic");
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    stopping.await.expect("no panic");
    assert_eq!(scene.upstream.seen(Seen::open_now), 0);
}

#[tokio::test]
async fn a_full_queue_tells_callers_to_come_again() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.refuse.always(Refusal::Unanswered);
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let answers = join_all((0..300).map(|_| bridge.say_within(3, &scene.token, &scene.space, "crowd"))).await;
    let (busy, waited): (Vec<&Answer>, Vec<&Answer>) =
        answers.iter().partition(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS);
    assert!(!busy.is_empty() && !waited.is_empty());
    for answer in busy {
        answer.assert_problem(429, "session_busy");
        assert_eq!(answer.header("retry-after"), "1");
    }
    for answer in waited {
        answer.assert_problem(503, "not_connected");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_down_at_the_first_call_gets_nothing_later() {
    let scene = Scene::new().await;
    scene.upstream.stop().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let answer = bridge.say_within(1, &scene.token, &scene.space, "too early").await;
    answer.assert_problem(503, "not_connected");
    assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    let session = bridge.session().await;
    assert_eq!(session["state"], "connecting");
    assert!(session["reason"].is_string(), "{session}");
    scene.upstream.restart().await.expect("the same port");
    let answer = bridge.say_within(60, &scene.token, &scene.space, "in time").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(scene.texts(), ["in time"]);
    bridge.stop().await;
}

#[tokio::test]
async fn every_kind_of_token_sends() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let bridge = Bridge::start(&scene.upstream).await;
    for kind in [TokenKind::Jwt, TokenKind::Oauth, TokenKind::Service] {
        let token = scene.upstream.token_for(&scene.ana, kind);
        let authorization = token.authorization();
        let url = format!("{}{}", bridge.api, messages(&scene));
        let request = bridge.plain(Method::POST, &url).header("authorization", authorization);
        let answer = send(request.json(&json!({"text": "hi"}))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{kind:?}: {}", answer.text);
    }
    bridge.stop().await;
}

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
