//! [`EventLog`]: where events become durable, together with one delivery for each webhook that wants them.
//!
//! Sessions write, the delivery dispatcher works off what was written; neither knows the other. An event is durable before
//! anything else happens to it, and a repeat of a known event changes nothing. What the bridge itself has to tell an account goes
//! the same way, as a [`SystemEvent`].

mod reading;
mod system;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

pub use self::reading::{EventPage, START, Selection};
pub use self::system::{SystemEvent, SystemEventError, TestError};
pub use self::watch::NewEvents;
use crate::domain::{AccountId, Clock, EventId, EventType, SpaceId, Timestamp};
use crate::metrics::Metrics;
use crate::store::{Appended, Engine, Fence, Incarnation, NewEvent, StoreError, Target};
use crate::webhooks::{EventView, WebhookRegistry};

/// Larger bodies go out as they are, but Standard Webhooks recommends to stay below, and receivers may refuse them.
const LARGE_BODY: usize = 20_000;

/// An event ready for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Derived from the event's identity, so that a repeat is the same event.
    pub id: EventId,
    /// Whose event it is.
    pub account: AccountId,
    /// Where it happened.
    pub space: SpaceId,
    /// Whether that is a direct space.
    pub direct: bool,
    /// Whether the account sent the message through the bridge.
    pub own: bool,
    /// What happened.
    pub event_type: EventType,
    /// When it happened, as the upstream says.
    pub occurred_at: Timestamp,
    /// The body of its deliveries, byte for byte.
    pub body: Bytes,
}

impl LoggedEvent {
    /// The event as matching looks at it.
    pub fn view(&self) -> EventView<'_> {
        EventView::new(&self.account, &self.event_type, &self.space, (self.direct, self.own), &self.body)
    }
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// The events are durable, and so are their deliveries; those known before are as they were.
    Durable,
    /// Another member owns the session by now; nothing was written.
    Fenced,
}

/// The log: its writing end, and the way to read it.
pub struct EventLog {
    engine: Arc<dyn Engine>,
    webhooks: Arc<WebhookRegistry>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    system: system::Right,
    watchers: Arc<watch::Watchers>,
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EventLog").field("webhooks", &self.webhooks).finish_non_exhaustive()
    }
}

impl EventLog {
    /// A log in `engine`, written to by the member `incarnation`, whose events go to `webhooks`.
    pub fn new(
        engine: Arc<dyn Engine>,
        incarnation: Incarnation,
        webhooks: Arc<WebhookRegistry>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { engine, webhooks, clock, metrics, system: system::Right::of(incarnation), watchers: Arc::default() }
    }

    /// Makes events and their deliveries durable in one transaction.
    pub async fn append(&self, fence: Fence, events: Vec<LoggedEvent>) -> Result<Logged, StoreError> {
        Ok(self.append_each(fence, events).await?.map_or(Logged::Fenced, |_| Logged::Durable))
    }

    /// As [`Self::append`]; answers of each event whether it was new, or `None` if nothing was written because the session has moved.
    pub async fn append_each(&self, fence: Fence, events: Vec<LoggedEvent>) -> Result<Option<Vec<bool>>, StoreError> {
        let mut new = Vec::with_capacity(events.len());
        for event in events {
            let targets = self.targets(&event).await?;
            warn_if_large(&event, &targets);
            new.push(with_targets(event, targets));
        }
        self.write(fence, new).await
    }

    /// Who gets `event`. Searches with patterns run apart, so that those of one account hold up nobody else.
    async fn targets(&self, event: &LoggedEvent) -> Result<Vec<Target>, StoreError> {
        let candidates = self.webhooks.candidates(&event.view());
        if !candidates.searches() {
            return Ok(candidates.targets(&event.view()));
        }
        let event = event.clone();
        let searching = tokio::task::spawn_blocking(move || candidates.targets(&event.view()));
        searching.await.map_err(|source| StoreError::Failed { operation: "match an event with webhooks", source: source.into() })
    }

    /// Whether any webhook gets such an event, unless its filter says no.
    pub fn may_have_targets(&self, event: &LoggedEvent) -> bool {
        !self.webhooks.candidates(&event.view()).is_empty()
    }

    /// Whether any webhook asks for events of this type.
    pub fn is_asked_for(&self, account: &AccountId, event_type: &EventType) -> bool {
        self.webhooks.ask_for(account, event_type)
    }

    async fn write(&self, fence: Fence, events: Vec<NewEvent>) -> Result<Option<Vec<bool>>, StoreError> {
        let mut accounts: Vec<AccountId> = events.iter().map(|event| event.account.clone()).collect();
        accounts.dedup();
        let timer = self.metrics.append_latency.start_timer();
        let appended = self.engine.append(fence, events).await;
        timer.observe_duration();
        match appended {
            Ok(Appended::Durable(new)) => {
                for is_new in &new {
                    self.metrics.events.with_label_values(&[if *is_new { "appended" } else { "repeated" }]).inc();
                }
                self.watchers.wake(&accounts);
                Ok(Some(new))
            }
            Ok(Appended::Fenced) => Ok(None),
            Err(error) => {
                self.metrics.append_failures.inc();
                Err(error)
            }
        }
    }
}

