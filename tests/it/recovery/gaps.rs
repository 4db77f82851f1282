//! Gaps that cannot be closed are told of, and spaces that begin have none.

use fake_upstream::{ErrorBody, RestFault, TokenKind, UserKind};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{DEADLINE, Talk, ago};
use crate::support::wait::eventually;

fn status(status: u16) -> RestFault {
    RestFault::Answer { status, body: ErrorBody::Empty, retry_after: None }
}

impl Talk {
    fn history_answers(&self, fault: &RestFault) {
        self.scene.upstream.script(|script| {
            for path in ["/api/activitiesrecord/messages", "/api/spaces/*/messages/query"] {
                script.rest.on(path).always(fault.clone());
            }
        });
    }
}

#[tokio::test]
async fn a_space_begins_when_it_is_seen_first() {
    let talk = Talk::start().await;
    let lounge = talk.scene.upstream.space("Lounge", &[&talk.scene.ana, &talk.scene.bo]);
    super::bo_says(&talk.scene, &lounge, "long before");
    super::next_millisecond().await;
    talk.subscribe(&lounge).await;
    for text in ["missed", "missed again"] {
        talk.while_cut(async || {
            super::bo_says(&talk.scene, &lounge, text);
        })
        .await;
        talk.listening_to(&lounge).await;
        talk.recovered().await;
    }
    assert_eq!(talk.texts_in(&lounge, 2).await, ["+missed", "+missed again"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_history_that_is_refused_is_a_gap_that_is_told_once_and_life_goes_on() {
    let talk = Talk::start().await;
    talk.bo_says("before");
    talk.texts(1).await;
    talk.history_answers(&status(403));
    talk.while_cut(async || {
        talk.bo_says("nobody will know");
    })
    .await;
    talk.listening_to(&talk.scene.space).await;
    talk.bo_says("after");
    assert_eq!(talk.texts(2).await, ["before", "after"]);
    let told = talk.told(1).await;
    let session = talk.bridge.session().await;
    assert_eq!((&told[0]["spaceId"], &told[0]["reason"]), (&json!(talk.scene.space.as_ref()), &json!("history_refused")));
    assert_eq!(told[0]["sessionId"], session["id"]);
    assert!(told[0]["from"].as_str() < told[0]["to"].as_str(), "{told:?}");
    let recovery = talk.recovered().await;
    assert_eq!((&recovery["state"], &recovery["gaps"][0]["reason"]), (&json!("failed"), &json!("history_refused")));
    assert_eq!((&recovery["gaps"][0]["since"], &recovery["gaps"][0]["until"]), (&told[0]["from"], &told[0]["to"]));
    assert!(talk.bridge.shows("spaces_bridge_gaps_total{reason=\"history_refused\"} 1").await);
    assert!(talk.bridge.shows("spaces_bridge_recoveries_total{result=\"given_up\"} 1").await);

    // The next gap is another one, and this one can be closed.
    talk.scene.upstream.script(|script| script.rest.off());
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    assert_eq!(talk.texts(4).await.last().map(String::as_str), Some("+missed"));
    assert_eq!(talk.told(1).await.len(), 1);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_guest_who_may_not_read_the_history_has_a_gap() {
    let talk = Talk::start().await;
    let guest = talk.scene.upstream.with_world(|world| {
        let guest = world.add_user("Gus", "gus", UserKind::Anonymous);
        world.change_space(talk.scene.space.as_ref(), |space| {
            space.open = true;
            space.restrict.push("deny_guest_access_history_msg".to_owned());
        });
        guest
    });
    let token = talk.scene.upstream.token_for(&guest, TokenKind::Anonymous);
    let path = format!("/spaces/{}/subscription", talk.scene.space.as_ref());
    assert_eq!(talk.bridge.put(&path, &token).await.status, StatusCode::OK);
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    assert_eq!(talk.texts(1).await, ["+missed"], "a member may read it");
    eventually("the guest's gap", async || {
        let page = talk.bridge.get("/events?type=session.gap", &token).await.json();
        let events = page["data"].as_array().expect("a list").clone();
        events.first().map(|event| assert_eq!(event["data"]["reason"], "history_refused"))
    })
    .await;
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_history_that_fails_for_long_is_told_of_and_closed_when_it_works_again() {
    for (fault, reason) in [(status(503), "history_unavailable"), (status(401), "token_refused")] {
        let talk = Talk::with(|config| config.session.gap_after_seconds = 1).await;
        talk.history_answers(&fault);
        talk.while_cut(async || {
            talk.bo_says("missed");
        })
        .await;
        assert_eq!(talk.told(1).await[0]["reason"], reason);
        let recovery = talk.bridge.session().await["recovery"].clone();
        assert_eq!((&recovery["state"], &recovery["gaps"][0]["reason"]), (&json!("running"), &json!(reason)));
        talk.scene.upstream.script(|script| script.rest.off());
        assert_eq!(talk.texts(1).await, ["+missed"]);
        let recovery = talk.recovered().await;
        assert_eq!((&recovery["state"], &recovery["gaps"]), (&json!("idle"), &json!([])));
        assert_eq!(talk.told(1).await.len(), 1);
        talk.bridge.stop().await;
    }
}

#[tokio::test]
async fn what_is_longer_ago_than_the_service_reads_back_is_a_gap() {
    let talk = Talk::with(|config| config.session.recovery_limit_hours = 0).await;
    talk.while_cut(async || {
        talk.bo_says("too long ago");
        super::next_millisecond().await;
    })
    .await;
    assert_eq!(talk.told(1).await[0]["reason"], "too_old");
    talk.recovered().await;
    talk.bo_says("now");
    assert_eq!(talk.texts(1).await, ["now"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_space_that_lets_the_user_in_no_more_is_a_gap_until_it_does() {
    let talk = Talk::start().await;
    talk.bo_says("before");
    talk.texts(1).await;
    let (upstream, space) = (&talk.scene.upstream, talk.scene.space.as_ref());
    let member = |is_member: bool| {
        upstream.with_world(|world| {
            world.change_space(space, |space| {
                space.members.retain(|member| *member != talk.scene.ana.id);
                space.members.extend(is_member.then(|| talk.scene.ana.id.clone()));
            })
        });
    };
    talk.while_cut(async || member(false)).await;
    let told = talk.told(1).await;
    assert_eq!((&told[0]["reason"], &told[0]["to"]), (&json!("space_refused"), &Value::Null));
    talk.while_cut(async || {
        member(true);
        talk.bo_says("said before she was back");
    })
    .await;
    assert_eq!(talk.texts(2).await, ["before", "+said before she was back"]);
    assert_eq!(talk.recovered().await["gaps"], json!([]));
    talk.bridge.stop().await;
}

#[tokio::test]
async fn messages_older_than_the_overlap_are_not_read_again() {
    let talk = Talk::with(|config| config.session.recovery_overlap_seconds = 30).await;
    talk.bo_says("before");
    talk.texts(1).await;
    let backdated = talk.scene.upstream.backdate_as(&talk.scene.bo, &talk.scene.space, "written into the past", ago(3600));
    backdated.expect("Bo is a member");
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    talk.recovered().await;
    assert_eq!(talk.texts(2).await, ["before", "+missed"]);
    let upstream = &talk.scene.upstream;
    upstream.wait_until(DEADLINE, |seen| seen.rest_count("GET", "/api/activitiesrecord/messages") == 1).await.expect("one call");
    talk.bridge.stop().await;
}
