//! A week of a receiver that fails at random, on a clock that the test moves, with restarts in between.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use spaces_bridge::delivery::DeliverySettings;
use spaces_bridge::domain::{Clock, DeadReason, DeliveryState, Ordering, RetryPolicy, SpaceSelector, Timestamp, Webhook};
use spaces_bridge::recovery::{Recovery, Span};
use spaces_bridge::webhooks::NewWebhook;

use super::rig::{Disk, Rig, body, event_id, new_webhook, settings};
use crate::support::receiver::{Receiver, Reply};

const GRACE: Duration = Duration::from_secs(5);
const WEEK: Duration = Duration::from_hours(7 * 24);
const EVENTS: u32 = 400;
const SPACES: u32 = 4;

/// A small generator of numbers that are the same in every run (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Replies of a receiver that is mostly well, often is not, and a few times is down for hours.
fn moods(seed: u64) -> Vec<Reply> {
    let (mut dice, mut replies) = (Dice(seed), Vec::new());
    while replies.len() < 20_000 {
        let reply = match dice.roll(1000) {
            0..=749 => Reply::status(204),
            750..=779 => Reply::Answer(429, vec![("retry-after", dice.roll(600).to_string())], Vec::new()),
            780..=809 => Reply::Answer(503, vec![("retry-after", dice.roll(7200).to_string())], Vec::new()),
            810..=839 => Reply::status(404),
            840..=869 => Reply::status(502),
            870..=899 => Reply::BreakInBody,
            900..=929 => Reply::Close,
            930..=959 => Reply::Nonsense,
            960..=995 => Reply::status(500),
            // A long outage: each probe of it fails.
            _ => {
                let down = 10 + dice.roll(20);
                replies.extend((0..down).map(|_| Reply::Close));
                Reply::Close
            }
        };
        replies.push(reply);
    }
    replies
}

fn space(number: u32) -> String {
    format!("space{}", number % SPACES)
}

#[tokio::test]
async fn in_a_week_of_random_failures_nothing_is_lost_and_order_is_kept_where_it_is_asked_for() {
    let mut dice = Dice(7);
    let (parallel_end, ordered_end) = (Receiver::start(Reply::status(204)).await, Receiver::start(Reply::status(204)).await);
    parallel_end.script(moods(1));
    ordered_end.script(moods(2));
    let disk = Disk::embedded();
    let settings = DeliverySettings { per_webhook: 4, ..settings() };
    let mut rig = Rig::start(&disk, settings).await;
    let new =
        |receiver: &Receiver, ordering| NewWebhook { spaces: vec![SpaceSelector::All], ordering, ..new_webhook(&receiver.url()) };
    let (parallel, _) = rig.webhook_of(new(&parallel_end, Ordering::Parallel)).await;
    let (ordered, _) = rig.webhook_of(new(&ordered_end, Ordering::Space)).await;

    let (began, mut appended, mut restarts) = (rig.now(), 0, 0);
    let pause = WEEK / EVENTS;
    loop {
        let next = rig.quiet().await;
        if appended < EVENTS {
            let event_at = began.saturating_add(pause * appended);
            match next {
                Some(next) if next < event_at => disk.clock.set(next),
                _ => {
                    disk.clock.set(event_at.max(rig.now()));
                    rig.append_in(appended, &space(appended)).await;
                    appended += 1;
                }
            }
        } else {
            let Some(next) = next else { break };
            disk.clock.set(next);
        }
        if dice.roll(60) == 0 {
            rig.stop(GRACE).await;
            rig = Rig::start(&disk, settings).await;
            restarts += 1;
        }
    }
    assert!(rig.now().since(began) >= WEEK.saturating_sub(pause) && restarts > 3, "{restarts} restarts");
    for (webhook, receiver) in [(&parallel, &parallel_end), (&ordered, &ordered_end)] {
        assert_all_accounted_for(&rig, webhook, receiver).await;
        assert_never_early(&rig, webhook).await;
    }
    assert_in_order(&ordered_end);
    // What had bad luck ten times is dead, and there for its owner to try again.
    for (webhook, receiver) in [(&parallel, &parallel_end), (&ordered, &ordered_end)] {
        recover(&rig, webhook).await;
        assert_nothing_lost(&rig, webhook, receiver).await;
    }
    rig.stop(GRACE).await;
}

