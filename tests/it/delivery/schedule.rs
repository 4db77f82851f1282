//! The schedule of attempts, on a clock that the test moves.

use std::collections::HashSet;
use std::time::Duration;

use spaces_bridge::domain::{Clock as _, DeadReason, DeliveryState, ErrorClass, Timestamp};

use super::rig::{Disk, Rig, body, event_id, settings};
use crate::support::receiver::{Receiver, Reply};

/// Waits of the specification's example, in seconds.
const STEPS: [u64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

const GRACE: Duration = Duration::from_secs(5);

/// Fails every attempt to the last, restarting the service between any two if `restart`.
async fn run_schedule(disk: Disk, restart: bool) {
    let receiver = Receiver::start(Reply::status(500)).await;
    let mut rig = Rig::start(&disk, settings()).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    rig.append(1).await;
    for (attempt, step) in (1..).zip(STEPS) {
        let now = disk.clock.now();
        let delivery = rig.after_attempt(&webhook, attempt).await;
        let DeliveryState::Waiting(due) = delivery.state else { panic!("attempt {attempt}: {:?}", delivery.state) };
        let (wait, step) = (due.since(now), Duration::from_secs(step));
        let most = step.mul_f64(1.2).min(Duration::from_hours(24));
        // The store keeps whole milliseconds.
        let least = step.mul_f64(0.8).saturating_sub(Duration::from_millis(1));
        assert!((least..=most).contains(&wait), "after attempt {attempt}: {wait:?}");
        if restart {
            rig.stop(GRACE).await;
            rig = Rig::start(&disk, settings()).await;
        }
        disk.clock.set(due);
    }
    let delivery = rig.after_attempt(&webhook, 10).await;
    assert_eq!(delivery.state, DeliveryState::Dead(DeadReason::Exhausted));
    let attempts = rig.attempts(&delivery).await;
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    let http =
        |outcome: &spaces_bridge::domain::AttemptOutcome| (outcome.status, outcome.error) == (Some(500), Some(ErrorClass::Http));
    assert!(attempts.iter().all(|attempt| http(&attempt.outcome)));
    assert_same_event_signed_anew(&receiver, &attempts.iter().map(|attempt| attempt.started_at).collect::<Vec<_>>());
    rig.stop(GRACE).await;
}

/// Every request carried the same id and body, and the time and signature of its own attempt.
fn assert_same_event_signed_anew(receiver: &Receiver, started: &[Timestamp]) {
    let recorded = receiver.recorded();
    assert_eq!(recorded.len(), started.len());
    for (request, started) in recorded.iter().zip(started) {
        assert_eq!(request.header("webhook-id"), event_id(1).as_str());
        assert_eq!(request.body, body(1).into_bytes());
        assert_eq!(request.header("webhook-timestamp"), started.as_seconds().to_string());
    }
    let signatures: HashSet<_> = recorded.iter().map(|request| request.header("webhook-signature")).collect();
    assert_eq!(signatures.len(), recorded.len());
}

#[tokio::test]
async fn a_failing_delivery_is_tried_ten_times_over_three_days_and_then_dead() {
    run_schedule(Disk::new(), false).await;
    run_schedule(Disk::embedded(), false).await;
}

#[tokio::test]
async fn a_restart_between_any_two_attempts_changes_nothing() {
    run_schedule(Disk::new(), true).await;
    run_schedule(Disk::embedded(), true).await;
}

#[tokio::test]
async fn a_thousand_waiting_retries_survive_a_restart() {
    const COUNT: u32 = 1000;
    let (disk, receiver) = (Disk::embedded(), Receiver::start(Reply::status(404)).await);
    let rig = Rig::start(&disk, settings()).await;
    let (webhook, _) = rig.webhook(&receiver.url()).await;
    for number in 0..COUNT {
        rig.append(number).await;
    }
    rig.until(&webhook, COUNT as usize, |state| matches!(state, DeliveryState::Waiting(due) if due > disk.clock.now())).await;
    rig.stop(GRACE).await;

    receiver.reply(Reply::status(204));
    let disk = disk.reopened();
    let rig = Rig::start(&disk, settings()).await;
    disk.clock.set(disk.clock.now().saturating_add(Duration::from_secs(6)));
    rig.until(&webhook, COUNT as usize, |state| state == DeliveryState::Delivered).await;
    let recorded = receiver.recorded();
    let ids: HashSet<_> = recorded[COUNT as usize..].iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!((recorded.len(), ids.len()), (2 * COUNT as usize, COUNT as usize));
    rig.stop(GRACE).await;
}

#[tokio::test]
async fn a_receiver_that_asks_for_patience_gets_it() {
    let (disk, receiver) = (Disk::new(), Receiver::start(Reply::status(200)).await);
    let in_an_hour = |clock_now: Timestamp| {
        let time = std::time::UNIX_EPOCH + Duration::from_millis(clock_now.as_millis().unsigned_abs()) + Duration::from_hours(1);
        httpdate::fmt_http_date(time)
    };
    let cases = [
        ("120".to_owned(), 120..=120),
        (in_an_hour(disk.clock.now()), 3599..=3600),
        ("soon".to_owned(), 4..=6),
        ("315360000".to_owned(), 86_400..=86_400),
    ];
    for (number, (value, expected)) in (1..).zip(cases) {
        let rig = Rig::start(&disk, settings()).await;
        let (webhook, _) = rig.webhook(&receiver.url()).await;
        receiver.script([Reply::Answer(429, vec![("Retry-After", value.clone())], Vec::new())]);
        rig.append(number).await;
        let DeliveryState::Waiting(due) = rig.after_attempt(&webhook, 1).await.state else { panic!("not waiting") };
        assert!(expected.contains(&due.since(disk.clock.now()).as_secs()), "{value}: {:?}", due.since(disk.clock.now()));
        rig.webhooks.delete(&webhook.id).await.expect("deleted");
        rig.stop(GRACE).await;
    }
}

#[tokio::test]
async fn an_overloaded_receiver_gets_nothing_else_meanwhile() {
    for status in [429, 502, 504] {
        let (disk, receiver) = (Disk::new(), Receiver::start(Reply::status(200)).await);
        let rig = Rig::start(&disk, settings()).await;
        let (webhook, _) = rig.webhook(&receiver.url()).await;
        receiver.script([Reply::Answer(status, vec![("Retry-After", "60".to_owned())], Vec::new())]);
        rig.append(1).await;
        rig.after_attempt(&webhook, 1).await;
        rig.append(2).await;
        let next = rig.disk.engine.next_due().await.expect("asked").expect("two wait");
        assert_eq!(next.since(disk.clock.now()), Duration::from_mins(1), "{status}");
        disk.clock.set(next);
        rig.until(&webhook, 2, |state| state == DeliveryState::Delivered).await;
        assert_eq!(receiver.count(), 3);
        rig.stop(GRACE).await;
    }
}
