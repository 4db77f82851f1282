//! What survives: restarts, kills at any moment, full disks, and orderly ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_upstream::{EchoFault, FakeUpstream, Limits, Options, Space, Token, TokenKind, User};
use reqwest::Method;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::json;

use crate::support::bridge::{Bridge, send};
use crate::support::process::Service;
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

/// Ana, who has webhooks, Bo, who posts, and a space that they share.
struct Scene {
    upstream: Arc<FakeUpstream>,
    receiver: Receiver,
    ana: User,
    bo: User,
    token: Token,
    space: Space,
}

impl Scene {
    async fn start() -> Self {
        let options = Options { limits: Limits::none(), ..Options::default() };
        let upstream = Arc::new(FakeUpstream::start(options).await.expect("a fake upstream"));
        let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
        let token = upstream.token_for(&ana, TokenKind::Jwt);
        let space = upstream.space("Ops", &[&ana, &bo]);
        let receiver = Receiver::start(Reply::status(204)).await;
        Self { upstream, receiver, ana, bo, token, space }
    }

    async fn listening(&self) {
        self.listening_to(&self.space).await;
    }

    async fn listening_to(&self, space: &Space) {
        let subscribed = self.upstream.wait_until(DEADLINE, |seen| seen.is_subscribed(&self.token, space.as_ref()));
        subscribed.await.expect("the session listens to the space");
    }

    async fn disconnected(&self) {
        let gone = self.upstream.wait_until(DEADLINE, |seen| seen.open_now_with(&self.token) == 0);
        gone.await.expect("the connection ends");
    }

    /// Lets Bo say something. Answers the message's id.
    fn bo_says(&self, text: &str) -> String {
        bo_says(&self.upstream, &self.bo, &self.space, text)
    }

    /// How often each message came to the receiver.
    fn received(&self) -> BTreeMap<String, usize> {
        let mut received = BTreeMap::new();
        for request in self.receiver.recorded() {
            if let Some(id) = request.json()["data"]["message"]["id"].as_str() {
                *received.entry(id.to_owned()).or_default() += 1;
            }
        }
        received
    }

    /// Waits until every one of `ids` has come to the receiver.
    async fn received_all(&self, ids: &[String]) {
        let mut missing = Vec::new();
        let came = eventually("every message at the receiver", async || {
            let received = self.received();
            missing = ids.iter().filter(|id| !received.contains_key(*id)).collect();
            missing.is_empty().then_some(())
        });
        came.await;
    }
}

fn bo_says(upstream: &FakeUpstream, bo: &User, space: &Space, text: &str) -> String {
    let message = upstream.post_as(bo, space, text).expect("Bo is a member");
    message["_id"].as_str().expect("an id").to_owned()
}

fn assert_integrity(data: &Path) {
    let database = rusqlite::Connection::open(data.join("store.db")).expect("the database opens");
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict");
    assert_eq!(verdict, "ok");
}

