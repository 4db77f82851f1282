//! Formats, added headers and authorization, as receivers see them.

use std::time::Duration;

use serde_json::{Value, json};
use spaces_bridge::domain::{AddedHeader, Authorization, Clock as _, DeadReason, DeliveryState, Format, Secret, Webhook};
use spaces_bridge::event_log::LoggedEvent;
use spaces_bridge::webhooks::{NewWebhook, WebhookPatch};

use super::rig::{Disk, Rig, new_webhook, settings};
use crate::support::receiver::{Receiver, Recorded, Reply};

const GRACE: Duration = Duration::from_secs(5);

/// With what would change if it were read and written again.
const OBJECT: &str =
    r#"{ "_id":"m1", "n":1.0e2, "content":{"bodyText":"Gr\u00fc\u00dfe 👋"}, "big":123456789012345678901234567890 }"#;

fn envelope() -> String {
    let head = r#"{"type":"message.created","timestamp":"2031-03-14T09:26:53.589Z","data":{"eventId":"evt_1","account":"acc_1","spaceId":"space1","upstream":"#;
    format!("{head}{OBJECT}}}}}")
}

/// Appends one event.
async fn append(rig: &Rig, number: u32) {
    let event = LoggedEvent { body: envelope().into(), ..rig.event(number) };
    rig.log.append(rig.fence.clone(), vec![event]).await.expect("appended");
}

/// The requests of a webhook of this format whose first attempt fails, and the secret that they are signed with.
async fn two_attempts(new: impl FnOnce(NewWebhook) -> NewWebhook) -> (Vec<Recorded>, Secret) {
    let (disk, receiver) = (Disk::new(), Receiver::start(Reply::status(204)).await);
    let rig = Rig::start(&disk, settings()).await;
    receiver.script([Reply::status(500)]);
    let (webhook, secret) = rig.webhook_of(new(new_webhook(&receiver.url()))).await;
    append(&rig, 1).await;
    disk.clock.set(due(&rig, &webhook, 1).await);
    rig.until(&webhook, 1, |state| state == DeliveryState::Delivered).await;
    rig.stop(GRACE).await;
    (receiver.recorded(), secret)
}

/// When the only delivery of `webhook` is due after `attempt`.
async fn due(rig: &Rig, webhook: &Webhook, attempt: u32) -> spaces_bridge::domain::Timestamp {
    match rig.after_attempt(webhook, attempt).await.state {
        DeliveryState::Waiting(due) => due,
        other => panic!("not waiting: {other:?}"),
    }
}

fn assert_signed(request: &Recorded, secret: &Secret) {
    let official = standardwebhooks::Webhook::new(secret.expose()).expect("a secret");
    let timestamp = request.header("webhook-timestamp").parse().expect("seconds");
    let expected = official.sign(request.header("webhook-id"), timestamp, &request.body).expect("a signature");
    assert_eq!(request.header("webhook-signature"), expected);
}

#[tokio::test]
async fn every_format_sends_the_same_signed_bytes_on_each_attempt() {
    for (format, media_type, body) in [
        (Format::Standard, "application/json", Some(envelope())),
        (Format::Raw, "application/json", Some(OBJECT.to_owned())),
        (Format::CloudEvents, "application/cloudevents+json", None),
    ] {
        let (requests, secret) = two_attempts(|new| NewWebhook { format, ..new }).await;
        let [first, second] = &requests[..] else { panic!("{} requests", requests.len()) };
        assert_eq!(first.body, second.body, "{format:?}");
        assert_ne!(first.header("webhook-signature"), second.header("webhook-signature"));
        for request in &requests {
            assert_eq!(request.header("content-type"), media_type);
            assert_signed(request, &secret);
        }
        if let Some(body) = body {
            assert_eq!(String::from_utf8_lossy(&first.body), body);
        }
    }
}

#[tokio::test]
async fn a_cloud_event_has_its_attributes_and_names_its_sender() {
    let (requests, _) = two_attempts(|new| NewWebhook { format: Format::CloudEvents, ..new }).await;
    let event = requests[0].json();
    let expected = json!({
        "specversion": "1.0",
        "id": requests[0].header("webhook-id"),
        "source": "urn:spaces-bridge:account:acc_1",
        "type": "message.created",
        "time": "2031-03-14T09:26:53.589Z",
        "subject": "space1",
        "datacontenttype": "application/json",
        "data": serde_json::from_str::<Value>(&envelope()).expect("JSON")["data"],
    });
    assert_eq!(event, expected);
    assert!(String::from_utf8_lossy(&requests[0].body).contains(OBJECT), "the upstream's object was written anew");
    assert_eq!(requests[0].header("webhook-request-origin"), "spaces-bridge");
    let (requests, _) = two_attempts(|new| new).await;
    assert_eq!(requests[0].header("webhook-request-origin"), "");
}

