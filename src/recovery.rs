//! [`Recovery`]: deliveries that are made again because somebody asked: one, all that failed, or everything since a time.
//!
//! The log has everything, so nothing is copied: a replay is new deliveries of old events. They are due like others and take turns
//! with those of other webhooks, so that a long replay holds up nobody else; a rate spreads them over time, so that live events
//! of the same webhook go in between.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::domain::{AccountId, Clock, DeliveryId, EventType, Timestamp, Webhook, WebhookId};
use crate::store::{
    Cursor, Engine, EventFilter, Query, ReplayItem, Requeue, RequeueMode, Requeued, Result, Rows, StoreError, StoredEvent,
};
use crate::webhooks::{EventView, Match, decide, lane};

/// Rows looked at in one call of the store.
const BATCH: usize = 500;

/// How long one call goes on before it tells how far it has come.
const PATIENCE: Duration = Duration::from_secs(5);

/// A stretch of time, its end excluded. It is about when events were appended and deliveries created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From then on.
    pub since: Timestamp,
    /// Until before then; the time of the first call if not given.
    pub until: Option<Timestamp>,
}

/// What is to be replayed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Which events.
    pub span: Span,
    /// Only count.
    pub dry_run: bool,
    /// Deliveries a second; all at once if not given.
    pub rate: Option<u32>,
}

/// How far one call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Deliveries made again by this call, or that would be.
    pub count: usize,
    /// Where to go on; `None` at the end.
    pub next: Option<Place>,
}

/// Where a call stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The last row seen.
    after: Cursor,
    /// When the first call began, which is the end of the span if none was given.
    began: Timestamp,
    /// Deliveries made by the calls so far.
    made: u64,
}

impl Place {
    /// The end of a span that was given none: what there was when the first call began.
    fn end(self) -> Timestamp {
        self.began.saturating_add(Duration::from_millis(1))
    }
}

/// What was made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MadeUp {
    /// Dead deliveries that are tried again.
    pub dead: usize,
    /// Deliveries of events that came while the webhook was off.
    pub missed: usize,
}

/// Makes deliveries again.
pub struct Recovery {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Recovery").finish_non_exhaustive()
    }
}

