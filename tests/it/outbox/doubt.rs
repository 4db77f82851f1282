//! Messages that left, or may have: looked for before anything is sent again.

use fake_upstream::{EchoFault, Fault, RestFault, SendFault, SendRefusal, TextStyle};
use serde_json::{Value, json};

use super::{comes_to, impatient, queue, queue_message, say_with, shows, steps, told_failures};
use crate::support::bridge::{Bridge, Scene};

const HISTORY: [&str; 2] = ["/api/activitiesrecord/messages", "/api/spaces/*/messages/query"];

/// How often a message was emitted.
fn emits(scene: &Scene) -> usize {
    scene.upstream.seen(|seen| seen.sends().len())
}

async fn scene() -> (Scene, Bridge) {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, impatient).await;
    (scene, bridge)
}

#[tokio::test]
async fn a_message_whose_echo_is_missing_is_found_in_the_history() {
    let (scene, bridge) = scene().await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Missing);
        script.text.always(TextStyle::ParagraphAndEntities);
    });
    let answer = say_with(&bridge, &scene, "it's \"so\"", &[("idempotency-key", "k"), ("prefer", "wait=30")]).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(steps(&answer.json()), ["queued", "sent", "unconfirmed", "confirmed"]);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert!(scene.upstream.with_world(|world| world.find_message(&id).is_some()));
    assert_eq!((scene.texts().len(), emits(&scene)), (1, 1));
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_spaces_swallowed_is_sent_again_once_the_history_shows_that() {
    let (scene, bridge) = scene().await;
    scene.upstream.script(|script| script.send_refusal.next(1, SendRefusal::Silence).is_on());
    let first = queue(&bridge, &scene, "first").await;
    let second = queue(&bridge, &scene, "second").await;
    let state = comes_to(&bridge, &scene, &first, "confirmed").await;
    assert_eq!(steps(&state), ["queued", "sent", "unconfirmed", "queued", "sent", "confirmed"]);
    comes_to(&bridge, &scene, &second, "confirmed").await;
    assert_eq!((scene.texts(), emits(&scene)), (vec!["first".to_owned(), "second".to_owned()], 3));
    shows(&bridge, "spaces_bridge_outbox_resends_total 1").await;
    bridge.stop().await;
}

#[tokio::test]
async fn what_spaces_swallows_again_and_again_fails_and_is_told() {
    let (scene, bridge) = scene().await;
    scene.upstream.script(|script| script.send_refusal.always(SendRefusal::Silence).is_on());
    let location = queue(&bridge, &scene, "never").await;
    let state = comes_to(&bridge, &scene, &location, "failed").await;
    assert!(state["reason"].as_str().is_some_and(|reason| reason.contains("none of 3 tries")), "{state}");
    assert_eq!((scene.texts().len(), emits(&scene)), (0, 3));
    assert_eq!(told_failures(&bridge, &scene, 1).await, [state["ref"].clone()]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_connection_that_ends_on_the_way_sends_nothing_twice() {
    for (fault, copies) in [(SendFault::AfterStoring(Fault::Cut), 1), (SendFault::BeforeStoring(Fault::Cut), 2)] {
        let (scene, bridge) = scene().await;
        scene.upstream.script(|script| script.send_fault.next(1, fault.clone()).is_on());
        let location = queue(&bridge, &scene, "once").await;
        comes_to(&bridge, &scene, &location, "confirmed").await;
        assert_eq!((scene.texts(), emits(&scene)), (vec!["once".to_owned()], copies), "{fault:?}");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn while_the_history_cannot_be_read_nothing_is_sent_again() {
    for fault in [RestFault::status(500, "x", "broken"), RestFault::status(403, "x", "not yours")] {
        let scene = Scene::new().await;
        let bridge = Bridge::start_with(&scene.upstream, |config| {
            impatient(config);
            config.outbox.doubt_seconds = 2;
        })
        .await;
        scene.upstream.script(|script| {
            script.echo.next(1, EchoFault::Missing);
            for path in HISTORY {
                script.rest.on(path).always(fault.clone());
            }
        });
        let first = queue(&bridge, &scene, "in doubt").await;
        let second = queue(&bridge, &scene, "after it").await;
        // The space's next message waits until the doubt is given up.
        comes_to(&bridge, &scene, &second, "confirmed").await;
        let state = bridge.get(&first, &scene.token).await.json();
        assert_eq!(state["status"], "unconfirmed", "{state}");
        assert!(state["reason"].as_str().is_some_and(|reason| reason.contains("history")), "{state}");
        assert_eq!((scene.texts(), emits(&scene)), (vec!["in doubt".to_owned(), "after it".to_owned()], 2));
        shows(&bridge, r#"spaces_bridge_outbox_outcomes_total{outcome="unconfirmed"} 1"#).await;
        bridge.stop().await;
    }
}

#[tokio::test]
async fn one_listing_that_fails_is_no_proof_of_absence() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, impatient).await;
    scene.upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::Silence);
        script.rest.on(HISTORY[1]).next(2, RestFault::status(500, "x", "broken"));
    });
    let location = queue(&bridge, &scene, "once").await;
    comes_to(&bridge, &scene, &location, "confirmed").await;
    assert_eq!((scene.texts().len(), emits(&scene)), (1, 2));
    assert!(bridge.metric(r#"spaces_bridge_outbox_looks_total{result="failed"}"#).await >= 1.0);
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_of_the_same_words_is_not_taken_for_another_that_the_bridge_sent() {
    let (scene, bridge) = scene().await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "same").await.status, 201);
    scene.upstream.script(|script| script.echo.next(1, EchoFault::Missing).is_on());
    let found = say_with(&bridge, &scene, "same", &[("idempotency-key", "found"), ("prefer", "wait=30")]).await;
    assert_eq!(found.status, 201, "{}", found.text);
    scene.upstream.script(|script| script.send_refusal.next(1, SendRefusal::Silence).is_on());
    let swallowed = say_with(&bridge, &scene, "same", &[("idempotency-key", "swallowed"), ("prefer", "wait=30")]).await;
    assert_eq!(swallowed.status, 201, "{}", swallowed.text);
    assert_ne!(found.json()["id"], swallowed.json()["id"]);
    assert_eq!((scene.texts().len(), emits(&scene)), (3, 4));
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_outside_the_outbox_is_looked_for_too_and_never_sent_again() {
    let (scene, bridge) = scene().await;
    scene.upstream.script(|script| script.echo.next(1, EchoFault::Missing).is_on());
    let answer = bridge.say_within(1, &scene.token, &scene.space, "found").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (202, &"unconfirmed".into()), "{}", answer.text);
    let state = comes_to(&bridge, &scene, answer.header("location"), "confirmed").await;
    assert_eq!(steps(&state), ["unconfirmed", "confirmed"]);
    scene.upstream.script(|script| script.send_refusal.next(1, SendRefusal::Silence).is_on());
    let answer = bridge.say_within(1, &scene.token, &scene.space, "swallowed").await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    shows(&bridge, r#"spaces_bridge_outbox_looks_total{result="absent"} 1"#).await;
    shows(&bridge, r#"spaces_bridge_outbox_messages{state="doubtful"} 0"#).await;
    let state = bridge.get(answer.header("location"), &scene.token).await.json();
    assert_eq!(state["reason"], "the history of the space does not have it", "{state}");
    assert_eq!((scene.texts(), emits(&scene)), (vec!["found".to_owned()], 2));
    bridge.stop().await;
}

#[tokio::test]
async fn a_late_echo_ends_the_doubt_by_itself() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| {
        impatient(config);
        config.outbox.silence_seconds = 60;
    })
    .await;
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Held);
        for path in HISTORY {
            script.rest.on(path).always(RestFault::status(500, "x", "broken"));
        }
    });
    let location = queue(&bridge, &scene, "late").await;
    comes_to(&bridge, &scene, &location, "unconfirmed").await;
    scene.upstream.release();
    comes_to(&bridge, &scene, &location, "confirmed").await;
    shows(&bridge, r#"spaces_bridge_outbox_messages{state="doubtful"} 0"#).await;
    assert_eq!((scene.texts().len(), emits(&scene)), (1, 1));
    bridge.stop().await;
}

