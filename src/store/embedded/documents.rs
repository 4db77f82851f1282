//! Small documents, and the flow of deliveries that a webhook's document steers.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::{DOCUMENT, document, int};
use super::transaction::Work;
use crate::domain::{AccountId, WebhookId};
use crate::store::{DocKind, DocList, DocWrite, Document, Expected, Flow, PutOutcome, Version};

impl Work<'_> {
    pub(super) fn doc_put(&mut self, writes: &[DocWrite]) -> rusqlite::Result<PutOutcome> {
        // All is checked before anything is written, each write against those before it.
        let mut planned: HashMap<(DocKind, &str), Option<i64>> = HashMap::new();
        let mut versions = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            let key = (write.kind, write.id.as_str());
            let current = match planned.get(&key) {
                Some(version) => *version,
                None => self.version(write.kind, &write.id)?,
            };
            let holds = match write.expected {
                Expected::Any => true,
                Expected::Absent => current.is_none(),
                Expected::Version(version) => current == Some(version.0),
            };
            if !holds {
                return Ok(PutOutcome::Conflict(index));
            }
            let after = write.body.as_ref().map(|_| current.unwrap_or(0) + 1);
            versions.push(Version(after.or(current).unwrap_or(0)));
            let lives = write.expires_at.is_none_or(|at| at.as_millis() > self.now);
            planned.insert(key, after.filter(|_| lives));
        }
        for (write, version) in writes.iter().zip(&versions) {
            self.write_document(write, *version)?;
        }
        for (webhook, flow) in writes.iter().filter_map(|write| write.flow.as_ref()) {
            self.set_flow(webhook, *flow)?;
        }
        Ok(PutOutcome::Stored(versions))
    }

    fn version(&self, kind: DocKind, id: &str) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT version FROM docs WHERE kind = ?1 AND id = ?2 AND (expires_at IS NULL OR expires_at > ?3)";
        self.connection.prepare_cached(sql)?.query_row(params![kind.as_str(), id, self.now], |row| row.get(0)).optional()
    }

    fn write_document(&self, write: &DocWrite, version: Version) -> rusqlite::Result<()> {
        let kind = write.kind.as_str();
        let Some(body) = &write.body else {
            let sql = "DELETE FROM docs WHERE kind = ?1 AND id = ?2";
            self.connection.prepare_cached(sql)?.execute(params![kind, write.id])?;
            return Ok(());
        };
        let mut upsert = self.connection.prepare_cached(
            "INSERT INTO docs (kind, id, account, version, expires_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (kind, id) DO UPDATE SET account = excluded.account, version = excluded.version,
                 expires_at = excluded.expires_at, body = excluded.body",
        )?;
        upsert.execute(params![
            kind,
            write.id,
            write.account.as_ref().map(AccountId::as_str),
            version.0,
            write.expires_at.map(crate::domain::Timestamp::as_millis),
            &body[..],
        ])?;
        Ok(())
    }

    fn set_flow(&mut self, webhook: &WebhookId, flow: Flow) -> rusqlite::Result<()> {
        let id = self.write_flow(webhook, flow)?;
        self.hint = true;
        match flow {
            Flow::Open(_) | Flow::Paused => Ok(()),
            Flow::Ended => {
                let ordered = "UPDATE deliveries SET state = 4, reason = 'webhook_deleted', updated_at = ?2
                     WHERE lane IN (SELECT id FROM lanes WHERE flow = ?1) AND lane IS NOT NULL AND state <= 1";
                self.connection.prepare_cached(ordered)?.execute([id, self.now])?;
                let parallel = "UPDATE deliveries SET state = 4, reason = 'webhook_deleted', updated_at = ?2
                     WHERE flow = ?1 AND state = 1";
                self.connection.prepare_cached(parallel)?.execute([id, self.now])?;
                Ok(())
            }
        }
    }
}

pub(super) fn doc_get(connection: &Connection, kind: DocKind, id: &str, now: i64) -> rusqlite::Result<Option<Document>> {
    let sql = format!("SELECT {DOCUMENT} FROM docs WHERE kind = ?1 AND id = ?2 AND (expires_at IS NULL OR expires_at > ?3)");
    let mut select = connection.prepare_cached(&sql)?;
    select.query_row(params![kind.as_str(), id, now], |row| document(kind, row)).optional()
}

pub(super) fn doc_list(connection: &Connection, list: &DocList, now: i64) -> rusqlite::Result<Vec<Document>> {
    let account = if list.account.is_some() { "account = ?2" } else { "?2 IS NULL" };
    let after = if list.after.is_some() { "id > ?3" } else { "?3 IS NULL" };
    let sql = format!(
        "SELECT {DOCUMENT} FROM docs
         WHERE kind = ?1 AND {account} AND {after} AND (expires_at IS NULL OR expires_at > ?4) ORDER BY id LIMIT ?5"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let account = list.account.as_ref().map(AccountId::as_str);
    let rows = select
        .query_map(params![list.kind.as_str(), account, list.after, now, int(list.limit)], |row| document(list.kind, row))?;
    rows.collect()
}