#[tokio::test]
async fn after_a_restart_sessions_webhooks_subscriptions_and_deliveries_go_on_by_themselves() {
    let scene = Scene::start().await;
    let lounge = scene.upstream.space("Lounge", &[&scene.ana, &scene.bo]);
    let bridge = Bridge::start(&scene.upstream).await;
    let webhook = bridge.register_with(&scene.token, &scene.receiver, json!({"spaces": [scene.space.as_ref()]})).await;
    let subscription = bridge.put(&format!("/spaces/{}/subscription", lounge.as_ref()), &scene.token).await;
    assert!(subscription.status.is_success(), "{}", subscription.text);
    scene.listening().await;
    scene.receiver.script([Reply::status(500)]);
    let pending = scene.bo_says("its retry is due after the restart");
    eventually("the failed attempt", async || {
        let deliveries = bridge.deliveries(&scene.token, &webhook).await;
        deliveries.iter().any(|delivery| delivery["state"] == "waiting" && delivery["attemptCount"] == 1).then_some(())
    })
    .await;

    let bridge = bridge.restart().await;
    scene.listening().await;
    scene.listening_to(&lounge).await;
    let fresh = scene.bo_says("after the restart");
    scene.received_all(&[pending, fresh]).await;
    let session = bridge.session().await;
    assert_eq!((&session["state"], &session["durable"]), (&json!("online"), &json!(true)));
    let shown = bridge.get(&format!("/webhooks/{webhook}"), &scene.token).await.json();
    assert_eq!((&shown["url"], &shown["spaces"]), (&json!(scene.receiver.url()), &json!([scene.space.as_ref()])));
    assert!(bridge.get("/subscriptions", &scene.token).await.text.contains(lounge.as_ref()));
    assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_thousand_pending_retries_delivers_them_all() {
    let scene = Scene::start().await;
    let bridge = Bridge::start(&scene.upstream).await;
    // The receiver asks for time, so that no retry comes before all have failed once.
    scene.receiver.reply(Reply::Answer(404, vec![("retry-after", "15".to_owned())], vec![]));
    let (webhook, _) = bridge.register(&scene.token, &scene.receiver).await;
    scene.listening().await;
    let ids: Vec<_> = (0..1000).map(|number| scene.bo_says(&format!("message {number}"))).collect();
    scene.received_all(&ids).await;
    let waiting = bridge.get(&format!("/webhooks/{webhook}/deliveries?state=waiting&limit=200"), &scene.token).await.json();
    assert_eq!(waiting["data"].as_array().map(Vec::len), Some(200));
    let before = scene.receiver.count();
    scene.receiver.reply(Reply::status(204));

    let bridge = bridge.restart().await;
    let wanted: BTreeSet<_> = ids.iter().collect();
    eventually("every retry", async || {
        let recorded = scene.receiver.recorded();
        let retried: BTreeSet<_> = recorded[before..]
            .iter()
            .filter_map(|request| request.json()["data"]["message"]["id"].as_str().map(str::to_owned))
            .collect();
        wanted.iter().all(|id| retried.contains(*id)).then_some(())
    })
    .await;
    eventually("an empty queue", async || {
        let waiting = bridge.get(&format!("/webhooks/{webhook}/deliveries?state=waiting"), &scene.token).await.json();
        waiting["data"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
    bridge.stop().await;
}

/// Posts and sends that go on while the service is killed and started again.
struct Traffic {
    stop: Arc<AtomicBool>,
    api: Arc<Mutex<String>>,
    confirmed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// How many callers send at the same time.
const CALLERS: usize = 3;

impl Traffic {
    fn start(scene: &Scene, service: &Service) -> Self {
        let (stop, confirmed) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let api = Arc::new(Mutex::new(service.api.clone()));
        let mut tasks = Vec::new();
        for caller in 0..CALLERS {
            let (stop, api, confirmed) = (Arc::clone(&stop), Arc::clone(&api), Arc::clone(&confirmed));
            let client = service.client.clone();
            let (authorization, space) = (format!("jwt {}", scene.token.as_ref()), scene.space.as_ref().to_owned());
            tasks.push(tokio::spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let url = format!("{}/spaces/{space}/messages", api.lock().expect("a lock"));
                    let body = json!({"text": format!("{number} of {caller}")});
                    // A killed service answers nothing, which is no promise.
                    let Ok(answer) = client.post(url).header("authorization", &authorization).json(&body).send().await else {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        continue;
                    };
                    if answer.status() == 201
                        && let Ok(sent) = answer.json::<serde_json::Value>().await
                    {
                        confirmed.lock().expect("a lock").push(sent["id"].as_str().expect("an id").to_owned());
                    }
                }
            }));
        }
        let (upstream, bo, space, stopped) =
            (Arc::clone(&scene.upstream), scene.bo.clone(), scene.space.clone(), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            for number in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                bo_says(&upstream, &bo, &space, &format!("{number} of Bo"));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }));
        Self { stop, api, confirmed, tasks }
    }

    fn confirmed(&self) -> usize {
        self.confirmed.lock().expect("a lock").len()
    }

    fn moved_to(&self, api: &str) {
        api.clone_into(&mut self.api.lock().expect("a lock"));
    }

    /// Ends it and answers the ids of all messages that were confirmed.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("no caller panics");
        }
        self.confirmed.lock().expect("a lock").clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_process_again_and_again_loses_nothing_that_it_promised() {
    let scene = Scene::start().await;
    let mut service = Service::start(&scene.upstream, &[]).await;
    // The first deliveries fail, so that their retries have to survive too.
    scene.receiver.script(vec![Reply::status(404); 5]);
    let (webhook, _) = service.register(&scene.token, &scene.receiver).await;
    scene.listening().await;
    let traffic = Traffic::start(&scene, &service);
    for _ in 0..8 {
        let before = traffic.confirmed();
        eventually("some confirmed sends", async || (traffic.confirmed() >= before + 15).then_some(())).await;
        let killed = service.kill().await;
        scene.disconnected().await;
        service = killed.start().await;
        traffic.moved_to(&service.api);
        scene.listening().await;
    }
    let confirmed = traffic.end().await;
    scene.received_all(&confirmed).await;
    let last = scene.bo_says("the last one");
    scene.received_all(&[last]).await;
    // What was durable is in the log of deliveries; all of it has to get there.
    let deliveries = eventually("the end of all deliveries", async || {
        let deliveries = service.deliveries(&scene.token, &webhook).await;
        deliveries.iter().all(|delivery| delivery["state"] == "delivered").then_some(deliveries)
    })
    .await;
    let received: BTreeSet<_> = scene.receiver.recorded().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    for delivery in &deliveries {
        let event = delivery["eventId"].as_str().expect("an id");
        assert!(received.contains(event), "event {event} is marked as delivered and never came");
    }
    assert!(deliveries.len() > confirmed.len());
    assert_eq!(scene.upstream.seen(|seen| seen.peak_with(&scene.token)), 1);
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit().await.code(), Some(0), "{}", service.process.printed());
    assert_integrity(service.data());
}

