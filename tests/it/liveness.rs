//! Sessions that count as connected and hear nothing are found, told of, and healed.

use std::time::Duration;

use fake_upstream::{EventFault, Fault, Limits, Options, SubscribeFault, Who};
use reqwest::StatusCode;
use serde_json::{Value, json};
use spaces_bridge::config::Config;

use crate::support::bridge::{Bridge, Scene};
use crate::support::wait::eventually;

/// Ana's session listens to a space in which Bo talks, and is watched closely.
struct Watched {
    scene: Scene,
    bridge: Bridge,
}

impl Watched {
    async fn start(probe_seconds: u64, compare_seconds: u64) -> Self {
        Self::start_with(|config| {
            config.session.probe_seconds = probe_seconds;
            config.session.compare_seconds = compare_seconds;
        })
        .await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
        let bridge = Bridge::start_with(&scene.upstream, change).await;
        let answer = bridge.put(&format!("/spaces/{}/subscription", scene.space.as_ref()), &scene.token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        Self { scene, bridge }
    }

    fn bo_says(&self, text: &str) {
        self.scene.upstream.post_as(&self.scene.bo, &self.scene.space, text).expect("Bo is a member");
    }

    async fn events(&self, event_type: &str) -> Vec<Value> {
        let page = self.bridge.get(&format!("/events?type={event_type}"), &self.scene.token).await.json();
        page["data"].as_array().expect("a page").clone()
    }

    /// Waits for a message of this text. Answers whether it was recovered.
    async fn hears(&self, text: &str) -> bool {
        eventually("the message", async || {
            let events = self.events("message.*").await;
            let found = events.into_iter().find(|event| event["data"]["message"]["text"] == text)?;
            found["data"]["recovered"].as_bool()
        })
        .await
    }

    async fn session_when(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || Some(self.bridge.session().await).filter(&fits)).await
    }

    async fn degraded(&self) -> Value {
        eventually("the news", async || self.events("session.degraded").await.into_iter().next()).await
    }

    async fn shows(&self, metric: &str) {
        eventually(metric, async || self.bridge.shows(metric).await.then_some(())).await;
    }
}

#[tokio::test]
async fn a_session_that_gets_no_answer_is_told_of_connected_anew_and_catches_up() {
    let watched = Watched::start(1, 0).await;
    let alive = watched.session_when("an answered probe", |session| session["lastProbeOk"] == true).await;
    assert!(alive["lastProbeAt"].is_string());
    assert_eq!(alive["spaces"][0]["state"], "subscribed", "the probe's refusal is nobody else's");
    watched.bo_says("heard");
    assert!(!watched.hears("heard").await);

    watched.scene.upstream.fault(&Who::Everybody, &Fault::Deafen);
    watched.bo_says("unheard");
    let news = watched.degraded().await;
    assert_eq!((&news["data"]["reason"], &news["data"]["spaceId"]), (&json!("probe_unanswered"), &Value::Null));
    assert!(watched.hears("unheard").await, "it comes from the history");
    watched.session_when("the other connection", |session| session["state"] == "online" && session["reconnects"] == 1).await;
    watched.shows("spaces_bridge_degraded_total{reason=\"probe_unanswered\"} 1").await;
    assert_eq!(watched.events("session.degraded").await.len(), 1);
    watched.bridge.stop().await;
}

#[tokio::test]
async fn a_session_that_misses_what_the_history_shows_is_healed() {
    let watched = Watched::start(0, 1).await;
    eventually("a comparison", async || {
        let count = watched.bridge.metric("spaces_bridge_comparisons_total{result=\"complete\"}").await;
        (count >= 1.0).then_some(())
    })
    .await;
    watched.bo_says("heard");
    assert!(!watched.hears("heard").await);

    let space = watched.scene.space.as_ref().to_owned();
    watched.scene.upstream.fault(&Who::Everybody, &Fault::Unsubscribe(space.clone()));
    watched.bo_says("unheard");
    let news = watched.degraded().await;
    assert_eq!((&news["data"]["reason"], &news["data"]["spaceId"]), (&json!("events_missing"), &json!(space)));
    assert!(watched.hears("unheard").await);
    watched.session_when("the other connection", |session| session["state"] == "online").await;
    watched.bo_says("again");
    assert!(!watched.hears("again").await, "it listens again");
    watched.bridge.stop().await;
}

#[tokio::test]
async fn what_is_lost_in_the_middle_of_the_stream_is_recovered_however_long_ago() {
    let watched = Watched::start_with(|config| {
        config.session.probe_seconds = 0;
        config.session.compare_seconds = 1;
        config.session.recovery_overlap_seconds = 0;
    })
    .await;
    eventually("a comparison", async || {
        let count = watched.bridge.metric("spaces_bridge_comparisons_total{result=\"complete\"}").await;
        (count >= 1.0).then_some(())
    })
    .await;
    watched.scene.upstream.script(|script| _ = script.events.next(1, EventFault::Missing));
    watched.bo_says("unheard");
    // What follows is to be later in the time of Spaces, which has milliseconds.
    tokio::time::sleep(Duration::from_millis(20)).await;
    watched.bo_says("heard");
    assert!(!watched.hears("heard").await);
    assert!(watched.hears("unheard").await, "it comes from the history though something later was heard");
    assert_eq!(watched.degraded().await["data"]["reason"], "events_missing");
    watched.bridge.stop().await;
}

#[tokio::test]
async fn an_upstream_that_answers_no_probes_at_all_is_not_taken_for_dead() {
    let watched = Watched::start(1, 0).await;
    watched.scene.upstream.script(|script| {
        script.subscribe.always(SubscribeFault::Ignored);
    });
    watched.session_when("an unanswered probe", |session| session["lastProbeOk"] == false).await;
    watched.bo_says("heard");
    assert!(!watched.hears("heard").await);
    let session = watched.bridge.session().await;
    assert_eq!((&session["state"], &session["reconnects"]), (&json!("online"), &json!(0)));
    assert_eq!(watched.events("session.degraded").await, Vec::<Value>::new());
    watched.bridge.stop().await;
}

/// Far more than anything takes.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_frozen_connection_is_found_by_the_probe_before_the_heartbeat() {
    let watched = Watched::start(1, 0).await;
    watched.session_when("an answered probe", |session| session["lastProbeOk"] == true).await;
    watched.scene.upstream.fault(&Who::Everybody, &Fault::Freeze);
    watched.bo_says("unheard");
    assert!(watched.hears("unheard").await);
    let upstream = &watched.scene.upstream;
    upstream.wait_until(DEADLINE, |seen| seen.open_now() == 1).await.expect("the frozen connection is given up");
    watched.bridge.stop().await;
}
