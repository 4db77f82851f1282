//! Replies on the in-memory store, with a session that follows a script.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::domain::{
    DeliveryId, EventType, Ordering, Pace, RequestOptions, Sealed, Signing, SigningKeys, StoredKey, Timestamp, Webhook,
    WebhookStatus,
};
use crate::send_log::SendStatus;
use crate::session::Confirmed;
use crate::store::{ClaimedEvent, MemoryStore};

/// A clock that goes with tokio's.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000).saturating_add(self.0.elapsed())
    }
}

/// What the session does with a message.
enum Does {
    Confirms,
    IsAway,
    Refuses,
    Hangs,
}

/// A session that follows a script, and confirms what comes after its end.
#[derive(Default)]
struct Script {
    next: Mutex<VecDeque<Does>>,
    got: Mutex<Vec<OutgoingMessage>>,
    told: Notify,
}

impl Script {
    fn will(&self, does: impl IntoIterator<Item = Does>) {
        self.next.lock().expect("a lock").extend(does);
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().expect("a lock").iter().map(|message| message.plain_text.clone()).collect()
    }

    /// Waits until so many messages came.
    async fn has_got(&self, count: usize) {
        while self.got().len() < count {
            self.told.notified().await;
        }
    }
}

#[async_trait]
impl PostMessage for Script {
    async fn post(&self, _: &AccountId, message: OutgoingMessage, _: Duration) -> Result<SendOutcome, SessionError> {
        let does = self.next.lock().expect("a lock").pop_front().unwrap_or(Does::Confirms);
        if !matches!(does, Does::IsAway) {
            self.got.lock().expect("a lock").push(message);
            self.told.notify_one();
        }
        match does {
            Does::Confirms => {
                let message = serde_json::value::to_raw_value(&json!({})).expect("JSON");
                Ok(SendOutcome::Confirmed(Confirmed { id: "m9".to_owned(), created_at: None, message }))
            }
            Does::IsAway => Err(SessionError::Closed),
            Does::Refuses => Err(SessionError::MessageRefused { code: None, message: None }),
            Does::Hangs => std::future::pending().await,
        }
    }
}

/// What outlives a crash.
struct Scene {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    session: Arc<Script>,
}

impl Scene {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock(Instant::now()));
        Self { engine: Arc::new(MemoryStore::new(Arc::clone(&clock))), clock, session: Arc::default() }
    }

    fn sends(&self) -> SendLog {
        SendLog::new(Arc::clone(&self.engine), Arc::clone(&self.clock))
    }

    /// A process that has not looked for what another left.
    fn replies(&self) -> Replies {
        Replies::new(ReplyParts {
            engine: Arc::clone(&self.engine),
            sessions: Arc::clone(&self.session) as _,
            sends: Arc::new(self.sends()),
            clock: Arc::clone(&self.clock),
            metrics: Arc::default(),
            settings: ReplySettings { per_minute: 3, kept: Duration::from_hours(1) },
        })
    }
}

fn webhook() -> Webhook {
    let at = Timestamp::from_millis(1);
    Webhook {
        id: "wh_1".parse().expect("an id"),
        account: "acc_ana".parse().expect("an id"),
        url: "https://receiver.example/".to_owned(),
        events: Vec::new(),
        spaces: Vec::new(),
        filter: None,
        ordering: Ordering::Parallel,
        ignore_own: false,
        reply: true,
        description: None,
        status: WebhookStatus::Enabled,
        status_since: at,
        pace: Pace::default(),
        request: RequestOptions::default(),
        signing: SigningKeys::new(Signing::Hmac, StoredKey { sealed: sealed(), public_key: None, expires_at: None }),
        opened_at: at,
        created_at: at,
        updated_at: at,
    }
}

fn sealed() -> Sealed {
    crate::seal::Keyring::random().seal(crate::seal::Purpose::WebhookSecret, &crate::domain::Secret::new("x"))
}

/// Bo's message number `number`, unless something else is said of it.
fn event(number: u32, more: &serde_json::Value) -> ClaimedEvent {
    let mut data = json!({
        "spaceId": "s1", "category": "chat", "own": false,
        "message": {"id": format!("m{number}"), "text": format!("hello {number}"), "sender": {"id": "bo"}},
    });
    data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    ClaimedEvent {
        id: format!("evt_{number}").parse().expect("an id"),
        event_type: EventType::MESSAGE_CREATED,
        appended_at: Timestamp::from_millis(1),
        body: Bytes::from(json!({"type": "message.created", "data": data}).to_string()),
    }
}

