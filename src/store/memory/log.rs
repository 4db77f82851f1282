//! The log: reading it, making deliveries from it again, and forgetting what is old.

use super::{DeliveryRow, NOT_HELD, Standing, State};
use crate::domain::{Delivery, DeliveryId, DeliveryState, Timestamp, WebhookId};
use crate::store::{
    Cursor, DeliveryFilter, EventFilter, FlowStatus, Maintained, Maintenance, Page, Query, ReplayItem, Requeue, RequeueMode,
    Requeued, Rows, StateFilter, StoredEvent,
};

impl State {
    pub(super) fn requeue(&mut self, request: &Requeue, now: Timestamp) -> Requeued {
        if self.webhooks.entry(request.webhook.clone()).or_default().flow == Standing::Ended {
            return Requeued { count: 0, cursor: None };
        }
        match &request.mode {
            RequeueMode::One(delivery) => self.requeue_one(request, *delivery, now),
            RequeueMode::Redrive { since, until } => self.redrive(request, *since, *until, now),
            RequeueMode::Replay { items, dry_run } => self.replay(&request.webhook, items, *dry_run, now),
        }
    }

    fn requeue_one(&mut self, request: &Requeue, delivery: DeliveryId, now: Timestamp) -> Requeued {
        let number = delivery.number();
        let may = request.limit > 0
            && self
                .deliveries
                .get(&number)
                .is_some_and(|row| row.webhook == request.webhook && !matches!(row.state, DeliveryState::InFlight(_)));
        if may {
            self.start_again(number, now);
        }
        Requeued { count: usize::from(may), cursor: None }
    }

    fn redrive(&mut self, request: &Requeue, since: Timestamp, until: Timestamp, now: Timestamp) -> Requeued {
        let dead = self
            .deliveries
            .iter()
            .filter(|(_, row)| row.webhook == request.webhook && matches!(row.state, DeliveryState::Dead(_)))
            .filter(|(_, row)| row.created_at >= since && row.created_at < until)
            .filter(|(number, _)| request.cursor.is_none_or(|after| **number > after.0))
            .map(|(number, _)| *number);
        let (numbers, cursor) = page(dead, request.limit, request.cursor, |number| *number);
        for number in &numbers {
            self.start_again(*number, now);
        }
        Requeued { count: numbers.len(), cursor }
    }

    fn replay(&mut self, webhook: &WebhookId, items: &[ReplayItem], dry_run: bool, now: Timestamp) -> Requeued {
        let mut count = 0;
        for item in items {
            let position = item.position.0;
            if !self.events.contains_key(&position) || self.is_open(position, webhook) {
                continue;
            }
            count += 1;
            if !dry_run {
                self.add_delivery(position, webhook.clone(), item.lane.clone(), now.saturating_add(item.due_in), now);
            }
        }
        Requeued { count, cursor: None }
    }

    /// Whether a delivery of the event to the webhook waits or is in flight.
    fn is_open(&self, event: i64, webhook: &WebhookId) -> bool {
        self.deliveries.values().any(|row| row.event == event && row.webhook == *webhook && is_open(row))
    }