/// Posts and tasks, each with one of the same title by the same user that says something else beside it.
fn titled_alike(scene: &Scene) -> Vec<(Value, Value)> {
    let title = |category: &str| json!({"category": category, "title": "Rotate keys", "text": "before Friday"});
    let task = |assignee: &str, due_date: &str| {
        let mut task = title("task");
        task["assignees"] = json!([assignee]);
        task["dueDate"] = due_date.into();
        task
    };
    let content = |assignee: &str, due_date: &str| json!({"bodyText": "Rotate keys", "description": "before Friday", "assignees": [{"_id": assignee}], "dueDate": due_date});
    let (ana, bo) = (scene.ana.id.as_str(), scene.bo.id.as_str());
    let (one, other) = ("2031-03-14T17:00:00.000Z", "2031-03-15T17:00:00.000Z");
    vec![
        (title("post"), json!({"category": "idea", "content": {"bodyText": "Rotate keys", "description": "after Friday"}})),
        (title("task"), json!({"category": "task", "content": {"bodyText": "Rotate keys", "description": "after Friday"}})),
        (task(ana, one), json!({"category": "task", "content": content(bo, one)})),
        (task(ana, one), json!({"category": "task", "content": content(ana, other)})),
    ]
}

#[tokio::test]
async fn posts_and_tasks_in_doubt_are_told_from_others_of_the_same_title() {
    for (index, what) in ["description of a post", "description of a task", "assignees", "due date"].into_iter().enumerate() {
        let (scene, bridge) = scene().await;
        let (message, other) = titled_alike(&scene).swap_remove(index);
        // The session is there before the other appears, and sees it.
        assert_eq!(bridge.say(&scene.token, &scene.space, "hello").await.status, 201);
        let other = scene.upstream.send_as(&scene.ana, &scene.space, &other).expect("a message");
        let mut expected = emits(&scene);
        for (trouble, copies) in [("no echo", 1), ("stored and cut", 1), ("swallowed", 2), ("cut before", 2)] {
            scene.upstream.script(|script| match trouble {
                "no echo" => script.echo.next(1, EchoFault::Missing).is_on(),
                "swallowed" => script.send_refusal.next(1, SendRefusal::Silence).is_on(),
                "stored and cut" => script.send_fault.next(1, SendFault::AfterStoring(Fault::Cut)).is_on(),
                _ => script.send_fault.next(1, SendFault::BeforeStoring(Fault::Cut)).is_on(),
            });
            let location = queue_message(&bridge, &scene, &message).await;
            let state = comes_to(&bridge, &scene, &location, "confirmed").await;
            assert!(steps(&state).contains(&"unconfirmed"), "{what}, {trouble}: {state}");
            assert_ne!(state["id"], other["_id"], "{what}, {trouble}: {state}");
            expected += copies;
            assert_eq!(emits(&scene), expected, "{what}, {trouble}: {state}");
        }
        // The greeting, the other, and each of the four once.
        assert_eq!(scene.texts().len(), 6, "{what}");
        bridge.stop().await;
    }
}
