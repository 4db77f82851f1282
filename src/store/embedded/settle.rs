//! Claims end: settled by their holder, or lost.

use rusqlite::{OptionalExtension as _, Row, params};

use super::rows::{DEAD, DELIVERED};
use super::transaction::{Health, Work};
use crate::domain::{AttemptOutcome, Timestamp};
use crate::store::work::lost_attempt;
use crate::store::{Settled, Settlement, Verdict};

/// What a claim that stands is of, and how its webhook has fared.
const CLAIMED: &str = "SELECT d.flow, d.lane, d.attempts, d.claimed_at, f.failing_since, f.probing
     FROM deliveries AS d CROSS JOIN flows AS f ON f.id = d.flow
     WHERE d.id = ?1 AND d.claim_no = ?2 AND d.state = 2";

/// Ends a claim for good. That this is not one statement with the one before spares it a table of what it ended.
const END: &str = "UPDATE deliveries SET state = ?2, reason = ?3, updated_at = ?4 WHERE id = ?1";

/// Ends a claim and lets the delivery wait again, unless its webhook has been deleted meanwhile.
const WAIT_AGAIN: &str = "UPDATE deliveries SET
         state = iif((SELECT f.flow FROM flows AS f WHERE f.id = deliveries.flow) = 2, 4, iif(lane IS NULL, 1, 0)),
         reason = iif((SELECT f.flow FROM flows AS f WHERE f.id = deliveries.flow) = 2, 'webhook_deleted', NULL),
         due_at = ?2,
         updated_at = ?3
     WHERE id = ?1";

/// The claims that end by themselves at a time, in the order in which their deliveries were made.
pub(super) const LOST: &str =
    "SELECT id, claim_no FROM deliveries INDEXED BY deliveries_in_flight WHERE state = 2 AND due_at <= ?1 ORDER BY id";

/// What a claim that stands concerns.
struct Claimed {
    flow: i64,
    lane: Option<i64>,
    attempts: u32,
    since: i64,
    health: Health,
}

impl Claimed {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let health = Health { failing_since: row.get(4)?, probing: row.get(5)? };
        Ok(Self { flow: row.get(0)?, lane: row.get(1)?, attempts: row.get(2)?, since: row.get(3)?, health })
    }
}

impl Work<'_> {
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> rusqlite::Result<Vec<Settled>> {
        settlements.iter().map(|settlement| self.settle_one(settlement)).collect()
    }

    fn settle_one(&mut self, settlement: &Settlement) -> rusqlite::Result<Settled> {
        let id = settlement.delivery.number();
        let claim_no = settlement.claim_no;
        let Some(claimed) = self.claimed(id, claim_no)? else { return Ok(Settled::Stale) };
        match settlement.verdict {
            Verdict::Delivered => self.end(id, DELIVERED, None)?,
            Verdict::Dead(reason) => self.end(id, DEAD, Some(reason.as_str()))?,
            Verdict::Retry(delay) => self.wait_again(id, self.after(delay))?,
        }
        self.note_end(id, claim_no, &claimed, &settlement.outcome)?;
        let before = claimed.health;
        let mut health = match settlement.verdict {
            Verdict::Delivered => Health::default(),
            Verdict::Dead(_) | Verdict::Retry(_) => Health { failing_since: before.failing_since.or(Some(self.now)), ..before },
        };
        if let Some(hold) = settlement.hold {
            let sql = "UPDATE flows SET held_until = max(held_until, ?2) WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute(params![claimed.flow, self.after(hold.time)])?;
            health.probing |= hold.probe;
        }
        if health != before {
            self.write_health(claimed.flow, health)?;
        }
        Ok(Settled::Ok { failing_since: health.failing_since.map(Timestamp::from_millis) })
    }

    /// Ends claims whose attempts nobody saw end, those due to end by `until` or all. The deliveries are due again.
    pub(super) fn lose_claims(&mut self, until: Option<i64>) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare_cached(LOST)?;
        let lost: Vec<(i64, i64)> = select
            .query_map([until.unwrap_or(i64::MAX)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, claim_no) in lost {
            if let Some(claimed) = self.claimed(id, claim_no)? {
                self.wait_again(id, self.now)?;
                self.note_end(id, claim_no, &claimed, &lost_attempt())?;
                self.hint = true;
            }
        }
        Ok(())
    }

    fn claimed(&self, id: i64, claim_no: i64) -> rusqlite::Result<Option<Claimed>> {
        let mut select = self.connection.prepare_cached(CLAIMED)?;
        select.query_row([id, claim_no], Claimed::from_row).optional()
    }

    fn end(&self, id: i64, state: i64, reason: Option<&str>) -> rusqlite::Result<()> {
        self.connection.prepare_cached(END)?.execute(params![id, state, reason, self.now]).map(drop)
    }

    fn wait_again(&self, id: i64, due_at: i64) -> rusqlite::Result<()> {
        self.connection.prepare_cached(WAIT_AGAIN)?.execute([id, due_at, self.now]).map(drop)
    }

    fn write_health(&self, flow: i64, health: Health) -> rusqlite::Result<()> {
        let sql = "UPDATE flows SET failing_since = ?2, probing = ?3 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![flow, health.failing_since, health.probing]).map(drop)
    }

    fn note_end(&mut self, id: i64, claim_no: i64, claimed: &Claimed, outcome: &AttemptOutcome) -> rusqlite::Result<()> {
        self.flow_changed(claimed.flow, -1);
        self.lane_changed(claimed.lane);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO attempts (delivery, claim_no, number, started_at, duration_ms, status, error, detail, response)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        insert.execute(params![
            id,
            claim_no,
            claimed.attempts,
            claimed.since,
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
