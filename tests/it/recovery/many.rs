//! Many spaces with gaps, and history that comes late.

use std::time::Duration;

use fake_upstream::{ErrorBody, RestFault, Space};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Talk, bo_says, next_millisecond};
use crate::support::bridge::send;
use crate::support::wait::eventually;

const TOGETHER: &str = "/api/users/me/messages";
const SPACES: usize = 40;

impl Talk {
    async fn with_spaces() -> (Self, Vec<Space>) {
        let talk = Self::start().await;
        let members = [&talk.scene.ana, &talk.scene.bo];
        let spaces: Vec<Space> =
            (0..SPACES).map(|number| talk.scene.upstream.space(&format!("Space {number}"), &members)).collect();
        for space in &spaces {
            talk.subscribe(space).await;
        }
        (talk, spaces)
    }

    /// Waits until the session has heard of something.
    async fn has_heard(&self) {
        let heard = async || self.bridge.session().await["lastEventAt"].is_string().then_some(());
        eventually("the event at the session", heard).await;
    }

    fn calls_of(&self, part: &str) -> usize {
        self.scene.upstream.seen(|seen| seen.rest_calls().filter(|call| call.path.contains(part)).count())
    }

    fn calls_of_single_spaces(&self) -> usize {
        self.calls_of("activitiesrecord") + self.calls_of("messages/query")
    }
}

#[tokio::test]
async fn the_gaps_of_many_spaces_are_closed_with_few_calls() {
    let (talk, spaces) = Talk::with_spaces().await;
    let (first, last) = (&spaces[0], &spaces[SPACES - 1]);
    let deleted = bo_says(&talk.scene, last, "to be deleted");
    talk.texts_in(last, 1).await;
    talk.while_cut(async || {
        for text in ["one", "two", "three"] {
            bo_says(&talk.scene, first, text);
            next_millisecond().await;
        }
        talk.scene.upstream.delete(&deleted).expect("it exists");
    })
    .await;
    assert_eq!(talk.texts_in(first, 3).await, ["+one", "+two", "+three"]);
    assert_eq!(talk.texts_in(last, 2).await.len(), 2);
    let recovery = talk.recovered().await;
    assert_eq!((&recovery["state"], &recovery["eventsRecovered"], &recovery["gaps"]), (&json!("idle"), &json!(4), &json!([])));
    let kinds: Vec<_> = talk.events(&format!("type=message.*&space={}", last.as_ref())).await;
    assert_eq!(kinds[1]["type"], "message.deleted");
    let (together, single) = (talk.calls_of(TOGETHER), talk.calls_of_single_spaces());
    assert!(together >= 1 && together + single < SPACES / 2, "{together} looks, {single} single calls");
    talk.bridge.stop().await;
}

#[tokio::test]
async fn where_the_look_at_many_is_refused_odd_or_too_much_each_space_is_read_by_itself() {
    let foreign = json!({"data": [{"_id": "m1", "category": "chat", "topicId": "64f0a1b2c3d4e5f6ffffffff"}]}).to_string();
    let faults = [
        Some(RestFault::status(403, "no.access", "no")),
        Some(RestFault::Answer { status: 404, body: ErrorBody::Empty, retry_after: None }),
        Some(RestFault::Garbled { content_type: "application/json".to_owned(), body: foreign }),
        None,
    ];
    for fault in faults {
        let (talk, spaces) = Talk::with_spaces().await;
        // More than a look takes in, where nothing else is wrong with it.
        let count = if fault.is_none() { 230 } else { 3 };
        if let Some(fault) = &fault {
            talk.scene.upstream.script(|script| _ = script.rest.on(TOGETHER).always(fault.clone()));
        }
        talk.while_cut(async || {
            for number in 0..count {
                bo_says(&talk.scene, &spaces[7], &number.to_string());
            }
            bo_says(&talk.scene, &spaces[30], "another");
        })
        .await;
        let expected: Vec<String> = (0..count).map(|number| format!("+{number}")).collect();
        assert_eq!(talk.texts_in(&spaces[7], count).await, expected, "{fault:?}");
        assert_eq!(talk.texts_in(&spaces[30], 1).await, ["+another"], "{fault:?}");
        assert_eq!(talk.recovered().await["gaps"], json!([]), "{fault:?}");
        talk.bridge.stop().await;
    }
}