/// Tries what is dead again until nothing is.
async fn recover(rig: &Rig, webhook: &Webhook) {
    let recovery = Recovery::new(Arc::clone(&rig.disk.engine), Arc::clone(&rig.disk.clock) as Arc<dyn Clock>);
    let everything = Span { since: Timestamp::from_millis(0), until: None };
    while recovery.recover(&webhook.id, everything, None).await.expect("recovered").count > 0 {
        while let Some(next) = rig.quiet().await {
            rig.disk.clock.set(next);
        }
    }
}

/// Every event has its delivery, delivered or dead after its last attempt, and the log knows of every request.
async fn assert_all_accounted_for(rig: &Rig, webhook: &Webhook, receiver: &Receiver) {
    let deliveries = rig.deliveries(webhook).await;
    assert_eq!(deliveries.len(), EVENTS as usize);
    let mut requests: HashMap<String, u32> = HashMap::new();
    for request in receiver.recorded() {
        *requests.entry(request.header("webhook-id").to_owned()).or_default() += 1;
    }
    for delivery in &deliveries {
        let is_over = match delivery.state {
            DeliveryState::Delivered => true,
            DeliveryState::Dead(reason) => reason == DeadReason::Exhausted && delivery.attempts == 10,
            DeliveryState::Waiting(_) | DeliveryState::InFlight(_) => false,
        };
        assert!(is_over, "{delivery:?}");
        assert_eq!(requests.get(delivery.event.as_str()), Some(&delivery.attempts), "{delivery:?}");
    }
    let dead = deliveries.iter().filter(|delivery| delivery.state != DeliveryState::Delivered).count();
    assert!(dead < EVENTS as usize / 20, "{dead} deliveries are dead");
}

async fn assert_nothing_lost(rig: &Rig, webhook: &Webhook, receiver: &Receiver) {
    let deliveries = rig.deliveries(webhook).await;
    assert_eq!(deliveries.len(), EVENTS as usize);
    let lost: Vec<_> = deliveries.iter().filter(|delivery| delivery.state != DeliveryState::Delivered).collect();
    assert!(lost.is_empty(), "{lost:?}");
    // Whatever came more than once is the same event with the same bytes.
    let mut bodies: HashMap<String, Vec<u8>> = HashMap::new();
    for request in receiver.recorded() {
        let id = request.header("webhook-id").to_owned();
        assert_eq!(bodies.entry(id).or_insert_with(|| request.body.clone()), &request.body);
    }
    assert_eq!(bodies.len(), EVENTS as usize);
    for number in 0..EVENTS {
        assert_eq!(bodies.get(event_id(number).as_str()), Some(&body(number).into_bytes()));
    }
    assert!(receiver.count() > EVENTS as usize * 5 / 4, "the receiver hardly failed");
}

async fn assert_never_early(rig: &Rig, webhook: &Webhook) {
    for delivery in rig.deliveries(webhook).await {
        let attempts = rig.attempts(&delivery).await;
        for pair in attempts.windows(2) {
            let waited = pair[1].started_at.since(pair[0].started_at);
            let step = RetryPolicy::Standard.wait_after(pair[0].number).expect("there was a further attempt");
            // The store keeps whole milliseconds.
            assert!(waited + Duration::from_millis(1) >= step.mul_f64(0.8), "{}: {waited:?} after {step:?}", delivery.id);
        }
    }
}

/// In each space, an event is repeated until it is through, and only then comes the next.
fn assert_in_order(receiver: &Receiver) {
    let numbers: HashMap<String, u32> = (0..EVENTS).map(|number| (event_id(number).to_string(), number)).collect();
    let mut by_space: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for request in receiver.recorded() {
        let number = numbers[request.header("webhook-id")];
        by_space.entry(space(number)).or_default().push(number);
    }
    assert_eq!(by_space.len(), SPACES as usize);
    for (space, numbers) in by_space {
        assert!(numbers.is_sorted(), "{space}: {numbers:?}");
    }
}
