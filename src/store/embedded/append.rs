//! Events and their deliveries come in.

use rusqlite::{CachedStatement, params};

use super::rows::{DEAD, QUEUED, WAITING};
use super::transaction::{Standing, Work};
use crate::domain::{DeadReason, WebhookId};
use crate::store::{Appended, Fence, Lane, NewEvent, Target};

const INSERT_EVENT: &str = "INSERT INTO events (seq, id, account, space, type, occurred_at, appended_at, body)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING";

const INSERT_DELIVERY: &str = "INSERT INTO deliveries (id, event, flow, lane, state, due_at, reason, created_at, updated_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)";

impl Work<'_> {
    pub(super) fn append(&mut self, fence: &Fence, events: &[NewEvent]) -> rusqlite::Result<Appended> {
        if !self.is_owner(fence.incarnation, &fence.ownership)? {
            return Ok(Appended::Fenced);
        }
        let mut insert_event = self.connection.prepare_cached(INSERT_EVENT)?;
        let mut insert_delivery = self.connection.prepare_cached(INSERT_DELIVERY)?;
        let mut news = Vec::with_capacity(events.len());
        for event in events {
            let seq = self.numbers.last_event + 1;
            let inserted = insert_event.execute(params![
                seq,
                event.id.as_str(),
                event.account.as_str(),
                event.space.as_str(),
                event.event_type.as_str(),
                event.occurred_at.as_millis(),
                self.now,
                &event.body[..],
            ])?;
            news.push(inserted > 0);
            if inserted == 0 {
                continue;
            }
            self.numbers.last_event = seq;
            for target in &event.targets {
                self.insert_delivery(&mut insert_delivery, seq, target, self.now)?;
            }
        }
        Ok(Appended::Durable(news))
    }

    /// A new delivery of a known event.
    pub(super) fn add_delivery(&mut self, event: i64, webhook: &WebhookId, lane: &Lane, due_at: i64) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(INSERT_DELIVERY)?;
        let target = Target { webhook: webhook.clone(), lane: lane.clone() };
        self.insert_delivery(&mut insert, event, &target, due_at)
    }

    fn insert_delivery(
        &mut self,
        insert: &mut CachedStatement<'_>,
        event: i64,
        target: &Target,
        due_at: i64,
    ) -> rusqlite::Result<()> {
        let (flow_id, flow) = self.flow_of(&target.webhook)?;
        let (lane, waiting) = match &target.lane {
            Lane::Parallel => (None, WAITING),
            // The lane's refresh tells whether it is the head.
            Lane::Ordered(space) => (Some(self.lane_of(flow_id, space)?), QUEUED),
        };
        let (state, reason) = match flow {
            Standing::Open | Standing::Paused => (waiting, None),
            Standing::Ended => (DEAD, Some(DeadReason::WebhookDeleted.as_str())),
        };
        self.numbers.last_delivery += 1;
        insert.execute(params![self.numbers.last_delivery, event, flow_id, lane, state, due_at, reason, self.now])?;
        self.flow_changed(flow_id, 0);
        self.lane_changed(lane);
        self.hint = true;
        Ok(())
    }
}
