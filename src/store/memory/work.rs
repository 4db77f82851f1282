//! Events become deliveries, deliveries are claimed and settled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{DeliveryRow, Standing, State};
use crate::domain::{Attempt, AttemptOutcome, DeadReason, DeliveryId, DeliveryState, Timestamp, WebhookId};
use crate::store::work::lost_attempt;
use crate::store::{
    Appended, Claim, ClaimRequest, ClaimedEvent, Cursor, Fence, Lane, NewEvent, Settled, Settlement, StoredEvent, Verdict,
};

impl State {
    pub(super) fn append(&mut self, fence: &Fence, events: Vec<NewEvent>, now: Timestamp) -> Appended {
        if !self.holds(fence) {
            return Appended::Fenced;
        }
        Appended::Durable(events.into_iter().map(|event| self.append_event(event, now)).collect())
    }

    fn append_event(&mut self, event: NewEvent, now: Timestamp) -> bool {
        if self.events.values().any(|known| known.id == event.id) {
            return false;
        }
        self.last_event += 1;
        let position = self.last_event;
        self.events.insert(
            position,
            StoredEvent {
                position: Cursor(position),
                id: event.id,
                account: event.account,
                space: event.space,
                event_type: event.event_type,
                occurred_at: event.occurred_at,
                appended_at: now,
                body: event.body,
            },
        );
        for target in event.targets {
            self.add_delivery(position, target.webhook, target.lane, now, now);
        }
        true
    }

    /// A new delivery; one for a deleted webhook is dead from the start, so that it can be seen.
    pub(super) fn add_delivery(&mut self, event: i64, webhook: WebhookId, lane: Lane, due_at: Timestamp, now: Timestamp) {
        self.last_delivery += 1;
        let state = match self.webhooks.entry(webhook.clone()).or_default().flow {
            Standing::Open | Standing::Paused => DeliveryState::Waiting(due_at),
            Standing::Ended => DeliveryState::Dead(DeadReason::WebhookDeleted),
        };
        self.deliveries.insert(
            self.last_delivery,
            DeliveryRow {
                webhook,
                lane,
                event,
                state,
                attempts: 0,
                claim_no: 0,
                claimed_at: now,
                claimed_by: None,
                created_at: now,
                updated_at: now,
            },
        );
    }

    pub(super) fn claim(&mut self, request: ClaimRequest, now: Timestamp) -> Vec<Claim> {
        if !self.members.contains_key(&request.incarnation) {
            return Vec::new();
        }
        self.lose_claims(now, |deadline, _| deadline <= now);
        self.per_webhook = Some(request.per_webhook);
        let mut claimable = self.claimable();
        claimable.retain(|webhook, queue| {
            queue.retain(|(due_at, _)| *due_at <= now);
            self.webhooks[webhook].flow == Standing::Open && self.webhooks[webhook].held_until <= now
        });
        let mut in_flight = self.in_flight();
        let mut events = BTreeMap::new();
        let mut claims = Vec::new();
        while claims.len() < request.max {
            // The webhook that has waited longest since it last gave a delivery gives its first one.
            let next = claimable
                .iter_mut()
                .filter(|(webhook, queue)| {
                    let row = &self.webhooks[*webhook];
                    let has_room = in_flight.get(*webhook).copied().unwrap_or(0) < row.limit(request.per_webhook);
                    !queue.is_empty() && has_room && row.bucket.available(now) > 0
                })
                .min_by_key(|(webhook, _)| (self.webhooks[*webhook].turn, (*webhook).clone()));
            let Some((webhook, queue)) = next else { break };
            let Some((_, number)) = queue.pop_front() else { break };
            *in_flight.entry(webhook.clone()).or_default() += 1;
            claims.push(self.take_delivery(number, &request, now, &mut events));
        }
        claims
    }

    fn take_delivery(
        &mut self,
        number: i64,
        request: &ClaimRequest,
        now: Timestamp,
        events: &mut BTreeMap<i64, Arc<ClaimedEvent>>,
    ) -> Claim {
        let deadline = now.saturating_add(request.lease);
        let row = self.deliveries.get_mut(&number).expect("a claimable delivery exists");
        row.attempts += 1;
        row.claim_no += 1;
        row.claimed_at = now;
        row.claimed_by = Some(request.incarnation);
        row.state = DeliveryState::InFlight(deadline);
        row.updated_at = now;
        self.last_turn += 1;
        let webhook = self.webhooks.entry(row.webhook.clone()).or_default();
        webhook.turn = self.last_turn;
        webhook.bucket.take(1, now);
        let event = events.entry(row.event).or_insert_with(|| {
            let event = &self.events[&row.event];
            Arc::new(ClaimedEvent {
                id: event.id.clone(),
                event_type: event.event_type.clone(),
                appended_at: event.appended_at,
                body: event.body.clone(),
            })
        });
        Claim {
            delivery: DeliveryId::from_number(number),
            webhook: row.webhook.clone(),
            attempt: row.attempts,
            claim_no: row.claim_no,
            event: Arc::clone(event),
            claimed_at: now,
            deadline,
        }
    }

