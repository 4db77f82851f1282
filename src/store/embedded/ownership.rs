//! Members and the sessions that they own.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::transaction::Work;
use crate::domain::{SessionId, Timestamp};
use crate::store::{DocKind, Heartbeat, Incarnation, Member, Owner, Ownership, Wanted};

impl Work<'_> {
    pub(super) fn join(&mut self, address: &str, ttl: Duration) -> rusqlite::Result<Member> {
        self.connection.execute("DELETE FROM members", [])?;
        self.connection.execute("UPDATE sessions SET owner = NULL WHERE owner IS NOT NULL", [])?;
        self.lose_claims(None)?;
        let valid_until = Timestamp::from_millis(self.now).saturating_add(ttl);
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let sql = "INSERT INTO members (address, ttl_ms, valid_until) VALUES (?1, ?2, ?3)";
        let incarnation = self.connection.prepare_cached(sql)?.insert(params![address, ttl, valid_until.as_millis()])?;
        self.hint = true;
        Ok(Member { incarnation: Incarnation(incarnation), valid_until })
    }

    pub(super) fn heartbeat(&mut self, incarnation: Incarnation) -> rusqlite::Result<Heartbeat> {
        let sql = "SELECT ttl_ms FROM members WHERE incarnation = ?1";
        let ttl: Option<i64> = self.connection.prepare_cached(sql)?.query_row([incarnation.0], |row| row.get(0)).optional()?;
        let Some(ttl) = ttl else { return Ok(Heartbeat::Gone) };
        let valid_until = self.now.saturating_add(ttl);
        let sql = "UPDATE members SET valid_until = ?2 WHERE incarnation = ?1";
        self.connection.prepare_cached(sql)?.execute([incarnation.0, valid_until])?;
        Ok(Heartbeat::Alive(Timestamp::from_millis(valid_until)))
    }

    pub(super) fn leave(&mut self, incarnation: Incarnation) -> rusqlite::Result<()> {
        if self.connection.execute("DELETE FROM members WHERE incarnation = ?1", [incarnation.0])? == 0 {
            return Ok(());
        }
        self.connection.execute("UPDATE sessions SET owner = NULL WHERE owner = ?1", [incarnation.0])?;
        // There is one member at a time, so all claims are its own.
        self.lose_claims(None)
    }

    pub(super) fn acquire(&mut self, incarnation: Incarnation, wanted: &Wanted) -> rusqlite::Result<Vec<Ownership>> {
        if !self.is_member(incarnation)? {
            return Ok(Vec::new());
        }
        match wanted {
            Wanted::Session(session) => match owner(self.connection, session, self.now)? {
                Some(owner) if owner.incarnation == incarnation => {
                    Ok(vec![Ownership { session: session.clone(), epoch: owner.epoch }])
                }
                Some(owner) if owner.live => Ok(Vec::new()),
                Some(_) | None => Ok(vec![self.take_session(incarnation, session.clone())?]),
            },
            Wanted::Stored(most) => {
                let free = self.free_sessions(incarnation, *most)?;
                free.into_iter().map(|session| self.take_session(incarnation, session)).collect()
            }
        }
    }

    fn free_sessions(&self, incarnation: Incarnation, most: usize) -> rusqlite::Result<Vec<SessionId>> {
        let mut select = self.connection.prepare_cached(
            "SELECT d.id FROM docs AS d
             LEFT JOIN sessions AS s ON s.session = d.id
             LEFT JOIN members AS m ON m.incarnation = s.owner
             WHERE d.kind = ?1 AND (d.expires_at IS NULL OR d.expires_at > ?2)
                 AND (s.owner IS NULL OR (s.owner <> ?3 AND (m.incarnation IS NULL OR m.valid_until <= ?2)))
             ORDER BY d.id",
        )?;
        let mut rows = select.query(params![DocKind::Token.as_str(), self.now, incarnation.0])?;
        let mut free = Vec::new();
        while free.len() < most {
            let Some(row) = rows.next()? else { break };
            // A document whose id is no session's stands for no session.
            free.extend(row.get_ref(0)?.as_str()?.parse::<SessionId>().ok());
        }
        Ok(free)
    }

    fn take_session(&mut self, incarnation: Incarnation, session: SessionId) -> rusqlite::Result<Ownership> {
        let mut upsert = self.connection.prepare_cached(
            "INSERT INTO sessions (session, owner, epoch) VALUES (?1, ?2, 1)
             ON CONFLICT (session) DO UPDATE SET owner = excluded.owner, epoch = epoch + 1
             RETURNING epoch",
        )?;
        let epoch = upsert.query_row(params![session.as_str(), incarnation.0], |row| row.get(0))?;
        Ok(Ownership { session, epoch })
    }

    pub(super) fn release(&mut self, incarnation: Incarnation, ownerships: &[Ownership]) -> rusqlite::Result<usize> {
        let sql = "UPDATE sessions SET owner = NULL WHERE session = ?1 AND epoch = ?2 AND owner = ?3";
        let mut update = self.connection.prepare_cached(sql)?;
        let mut released = 0;
        for ownership in ownerships {
            released += update.execute(params![ownership.session.as_str(), ownership.epoch, incarnation.0])?;
        }
        Ok(released)
    }

    pub(super) fn is_member(&self, incarnation: Incarnation) -> rusqlite::Result<bool> {
        self.connection.prepare_cached("SELECT 1 FROM members WHERE incarnation = ?1")?.exists([incarnation.0])
    }

    pub(super) fn is_owner(&self, incarnation: Incarnation, ownership: &Ownership) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM sessions WHERE session = ?1 AND epoch = ?2 AND owner = ?3";
        self.connection.prepare_cached(sql)?.exists(params![ownership.session.as_str(), ownership.epoch, incarnation.0])
    }
}

pub(super) fn owner(connection: &Connection, session: &SessionId, now: i64) -> rusqlite::Result<Option<Owner>> {
    let mut select = connection.prepare_cached(
        "SELECT m.address, m.incarnation, s.epoch, m.valid_until > ?2
         FROM sessions AS s JOIN members AS m ON m.incarnation = s.owner WHERE s.session = ?1",
    )?;
    let found = select.query_row(params![session.as_str(), now], |row| {
        Ok(Owner { address: row.get(0)?, incarnation: Incarnation(row.get(1)?), epoch: row.get(2)?, live: row.get(3)? })
    });
    found.optional()
}
