//! The dispatcher among many receivers, and what becomes of webhooks that change under way.

use std::collections::HashSet;
use std::time::Duration;

use spaces_bridge::delivery::DeliverySettings;
use spaces_bridge::domain::{DeadReason, DeliveryState, ErrorClass, EventId, Ordering, WebhookStatus};
use spaces_bridge::event_log::TestError;
use spaces_bridge::store::StoreError;
use spaces_bridge::webhooks::WebhookPatch;

use super::rig::{Disk, Rig, event_id, settings};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn the_official_library_verifies_a_live_delivery() {
    let receiver = Receiver::start(Reply::status(200)).await;
    let rig = Rig::start(&Disk::embedded(), settings()).await;
    let (webhook, secret) = rig.webhook(&receiver.url()).await;
    rig.append(1).await;
    rig.until(&webhook, 1, |state| state == DeliveryState::Delivered).await;

    let request = receiver.recorded().into_iter().next().expect("one request");
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.header(name).parse().expect("a header value"));
    }
    let verifier = standardwebhooks::Webhook::new(secret.expose()).expect("a secret");
    verifier.verify(&request.body, &headers).expect("the signature is right");
    assert!(verifier.verify(b"{}", &headers).is_err());

    assert_eq!(request.line, "POST /hook?a=b HTTP/1.1");
    assert_eq!(request.header("host"), receiver.address().to_string());
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("user-agent"), concat!("spaces-bridge/", env!("CARGO_PKG_VERSION")));
    assert!(!request.header("webhook-id").contains('.'));
    // Counted right after it is durable.
    eventually("the delivery is counted", async || {
        rig.metrics.render().contains(r#"spaces_bridge_deliveries_total{outcome="delivered"} 1"#).then_some(())
    })
    .await;
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_repeated_event_is_delivered_once() {
    let receiver = Receiver::start(Reply::status(200)).await;
    let rig = Rig::start(&Disk::new(), settings()).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    rig.append(1).await;
    rig.append(1).await;
    rig.append(2).await;
    rig.until(&webhook, 2, |state| state == DeliveryState::Delivered).await;
    assert_eq!(receiver.count(), 2);
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_other_and_gets_no_more_than_its_share() {
    const SHARE: usize = 3;
    let (hanging, prompt) = (Receiver::start(Reply::Hang).await, Receiver::start(Reply::status(200)).await);
    let rig = Rig::start(&Disk::embedded(), DeliverySettings { per_webhook: SHARE, concurrency: 8, ..settings() }).await;
    let (stuck, _) = rig.webhook(&hanging.url()).await;
    let (healthy, _) = rig.webhook(&prompt.url()).await;
    for number in 0..100 {
        rig.append(number).await;
    }
    rig.until(&healthy, 100, |state| state == DeliveryState::Delivered).await;
    rig.until(&stuck, SHARE, |state| matches!(state, DeliveryState::InFlight(_))).await;
    eventually("the requests that hang", async || (hanging.count() == SHARE).then_some(())).await;
    rig.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn receivers_that_hang_do_not_use_up_the_room_of_prompt_ones() {
    let (hanging, prompt) = (Receiver::start(Reply::Hang).await, Receiver::start(Reply::status(200)).await);
    let few = DeliverySettings { concurrency: 4, per_webhook: 4, slow_after: Duration::from_millis(50), ..settings() };
    let rig = Rig::start(&Disk::new(), few).await;
    let (stuck, _) = rig.webhook(&hanging.url()).await;
    for number in 0..10 {
        rig.append(number).await;
    }
    eventually("every slot with a hanging request", async || (hanging.count() == 4).then_some(())).await;
    let (healthy, _) = rig.webhook(&prompt.url()).await;
    for number in 10..20 {
        rig.append(number).await;
    }
    rig.until(&healthy, 10, |state| state == DeliveryState::Delivered).await;
    rig.until(&stuck, 4, |state| matches!(state, DeliveryState::InFlight(_))).await;
    rig.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let receiver = Receiver::start(Reply::status(200)).await;
    let rig = Rig::start(&Disk::new(), DeliverySettings { per_webhook: 2, ..settings() }).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    for number in 0..50 {
        rig.append(number).await;
    }
    rig.until(&webhook, 50, |state| state == DeliveryState::Delivered).await;
    let connections: HashSet<_> = receiver.recorded().iter().map(|request| request.connection).collect();
    assert!(connections.len() < 10, "{} connections for 50 requests", connections.len());
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_switched_off_and_keeps_its_events_until_switched_on() {
    let receiver = Receiver::start(Reply::status(410)).await;
    let rig = Rig::start(&Disk::embedded(), DeliverySettings { per_webhook: 1, ..settings() }).await;
    let (webhook, _) = rig.webhook_with(&receiver.url(), Ordering::Space).await;
    for number in 1..=3 {
        rig.append(number).await;
    }
    rig.until(&webhook, 1, |state| state == DeliveryState::Dead(DeadReason::Gone)).await;
    assert_eq!(rig.webhooks.get(&webhook.id).expect("it exists").status, WebhookStatus::Gone);
    rig.append(4).await;
    rig.until(&webhook, 2, |state| matches!(state, DeliveryState::Waiting(_))).await;
    assert_eq!((receiver.count(), rig.deliveries(&webhook).await.len()), (1, 3));

    receiver.reply(Reply::status(200));
    let on = WebhookPatch { enabled: Some(true), ..WebhookPatch::default() };
    assert_eq!(rig.webhooks.update(&webhook.id, on).await.expect("updated").status, WebhookStatus::Enabled);
    rig.until(&webhook, 2, |state| state == DeliveryState::Delivered).await;
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_deleted_webhook_gets_nothing_more() {
    let receiver = Receiver::start(Reply::status(500)).await;
    let rig = Rig::start(&Disk::new(), settings()).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    rig.append(1).await;
    rig.after_attempt(&webhook, 1).await;
    rig.webhooks.delete(&webhook.id).await.expect("deleted");
    rig.until(&webhook, 1, |state| state == DeliveryState::Dead(DeadReason::WebhookDeleted)).await;
    rig.append(2).await;
    assert_eq!((receiver.count(), rig.deliveries(&webhook).await.len()), (1, 1));
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn an_ordered_webhook_gets_a_spaces_events_in_order() {
    let receiver = Receiver::start(Reply::status(200)).await;
    let disk = Disk::embedded();
    let rig = Rig::start(&disk, settings()).await;
    let (webhook, _) = rig.webhook_with(&receiver.url(), Ordering::Space).await;
    receiver.script([Reply::status(200), Reply::status(500)]);
    for number in 0..30 {
        rig.append(number).await;
    }
    rig.until(&webhook, 1, |state| matches!(state, DeliveryState::Waiting(due) if due > rig.now())).await;
    disk.clock.set(rig.now().saturating_add(Duration::from_secs(6)));
    rig.until(&webhook, 30, |state| state == DeliveryState::Delivered).await;
    let ids: Vec<_> = receiver.recorded().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    let expected: Vec<_> = [0, 1].into_iter().chain(1..30).map(|number| event_id(number).to_string()).collect();
    assert_eq!(ids, expected);
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_test_delivery_goes_the_way_of_every_event_to_one_webhook_alone() {
    let (receiver, other) = (Receiver::start(Reply::status(200)).await, Receiver::start(Reply::status(200)).await);
    let rig = Rig::start(&Disk::new(), settings()).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    rig.webhook(&other.url()).await;
    let id = rig.log.append_test(&webhook.id, EventId::random()).await.expect("appended");
    rig.until(&webhook, 1, |state| state == DeliveryState::Delivered).await;
    let request = receiver.recorded().into_iter().next().expect("one request");
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["eventId"]), (&"webhook.test".into(), &id.as_str().into()));
    assert_eq!((request.header("webhook-id"), other.count()), (id.as_str(), 0));

    let off = WebhookPatch { enabled: Some(false), ..WebhookPatch::default() };
    rig.webhooks.update(&webhook.id, off).await.expect("updated");
    let refused = rig.log.append_test(&webhook.id, EventId::random()).await;
    assert!(matches!(refused, Err(TestError::Disabled(WebhookStatus::Disabled))), "{refused:?}");
    rig.webhooks.delete(&webhook.id).await.expect("deleted");
    assert!(matches!(rig.log.append_test(&webhook.id, EventId::random()).await, Err(TestError::NotFound)));
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_stop_lets_attempts_end_and_cuts_off_those_that_do_not() {
    let (disk, hanging, slow) = (Disk::embedded(), Receiver::start(Reply::Hang).await, Receiver::start(Reply::status(200)).await);
    let rig = Rig::start(&disk, settings()).await;
    let (stuck, _) = rig.webhook(&hanging.url()).await;
    let (healthy, _) = rig.webhook(&slow.url()).await;
    rig.append(1).await;
    eventually("the request that hangs", async || (hanging.count() == 1).then_some(())).await;
    rig.until(&healthy, 1, |state| state == DeliveryState::Delivered).await;
    rig.stop(Duration::from_millis(50)).await;

    hanging.reply(Reply::status(200));
    let rig = Rig::start(&disk, settings()).await;
    rig.until(&stuck, 1, |state| state == DeliveryState::Delivered).await;
    let delivery = rig.deliveries(&stuck).await.remove(0);
    let errors: Vec<_> = rig.attempts(&delivery).await.iter().map(|attempt| attempt.outcome.error).collect();
    assert_eq!(errors, [Some(ErrorClass::Unknown), None]);
    assert_eq!(slow.count(), 1);
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_full_disk_delays_what_is_written_and_repeats_no_request() {
    let (receiver, (disk, engine)) = (Receiver::start(Reply::status(200)).await, Disk::watched());
    let rig = Rig::start(&disk, settings()).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    receiver.script([Reply::Late(Duration::from_millis(100))]);
    rig.append(1).await;
    eventually("the request", async || (receiver.count() == 1).then_some(())).await;
    engine.fail(true);
    let refused = rig.log.append(rig.fence.clone(), vec![rig.event(2)]).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    let failures = engine.failures();
    eventually("failing settlements and claims", async || (engine.failures() > failures + 2).then_some(())).await;
    engine.fail(false);
    rig.until(&webhook, 1, |state| state == DeliveryState::Delivered).await;
    rig.append(2).await;
    rig.until(&webhook, 2, |state| state == DeliveryState::Delivered).await;
    assert_eq!(receiver.count(), 2);
    assert!(rig.metrics.render().contains("spaces_bridge_append_failures_total 1"));
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn what_an_attempt_met_stands_in_its_log() {
    let receiver = Receiver::start(Reply::status(200)).await;
    let settings = DeliverySettings { timeout: Duration::from_millis(300), ..settings() };
    let rig = Rig::start(&Disk::new(), settings).await;
    let large = vec![b'x'; 1024 * 1024];
    let moved = vec![("Location", "http://10.0.0.1/".to_owned())];
    for (reply, status, error, kept) in [
        (Reply::Answer(200, Vec::new(), b"fine".to_vec()), Some(200), None, Some(4)),
        (Reply::status(299), Some(299), None, None),
        (Reply::Answer(200, Vec::new(), large), Some(200), None, Some(16 * 1024)),
        (Reply::Answer(301, moved.clone(), Vec::new()), Some(301), Some(ErrorClass::Http), None),
        (Reply::Answer(307, moved.clone(), Vec::new()), Some(307), Some(ErrorClass::Http), None),
        (Reply::Answer(308, moved, Vec::new()), Some(308), Some(ErrorClass::Http), None),
        (Reply::Answer(404, Vec::new(), b"<b>no</b>".to_vec()), Some(404), Some(ErrorClass::Http), Some(9)),
        (Reply::Hang, None, Some(ErrorClass::Timeout), None),
        (Reply::Drip, Some(200), Some(ErrorClass::Timeout), None),
        (Reply::BreakInBody, Some(200), Some(ErrorClass::Reset), None),
        (Reply::Close, None, Some(ErrorClass::Reset), None),
        (Reply::Nonsense, None, Some(ErrorClass::Reset), None),
    ] {
        let (webhook, _) = rig.webhook(&receiver.url()).await;
        let (before, name) = (receiver.count(), format!("{status:?} {error:?}"));
        receiver.script([reply]);
        rig.log.append_test(&webhook.id, EventId::random()).await.expect("appended");
        let delivery = rig.after_attempt(&webhook, 1).await;
        assert_eq!(delivery.state == DeliveryState::Delivered, error.is_none(), "{name}");
        let outcome = rig.attempts(&delivery).await.remove(0).outcome;
        assert_eq!((outcome.status, outcome.error, outcome.response.map(|body| body.len())), (status, error, kept), "{name}");
        assert_eq!(receiver.count(), before + 1, "{name}");
        rig.webhooks.delete(&webhook.id).await.expect("deleted");
    }
    rig.stop(GRACE).await;
}
