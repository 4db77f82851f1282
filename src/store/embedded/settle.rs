//! Claims end: settled by their holder, or lost.

use rusqlite::{OptionalExtension as _, Row, params};

use super::rows::{DEAD, DELIVERED};
use super::transaction::{Health, Work};
use crate::domain::{AttemptOutcome, Timestamp};
use crate::store::work::lost_attempt;
use crate::store::{Settled, Settlement, Verdict};

/// Ends a claim for good.
const END: &str = "UPDATE deliveries SET state = ?3, reason = ?4, updated_at = ?5
     WHERE id = ?1 AND claim_no = ?2 AND state = 2
     RETURNING flow, lane, attempts, claimed_at";

/// Ends a claim and lets the delivery wait again, unless its webhook has been deleted meanwhile.
const WAIT_AGAIN: &str = "UPDATE deliveries SET
         state = iif((SELECT f.flow FROM flows AS f WHERE f.id = deliveries.flow) = 2, 4, iif(lane IS NULL, 1, 0)),
         reason = iif((SELECT f.flow FROM flows AS f WHERE f.id = deliveries.flow) = 2, 'webhook_deleted', NULL),
         due_at = ?3,
         updated_at = ?4
     WHERE id = ?1 AND claim_no = ?2 AND state = 2
     RETURNING flow, lane, attempts, claimed_at";

/// The claims that end by themselves at a time, in the order in which their deliveries were made.
pub(super) const LOST: &str =
    "SELECT id, claim_no FROM deliveries INDEXED BY deliveries_in_flight WHERE state = 2 AND due_at <= ?1 ORDER BY id";

/// What the end of a claim concerns.
struct Ended {
    flow: i64,
    lane: Option<i64>,
    attempts: u32,
    claimed_at: i64,
}

impl Ended {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { flow: row.get(0)?, lane: row.get(1)?, attempts: row.get(2)?, claimed_at: row.get(3)? })
    }
}

impl Work<'_> {
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> rusqlite::Result<Vec<Settled>> {
        settlements.iter().map(|settlement| self.settle_one(settlement)).collect()
    }

    fn settle_one(&mut self, settlement: &Settlement) -> rusqlite::Result<Settled> {
        let id = settlement.delivery.number();
        let claim_no = settlement.claim_no;
        let ended = match settlement.verdict {
            Verdict::Delivered => self.end(id, claim_no, DELIVERED, None)?,
            Verdict::Dead(reason) => self.end(id, claim_no, DEAD, Some(reason.as_str()))?,
            Verdict::Retry(delay) => self.wait_again(id, claim_no, self.after(delay))?,
        };
        let Some(ended) = ended else { return Ok(Settled::Stale) };
        self.note_end(id, claim_no, &ended, &settlement.outcome)?;
        let before = self.health(ended.flow)?;
        let mut health = match settlement.verdict {
            Verdict::Delivered => Health::default(),
            Verdict::Dead(_) | Verdict::Retry(_) => Health { failing_since: before.failing_since.or(Some(self.now)), ..before },
        };
        if let Some(hold) = settlement.hold {
            let sql = "UPDATE flows SET held_until = max(held_until, ?2) WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute(params![ended.flow, self.after(hold.time)])?;
            health.probing |= hold.probe;
        }
        self.set_health(ended.flow, health)?;
        Ok(Settled::Ok { failing_since: health.failing_since.map(Timestamp::from_millis) })
    }

    /// Ends claims whose attempts nobody saw end, those due to end by `until` or all. The deliveries are due again.
    pub(super) fn lose_claims(&mut self, until: Option<i64>) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare_cached(LOST)?;
        let lost: Vec<(i64, i64)> = select
            .query_map([until.unwrap_or(i64::MAX)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, claim_no) in lost {
            if let Some(ended) = self.wait_again(id, claim_no, self.now)? {
                self.note_end(id, claim_no, &ended, &lost_attempt())?;
                self.hint = true;
            }
        }
        Ok(())
    }

    fn end(&self, id: i64, claim_no: i64, state: i64, reason: Option<&str>) -> rusqlite::Result<Option<Ended>> {
        let mut update = self.connection.prepare_cached(END)?;
        update.query_row(params![id, claim_no, state, reason, self.now], Ended::from_row).optional()
    }

    fn wait_again(&self, id: i64, claim_no: i64, due_at: i64) -> rusqlite::Result<Option<Ended>> {
        let mut update = self.connection.prepare_cached(WAIT_AGAIN)?;
        update.query_row(params![id, claim_no, due_at, self.now], Ended::from_row).optional()
    }

    fn note_end(&mut self, id: i64, claim_no: i64, ended: &Ended, outcome: &AttemptOutcome) -> rusqlite::Result<()> {
        self.flow_changed(ended.flow, -1);
        self.lane_changed(ended.lane);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO attempts (delivery, claim_no, number, started_at, duration_ms, status, error, detail, response)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        insert.execute(params![
            id,
            claim_no,
            ended.attempts,
            ended.claimed_at,
            outcome.duration_ms,
            outcome.status,
            outcome.error.map(crate::domain::ErrorClass::as_str),
            outcome.detail,
            outcome.response,
        ])?;
        Ok(())
    }

    /// The time when `delay` is over.
    pub(super) fn after(&self, delay: std::time::Duration) -> i64 {
        Timestamp::from_millis(self.now).saturating_add(delay).as_millis()
    }
}