    pub(super) fn query(&self, query: &Query) -> Page {
        match query {
            Query::Events { filter, cursor, limit } => self.list_events(filter, *cursor, *limit),
            Query::EventsTail { account } => {
                let newest = self.events.values().rev().find(|event| event.account == *account);
                Page { rows: Rows::Events(newest.cloned().into_iter().collect()), next: None }
            }
            Query::Event(id) => {
                let event = self.events.values().find(|event| event.id == *id);
                Page { rows: Rows::Events(event.cloned().into_iter().collect()), next: None }
            }
            Query::Deliveries { filter, cursor, limit } => self.list_deliveries(filter, *cursor, *limit),
            Query::Delivery(id) => {
                let row = self.deliveries.get(&id.number()).map(|row| self.delivery(id.number(), row));
                Page { rows: Rows::Deliveries(row.into_iter().collect()), next: None }
            }
            Query::Attempts(id) => {
                let attempts = self.attempts.get(&id.number()).cloned().unwrap_or_default();
                Page { rows: Rows::Attempts(attempts), next: None }
            }
            Query::Depths => Page {
                rows: Rows::Depths {
                    waiting: self.count(StateFilter::Waiting),
                    in_flight: self.count(StateFilter::InFlight),
                    dead: self.count(StateFilter::Dead),
                    oldest_waiting: self.oldest_waiting(|_| true),
                },
                next: None,
            },
            Query::Flow(webhook) => {
                let row = self.webhooks.contains_key(webhook).then(|| self.flow_status(webhook));
                Page { rows: Rows::Flows(row.into_iter().collect()), next: None }
            }
            Query::ProbedFlows { after, limit } => {
                let later = self.webhooks.keys().filter(|webhook| after.as_ref().is_none_or(|after| *webhook > after));
                let probed = later.map(|webhook| self.flow_status(webhook)).filter(|flow| flow.probing);
                Page { rows: Rows::Flows(probed.take(*limit).collect()), next: None }
            }
        }
    }

    fn list_events(&self, filter: &EventFilter, cursor: Option<Cursor>, limit: usize) -> Page {
        let events = self
            .events
            .values()
            .filter(|event| cursor.is_none_or(|after| event.position > after))
            .filter(|event| event.account == filter.account)
            .filter(|event| filter.space.as_ref().is_none_or(|space| event.space == *space))
            .filter(|event| filter.since.is_none_or(|since| event.appended_at >= since));
        let (events, next) = page(events.cloned(), limit, cursor, |event: &StoredEvent| event.position.0);
        Page { rows: Rows::Events(events), next }
    }

    fn list_deliveries(&self, filter: &DeliveryFilter, cursor: Option<Cursor>, limit: usize) -> Page {
        let deliveries = self
            .deliveries
            .iter()
            .rev()
            .filter(|(number, _)| cursor.is_none_or(|before| **number < before.0))
            .filter(|(_, row)| row.webhook == filter.webhook)
            .filter(|(_, row)| filter.state.is_none_or(|state| state_of(row) == state))
            .filter(|(_, row)| filter.event.as_ref().is_none_or(|event| self.events[&row.event].id == *event))
            .filter(|(_, row)| filter.event_type.as_ref().is_none_or(|wanted| self.events[&row.event].event_type == *wanted))
            .filter(|(_, row)| filter.since.is_none_or(|since| row.created_at >= since))
            .filter(|(_, row)| filter.until.is_none_or(|until| row.created_at < until))
            .map(|(number, row)| self.delivery(*number, row));
        let (deliveries, next) = page(deliveries, limit, cursor, |delivery: &Delivery| delivery.id.number());
        Page { rows: Rows::Deliveries(deliveries), next }
    }

