//! Deliveries are made again.

use rusqlite::{OptionalExtension as _, params};

use super::rows::int;
use super::transaction::{Standing, Work};
use crate::domain::{Timestamp, WebhookId};
use crate::store::{Cursor, ReplayItem, Requeue, RequeueMode, Requeued};

impl Work<'_> {
    pub(super) fn requeue(&mut self, request: &Requeue) -> rusqlite::Result<Requeued> {
        let (flow_id, flow) = self.flow_of(&request.webhook)?;
        match (flow, &request.mode) {
            (Standing::Ended, _) => Ok(Requeued { count: 0, cursor: None }),
            (Standing::Open | Standing::Paused, RequeueMode::One(delivery)) => {
                let done = request.limit > 0 && self.start_again(flow_id, delivery.number())?;
                Ok(Requeued { count: usize::from(done), cursor: None })
            }
            (Standing::Open | Standing::Paused, RequeueMode::Redrive { since, until }) => {
                self.redrive(flow_id, request, *since, *until)
            }
            (Standing::Open | Standing::Paused, RequeueMode::Replay { items, dry_run }) => {
                self.replay(flow_id, &request.webhook, items, *dry_run)
            }
        }
    }

    /// Makes a delivery due now, as if it were new. Answers whether it could be.
    fn start_again(&mut self, flow: i64, delivery: i64) -> rusqlite::Result<bool> {
        let mut update = self.connection.prepare_cached(
            "UPDATE deliveries
             SET state = iif(lane IS NULL, 1, 0), due_at = ?3, attempts = 0, reason = NULL, updated_at = ?3
             WHERE id = ?1 AND flow = ?2 AND state <> 2
             RETURNING lane",
        )?;
        let lane: Option<Option<i64>> = update.query_row([delivery, flow, self.now], |row| row.get(0)).optional()?;
        let Some(lane) = lane else { return Ok(false) };
        self.flow_changed(flow, 0);
        self.lane_changed(lane);
        self.hint = true;
        Ok(true)
    }

    fn redrive(&mut self, flow: i64, request: &Requeue, since: Timestamp, until: Timestamp) -> rusqlite::Result<Requeued> {
        let mut select = self.connection.prepare_cached(
            "SELECT id FROM deliveries INDEXED BY deliveries_dead
             WHERE flow = ?1 AND state = 4 AND id > ?2 AND created_at >= ?3 AND created_at < ?4 ORDER BY id LIMIT ?5",
        )?;
        let limit = int(request.limit).saturating_add(1);
        let bounds = params![flow, after(request.cursor), since.as_millis(), until.as_millis(), limit];
        let mut dead: Vec<i64> = select.query_map(bounds, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let cursor = cut_page(&mut dead, request.limit, request.cursor, |id| *id);
        for id in &dead {
            self.start_again(flow, *id)?;
        }
        Ok(Requeued { count: dead.len(), cursor })
    }

    fn replay(&mut self, flow: i64, webhook: &WebhookId, items: &[ReplayItem], dry_run: bool) -> rusqlite::Result<Requeued> {
        let mut wanted = self.connection.prepare_cached(
            "SELECT 1 FROM events WHERE seq = ?1
                 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = ?1 AND flow = ?2 AND state <= 2)",
        )?;
        let mut count = 0;
        for item in items {
            if !wanted.exists([item.position.0, flow])? {
                continue;
            }
            count += 1;
            if !dry_run {
                self.add_delivery(item.position.0, webhook, &item.lane, self.after(item.due_in))?;
            }
        }
        Ok(Requeued { count, cursor: None })
    }
}

/// The number after which an ascending list goes on.
pub(super) fn after(cursor: Option<Cursor>) -> i64 {
    cursor.map_or(i64::MIN, |cursor| cursor.0)
}

/// Cuts `rows`, of which one more than `limit` were read, to `limit`. Answers where to go on if there are more.
pub(super) fn cut_page<T>(rows: &mut Vec<T>, limit: usize, cursor: Option<Cursor>, place: impl Fn(&T) -> i64) -> Option<Cursor> {
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(|row| Cursor(place(row))).or(cursor)
}
