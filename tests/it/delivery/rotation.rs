//! Signatures while secrets follow each other, on a clock that the test moves.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use spaces_bridge::domain::{Clock as _, DeliveryState, Secret, Seed, Signing, Webhook};
use spaces_bridge::webhooks::{NewWebhook, Rotation};

use super::rig::{Disk, Rig, new_webhook, settings};
use crate::support::receiver::{Receiver, Recorded, Reply};

const GRACE: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_hours(1);

/// Delivers the event `number`, and answers its request.
async fn delivered(rig: &Rig, receiver: &Receiver, webhook: &Webhook, number: u32) -> Recorded {
    rig.append(number).await;
    rig.until(webhook, number as usize, |state| state == DeliveryState::Delivered).await;
    receiver.recorded().pop().expect("a request")
}

/// The signature that the official library makes with `secret`.
fn official(request: &Recorded, secret: &Secret) -> String {
    let official = standardwebhooks::Webhook::new(secret.expose()).expect("a secret");
    let timestamp = request.header("webhook-timestamp").parse().expect("seconds");
    official.sign(request.header("webhook-id"), timestamp, &request.body).expect("a signature")
}

fn signatures(request: &Recorded) -> Vec<&str> {
    request.header("webhook-signature").split(' ').collect()
}

#[tokio::test]
async fn the_new_secret_signs_first_and_the_old_one_until_its_time() {
    let (disk, receiver) = (Disk::embedded(), Receiver::start(Reply::status(204)).await);
    let rig = Rig::start(&disk, settings()).await;
    let (webhook, old) = rig.webhook(&receiver.url()).await;
    let request = delivered(&rig, &receiver, &webhook, 1).await;
    assert_eq!(signatures(&request), [official(&request, &old)]);

    let rotated = rig
        .webhooks
        .rotate_secret(&webhook.id, Rotation { secret: None, seed: Seed::random(), overlap: 24 * HOUR })
        .await
        .expect("rotated");
    let new = rig.webhooks.secret(&rotated).expect("it opens").expect("a symmetric secret");
    assert_ne!(new, old);
    let start = disk.clock.now();
    let request = delivered(&rig, &receiver, &webhook, 2).await;
    assert_eq!(signatures(&request), [official(&request, &new), official(&request, &old)]);

    // Also after a restart, up to the last moment.
    rig.stop(GRACE).await;
    let rig = Rig::start(&disk, settings()).await;
    disk.clock.set(start.saturating_add(24 * HOUR).saturating_sub(Duration::from_millis(1)));
    let request = delivered(&rig, &receiver, &webhook, 3).await;
    assert_eq!(signatures(&request), [official(&request, &new), official(&request, &old)]);

    disk.clock.set(start.saturating_add(24 * HOUR));
    let request = delivered(&rig, &receiver, &webhook, 4).await;
    assert_eq!(signatures(&request), [official(&request, &new)]);

    // A secret of one's own, and none beside it.
    let own = Secret::new(format!("whsec_{}", STANDARD.encode([7; 24])));
    let rotation = Rotation { secret: Some(own.clone()), seed: Seed::random(), overlap: Duration::ZERO };
    let rotated = rig.webhooks.rotate_secret(&webhook.id, rotation.clone()).await.expect("rotated");
    let request = delivered(&rig, &receiver, &webhook, 5).await;
    assert_eq!(signatures(&request), [official(&request, &own)]);
    let again = rig.webhooks.rotate_secret(&webhook.id, rotation).await.expect("nothing to do");
    assert_eq!(again, rotated);
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn ed25519_signs_what_its_public_key_verifies() {
    let (disk, receiver) = (Disk::new(), Receiver::start(Reply::status(204)).await);
    let rig = Rig::start(&disk, settings()).await;
    let new = NewWebhook { signing: Signing::Ed25519, ..new_webhook(&receiver.url()) };
    let (webhook, _) = rig.webhook_of(new).await;
    assert_eq!(rig.webhooks.secret(&webhook), Ok(None));
    let rotated = rig
        .webhooks
        .rotate_secret(&webhook.id, Rotation { secret: None, seed: Seed::random(), overlap: HOUR })
        .await
        .expect("rotated");
    let keys: Vec<_> = rotated.signing.all().iter().map(|key| key.public_key.clone().expect("a public key")).collect();
    assert_eq!(keys.len(), 2);
    let request = delivered(&rig, &receiver, &webhook, 1).await;
    let signed =
        [request.header("webhook-id").as_bytes(), b".", request.header("webhook-timestamp").as_bytes(), b".", &request.body];
    let signed = signed.concat();
    let verify = |key: &str, signature: &str, message: &[u8]| {
        let key = STANDARD.decode(key.strip_prefix("whpk_").expect("a prefix")).expect("base64");
        let signature = STANDARD.decode(signature.strip_prefix("v1a,").expect("a version")).expect("base64");
        let algorithm = &aws_lc_rs::signature::ED25519;
        aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, key).verify(message, &signature).is_ok()
    };
    let entries = signatures(&request);
    assert_eq!(entries.len(), 2);
    for (key, entry) in keys.iter().zip(&entries) {
        assert!(verify(key, entry, &signed));
        assert!(!verify(key, entry, &signed[1..]));
    }
    assert!(!verify(&keys[0], entries[1], &signed), "the keys are the same");
    rig.stop(GRACE).await;
}
