//! Between rows and values.

use std::str::FromStr;

use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::Type;

use crate::domain::{Attempt, AttemptOutcome, DeadReason, Delivery, DeliveryId, DeliveryState, ErrorClass, EventType, Timestamp};
use crate::store::{BoxError, Cursor, DocKind, Document, StoredEvent, Version};

/// Waits behind another delivery of its ordered lane.
pub(super) const QUEUED: i64 = 0;
/// Waits for its time.
pub(super) const WAITING: i64 = 1;
/// An attempt is under way.
pub(super) const IN_FLIGHT: i64 = 2;
/// Confirmed.
pub(super) const DELIVERED: i64 = 3;
/// Given up.
pub(super) const DEAD: i64 = 4;

/// A number of rows as `SQLite` counts.
pub(super) fn int(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The value in text column `index`.
pub(super) fn parsed<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T: FromStr<Err: Into<BoxError>>,
{
    let text = row.get_ref(index)?.as_str()?;
    text.parse().map_err(|error: T::Err| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, error.into()))
}

pub(super) fn parsed_or_null<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>>
where
    T: FromStr<Err: Into<BoxError>>,
{
    if row.get_ref(index)?.data_type() == Type::Null { Ok(None) } else { parsed(row, index).map(Some) }
}

pub(super) fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    row.get(index).map(Timestamp::from_millis)
}

/// A number that is never negative.
pub(super) fn natural(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(index)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, number))
}

pub(super) fn bytes(row: &Row<'_>, index: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(index)?.as_blob()?))
}

/// The one of `values` whose name stands in column `index`.
fn named<T: Copy>(row: &Row<'_>, index: usize, values: &[T], name: impl Fn(T) -> &'static str) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    values.iter().copied().find(|value| name(*value) == text).ok_or_else(|| unknown(index, text))
}

fn unknown(index: usize, text: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, format!("unknown value `{text}`").into())
}

/// The columns that [`event`] reads, of table `e`.
pub(super) const EVENT: &str = "e.seq, e.id, e.account, e.space, e.type, e.occurred_at, e.appended_at, e.body";

pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        position: Cursor(row.get(0)?),
        id: parsed(row, 1)?,
        account: parsed(row, 2)?,
        space: parsed(row, 3)?,
        event_type: event_type(row, 4)?,
        occurred_at: time(row, 5)?,
        appended_at: time(row, 6)?,
        body: bytes(row, 7)?,
    })
}

pub(super) fn event_type(row: &Row<'_>, index: usize) -> rusqlite::Result<EventType> {
    parsed(row, index)
}

/// The columns that [`delivery`] reads, of tables `d`, `f` and `e`.
pub(super) const DELIVERY: &str =
    "d.id, f.webhook, e.id, e.type, e.space, d.state, d.due_at, d.reason, d.attempts, d.created_at, d.updated_at";

/// What [`DELIVERY`] needs beside the table `d`.
pub(super) const DELIVERY_JOINS: &str = "JOIN flows AS f ON f.id = d.flow JOIN events AS e ON e.seq = d.event";

pub(super) fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let state = match row.get(5)? {
        QUEUED | WAITING => DeliveryState::Waiting(time(row, 6)?),
        IN_FLIGHT => DeliveryState::InFlight(time(row, 6)?),
        DELIVERED => DeliveryState::Delivered,
        DEAD => DeliveryState::Dead(named(row, 7, &DeadReason::ALL, DeadReason::as_str)?),
        other => return Err(unknown(5, &other.to_string())),
    };
    Ok(Delivery {
        id: DeliveryId::from_number(row.get(0)?),
        webhook: parsed(row, 1)?,
        event: parsed(row, 2)?,
        event_type: event_type(row, 3)?,
        space: parsed(row, 4)?,
        state,
        attempts: row.get(8)?,
        created_at: time(row, 9)?,
        updated_at: time(row, 10)?,
    })
}

/// The columns that [`attempt`] reads.
pub(super) const ATTEMPT: &str = "delivery, number, started_at, duration_ms, status, error, detail, response";

pub(super) fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let failed = row.get_ref(5)?.data_type() != Type::Null;
    let error = if failed { Some(named(row, 5, &ErrorClass::ALL, ErrorClass::as_str)?) } else { None };
    Ok(Attempt {
        delivery: DeliveryId::from_number(row.get(0)?),
        number: row.get(1)?,
        started_at: time(row, 2)?,
        outcome: AttemptOutcome {
            duration_ms: row.get(3)?,
            status: row.get(4)?,
            error,
            detail: row.get(6)?,
            response: row.get(7)?,
        },
    })
}

/// The columns that [`document`] reads.
pub(super) const DOCUMENT: &str = "id, account, body, version, expires_at";

pub(super) fn document(kind: DocKind, row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        kind,
        id: row.get(0)?,
        account: parsed_or_null(row, 1)?,
        body: bytes(row, 2)?,
        version: Version(row.get(3)?),
        expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_millis),
    })
}
