//! Many webhooks, and bad neighbours: what they cost those that behave.

use std::time::Duration;

use spaces_bridge::delivery::{DeliverySettings, OPENS_AFTER};
use spaces_bridge::domain::DeliveryState;

use super::rig::{Disk, Rig, new_webhook, settings};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

const GRACE: Duration = Duration::from_secs(5);

/// Delivers `EVENTS` events to one of `webhooks` webhooks and tells how often the store was asked for work meanwhile.
async fn looks_beside(webhooks: usize) -> usize {
    const EVENTS: u32 = 100;
    const DEAD: usize = 3;
    let (receiver, dead) = (Receiver::start(Reply::status(204)).await, Receiver::start(Reply::Close).await);
    let (disk, engine) = Disk::watched();
    // Nothing happens but what hints and ends of attempts set off.
    let settings = DeliverySettings { poll_interval: Duration::from_hours(1), per_webhook: 1, ..settings() };
    let rig = Rig::start(&disk, settings).await;
    for number in 0..webhooks {
        let account = format!("acc_idle_{number}").parse().expect("an id");
        rig.webhooks.create(account, new_webhook(&receiver.url())).await.expect("created");
    }
    let (busy, _) = rig.webhook(&receiver.url()).await;
    let mut dead_ones = Vec::new();
    for _ in 0..DEAD {
        dead_ones.push(rig.webhook(&dead.url()).await.0);
    }
    let before = engine.looks();
    for number in 0..EVENTS {
        rig.append(number).await;
    }
    rig.until(&busy, EVENTS as usize, |state| state == DeliveryState::Delivered).await;
    eventually("dead endpoints that count as dead", async || (dead.count() == DEAD * OPENS_AFTER as usize).then_some(())).await;
    let looks = engine.looks() - before;
    // Nothing more comes to the dead ones, whatever waits for them.
    for number in EVENTS..2 * EVENTS {
        rig.append(number).await;
    }
    rig.until(&busy, 2 * EVENTS as usize, |state| state == DeliveryState::Delivered).await;
    assert_eq!(dead.count(), DEAD * OPENS_AFTER as usize);
    for webhook in &dead_ones {
        assert_eq!(rig.flow(webhook).await.waiting, 2 * u64::from(EVENTS));
    }
    rig.stop(GRACE).await;
    looks
}

#[tokio::test]
async fn idle_webhooks_cost_no_look_at_the_store_and_dead_ones_only_their_probes() {
    // Each event, each attempt and its end may set off a claim and the question for the next due time.
    const MOST: usize = 2 * 3 * (100 + 15) + 20;
    let (few, many) = (looks_beside(10).await, looks_beside(10_000).await);
    assert!(few <= MOST, "{few} looks beside 10 webhooks");
    assert!(many <= MOST, "{many} looks beside 10,000 webhooks");
}

#[tokio::test]
async fn bad_neighbours_do_not_keep_a_healthy_receiver_from_what_is_its() {
    const EVENTS: u32 = 150;
    let few = DeliverySettings { concurrency: 8, per_webhook: 4, slow_after: Duration::from_millis(20), ..settings() };
    let disk = Disk::embedded();
    let rig = Rig::start(&disk, few).await;
    let mut neighbours = Vec::new();
    for reply in [
        Reply::Hang,
        Reply::Drip,
        Reply::Close,
        Reply::BreakInBody,
        Reply::Nonsense,
        Reply::Answer(200, Vec::new(), vec![b'x'; 1 << 20]),
        Reply::Answer(503, Vec::new(), vec![b'x'; 1 << 20]),
    ] {
        let receiver = Receiver::start(reply).await;
        let (webhook, _) = rig.webhook(&receiver.url()).await;
        neighbours.push((receiver, webhook));
    }
    // A dead one: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (dead, _) = rig.webhook(&format!("http://{free}/")).await;
    let healthy = Receiver::start(Reply::status(204)).await;
    let (well, _) = rig.webhook(&healthy.url()).await;
    for number in 0..EVENTS {
        rig.append(number).await;
    }
    rig.until(&well, EVENTS as usize, |state| state == DeliveryState::Delivered).await;
    assert_eq!(healthy.count(), EVENTS as usize);
    assert!(healthy.recorded().iter().all(|request| request.header("webhook-timestamp") == rig.now().as_seconds().to_string()));
    // The ones that hang still have what they took at first, and no more than their share.
    for (receiver, webhook) in &neighbours[..2] {
        assert!((1..=4).contains(&receiver.count()), "{}", receiver.count());
        assert_eq!(rig.flow(webhook).await.in_flight, receiver.count() as u64);
    }
    assert_eq!(rig.flow(&dead).await.waiting, u64::from(EVENTS));
    // One that says too much is no failure.
    rig.until(&neighbours[5].1, EVENTS as usize, |state| state == DeliveryState::Delivered).await;
    rig.stop(Duration::ZERO).await;
}