#[tokio::test]
async fn a_format_that_is_not_understood_is_final_for_cloud_events_only() {
    for (format, expected) in [(Format::CloudEvents, true), (Format::Standard, false), (Format::Raw, false)] {
        let (disk, receiver) = (Disk::new(), Receiver::start(Reply::status(415)).await);
        let rig = Rig::start(&disk, settings()).await;
        let (webhook, _) = rig.webhook_of(NewWebhook { format, ..new_webhook(&receiver.url()) }).await;
        append(&rig, 1).await;
        let state = rig.after_attempt(&webhook, 1).await.state;
        assert_eq!(state == DeliveryState::Dead(DeadReason::FormatRefused), expected, "{format:?}: {state:?}");
        assert_eq!(matches!(state, DeliveryState::Waiting(_)), !expected, "{format:?}: {state:?}");
        rig.stop(GRACE).await;
    }
}

#[tokio::test]
async fn a_cloud_events_receiver_that_asks_for_patience_is_never_asked_earlier() {
    const YEAR: u64 = 365 * 86_400;
    for asked in [60, 86_400, YEAR, 10 * YEAR] {
        let (disk, receiver) = (Disk::new(), Receiver::start(Reply::status(204)).await);
        let rig = Rig::start(&disk, settings()).await;
        let (webhook, _) = rig.webhook_of(NewWebhook { format: Format::CloudEvents, ..new_webhook(&receiver.url()) }).await;
        receiver.script([Reply::Answer(429, vec![("Retry-After", asked.to_string())], Vec::new())]);
        append(&rig, 1).await;
        let (now, asked) = (disk.clock.now(), Duration::from_secs(asked));
        assert!(due(&rig, &webhook, 1).await.since(now) >= asked);
        // Nor is it sent anything else.
        append(&rig, 2).await;
        let next = disk.engine.next_due().await.expect("asked").expect("two wait");
        assert!(next.since(now) >= asked, "{:?} instead of {asked:?}", next.since(now));
        assert_eq!(receiver.count(), 1);
        rig.stop(GRACE).await;
    }
}

#[tokio::test]
async fn added_headers_and_authorization_are_sent_and_change_with_the_webhook() {
    let (disk, receiver) = (Disk::embedded(), Receiver::start(Reply::status(500)).await);
    let rig = Rig::start(&disk, settings()).await;
    let header = |value: &str| AddedHeader::new("X-Tenant", Secret::new(value)).expect("a header");
    let basic = Authorization::basic(&Secret::new("Aladdin"), &Secret::new("open sesame")).expect("an authorization");
    let new = NewWebhook { headers: vec![header("blue")], authorization: Some(basic), ..new_webhook(&receiver.url()) };
    let (webhook, _) = rig.webhook_of(new).await;
    append(&rig, 1).await;
    let first_due = due(&rig, &webhook, 1).await;
    // The service stops, and knows the values again when it is back.
    rig.stop(GRACE).await;
    let rig = Rig::start(&disk, settings()).await;
    disk.clock.set(first_due);
    let second_due = due(&rig, &webhook, 2).await;
    let bearer = Authorization::bearer(&Secret::new("tok")).expect("an authorization");
    let patch =
        WebhookPatch { headers: Some(vec![header("green")]), authorization: Some(Some(bearer)), ..WebhookPatch::default() };
    rig.webhooks.update(&webhook.id, patch).await.expect("updated");
    disk.clock.set(second_due);
    let third_due = due(&rig, &webhook, 3).await;
    let patch = WebhookPatch { headers: Some(Vec::new()), authorization: Some(None), ..WebhookPatch::default() };
    rig.webhooks.update(&webhook.id, patch).await.expect("updated");
    disk.clock.set(third_due);
    due(&rig, &webhook, 4).await;
    let requests = receiver.recorded();
    let seen: Vec<_> = requests.iter().map(|request| (request.header("x-tenant"), request.header("authorization"))).collect();
    let basic = ("blue", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(seen, [basic, basic, ("green", "Bearer tok"), ("", "")]);
    rig.stop(GRACE).await;
}