fn warn_if_large(event: &LoggedEvent, targets: &[Target]) {
    let (id, bytes) = (&event.id, event.body.len());
    if bytes > LARGE_BODY && !targets.is_empty() {
        warn!(event.id = %id, bytes, "event `{id}` has {bytes} bytes, which some receivers will refuse");
    }
}

fn with_targets(event: LoggedEvent, targets: Vec<Target>) -> NewEvent {
    NewEvent {
        id: event.id,
        account: event.account,
        space: event.space,
        event_type: event.event_type,
        occurred_at: event.occurred_at,
        body: event.body,
        targets,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::SystemClock;
    use crate::seal::Keyring;
    use crate::store::{MemoryStore, Ownership, Query, Rows, Wanted};

    pub(super) async fn log() -> (EventLog, Fence) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let incarnation = engine.join("127.0.0.1:1", Duration::from_secs(15)).await.expect("joined").incarnation;
        let session = Wanted::Session("ses_1".parse().expect("an id"));
        let owned = engine.acquire(incarnation, session).await.expect("acquired");
        let fence = Fence { incarnation, ownership: owned.into_iter().next().expect("nobody else owns the session") };
        let webhooks = WebhookRegistry::load(Arc::clone(&engine), Arc::new(Keyring::random()), Arc::clone(&clock)).await;
        (EventLog::new(engine, incarnation, Arc::new(webhooks.expect("loaded")), clock, Arc::default()), fence)
    }

    fn event() -> LoggedEvent {
        let (account, webhook) = ("acc_1".parse().expect("an id"), "wh_1".parse().expect("an id"));
        let at = Timestamp::parse("2031-03-14T09:26:53.589Z").expect("a time");
        SystemEvent::WebhookTest { webhook_id: webhook }.happened(account, at)
    }

    #[tokio::test]
    async fn an_event_is_stored_once_though_nobody_wants_it() {
        let (log, fence) = log().await;
        let event = event();
        for _ in 0..2 {
            assert_eq!(log.append(fence.clone(), vec![event.clone()]).await.expect("appended"), Logged::Durable);
        }
        let metrics = log.metrics.render();
        for result in ["appended", "repeated"] {
            assert!(metrics.contains(&format!("spaces_bridge_events_total{{result=\"{result}\"}} 1")), "{metrics}");
        }
    }

    #[tokio::test]
    async fn a_session_that_moved_away_can_write_no_more() {
        let (log, fence) = log().await;
        let ownership = Ownership { epoch: fence.ownership.epoch + 1, ..fence.ownership };
        let stale = Fence { ownership, ..fence };
        assert_eq!(log.append(stale, vec![event()]).await.expect("asked"), Logged::Fenced);
    }

    #[tokio::test]
    async fn an_event_of_the_bridge_itself_needs_no_session_and_is_told_once() {
        let (log, _) = log().await;
        let account: AccountId = "acc_1".parse().expect("an id");
        let refused = SystemEvent::SendFailed {
            reference: "ref_1".parse().expect("an id"),
            space_id: "s1".parse().expect("an id"),
            category: "chat".to_owned(),
            code: None,
            message: None,
        };
        let id = log.append_system(&account, &refused).await.expect("appended");
        assert_eq!(log.append_system(&account, &refused).await.expect("appended"), id);
        let found = log.engine.query(Query::Event(id.clone())).await.expect("read");
        let Rows::Events(events) = found.rows else { panic!("{found:?}") };
        assert_eq!((events.len(), &events[0].space), (1, &SpaceId::nowhere()));
        let body: serde_json::Value = serde_json::from_slice(&events[0].body).expect("JSON");
        let expected = serde_json::json!({"eventId": id.as_str(), "account": "acc_1", "ref": "ref_1", "spaceId": "s1",
            "category": "chat", "code": null, "message": null});
        assert_eq!((&body["type"], &body["data"]), (&serde_json::json!("send.failed"), &expected));
        assert!(log.metrics.render().contains("spaces_bridge_events_total{result=\"repeated\"} 1"));
    }

    #[tokio::test]
    async fn a_process_that_is_no_member_any_more_tells_nothing() {
        let (log, fence) = log().await;
        let account: AccountId = "acc_1".parse().expect("an id");
        let test = SystemEvent::WebhookTest { webhook_id: "wh_1".parse().expect("an id") };
        log.append_system(&account, &test).await.expect("appended");
        log.engine.leave(fence.incarnation).await.expect("left");
        assert!(matches!(log.append_system(&account, &test).await, Err(SystemEventError::Fenced)));
    }

    #[test]
    fn a_test_event_has_the_envelope_of_every_event() {
        let event = event();
        let body: serde_json::Value = serde_json::from_slice(&event.body).expect("JSON");
        let expected = serde_json::json!({
            "type": "webhook.test",
            "timestamp": "2031-03-14T09:26:53.589Z",
            "data": {"eventId": event.id.as_str(), "account": "acc_1", "webhookId": "wh_1"},
        });
        assert_eq!(body, expected);
    }
}