#[tokio::test]
async fn what_comes_into_the_history_late_is_found_by_a_second_look() {
    let talk = Talk::with(|config| config.session.second_look_seconds = 1).await;
    let mut sent_at = 0;
    talk.while_cut(async || {
        talk.bo_says("in time");
        sent_at = super::ago(0);
    })
    .await;
    talk.texts(1).await;
    talk.recovered().await;
    // It was sent before the new connection, and is in the history only now.
    let scene = &talk.scene;
    scene.upstream.backdate_as(&scene.bo, &scene.space, "late", sent_at).expect("Bo is a member");
    assert_eq!(talk.texts(2).await, ["+in time", "+late"]);
    let recovery = talk.recovered().await;
    assert_eq!((&recovery["state"], &recovery["eventsRecovered"]), (&json!("idle"), &json!(2)));
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_session_that_ends_reads_on_so_that_the_order_is_kept() {
    let talk = Talk::start().await;
    let slow = RestFault::Slow(Duration::from_secs(1));
    talk.scene.upstream.script(|script| _ = script.rest.on("/api/activitiesrecord/messages").always(slow));
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    talk.listening_to(&talk.scene.space).await;
    talk.bo_says("live");
    talk.has_heard().await;
    let Talk { scene, bridge } = talk;
    let bridge = bridge.restart().await;
    let talk = Talk { scene, bridge };
    assert_eq!(talk.texts(2).await[..2], ["+missed", "live"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_history_that_never_comes_is_in_the_log_all_the_same() {
    let talk = Talk::start().await;
    for path in ["/api/activitiesrecord/messages", "/api/spaces/*/messages/query"] {
        talk.scene.upstream.script(|script| _ = script.rest.on(path).always(RestFault::Hang));
    }
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    talk.listening_to(&talk.scene.space).await;
    talk.bo_says("live");
    talk.has_heard().await;
    let Talk { scene, bridge } = talk;
    let bridge = bridge
        .restart_after(|_| {
            // From now on nobody may read any history.
            for path in ["/api/activitiesrecord/messages", "/api/spaces/*/messages/query"] {
                let refused = RestFault::status(403, "no.access", "no");
                scene.upstream.script(|script| _ = script.rest.on(path).always(refused));
            }
        })
        .await;
    let talk = Talk { scene, bridge };
    assert_eq!(talk.texts(1).await, ["live"]);
    assert_eq!(talk.told(1).await[0]["reason"], "history_refused");
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_message_that_went_over_rest_before_a_restart_is_known_as_own_in_the_history() {
    let talk = Talk::with(|config| config.upstream.rest_fallback_seconds = 1).await;
    talk.cut().await;
    let path = format!("/spaces/{}/messages", talk.scene.space.as_ref());
    let request = talk.bridge.request(Method::POST, &path, &talk.scene.token).header("idempotency-key", "one");
    let answer = send(request.header("prefer", "wait=20").json(&json!({"text": "over rest"}))).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let Talk { scene, bridge } = talk;
    let upstream = &scene.upstream;
    let bridge = bridge.restart_after(|_| upstream.script(|script| _ = script.refuse.off())).await;
    let talk = Talk { scene, bridge };
    talk.bo_says("not ours");
    assert_eq!(talk.texts(2).await.len(), 2);
    let events = talk.events(&format!("type=message.*&space={}", talk.scene.space.as_ref())).await;
    let own: Vec<_> =
        events.iter().map(|event| (event["data"]["message"]["text"].as_str(), event["data"]["own"].as_bool())).collect();
    assert_eq!(own, [(Some("over rest"), Some(true)), (Some("not ours"), Some(false))]);
    talk.bridge.stop().await;
}
