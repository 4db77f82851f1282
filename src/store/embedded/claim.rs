//! Due deliveries go out. A claim looks at webhooks that have something due and at the deliveries that it takes, at nothing else,
//! however many rows wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::params;

use super::rows::{bytes, event_type, int, parsed, time};
use super::transaction::{Work, bucket};
use crate::domain::{DeliveryId, Timestamp, WebhookId};
use crate::store::rate::TokenBucket;
use crate::store::{Claim, ClaimRequest, ClaimedEvent};

/// Webhooks whose time has come line up for their turn.
pub(super) const MARK_READY: &str =
    "UPDATE flows INDEXED BY flows_due SET ready = 1 WHERE ready = 0 AND due_at <= ?1 AND due_at IS NOT NULL";

/// The webhooks whose turn it is.
pub(super) const READY: &str =
    "SELECT id, webhook, in_flight, probing, rate_count, rate_us, full_at_us FROM flows INDEXED BY flows_turn
     WHERE ready = 1 AND due_at <= ?1 ORDER BY turn, webhook LIMIT ?2";

/// The first due deliveries of a webhook.
pub(super) const DUE: &str = "SELECT id, event, attempts, claim_no FROM deliveries INDEXED BY deliveries_due
     WHERE flow = ?1 AND state = 1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3";

/// Takes a delivery. That this is not one statement with the one before spares it a table of what it took.
pub(super) const TAKE: &str = "UPDATE deliveries
     SET state = 2, due_at = ?3, attempts = attempts + 1, claim_no = claim_no + 1, claimed_at = ?2, updated_at = ?2
     WHERE id = ?1";

/// A webhook that takes part in a claim.
struct Turn {
    flow: i64,
    webhook: WebhookId,
    /// How many deliveries it may still give.
    room: usize,
    taken: usize,
    bucket: TokenBucket,
}

/// A delivery that may be taken.
struct Due {
    delivery: i64,
    event: i64,
    attempts: u32,
    claim_no: i64,
}