/// A moment of an attempt at which the process may be killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// The event is stored, and its first attempt is being claimed or sent.
    AtOnce,
    /// The request is with the receiver, which has not answered.
    Unanswered,
    /// The answer has begun and is not complete.
    HalfAnswered,
    /// The answer was sent; whether it is written down is open.
    Answered,
    /// The failure of the first attempt is written down, and the second is due later.
    Waiting,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_an_attempt_skips_nothing_and_keeps_the_event_and_the_count() {
    for moment in [Moment::AtOnce, Moment::Unanswered, Moment::HalfAnswered, Moment::Answered, Moment::Waiting] {
        let scene = Scene::start().await;
        let service = Service::start(&scene.upstream, &[]).await;
        let (webhook, _) = service.register(&scene.token, &scene.receiver).await;
        scene.listening().await;
        scene.receiver.script(match moment {
            Moment::AtOnce | Moment::Answered => vec![],
            Moment::Unanswered => vec![Reply::Hang],
            Moment::HalfAnswered => vec![Reply::Drip],
            Moment::Waiting => vec![Reply::status(404)],
        });
        let deliveries = async || service.deliveries(&scene.token, &webhook).await;
        let id = scene.bo_says("killed on the way");
        match moment {
            // Stored is stored: from then on nothing may lose it.
            Moment::AtOnce => eventually("the delivery", async || (!deliveries().await.is_empty()).then_some(())).await,
            Moment::Unanswered | Moment::HalfAnswered | Moment::Answered => {
                eventually("the request", async || (scene.receiver.count() == 1).then_some(())).await;
            }
            Moment::Waiting => {
                let is_waiting =
                    async || deliveries().await.first().is_some_and(|one| one["attemptCount"] == 1 && one["state"] == "waiting");
                eventually("the failure", async || is_waiting().await.then_some(())).await;
            }
        }
        let killed = service.kill().await;
        scene.disconnected().await;
        let sent_before = scene.receiver.count();
        let service = killed.start().await;
        scene.received_all(&[id]).await;
        let delivery = eventually("the end of the delivery", async || {
            let delivery = service.deliveries(&scene.token, &webhook).await.first().cloned()?;
            (delivery["state"] == "delivered").then_some(delivery)
        })
        .await;

        let recorded = scene.receiver.recorded();
        let ids: BTreeSet<_> = recorded.iter().map(|request| request.header("webhook-id").to_owned()).collect();
        assert_eq!(ids, BTreeSet::from([delivery["eventId"].as_str().expect("an id").to_owned()]), "{moment:?}");
        let attempts = delivery["attemptCount"].as_u64().expect("a number");
        // Every request had its attempt on disk before it left.
        assert!(attempts >= recorded.len() as u64, "{moment:?}: {attempts} attempts, {} requests", recorded.len());
        let path = format!("/deliveries/{}", delivery["id"].as_str().expect("an id"));
        let log = service.get(&path, &scene.token).await.json()["attempts"].clone();
        let numbers: Vec<_> = log.as_array().expect("a list").iter().map(|attempt| attempt["number"].as_u64()).collect();
        assert_eq!(numbers, (1..=attempts).map(Some).collect::<Vec<_>>(), "{moment:?}");
        match moment {
            Moment::Unanswered | Moment::HalfAnswered => {
                assert_eq!((sent_before, recorded.len(), attempts), (1, 2, 2), "{moment:?}");
                assert_eq!((&log[0]["error"], &log[0]["durationMs"]), (&json!("unknown"), &serde_json::Value::Null), "{log}");
            }
            Moment::Waiting => {
                assert_eq!((recorded.len(), attempts), (2, 2));
                assert_eq!(log[0]["error"], "http");
            }
            // Whether the attempt was over before the kill is a matter of luck; that nothing is skipped is not.
            Moment::AtOnce | Moment::Answered => assert!((1..=2).contains(&attempts), "{moment:?}: {attempts}"),
        }
        assert_integrity(service.data());
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_what_spaces_showed_meanwhile_arrives_once_there_is_room() {
    let scene = Scene::start().await;
    let service = Service::start(&scene.upstream, &[]).await;
    let (webhook, _) = service.register(&scene.token, &scene.receiver).await;
    scene.listening().await;
    scene.bo_says("before");
    eventually("the first delivery", async || {
        service.deliveries(&scene.token, &webhook).await.iter().any(|delivery| delivery["state"] == "delivered").then_some(())
    })
    .await;

    let room = getrlimit(Resource::Fsize);
    limit_files(&service, Rlimit { current: Some(0), maximum: room.maximum });
    let mut ids: Vec<_> = (0..20).map(|number| scene.bo_says(&format!("message {number}"))).collect();
    eventually("word of the failing store", async || service.session().await["storeFailingSince"].is_string().then_some(()))
        .await;
    let answer = service.post("/webhooks", &scene.token, &json!({"url": scene.receiver.url()})).await;
    answer.assert_problem(503, "store_unavailable");
    assert!(!answer.header("retry-after").is_empty());
    let sent = service.say(&scene.token, &scene.space, "Spaces has this").await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    ids.push(sent.json()["id"].as_str().expect("an id").to_owned());
    assert_eq!(scene.receiver.count(), 1);

    limit_files(&service, room);
    scene.received_all(&ids).await;
    eventually("the end of the failure", async || service.session().await["storeFailingSince"].is_null().then_some(())).await;
    let webhooks = service.get("/webhooks", &scene.token).await.json();
    assert_eq!(webhooks["data"].as_array().map(Vec::len), Some(1), "a refused registration left something behind");
    let mut service = service;
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit().await.code(), Some(0), "{}", service.process.printed());
    assert_integrity(service.data());
}

fn limit_files(service: &Service, limit: Rlimit) {
    prlimit(Some(service.process.pid()), Resource::Fsize, limit).expect("the limit of a child can be changed");
}

#[tokio::test]
async fn a_store_at_its_size_limit_takes_no_webhook_and_keeps_what_it_has() {
    let scene = Scene::start().await;
    let bridge = Bridge::start(&scene.upstream).await;
    bridge.register(&scene.token, &scene.receiver).await;
    scene.listening().await;
    let bridge = bridge
        .restart_with(|config| {
            let size = std::fs::metadata(config.store.path.join("store.db")).expect("a database").len();
            config.store.max_bytes = Some(size + (96 << 10));
        })
        .await;
    scene.listening().await;
    let text = "x".repeat(4000);
    for _ in 0..100 {
        scene.bo_says(&text);
    }
    eventually("word of the failing store", async || bridge.session().await["storeFailingSince"].is_string().then_some(())).await;
    // What does not fit is refused; small things may still fit, and are kept then.
    let wide = json!({"url": scene.receiver.url(), "description": "x".repeat(500), "enabled": false});
    let mut kept = 1;
    let refused = loop {
        let answer = bridge.post("/webhooks", &scene.token, &wide).await;
        if answer.status != 201 {
            break answer;
        }
        kept += 1;
    };
    refused.assert_problem(503, "store_unavailable");
    let bridge = bridge.restart_with(|config| config.store.max_bytes = None).await;
    scene.listening().await;
    let id = scene.bo_says("room again");
    scene.received_all(&[id]).await;
    let webhooks = bridge.get("/webhooks?limit=200", &scene.token).await.json();
    assert_eq!(webhooks["data"].as_array().map(Vec::len), Some(kept));
    let data = bridge.data().to_owned();
    assert_integrity(&data);
    bridge.stop().await;
}

#[tokio::test]
async fn a_send_under_way_at_sigterm_is_finished() {
    let scene = Scene::start().await;
    let mut service = Service::start(&scene.upstream, &[]).await;
    assert_eq!(service.say(&scene.token, &scene.space, "first").await.status, 201);
    scene.upstream.script(|script| {
        script.echo.next(1, EchoFault::Held);
    });
    let path = format!("/spaces/{}/messages", scene.space.as_ref());
    let request = service.request(Method::POST, &path, &format!("jwt {}", scene.token.as_ref()));
    let sending = tokio::spawn(send(request.json(&json!({"text": "under way"}))));
    scene.upstream.wait_until(DEADLINE, |seen| seen.sends().len() == 2).await.expect("the message left");
    service.process.signal(Signal::TERM);
    service.process.line("asked to stop").await;
    assert_eq!(scene.upstream.release(), 1);
    let answer = sending.await.expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.text);
    let status = service.process.exit().await;
    assert_eq!(status.code(), Some(0), "{}", service.process.printed());
    assert_eq!(scene.upstream.seen(fake_upstream::Seen::open_now), 0);
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let scene = Scene::start().await;
    let mut service = Service::start(&scene.upstream, &[("SPACES_BRIDGE_SHUTDOWN__GRACE_SECONDS", "3600")]).await;
    scene.upstream.script(|script| {
        script.echo.always(EchoFault::Missing);
    });
    let path = format!("/spaces/{}/messages", scene.space.as_ref());
    let request = service.request(Method::POST, &path, &format!("jwt {}", scene.token.as_ref())).header("prefer", "wait=60");
    let sending = tokio::spawn(request.json(&json!({"text": "never confirmed"})).send());
    scene.upstream.wait_until(DEADLINE, |seen| seen.sends().len() == 1).await.expect("the message left");
    service.process.signal(Signal::TERM);
    service.process.line("asked to stop").await;
    service.process.signal(Signal::TERM);
    assert!(service.process.exit().await.success(), "{}", service.process.printed());
    assert!(sending.await.expect("the caller does not panic").is_err(), "an answer came out of nowhere");
    assert_integrity(service.data());
}
