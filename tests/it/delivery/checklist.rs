//! What a sender of webhooks has to get right, answer by answer, on a clock that the test moves. What needs no receiver is shown
//! beside the code: signatures, `Retry-After`, jitter, event types, addresses.

use std::time::Duration;

use spaces_bridge::domain::{DeadReason, DeliveryState, ErrorClass, WebhookStatus};

use super::rig::{Disk, Rig, settings};
use crate::support::receiver::{Receiver, Reply};

const GRACE: Duration = Duration::from_secs(5);

/// What has to follow from an answer to the first attempt.
#[derive(Debug, Clone, PartialEq)]
enum Follows {
    Delivered,
    /// The next attempt after so many seconds, and whether all other deliveries wait as well.
    Retry(std::ops::RangeInclusive<u64>, Waits),
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Waits {
    This,
    All,
}

use Follows::{Delivered, Gone, Retry};

fn with(status: u16, name: &'static str, value: &str) -> Reply {
    Reply::Answer(status, vec![(name, value.to_owned())], Vec::new())
}

/// Jitter moves the first step of five seconds by a fifth at most.
fn first_step() -> Follows {
    Retry(4..=6, Waits::This)
}

fn slowed() -> Follows {
    Retry(4..=6, Waits::All)
}

fn rows() -> Vec<(Reply, Option<ErrorClass>, Follows)> {
    let http = Some(ErrorClass::Http);
    let mut rows = Vec::new();
    rows.extend([200, 201, 202, 204, 299].map(|status| (Reply::status(status), None, Delivered)));
    rows.extend([300, 301, 302, 303, 304, 307, 308].map(|status| (with(status, "location", "/elsewhere"), http, first_step())));
    rows.extend(
        [400, 401, 403, 404, 408, 415, 422, 451, 500, 501, 503, 599].map(|status| (Reply::status(status), http, first_step())),
    );
    rows.extend([429, 502, 504].map(|status| (Reply::status(status), http, slowed())));
    for status in [429, 502, 504] {
        rows.extend([
            (with(status, "retry-after", "120"), http, Retry(120..=120, Waits::All)),
            (with(status, "retry-after", "1"), http, slowed()),
            (with(status, "retry-after", "soon"), http, slowed()),
            (with(status, "retry-after", "-7"), http, slowed()),
            (with(status, "retry-after", "315360000"), http, Retry(86_400..=86_400, Waits::All)),
            (with(status, "retry-after", "99999999999999999999999"), http, Retry(86_400..=86_400, Waits::All)),
            (with(status, "retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), http, slowed()),
            (with(status, "retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"), http, Retry(86_400..=86_400, Waits::All)),
        ]);
    }
    for status in [400, 500, 503] {
        rows.push((with(status, "retry-after", "120"), http, Retry(120..=120, Waits::This)));
    }
    rows.extend([
        (Reply::status(410), http, Gone),
        (with(410, "retry-after", "5"), http, Gone),
        (Reply::Answer(200, Vec::new(), vec![b'x'; 1 << 20]), None, Delivered),
        (Reply::Answer(500, Vec::new(), vec![b'x'; 1 << 20]), http, first_step()),
        (Reply::Hang, Some(ErrorClass::Timeout), first_step()),
        (Reply::Drip, Some(ErrorClass::Timeout), first_step()),
        (Reply::BreakInBody, Some(ErrorClass::Reset), first_step()),
        (Reply::Close, Some(ErrorClass::Reset), first_step()),
        (Reply::Nonsense, Some(ErrorClass::Reset), first_step()),
    ]);
    rows
}

#[tokio::test]
async fn what_follows_from_each_answer() {
    let receiver = Receiver::start(Reply::status(204)).await;
    let quick = spaces_bridge::delivery::DeliverySettings { timeout: Duration::from_millis(500), ..settings() };
    let (disk, mut number) = (Disk::new(), 0);
    let rig = Rig::start(&disk, quick).await;
    for (reply, error, follows) in rows() {
        let (webhook, _) = rig.webhook(&receiver.url()).await;
        let (name, before) = (format!("{reply:?}").chars().take(120).collect::<String>(), receiver.count());
        receiver.script([reply]);
        number += 1;
        rig.append(number).await;
        let delivery = rig.after_attempt(&webhook, 1).await;
        // Neither a redirect nor anything else makes a second request at once.
        assert_eq!(receiver.count(), before + 1, "{name}");
        assert_eq!(rig.attempts(&delivery).await[0].outcome.error, error, "{name}");
        let status = rig.webhooks.get(&webhook.id).expect("it exists").status;
        assert_eq!(status, if follows == Gone { WebhookStatus::Gone } else { WebhookStatus::Enabled }, "{name}");
        match (&follows, delivery.state) {
            (Delivered, DeliveryState::Delivered) | (Gone, DeliveryState::Dead(DeadReason::Gone)) => {}
            (Retry(wait, waits), DeliveryState::Waiting(due)) => {
                assert!(wait.contains(&due.since(rig.now()).as_secs()), "{name}: {:?}", due.since(rig.now()));
                let until = rig.flow(&webhook).await.held_until.filter(|until| *until > rig.now());
                assert_eq!(until.is_some(), *waits == Waits::All, "{name}: held until {until:?}");
                let hold = until.map_or(*wait.start(), |until| until.since(rig.now()).as_secs());
                assert!(wait.contains(&hold), "{name}: held for {hold} s");
                // Not a moment before, and then with the same id.
                let next = rig.quiet().await.expect("it is due later");
                disk.clock.set(next.saturating_sub(Duration::from_millis(1)));
                assert_eq!(rig.quiet().await, Some(next), "{name}");
                assert_eq!(receiver.count(), before + 1, "{name}: too early");
                disk.clock.set(next.max(due));
                rig.until(&webhook, 1, |state| state == DeliveryState::Delivered).await;
                let recorded = receiver.recorded();
                let (first, second) = (&recorded[before], &recorded[before + 1]);
                assert_eq!((first.header("webhook-id"), &first.body), (second.header("webhook-id"), &second.body), "{name}");
                assert_ne!(first.header("webhook-timestamp"), second.header("webhook-timestamp"), "{name}");
                assert_ne!(first.header("webhook-signature"), second.header("webhook-signature"), "{name}");
            }
            (_, state) => panic!("{name}: {state:?}"),
        }
        rig.webhooks.delete(&webhook.id).await.expect("deleted");
    }
    rig.stop(GRACE).await;
}
