//! What is old goes, a bounded piece at a time.

use rusqlite::params;

use super::rows::{int, natural};
use super::transaction::Work;
use crate::domain::Timestamp;
use crate::store::{Maintained, Maintenance};

impl Work<'_> {
    pub(super) fn maintain(&mut self, maintenance: &Maintenance) -> rusqlite::Result<Maintained> {
        let (documents, more_documents) = self.remove_documents(maintenance.budget)?;
        let (events, more_events) = match maintenance.events_before {
            Some(before) => self.remove_events(before, maintenance.budget - documents)?,
            None => (0, false),
        };
        Ok(Maintained { events, documents, more: more_documents || more_events, bytes: self.bytes()? })
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

    /// Removes old events; their deliveries and attempts go with them.
    fn remove_events(&self, before: Timestamp, budget: usize) -> rusqlite::Result<(usize, bool)> {
        let mut select = self.connection.prepare_cached(
            "SELECT seq FROM events INDEXED BY events_appended
             WHERE appended_at < ?1
                 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event = events.seq AND deliveries.state <= 2)
             ORDER BY appended_at, seq LIMIT ?2",
        )?;
        let bounds = params![before.as_millis(), int(budget).saturating_add(1)];
        let old: Vec<i64> = select.query_map(bounds, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        if old.is_empty() {
            return Ok((0, false));
        }
        self.keep_last_numbers()?;
        let mut delete = self.connection.prepare_cached("DELETE FROM events WHERE seq = ?1")?;
        for seq in old.iter().take(budget) {
            delete.execute([seq])?;
        }
        Ok((old.len().min(budget), old.len() > budget))
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