impl Recovery {
    /// Recovery from the log in `engine`.
    pub fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, clock }
    }

    /// Makes a delivery due now, with a fresh schedule. `false` if an attempt of it is under way.
    pub async fn retry(&self, webhook: &WebhookId, delivery: DeliveryId) -> Result<bool> {
        Ok(self.requeue(webhook, RequeueMode::One(delivery), None).await?.count > 0)
    }

    /// Makes the dead deliveries of `webhook` that were created in `span` due now, with fresh schedules, oldest first.
    pub async fn recover(&self, webhook: &WebhookId, span: Span, place: Option<Place>) -> Result<Progress> {
        let mut place = place.unwrap_or_else(|| self.start());
        let mode = RequeueMode::Redrive { since: span.since, until: span.until.unwrap_or_else(|| place.end()) };
        let (began, mut count) = (Instant::now(), 0);
        loop {
            let requeued = self.requeue(webhook, mode.clone(), Some(place.after)).await?;
            count += requeued.count;
            place.made = place.made.saturating_add(requeued.count as u64);
            let Some(after) = requeued.cursor else { return Ok(Progress { count, next: None }) };
            place.after = after;
            if began.elapsed() > PATIENCE {
                return Ok(Progress { count, next: Some(place) });
            }
        }
    }

    /// Makes a new delivery to `webhook` of each event in the span that matches it as it is now, oldest first. Events of which a
    /// delivery is still open are passed over.
    pub async fn replay(&self, webhook: &Webhook, replay: Replay, place: Option<Place>) -> Result<Progress> {
        let mut place = place.unwrap_or_else(|| self.start());
        let until = replay.span.until.unwrap_or_else(|| place.end());
        let filter = EventFilter { account: webhook.account.clone(), space: None, since: Some(replay.span.since) };
        let (began, mut count) = (Instant::now(), 0);
        loop {
            let query = Query::Events { filter: filter.clone(), cursor: Some(place.after), limit: BATCH };
            let page = self.engine.query(query).await?;
            let Rows::Events(mut events) = page.rows else { return Err(unexpected("list events")) };
            let more = page.next.filter(|_| events.last().is_some_and(|last| last.appended_at < until));
            events.truncate(events.iter().take_while(|event| event.appended_at < until).count());
            if !events.is_empty() {
                let chosen = choose(webhook.clone(), events).await?;
                let items = self.items(webhook, &chosen, replay.rate, &place);
                let again = RequeueMode::Replay { items, dry_run: replay.dry_run };
                let made = self.requeue(&webhook.id, again, None).await?.count;
                count += made;
                place.made = place.made.saturating_add(made as u64);
            }
            let Some(after) = more else { return Ok(Progress { count, next: None }) };
            place.after = after;
            if began.elapsed() > PATIENCE {
                return Ok(Progress { count, next: Some(place) });
            }
        }
    }

    /// Makes up for all that `webhook` missed since `since`, to the end: its dead deliveries, and, if it was off, the events that were
    /// appended while it was off.
    pub async fn make_up(&self, webhook: &Webhook, since: Timestamp, off_since: Option<Timestamp>) -> Result<MadeUp> {
        let (mut made_up, mut place) = (MadeUp::default(), None);
        let now = self.clock.now();
        loop {
            let progress = self.recover(&webhook.id, Span { since, until: None }, place).await?;
            made_up.dead += progress.count;
            place = progress.next;
            if place.is_none() {
                break;
            }
        }
        let Some(off_since) = off_since else { return Ok(made_up) };
        let span = Span { since: since.max(off_since), until: Some(now) };
        loop {
            let progress = self.replay(webhook, Replay { span, dry_run: false, rate: None }, place).await?;
            made_up.missed += progress.count;
            place = progress.next;
            if place.is_none() {
                return Ok(made_up);
            }
        }
    }

    /// When the oldest event of `account` that is still there was appended: as far back as a replay can reach.
    pub async fn reach(&self, account: &AccountId) -> Result<Option<Timestamp>> {
        let filter = EventFilter { account: account.clone(), space: None, since: None };
        match self.engine.query(Query::Events { filter, cursor: None, limit: 1 }).await?.rows {
            Rows::Events(events) => Ok(events.first().map(|event| event.appended_at)),
            _ => Err(unexpected("list events")),
        }
    }

    fn start(&self) -> Place {
        Place { after: Cursor(i64::MIN), began: self.clock.now(), made: 0 }
    }

    /// Deliveries of `events` to `webhook`, each due in its turn.
    fn items(&self, webhook: &Webhook, events: &[StoredEvent], rate: Option<u32>, place: &Place) -> Vec<ReplayItem> {
        let late = self.clock.now().since(place.began);
        // A cursor comes from outside and may claim any number.
        let item = |(index, event): (usize, &StoredEvent)| ReplayItem {
            position: event.position,
            lane: lane(webhook, &event.space),
            due_in: due_in(place.made.saturating_add(index as u64), rate, late),
        };
        events.iter().enumerate().map(item).collect()
    }

    async fn requeue(&self, webhook: &WebhookId, mode: RequeueMode, cursor: Option<Cursor>) -> Result<Requeued> {
        self.engine.requeue(Requeue { webhook: webhook.clone(), mode, limit: BATCH, cursor }).await
    }
}

/// How long delivery `number`, counted from 0, of a replay that began `late` ago waits for its turn.
fn due_in(number: u64, rate: Option<u32>, late: Duration) -> Duration {
    let Some(rate) = rate else { return Duration::ZERO };
    Duration::from_micros(number.saturating_mul(1_000_000) / u64::from(rate.max(1))).saturating_sub(late)
}

/// Those of `events` that `webhook` wants. Looking at bodies, and searching them, may take a while and runs apart.
async fn choose(webhook: Webhook, mut events: Vec<StoredEvent>) -> Result<Vec<StoredEvent>> {
    let choosing = tokio::task::spawn_blocking(move || {
        events.retain(|event| is_wanted(&webhook, event));
        events
    });
    choosing.await.map_err(|source| StoreError::Failed { operation: "match events with a webhook", source: source.into() })
}

/// A test is for the webhook that was tested, whatever patterns others have.
fn is_wanted(webhook: &Webhook, event: &StoredEvent) -> bool {
    event.event_type != EventType::WEBHOOK_TEST && decide(webhook, &EventView::of_stored(event)) == Match::Matched
}

fn unexpected(operation: &'static str) -> StoreError {
    StoreError::Failed { operation, source: "the store answered another question".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_deliveries_from_the_beginning_of_the_replay_on() {
        let millis = Duration::from_millis;
        for (number, rate, late, expected) in [
            (0, Some(1), 0, millis(0)),
            (2, Some(1), 0, millis(2_000)),
            (3, Some(4), 0, millis(750)),
            // A later call goes on where the schedule is by then, and what is overdue is due at once.
            (500, Some(100), 1_200, millis(3_800)),
            (500, Some(100), 6_000, millis(0)),
            (9_999, None, 0, millis(0)),
            (u64::MAX, Some(1), 0, Duration::from_micros(u64::MAX)),
        ] {
            assert_eq!(due_in(number, rate, millis(late)), expected, "{number} at {rate:?}, {late} ms late");
        }
    }
}