async fn take(replies: &Replies, event: &ClaimedEvent, body: &str) {
    let (delivery, webhook) = (DeliveryId::from_number(7), webhook());
    let answered = Answered { delivery, webhook: &webhook, event, body: body.as_bytes() };
    replies.take(answered).await.expect("taken");
}

async fn state(replies: &Replies, event: &ClaimedEvent) -> Option<ReplyState> {
    replies.find(&webhook().id, &event.id).await.expect("read").map(|record| record.state)
}

/// Waits until the answer to `event` has come to its end.
async fn end(replies: &Replies, event: &ClaimedEvent) -> ReplyState {
    loop {
        match state(replies, event).await {
            Some(ReplyState::Accepted | ReplyState::Posting) | None => tokio::time::sleep(Duration::from_millis(500)).await,
            Some(end) => return end,
        }
    }
}

const ON_IT: &str = r#"{"text": "on it"}"#;

#[tokio::test(start_paused = true)]
async fn an_answer_is_posted_once_however_often_it_comes() {
    let scene = Scene::new();
    let (replies, event) = (scene.replies(), event(1, &json!({"message": {"id": "m1", "replyTo": "p1"}})));
    for _ in 0..3 {
        take(&replies, &event, ON_IT).await;
    }
    assert_eq!(end(&replies, &event).await, ReplyState::Posted { id: "m9".to_owned() });
    take(&replies, &event, r#"{"text": "something else"}"#).await;
    replies.shut_down(Duration::from_secs(1)).await;
    assert_eq!(scene.session.got(), ["on it"]);
    let payload: serde_json::Value = serde_json::from_str(&scene.session.got.lock().expect("a lock")[0].payload).expect("JSON");
    assert_eq!((&payload["topicId"], &payload["parentMsg"]["_id"]), (&json!("s1"), &json!("p1")));
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_before_a_crash_is_posted_after_it() {
    let scene = Scene::new();
    let (crashed, event) = (scene.replies(), event(1, &json!({})));
    crashed.shut_down(Duration::ZERO).await;
    take(&crashed, &event, ON_IT).await;
    assert_eq!(state(&crashed, &event).await, Some(ReplyState::Accepted));
    assert!(scene.session.got().is_empty());

    let replies = scene.replies();
    replies.start();
    assert_eq!(end(&replies, &event).await, ReplyState::Posted { id: "m9".to_owned() });
    assert_eq!(scene.session.got(), ["on it"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_being_posted_at_a_crash_is_in_doubt_and_not_posted_again() {
    let scene = Scene::new();
    let (crashed, event) = (scene.replies(), event(1, &json!({})));
    scene.session.will([Does::Hangs]);
    take(&crashed, &event, ON_IT).await;
    scene.session.has_got(1).await;
    assert_eq!(state(&crashed, &event).await, Some(ReplyState::Posting));

    let replies = scene.replies();
    replies.start();
    assert_eq!(end(&replies, &event).await, ReplyState::Unconfirmed);
    take(&replies, &event, ON_IT).await;
    replies.shut_down(Duration::from_secs(1)).await;
    assert_eq!(scene.session.got().len(), 1);
    let reference = replies.find(&webhook().id, &event.id).await.expect("read").expect("a record").reference;
    let send = scene.sends().get(&reference).await.expect("read").expect("the send is on record");
    assert!(matches!(send.status, SendStatus::Unconfirmed { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_its_session_and_not_for_ever() {
    let scene = Scene::new();
    let replies = scene.replies();
    let (patient, late) = (event(1, &json!({})), event(2, &json!({})));
    scene.session.will((0..5).map(|_| Does::IsAway));
    take(&replies, &patient, ON_IT).await;
    assert_eq!(end(&replies, &patient).await, ReplyState::Posted { id: "m9".to_owned() });
    scene.session.will((0..100).map(|_| Does::IsAway));
    take(&replies, &late, ON_IT).await;
    assert!(matches!(end(&replies, &late).await, ReplyState::Failed { .. }));
    assert_eq!(scene.session.got(), ["on it"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_could_not_leave_before_a_stop_leaves_after_the_next_start() {
    let scene = Scene::new();
    let (stopped, event) = (scene.replies(), event(1, &json!({})));
    scene.session.will([Does::IsAway]);
    take(&stopped, &event, ON_IT).await;
    stopped.shut_down(Duration::from_secs(1)).await;
    assert_eq!(state(&stopped, &event).await, Some(ReplyState::Accepted));
    let replies = scene.replies();
    replies.start();
    assert_eq!(end(&replies, &event).await, ReplyState::Posted { id: "m9".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn a_refused_answer_says_so() {
    let scene = Scene::new();
    let (replies, event) = (scene.replies(), event(1, &json!({})));
    scene.session.will([Does::Refuses]);
    take(&replies, &event, ON_IT).await;
    assert_eq!(end(&replies, &event).await, ReplyState::Failed { reason: "Spaces refused the message".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn answers_do_not_answer_each_other() {
    let scene = Scene::new();
    let replies = scene.replies();
    let own = event(1, &json!({"own": true}));
    take(&replies, &own, ON_IT).await;
    assert_eq!(state(&replies, &own).await, None);

    let first = event(2, &json!({}));
    take(&replies, &first, ON_IT).await;
    end(&replies, &first).await;
    // As another account sees what Ana's webhook had posted.
    let seen = |number, sender: &str| event(number, &json!({"message": {"text": "on it", "sender": {"id": sender}}}));
    let (echo, coincidence) = (seen(3, "ana"), seen(4, "bo"));
    take(&replies, &echo, ON_IT).await;
    assert_eq!(state(&replies, &echo).await, Some(ReplyState::Dropped(Dropped::Loop)));
    take(&replies, &coincidence, ON_IT).await;
    assert_eq!(end(&replies, &coincidence).await, ReplyState::Posted { id: "m9".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn a_space_gets_so_many_answers_in_a_minute() {
    let scene = Scene::new();
    let replies = scene.replies();
    for number in 1..=3 {
        let event = event(number, &json!({}));
        take(&replies, &event, &format!(r#"{{"text": "answer {number}"}}"#)).await;
        end(&replies, &event).await;
    }
    let (fourth, elsewhere, later) = (event(4, &json!({})), event(5, &json!({"spaceId": "s2"})), event(6, &json!({})));
    take(&replies, &fourth, ON_IT).await;
    assert_eq!(state(&replies, &fourth).await, Some(ReplyState::Dropped(Dropped::TooMany)));
    take(&replies, &elsewhere, ON_IT).await;
    assert_eq!(end(&replies, &elsewhere).await, ReplyState::Posted { id: "m9".to_owned() });
    tokio::time::advance(Duration::from_mins(1)).await;
    take(&replies, &later, ON_IT).await;
    assert_eq!(end(&replies, &later).await, ReplyState::Posted { id: "m9".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_in_memory_is_posted_later() {
    let scene = Scene::new();
    let replies = scene.replies();
    replies.start();
    let room = Arc::clone(&replies.0.room).acquire_many_owned(u32::try_from(MAX_IN_HAND).expect("small")).await.expect("room");
    let event = event(1, &json!({}));
    take(&replies, &event, ON_IT).await;
    assert_eq!(state(&replies, &event).await, Some(ReplyState::Accepted));
    drop(room);
    assert_eq!(end(&replies, &event).await, ReplyState::Posted { id: "m9".to_owned() });
    assert_eq!(scene.session.got(), ["on it"]);
}

#[test]
fn a_comment_is_answered_in_its_thread_and_a_post_if_the_receiver_wants_it() {
    for (category, reply_to, comment, expected) in [
        ("chat", None, false, None),
        ("chat", None, true, None),
        ("chat", Some("p1"), false, Some("p1")),
        ("post", None, false, None),
        ("post", None, true, Some("m1")),
        ("task", None, true, Some("m1")),
        ("chat", Some("no id"), true, None),
    ] {
        let body = json!({"data": {"category": category, "message": {"id": "m1", "replyTo": reply_to}}}).to_string();
        assert_eq!(thread(&Envelope::read(body.as_bytes()), comment).as_deref(), expected, "{category} {reply_to:?} {comment}");
    }
}