impl Work<'_> {
    pub(super) fn claim(&mut self, request: &ClaimRequest) -> rusqlite::Result<Vec<Claim>> {
        if !self.is_member(request.incarnation)? {
            return Ok(Vec::new());
        }
        self.lose_claims(Some(self.now))?;
        self.use_limit(request.per_webhook)?;
        self.refresh()?;
        self.connection.prepare_cached(MARK_READY)?.execute([self.now])?;
        let mut turns = self.turns(request)?;
        let mut claims = Vec::new();
        let mut events = BTreeMap::new();
        let mut active: Vec<usize> = (0..turns.len()).collect();
        // Whole rounds of turns at once: each webhook still active gives as many as there are rounds.
        while !active.is_empty() && claims.len() < request.max {
            // In the last, incomplete round those at the front give one each.
            let rounds = ((request.max - claims.len()) / active.len()).max(1);
            let mut still_active = Vec::with_capacity(active.len());
            for index in active {
                let turn = &mut turns[index];
                let most = rounds.min(turn.room).min(request.max - claims.len());
                let taken = self.take(turn, most, request, &mut events, &mut claims)?;
                turn.room -= taken;
                turn.taken += taken;
                if taken == rounds && turn.room > 0 {
                    still_active.push(index);
                }
            }
            active = still_active;
        }
        self.note_turns(&turns);
        self.note_tokens(&turns)?;
        Ok(claims)
    }

    fn turns(&self, request: &ClaimRequest) -> rusqlite::Result<Vec<Turn>> {
        let mut ready = self.connection.prepare_cached(READY)?;
        let turns = ready.query_map(params![self.now, int(request.max)], |row| {
            let in_flight = usize::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
            let limit = if row.get(3)? { request.per_webhook.min(1) } else { request.per_webhook };
            let bucket = bucket(row, 4)?;
            let room = limit.saturating_sub(in_flight).min(bucket.available(Timestamp::from_millis(self.now)));
            Ok(Turn { flow: row.get(0)?, webhook: parsed(row, 1)?, room, taken: 0, bucket })
        })?;
        turns.collect()
    }

    fn take(
        &self,
        turn: &Turn,
        most: usize,
        request: &ClaimRequest,
        events: &mut BTreeMap<i64, Arc<ClaimedEvent>>,
        claims: &mut Vec<Claim>,
    ) -> rusqlite::Result<usize> {
        let claimed_at = Timestamp::from_millis(self.now);
        let deadline = claimed_at.saturating_add(request.lease);
        let mut due = self.connection.prepare_cached(DUE)?;
        let due = due.query_map(params![turn.flow, self.now, int(most)], |row| {
            Ok(Due { delivery: row.get(0)?, event: row.get(1)?, attempts: row.get(2)?, claim_no: row.get(3)? })
        })?;
        let due: Vec<Due> = due.collect::<rusqlite::Result<_>>()?;
        let mut take = self.connection.prepare_cached(TAKE)?;
        for due in &due {
            take.execute(params![due.delivery, self.now, deadline.as_millis()])?;
            claims.push(Claim {
                delivery: DeliveryId::from_number(due.delivery),
                webhook: turn.webhook.clone(),
                attempt: due.attempts + 1,
                claim_no: due.claim_no + 1,
                event: self.claimed_event(due.event, events)?,
                claimed_at,
                deadline,
            });
        }
        Ok(due.len())
    }

    fn claimed_event(&self, seq: i64, known: &mut BTreeMap<i64, Arc<ClaimedEvent>>) -> rusqlite::Result<Arc<ClaimedEvent>> {
        if let Some(event) = known.get(&seq) {
            return Ok(Arc::clone(event));
        }
        let sql = "SELECT id, type, appended_at, body FROM events WHERE seq = ?1";
        let event = self.connection.prepare_cached(sql)?.query_row([seq], |row| {
            Ok(Arc::new(ClaimedEvent {
                id: parsed(row, 0)?,
                event_type: event_type(row, 1)?,
                appended_at: time(row, 2)?,
                body: bytes(row, 3)?,
            }))
        })?;
        known.insert(seq, Arc::clone(&event));
        Ok(event)
    }

    /// Writes down who gave when: those that took part in more rounds gave last.
    fn note_turns(&mut self, turns: &[Turn]) {
        let mut gave: Vec<&Turn> = turns.iter().filter(|turn| turn.taken > 0).collect();
        gave.sort_by_key(|turn| turn.taken);
        for turn in gave {
            self.numbers.last_turn += 1;
            self.flow_gave(turn.flow, int(turn.taken), self.numbers.last_turn);
        }
        // One that was ready and gave nothing is looked at again, lest it stays in the line.
        for turn in turns.iter().filter(|turn| turn.taken == 0) {
            self.flow_changed(turn.flow, 0);
        }
    }

    /// Writes down what was taken out of the buckets of those that have a rate.
    fn note_tokens(&self, turns: &[Turn]) -> rusqlite::Result<()> {
        for turn in turns.iter().filter(|turn| turn.taken > 0 && turn.bucket.rate.is_some()) {
            let mut bucket = turn.bucket;
            bucket.take(turn.taken, Timestamp::from_millis(self.now));
            let sql = "UPDATE flows SET full_at_us = ?2 WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute([turn.flow, bucket.full_at])?;
        }
        Ok(())
    }

    /// Webhooks between the former limit and the new one have to be looked at again.
    fn use_limit(&mut self, per_webhook: usize) -> rusqlite::Result<()> {
        let before = self.numbers.per_webhook.replace(per_webhook);
        if before == Some(per_webhook) {
            return Ok(());
        }
        let least = before.map_or(0, |before| before.min(per_webhook));
        let mut select = self.connection.prepare_cached("SELECT id FROM flows WHERE in_flight >= ?1")?;
        let touched: Vec<i64> = select.query_map([int(least)], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for flow in touched {
            self.flow_changed(flow, 0);
        }
        Ok(())
    }
}
