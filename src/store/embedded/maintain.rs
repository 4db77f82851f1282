//! What is old goes, a bounded piece at a time.

use rusqlite::params;

use super::rows::{int, natural};
use super::transaction::{FROM_THE_START, Work};
use crate::domain::Timestamp;
use crate::store::{Maintained, Maintenance};

/// Events that a round looks at beyond four times those that it may remove.
const LOOKED_AT: i64 = 256;

/// Events removed before the size is looked at again.
const SHRINK_STEP: usize = 50;

impl Work<'_> {
    pub(super) fn maintain(&mut self, maintenance: &Maintenance) -> rusqlite::Result<Maintained> {
        let (documents, more_documents) = self.remove_documents(maintenance.budget)?;
        let mut left = maintenance.budget - documents;
        let (mut events, mut more_events) = match maintenance.events_before {
            Some(before) => self.remove_events(before, left)?,
            None => (0, false),
        };
        left -= events;
        if let Some(most) = maintenance.bytes_above {
            let (larger, more) = self.shrink(most, left)?;
            events += larger;
            more_events |= more;
        }
        Ok(Maintained { events, documents, more: more_documents || more_events, bytes: self.bytes()? })
    }

    /// Removes the oldest events until the content takes `most` bytes at most. Answers how many, and whether some are left to go.
    fn shrink(&mut self, most: u64, budget: usize) -> rusqlite::Result<(usize, bool)> {
        let mut removed = 0;
        while self.bytes()? > most {
            // In small steps, because a step may free more than is needed.
            let step = (budget - removed).min(SHRINK_STEP);
            let (events, more) = self.remove_events(Timestamp::from_millis(i64::MAX), step)?;
            removed += events;
            if events == 0 || step == 0 {
                return Ok((removed, more));
            }
        }
        Ok((removed, false))
    }

    fn remove_documents(&self, budget: usize) -> rusqlite::Result<(usize, bool)> {
        let mut select = self.connection.prepare_cached(
            "SELECT number FROM docs INDEXED BY docs_expiry
             WHERE expires_at IS NOT NULL AND expires_at <= ?1 ORDER BY expires_at, kind, id LIMIT ?2",
        )?;
        let limit = int(budget).saturating_add(1);
        let expired: Vec<i64> = select.query_map([self.now, limit], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut delete = self.connection.prepare_cached("DELETE FROM docs WHERE number = ?1")?;
        for number in expired.iter().take(budget) {
            delete.execute([number])?;
        }
        Ok((expired.len().min(budget), expired.len() > budget))
    }

    /// Removes old events; their deliveries and attempts go with them. Looks at a bounded number of rows: where many old events have
    /// an open delivery, the next call goes on behind them, and the one after the end begins anew.
    fn remove_events(&mut self, before: Timestamp, budget: usize) -> rusqlite::Result<(usize, bool)> {
        let (looked_at, seq) = self.numbers.maintained;
        let mut select = self.connection.prepare_cached(
            "SELECT seq, appended_at,
                 EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event = events.seq AND deliveries.state <= 2)
             FROM events INDEXED BY events_appended
             WHERE (appended_at, seq) > (?1, ?2) AND appended_at < ?3 ORDER BY appended_at, seq LIMIT ?4",
        )?;
        let most = int(budget).saturating_mul(4).saturating_add(LOOKED_AT);
        let rows = select.query_map(params![looked_at, seq, before.as_millis(), most], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?))
        })?;
        let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
        let old: Vec<i64> = rows.iter().filter(|(_, _, open)| !open).map(|(seq, ..)| *seq).collect();
        let all_seen = int(rows.len()) < most;
        if old.len() <= budget {
            self.numbers.maintained = match rows.last() {
                Some((seq, appended_at, _)) if !all_seen => (*appended_at, *seq),
                _ => FROM_THE_START,
            };
        }
        let removed = old.len().min(budget);
        if removed > 0 {
            self.keep_last_numbers()?;
        }
        let mut delete = self.connection.prepare_cached("DELETE FROM events WHERE seq = ?1")?;
        for seq in &old[..removed] {
            delete.execute([seq])?;
        }
        Ok((removed, old.len() > budget || !all_seen))
    }

    /// Writes down the numbers given out, so that none is given out again after the rows that bear them are gone.
    fn keep_last_numbers(&self) -> rusqlite::Result<()> {
        let sql =
            "INSERT INTO last_numbers (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        let mut upsert = self.connection.prepare_cached(sql)?;
        upsert.execute(params!["event", self.numbers.last_event])?;
        upsert.execute(params!["delivery", self.numbers.last_delivery])?;
        Ok(())
    }

    fn bytes(&self) -> rusqlite::Result<u64> {
        let pragma = |sql: &str| self.connection.prepare_cached(sql)?.query_row([], |row| natural(row, 0));
        Ok((pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?) * pragma("PRAGMA page_size")?)
    }
}