    fn delivery(&self, number: i64, row: &DeliveryRow) -> Delivery {
        let event = &self.events[&row.event];
        Delivery {
            id: DeliveryId::from_number(number),
            webhook: row.webhook.clone(),
            event: event.id.clone(),
            event_type: event.event_type.clone(),
            space: event.space.clone(),
            state: row.state,
            attempts: row.attempts,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }

    fn flow_status(&self, webhook: &WebhookId) -> FlowStatus {
        let row = &self.webhooks[webhook];
        let count = |state| {
            let of_webhook = self.deliveries.values().filter(|row| row.webhook == *webhook && state_of(row) == state);
            of_webhook.map(|_| 1).sum()
        };
        FlowStatus {
            webhook: webhook.clone(),
            waiting: count(StateFilter::Waiting),
            in_flight: count(StateFilter::InFlight),
            dead: count(StateFilter::Dead),
            oldest_waiting: self.oldest_waiting(|row| row.webhook == *webhook),
            held_until: Some(row.held_until).filter(|until| *until != NOT_HELD),
            probing: row.probing,
            failing_since: row.failing_since,
        }
    }

    fn oldest_waiting(&self, counts: impl Fn(&DeliveryRow) -> bool) -> Option<Timestamp> {
        let mut waiting = self.deliveries.values().filter(|row| state_of(row) == StateFilter::Waiting && counts(row));
        waiting.next().map(|row| row.created_at)
    }

    fn count(&self, state: StateFilter) -> u64 {
        self.deliveries.values().filter(|row| state_of(row) == state).map(|_| 1).sum()
    }

    pub(super) fn maintain(&mut self, maintenance: Maintenance, now: Timestamp) -> Maintained {
        let mut expired: Vec<_> = self
            .documents
            .iter()
            .filter_map(|(key, document)| document.expires_at.filter(|at| *at <= now).map(|at| (at, key.clone())))
            .collect();
        expired.sort_by(|one, other| (one.0, one.1.0.as_str(), &one.1.1).cmp(&(other.0, other.1.0.as_str(), &other.1.1)));
        let documents = expired.len().min(maintenance.budget);
        for (_, key) in &expired[..documents] {
            self.documents.remove(key);
        }
        let old = self.removable_events(maintenance.events_before);
        let mut events = old.len().min(maintenance.budget - documents);
        for position in &old[..events] {
            self.remove_event(*position);
        }
        let mut more = documents < expired.len() || events < old.len();
        let ever = Some(Timestamp::from_millis(i64::MAX));
        while let Some(oldest) = self.removable_events(ever).first().filter(|_| self.is_above(maintenance.bytes_above)) {
            if documents + events >= maintenance.budget {
                more = true;
                break;
            }
            self.remove_event(*oldest);
            events += 1;
        }
        Maintained { events, documents, more, bytes: self.bytes() }
    }

    fn removable_events(&self, before: Option<Timestamp>) -> Vec<i64> {
        let Some(before) = before else { return Vec::new() };
        let mut old: Vec<_> = self
            .events
            .values()
            .filter(|event| event.appended_at < before)
            .filter(|event| !self.deliveries.values().any(|row| row.event == event.position.0 && is_open(row)))
            .map(|event| (event.appended_at, event.position.0))
            .collect();
        old.sort_unstable();
        old.into_iter().map(|(_, position)| position).collect()
    }

    fn remove_event(&mut self, position: i64) {
        self.events.remove(&position);
        self.deliveries.retain(|number, row| {
            let stays = row.event != position;
            if !stays {
                self.attempts.remove(number);
            }
            stays
        });
    }

    fn is_above(&self, bytes: Option<u64>) -> bool {
        bytes.is_some_and(|bytes| self.bytes() > bytes)
    }

    fn bytes(&self) -> u64 {
        let events = self.events.values().map(|event| event.body.len() as u64);
        events.chain(self.documents.values().map(|document| document.body.len() as u64)).sum()
    }
}

/// The first `limit` of `rows`, and where to go on if there are more.
fn page<T>(
    mut rows: impl Iterator<Item = T>,
    limit: usize,
    cursor: Option<Cursor>,
    place: impl Fn(&T) -> i64,
) -> (Vec<T>, Option<Cursor>) {
    let taken: Vec<T> = rows.by_ref().take(limit).collect();
    let next = if rows.next().is_some() { taken.last().map(|row| Cursor(place(row))).or(cursor) } else { None };
    (taken, next)
}

fn is_open(row: &DeliveryRow) -> bool {
    match row.state {
        DeliveryState::Waiting(_) | DeliveryState::InFlight(_) => true,
        DeliveryState::Delivered | DeliveryState::Dead(_) => false,
    }
}

fn state_of(row: &DeliveryRow) -> StateFilter {
    match row.state {
        DeliveryState::Waiting(_) => StateFilter::Waiting,
        DeliveryState::InFlight(_) => StateFilter::InFlight,
        DeliveryState::Delivered => StateFilter::Delivered,
        DeliveryState::Dead(_) => StateFilter::Dead,
    }
}