    /// Of each webhook the deliveries that may be claimed at their time, in the order of their times: every waiting one of the
    /// parallel lane, and of each ordered lane with nothing in flight the oldest.
    fn claimable(&self) -> BTreeMap<WebhookId, VecDeque<(Timestamp, i64)>> {
        let mut blocked: BTreeSet<_> = self
            .deliveries
            .values()
            .filter(|row| matches!(row.state, DeliveryState::InFlight(_)) && row.lane != Lane::Parallel)
            .map(|row| (&row.webhook, &row.lane))
            .collect();
        let mut queues: BTreeMap<WebhookId, VecDeque<_>> = BTreeMap::new();
        for (number, row) in &self.deliveries {
            let DeliveryState::Waiting(due_at) = row.state else { continue };
            if row.lane == Lane::Parallel || blocked.insert((&row.webhook, &row.lane)) {
                queues.entry(row.webhook.clone()).or_default().push_back((due_at, *number));
            }
        }
        for queue in queues.values_mut() {
            queue.make_contiguous().sort_unstable();
        }
        queues
    }

    fn in_flight(&self) -> BTreeMap<WebhookId, usize> {
        let mut counts = BTreeMap::new();
        for row in self.deliveries.values().filter(|row| matches!(row.state, DeliveryState::InFlight(_))) {
            *counts.entry(row.webhook.clone()).or_default() += 1;
        }
        counts
    }

    pub(super) fn settle(&mut self, settlement: Settlement, now: Timestamp) -> Settled {
        let number = settlement.delivery.number();
        let current = self
            .deliveries
            .get(&number)
            .filter(|row| row.claim_no == settlement.claim_no && matches!(row.state, DeliveryState::InFlight(_)));
        let Some(row) = current else { return Settled::Stale };
        let webhook = row.webhook.clone();
        self.log_attempt(number, settlement.outcome);
        match settlement.verdict {
            Verdict::Delivered => self.set_state(number, DeliveryState::Delivered, now),
            Verdict::Dead(reason) => self.set_state(number, DeliveryState::Dead(reason), now),
            Verdict::Retry(delay) => self.set_waiting(number, now.saturating_add(delay), now),
        }
        let row = self.webhooks.entry(webhook).or_default();
        if settlement.verdict == Verdict::Delivered {
            row.failing_since = None;
            row.probing = false;
        } else {
            row.failing_since.get_or_insert(now);
        }
        if let Some(hold) = settlement.hold {
            row.held_until = row.held_until.max(now.saturating_add(hold.time));
            row.probing |= hold.probe;
        }
        Settled::Ok { failing_since: row.failing_since }
    }

    /// Ends the claims that `lost` names: nobody saw the end of their attempts, and the deliveries are due again.
    pub(super) fn lose_claims(&mut self, now: Timestamp, lost: impl Fn(Timestamp, &DeliveryRow) -> bool) {
        let numbers: Vec<i64> = self
            .deliveries
            .iter()
            .filter(|(_, row)| matches!(row.state, DeliveryState::InFlight(deadline) if lost(deadline, row)))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.log_attempt(number, lost_attempt());
            self.set_waiting(number, now, now);
        }
    }

    fn log_attempt(&mut self, number: i64, outcome: AttemptOutcome) {
        let row = &self.deliveries[&number];
        self.attempts.entry(number).or_default().push(Attempt {
            delivery: DeliveryId::from_number(number),
            number: row.attempts,
            started_at: row.claimed_at,
            outcome,
        });
    }

    /// Lets a delivery wait, unless its webhook has been deleted meanwhile.
    fn set_waiting(&mut self, number: i64, due_at: Timestamp, now: Timestamp) {
        let state = match self.webhooks[&self.deliveries[&number].webhook].flow {
            Standing::Open | Standing::Paused => DeliveryState::Waiting(due_at),
            Standing::Ended => DeliveryState::Dead(DeadReason::WebhookDeleted),
        };
        self.set_state(number, state, now);
    }

    fn set_state(&mut self, number: i64, state: DeliveryState, now: Timestamp) {
        let row = self.deliveries.get_mut(&number).expect("the delivery was just looked at");
        row.state = state;
        row.updated_at = now;
    }

    /// Makes a delivery due now, as if it were new.
    pub(super) fn start_again(&mut self, number: i64, now: Timestamp) {
        self.set_state(number, DeliveryState::Waiting(now), now);
        self.deliveries.get_mut(&number).expect("the delivery was just looked at").attempts = 0;
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let in_flight = self.in_flight();
        let limit = self.per_webhook.unwrap_or(usize::MAX);
        let claimable = self.claimable();
        let due = claimable.iter().filter_map(|(webhook, queue)| {
            let row = &self.webhooks[webhook];
            let gives = row.flow == Standing::Open && in_flight.get(webhook).copied().unwrap_or(0) < row.limit(limit);
            queue.front().filter(|_| gives).map(|(due_at, _)| row.held_until.max(row.bucket.ready_at()).max(*due_at))
        });
        let expiries = self.deliveries.values().filter_map(|row| match row.state {
            DeliveryState::InFlight(deadline) => Some(deadline),
            DeliveryState::Waiting(_) | DeliveryState::Delivered | DeliveryState::Dead(_) => None,
        });
        due.chain(expiries).min()
    }
}
