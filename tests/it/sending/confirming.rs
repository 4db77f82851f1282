//! Which answer of Spaces confirms which message, and what is told when none comes.

use fake_upstream::{EchoFault, Fault, Limits, Options, Seen, SendFault, TextStyle};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;

use super::{confirmed_later, messages, sent, warm_up};
use crate::support::bridge::{Bridge, Scene};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

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
