//! Endpoints that are dead: what they cost, how they come back, and when they are switched off.

use std::time::Duration;

use spaces_bridge::delivery::{DeliverySettings, FIRST_HOLD, OPENS_AFTER};
use spaces_bridge::domain::{DeadReason, DeliveryState, EventId, Ordering, Pace, RateLimit, RetryPolicy, WebhookStatus};
use spaces_bridge::webhooks::{NewWebhook, WebhookPatch};

use super::rig::{Disk, Rig, event_id, new_webhook, settings};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_dead_endpoint_costs_a_probe_instead_of_its_whole_queue() {
    const EVENTS: u32 = 200;
    for (disk, reply) in [(Disk::new(), Reply::Close), (Disk::embedded(), Reply::status(503))] {
        let receiver = Receiver::start(reply).await;
        let rig = Rig::start(&disk, DeliverySettings { per_webhook: 3, ..settings() }).await;
        let (webhook, _) = rig.webhook(&receiver.url()).await;
        for number in 0..EVENTS {
            rig.append(number).await;
        }
        let next = rig.quiet().await.expect("a probe is due");
        // Those that were under way when the breaker opened had left already.
        let spent = receiver.count();
        assert!((OPENS_AFTER as usize..=OPENS_AFTER as usize + 2).contains(&spent), "{spent} attempts");
        assert_eq!(next, rig.now().saturating_add(FIRST_HOLD));
        let flow = rig.flow(&webhook).await;
        assert_eq!((flow.probing, flow.held_until, flow.waiting), (true, Some(next), u64::from(EVENTS)));
        assert!(rig.metric(r#"spaces_bridge_webhook_breakers{state="open"} 1"#));

        // One probe a hold, and each hold is twice as long as the one before.
        let mut probe_at = next;
        for probe in 1..=3 {
            disk.clock.set(probe_at);
            let next = rig.quiet().await.expect("a probe is due");
            assert_eq!(receiver.count(), spent + probe);
            assert_eq!(next, probe_at.saturating_add(FIRST_HOLD * 2_u32.pow(u32::try_from(probe).expect("few"))));
            probe_at = next;
        }

        // A restart changes nothing of it.
        rig.stop(GRACE).await;
        let rig = Rig::start(&disk, DeliverySettings { per_webhook: 3, ..settings() }).await;
        assert_eq!(rig.quiet().await, Some(probe_at));
        disk.clock.set(probe_at);
        let next = rig.quiet().await.expect("a probe is due");
        assert!(next > probe_at);
        assert_eq!(receiver.count(), spent + 4);

        // One success lets all others go.
        receiver.reply(Reply::status(204));
        disk.clock.set(next);
        eventually("everything delivered", async || {
            let next = rig.quiet().await;
            let delivered = rig.deliveries(&webhook).await.iter().filter(|one| one.state == DeliveryState::Delivered).count();
            next.inspect(|next| disk.clock.set(*next));
            (delivered == EVENTS as usize).then_some(())
        })
        .await;
        let flow = rig.flow(&webhook).await;
        assert_eq!((flow.probing, flow.failing_since, flow.waiting), (false, None, 0));
        assert!(rig.metric(r#"spaces_bridge_webhook_breakers{state="open"} 0"#));
        rig.stop(GRACE).await;
    }
}

#[tokio::test]
async fn an_owner_who_switches_a_webhook_on_has_it_tried_at_once() {
    let (disk, receiver) = (Disk::new(), Receiver::start(Reply::Close).await);
    let rig = Rig::start(&disk, DeliverySettings { per_webhook: 1, ..settings() }).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    for number in 0..20 {
        rig.append(number).await;
    }
    rig.quiet().await;
    receiver.reply(Reply::status(204));
    let on = WebhookPatch { enabled: Some(true), ..WebhookPatch::default() };
    rig.webhooks.update(&webhook.id, on).await.expect("updated");
    // All but those that wait for the next step of their schedule.
    let tried = OPENS_AFTER as usize;
    rig.until(&webhook, 20 - tried, |state| state == DeliveryState::Delivered).await;
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_receiver_that_answers_is_not_dead_however_often_it_refuses() {
    let (disk, receiver) = (Disk::new(), Receiver::start(Reply::status(404)).await);
    let rig = Rig::start(&disk, settings()).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    for number in 0..50 {
        rig.append(number).await;
    }
    rig.quiet().await;
    let flow = rig.flow(&webhook).await;
    assert_eq!((receiver.count(), flow.probing, flow.held_until), (50, false, None));
    assert_eq!(flow.failing_since, Some(rig.now()));
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn after_a_long_time_of_nothing_but_failures_a_webhook_is_switched_off_and_its_account_told() {
    let (receiver, other) = (Receiver::start(Reply::Close).await, Receiver::start(Reply::status(204)).await);
    let disk = Disk::embedded();
    let after = Duration::from_hours(24);
    let rig = Rig::start(&disk, DeliverySettings { disable_after: Some(after), ..settings() }).await;
    let watching = NewWebhook { events: vec!["webhook.disabled".parse().expect("a pattern")], ..new_webhook(&other.url()) };
    rig.webhook_of(watching).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    let began = rig.now();
    for number in 0..3 {
        rig.append(number).await;
    }
    while rig.webhooks.get(&webhook.id).expect("it exists").status == WebhookStatus::Enabled {
        // Nothing is due any more once it is off.
        let Some(next) = rig.quiet().await else { continue };
        assert!(next.since(began) < after * 2, "it is still on");
        disk.clock.set(next);
        eventually("the end of the attempt or of the webhook", async || {
            let off = rig.webhooks.get(&webhook.id).expect("it exists").status != WebhookStatus::Enabled;
            let next = rig.disk.engine.next_due().await.expect("asked");
            (off || next.is_some_and(|next| next > rig.now())).then_some(())
        })
        .await;
    }
    assert!(rig.now().since(began) >= after, "it was switched off too early");
    assert_eq!(rig.webhooks.get(&webhook.id).expect("it exists").status, WebhookStatus::Failing);
    eventually("word of it", async || (other.count() == 1).then_some(())).await;
    let told = other.recorded().remove(0).json();
    let expected = serde_json::json!({
        "eventId": told["data"]["eventId"], "account": "acc_1",
        "webhookId": webhook.id.as_str(), "reason": "failing", "failingSince": began.to_string(),
    });
    assert_eq!((&told["type"], &told["data"]), (&"webhook.disabled".into(), &expected));
    assert!(rig.metric(r#"spaces_bridge_webhooks_disabled_total{reason="failing"} 1"#));

    // What waits is kept, and goes when it is switched on. An attempt that is still under way would fail after that.
    rig.quiet().await;
    let before = receiver.count();
    receiver.reply(Reply::status(204));
    let on = WebhookPatch { enabled: Some(true), ..WebhookPatch::default() };
    rig.webhooks.update(&webhook.id, on).await.expect("updated");
    disk.clock.set(rig.now().saturating_add(after));
    rig.until(&webhook, 3, |state| state == DeliveryState::Delivered).await;
    assert_eq!(receiver.count(), before + 3);
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn one_success_in_between_begins_the_time_of_failures_anew() {
    let (disk, receiver) = (Disk::new(), Receiver::start(Reply::status(404)).await);
    let after = Duration::from_hours(24);
    let rig = Rig::start(&disk, DeliverySettings { disable_after: Some(after), ..settings() }).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    for reply in [Reply::status(404), Reply::status(204), Reply::status(404)] {
        receiver.script([reply]);
        rig.log.append_test(&webhook.id, EventId::random()).await.expect("appended");
        rig.quiet().await;
        // Not to the next attempt of what failed.
        disk.clock.set(rig.now().saturating_add(Duration::from_secs(1)));
    }
    assert_eq!(rig.flow(&webhook).await.failing_since, Some(rig.now().saturating_sub(Duration::from_secs(1))));
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_receiver_steers_what_it_gets() {
    let steering = |value: &str| vec![("Webhook-Delivery", value.to_owned())];
    let receiver = Receiver::start(Reply::status(204)).await;
    for (status, value, state, webhook_status) in [
        (500, "abort", DeliveryState::Dead(DeadReason::Aborted), WebhookStatus::Enabled),
        (404, "Abort, disable", DeliveryState::Dead(DeadReason::Aborted), WebhookStatus::Steered),
        (200, "abort", DeliveryState::Delivered, WebhookStatus::Enabled),
        (200, "disable", DeliveryState::Delivered, WebhookStatus::Steered),
        (410, "abort", DeliveryState::Dead(DeadReason::Gone), WebhookStatus::Gone),
        (200, "continue", DeliveryState::Delivered, WebhookStatus::Enabled),
    ] {
        let rig = Rig::start(&Disk::embedded(), settings()).await;
        let (webhook, _) = rig.webhook(&receiver.url()).await;
        receiver.script([Reply::Answer(status, steering(value), Vec::new())]);
        let before = receiver.count();
        rig.append(1).await;
        rig.until(&webhook, 1, |found| found == state).await;
        let found = rig.webhooks.get(&webhook.id).expect("it exists").status;
        assert_eq!((found, receiver.count()), (webhook_status, before + 1), "{status} {value}");
        rig.stop(GRACE).await;
    }
}

#[tokio::test]
async fn a_failed_delivery_waits_until_a_steered_webhook_is_on_again() {
    let (disk, receiver) = (Disk::embedded(), Receiver::start(Reply::status(204)).await);
    let rig = Rig::start(&disk, settings()).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    receiver.script([Reply::Answer(503, vec![("webhook-delivery", "disable".to_owned())], Vec::new())]);
    rig.append(1).await;
    rig.after_attempt(&webhook, 1).await;
    disk.clock.set(rig.now().saturating_add(Duration::from_hours(1)));
    assert_eq!(rig.quiet().await, None);
    assert_eq!(receiver.count(), 1);
    let on = WebhookPatch { enabled: Some(true), ..WebhookPatch::default() };
    rig.webhooks.update(&webhook.id, on).await.expect("updated");
    rig.until(&webhook, 1, |state| state == DeliveryState::Delivered).await;
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_rate_limit_lets_so_many_through_and_keeps_the_rest_for_later() {
    for disk in [Disk::new(), Disk::embedded()] {
        let receiver = Receiver::start(Reply::status(204)).await;
        let rig = Rig::start(&disk, settings()).await;
        let pace = Pace { rate_limit: Some(RateLimit { count: 5, per_seconds: 60 }), ..Pace::default() };
        let (webhook, _) = rig.webhook_of(NewWebhook { pace, ..new_webhook(&receiver.url()) }).await;
        for number in 0..20 {
            rig.append(number).await;
        }
        let began = rig.now();
        rig.until(&webhook, 5, |state| state == DeliveryState::Delivered).await;
        let mut next = rig.quiet().await.expect("more waits");
        assert_eq!(receiver.count(), 5);
        while receiver.count() < 20 {
            disk.clock.set(next);
            let Some(then) = rig.quiet().await else { break };
            // Five at once, and one more for each twelve seconds since.
            let most = 5 + rig.now().since(began).as_secs() / 12;
            assert!(receiver.count() as u64 <= most, "{} after {:?}", receiver.count(), rig.now().since(began));
            next = then;
        }
        rig.until(&webhook, 20, |state| state == DeliveryState::Delivered).await;
        assert!(rig.now().since(began) >= Duration::from_mins(3));

        // Without a limit the rest goes at once.
        for number in 20..40 {
            rig.append(number).await;
        }
        let unlimited = WebhookPatch { rate_limit: Some(None), ..WebhookPatch::default() };
        rig.webhooks.update(&webhook.id, unlimited).await.expect("updated");
        rig.until(&webhook, 40, |state| state == DeliveryState::Delivered).await;
        rig.stop(GRACE).await;
    }
}

#[tokio::test]
async fn a_webhook_has_its_own_schedule_and_its_own_time_limit() {
    let (disk, receiver) = (Disk::embedded(), Receiver::start(Reply::Hang).await);
    let rig = Rig::start(&disk, settings()).await;
    let pace = Pace { retry: RetryPolicy::Steps(vec![100, 1000]), timeout: Some(1), ..Pace::default() };
    let (webhook, _) = rig.webhook_of(NewWebhook { pace, ..new_webhook(&receiver.url()) }).await;
    rig.append(1).await;
    for (attempt, step) in [(1, 100), (2, 1000)] {
        let DeliveryState::Waiting(due) = rig.after_attempt(&webhook, attempt).await.state else { panic!("not waiting") };
        assert!((step * 799..=step * 1201).contains(&(due.since(rig.now()).as_millis())), "after attempt {attempt}");
        disk.clock.set(due);
    }
    let delivery = rig.after_attempt(&webhook, 3).await;
    assert_eq!(delivery.state, DeliveryState::Dead(DeadReason::Exhausted));
    let details: Vec<_> = rig.attempts(&delivery).await.into_iter().filter_map(|attempt| attempt.outcome.detail).collect();
    assert_eq!(details, ["the receiver did not answer in whole within 1s"; 3]);
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_failing_event_holds_up_its_space_until_it_is_delivered_or_dead() {
    let (disk, receiver) = (Disk::embedded(), Receiver::start(Reply::status(204)).await);
    let rig = Rig::start(&disk, settings()).await;
    let pace = Pace { retry: RetryPolicy::Steps(vec![10]), ..Pace::default() };
    let ordered = NewWebhook { ordering: Ordering::Space, pace, ..new_webhook(&receiver.url()) };
    let (webhook, _) = rig.webhook_of(ordered).await;
    receiver.script([Reply::status(404), Reply::status(204), Reply::status(404), Reply::status(204)]);
    rig.append_in(0, "blocked").await;
    rig.until(&webhook, 1, |state| matches!(state, DeliveryState::Waiting(due) if due > rig.now())).await;
    rig.append_in(1, "blocked").await;
    rig.append_in(2, "free").await;
    rig.until(&webhook, 1, |state| state == DeliveryState::Delivered).await;
    let next = rig.quiet().await.expect("the second attempt");
    let ids = || receiver.recorded().iter().map(|request| request.header("webhook-id").to_owned()).collect::<Vec<_>>();
    let expected = |numbers: &[u32]| numbers.iter().map(|number| event_id(*number).to_string()).collect::<Vec<_>>();
    assert_eq!(ids(), expected(&[0, 2]));
    // The last attempt fails as well: the event is dead, and the space goes on.
    disk.clock.set(next);
    rig.until(&webhook, 1, |state| state == DeliveryState::Dead(DeadReason::Exhausted)).await;
    rig.until(&webhook, 2, |state| state == DeliveryState::Delivered).await;
    assert_eq!(ids(), expected(&[0, 2, 0, 1]));
    rig.stop(GRACE).await;
}
