//! Reading the log, on connections that only read.

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::requeue::{after, cut_page};
use super::rows::{ATTEMPT, DELIVERY, DELIVERY_JOINS, EVENT, attempt, delivery, event, int, natural, parsed};
use super::transaction::NOT_HELD;
use crate::domain::{AccountId, Delivery, DeliveryId, EventId, EventType, SpaceId, Timestamp, WebhookId};
use crate::store::{Cursor, DeliveryFilter, EventFilter, FlowStatus, Page, Query, Rows, StateFilter, StoredEvent};

/// When a claim may next get something; one look at the first entry of each index.
pub(super) const NEXT_DUE: &str = "SELECT min(due_at) FROM (
     SELECT min(due_at) AS due_at FROM flows INDEXED BY flows_due WHERE ready = 0 AND due_at IS NOT NULL
     UNION ALL SELECT min(due_at) FROM flows INDEXED BY flows_due WHERE ready = 1 AND due_at IS NOT NULL
     UNION ALL SELECT min(due_at) FROM deliveries INDEXED BY deliveries_in_flight WHERE state = 2)";

pub(super) fn next_due(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let due: Option<i64> = connection.prepare_cached(NEXT_DUE)?.query_row([], |row| row.get(0))?;
    Ok(due.map(Timestamp::from_millis))
}

pub(super) fn query(connection: &Connection, query: &Query) -> rusqlite::Result<Page> {
    match query {
        Query::Events { filter, cursor, limit } => list_events(connection, filter, *cursor, *limit),
        Query::EventsTail { account } => Ok(Page { rows: Rows::Events(newest_event(connection, account)?), next: None }),
        Query::Event(id) => Ok(Page { rows: Rows::Events(find_event(connection, id)?), next: None }),
        Query::Deliveries { filter, cursor, limit } => list_deliveries(connection, filter, *cursor, *limit),
        Query::Delivery(id) => Ok(Page { rows: Rows::Deliveries(find_delivery(connection, *id)?), next: None }),
        Query::Attempts(id) => {
            let sql = format!("SELECT {ATTEMPT} FROM attempts WHERE delivery = ?1 ORDER BY claim_no");
            let mut select = connection.prepare_cached(&sql)?;
            let attempts = select.query_map([id.number()], attempt)?.collect::<rusqlite::Result<_>>()?;
            Ok(Page { rows: Rows::Attempts(attempts), next: None })
        }
        Query::Depths => depths(connection),
        Query::Flow(webhook) => flows(connection, &FlowsWanted::One(webhook)),
        Query::ProbedFlows { after, limit } => flows(connection, &FlowsWanted::Probed(after.as_ref(), *limit)),
    }
}

fn list_events(connection: &Connection, filter: &EventFilter, cursor: Option<Cursor>, limit: usize) -> rusqlite::Result<Page> {
    let space = if filter.space.is_some() { "e.space = ?4" } else { "?4 IS NULL" };
    let sql = format!(
        "SELECT {EVENT} FROM events AS e INDEXED BY events_account
         WHERE e.account = ?1 AND e.seq > ?2 AND e.appended_at >= ?3 AND {space} ORDER BY e.seq LIMIT ?5"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let bounds = params![
        filter.account.as_str(),
        after(cursor),
        filter.since.map_or(i64::MIN, Timestamp::as_millis),
        filter.space.as_ref().map(SpaceId::as_str),
        int(limit).saturating_add(1),
    ];
    let mut events: Vec<StoredEvent> = select.query_map(bounds, event)?.collect::<rusqlite::Result<_>>()?;
    let next = cut_page(&mut events, limit, cursor, |event| event.position.0);
    Ok(Page { rows: Rows::Events(events), next })
}

fn newest_event(connection: &Connection, account: &AccountId) -> rusqlite::Result<Vec<StoredEvent>> {
    let sql =
        format!("SELECT {EVENT} FROM events AS e INDEXED BY events_account WHERE e.account = ?1 ORDER BY e.seq DESC LIMIT 1");
    let found = connection.prepare_cached(&sql)?.query_row([account.as_str()], event).optional()?;
    Ok(found.into_iter().collect())
}

fn find_event(connection: &Connection, id: &EventId) -> rusqlite::Result<Vec<StoredEvent>> {
    let sql = format!("SELECT {EVENT} FROM events AS e WHERE e.id = ?1");
    let found = connection.prepare_cached(&sql)?.query_row([id.as_str()], event).optional()?;
    Ok(found.into_iter().collect())
}

fn list_deliveries(
    connection: &Connection,
    filter: &DeliveryFilter,
    cursor: Option<Cursor>,
    limit: usize,
) -> rusqlite::Result<Page> {
    let webhook = filter.webhook.as_str();
    let before = cursor.map_or(i64::MAX, |cursor| cursor.0);
    let limit_and_one = int(limit).saturating_add(1);
    let mut bounds: Vec<&dyn ToSql> = vec![&webhook, &before, &limit_and_one];
    let (index, in_state) = match filter.state {
        None => ("deliveries_flow", ""),
        Some(StateFilter::Waiting) => ("deliveries_flow", "AND d.state <= 1"),
        Some(StateFilter::InFlight) => ("deliveries_in_flight", "AND d.state = 2"),
        Some(StateFilter::Delivered) => ("deliveries_flow", "AND d.state = 3"),
        Some(StateFilter::Dead) => ("deliveries_dead", "AND d.state = 4"),
    };
    let event = filter.event.as_ref().map(EventId::as_str);
    let (index, of_event) = if let Some(event) = &event {
        bounds.push(event);
        ("deliveries_event", "AND d.event = (SELECT seq FROM events WHERE id = ?4)")
    } else {
        (index, "")
    };
    let event_type = filter.event_type.as_ref().map(EventType::as_str);
    let of_type = match &event_type {
        Some(event_type) => {
            bounds.push(event_type);
            format!("AND e.type = ?{}", bounds.len())
        }
        None => String::new(),
    };
    let since = filter.since.map_or(i64::MIN, Timestamp::as_millis);
    let until = filter.until.map_or(i64::MAX, Timestamp::as_millis);
    let in_time = if filter.since.is_some() || filter.until.is_some() {
        bounds.extend([&since as &dyn ToSql, &until]);
        format!("AND d.created_at >= ?{} AND d.created_at < ?{}", bounds.len() - 1, bounds.len())
    } else {
        String::new()
    };
    let sql = format!(
        "SELECT {DELIVERY} FROM deliveries AS d INDEXED BY {index} {DELIVERY_JOINS}
         WHERE d.flow = (SELECT id FROM flows WHERE webhook = ?1) AND d.id < ?2 {in_state} {of_event} {of_type} {in_time}
         ORDER BY d.id DESC LIMIT ?3"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows: Vec<Delivery> = select.query_map(&bounds[..], delivery)?.collect::<rusqlite::Result<_>>()?;
    let next = cut_page(&mut rows, limit, cursor, |delivery| delivery.id.number());
    Ok(Page { rows: Rows::Deliveries(rows), next })
}

fn find_delivery(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Vec<Delivery>> {
    let sql = format!("SELECT {DELIVERY} FROM deliveries AS d {DELIVERY_JOINS} WHERE d.id = ?1");
    let found = connection.prepare_cached(&sql)?.query_row([id.number()], delivery).optional()?;
    Ok(found.into_iter().collect())
}

fn depths(connection: &Connection) -> rusqlite::Result<Page> {
    // Each count reads one index. Waiting are those that wait for their time and those of ordered lanes, less what is both.
    let mut select = connection.prepare_cached(
        "SELECT
             (SELECT count(*) FROM deliveries INDEXED BY deliveries_due WHERE state = 1)
                 + (SELECT count(*) FROM deliveries INDEXED BY deliveries_lane_waiting WHERE lane IS NOT NULL AND state <= 1)
                 - (SELECT count(*) FROM deliveries INDEXED BY deliveries_lane_active
                    WHERE lane IS NOT NULL AND state IN (1, 2) AND state = 1),
             (SELECT count(*) FROM deliveries INDEXED BY deliveries_in_flight WHERE state = 2),
             (SELECT count(*) FROM deliveries INDEXED BY deliveries_dead WHERE state = 4),
             (SELECT created_at FROM deliveries WHERE id = (SELECT min(id) FROM (
                 SELECT min(id) AS id FROM deliveries INDEXED BY deliveries_due WHERE state = 1
                 UNION ALL
                 SELECT min(id) FROM deliveries INDEXED BY deliveries_lane_waiting WHERE lane IS NOT NULL AND state <= 1)))",
    )?;
    let rows = select.query_row([], |row| {
        let oldest_waiting = row.get::<_, Option<i64>>(3)?.map(Timestamp::from_millis);
        Ok(Rows::Depths { waiting: natural(row, 0)?, in_flight: natural(row, 1)?, dead: natural(row, 2)?, oldest_waiting })
    })?;
    Ok(Page { rows, next: None })
}

/// Which webhooks' flows are asked for.
#[derive(Clone, Copy)]
enum FlowsWanted<'a> {
    One(&'a WebhookId),
    Probed(Option<&'a WebhookId>, usize),
}

fn flows(connection: &Connection, wanted: &FlowsWanted<'_>) -> rusqlite::Result<Page> {
    let (condition, webhook, limit) = match wanted {
        FlowsWanted::One(webhook) => ("webhook = ?1", webhook.as_str(), 1),
        FlowsWanted::Probed(after, limit) => ("probing = 1 AND webhook > ?1", after.map_or("", WebhookId::as_str), int(*limit)),
    };
    // The numbers of one webhook's deliveries, each read from an index.
    let sql = format!(
        "SELECT webhook, held_until, probing, failing_since, in_flight,
             (SELECT count(*) FROM deliveries INDEXED BY deliveries_due WHERE flow = f.id AND state = 1)
                 + (SELECT count(*) FROM lanes AS l JOIN deliveries AS d INDEXED BY deliveries_lane_waiting ON d.lane = l.id
                    WHERE l.flow = f.id AND d.lane IS NOT NULL AND d.state <= 1)
                 - (SELECT count(*) FROM lanes AS l JOIN deliveries AS d INDEXED BY deliveries_lane_active ON d.lane = l.id
                    WHERE l.flow = f.id AND d.lane IS NOT NULL AND d.state IN (1, 2) AND d.state = 1),
             (SELECT count(*) FROM deliveries INDEXED BY deliveries_dead WHERE flow = f.id AND state = 4),
             (SELECT created_at FROM deliveries WHERE id = (SELECT min(id) FROM (
                 SELECT min(id) AS id FROM deliveries INDEXED BY deliveries_due WHERE flow = f.id AND state = 1
                 UNION ALL
                 SELECT min(d.id) FROM lanes AS l JOIN deliveries AS d INDEXED BY deliveries_lane_waiting ON d.lane = l.id
                 WHERE l.flow = f.id AND d.lane IS NOT NULL AND d.state <= 1)))
         FROM flows AS f WHERE {condition} ORDER BY webhook LIMIT ?2"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let optional = |millis: Option<i64>| millis.map(Timestamp::from_millis);
    let rows = select.query_map(params![webhook, limit], |row| {
        Ok(FlowStatus {
            webhook: parsed(row, 0)?,
            waiting: natural(row, 5)?,
            in_flight: natural(row, 4)?,
            dead: natural(row, 6)?,
            oldest_waiting: optional(row.get(7)?),
            held_until: Some(row.get(1)?).filter(|until| *until != NOT_HELD).map(Timestamp::from_millis),
            probing: row.get(2)?,
            failing_since: optional(row.get(3)?),
        })
    })?;
    Ok(Page { rows: Rows::Flows(rows.collect::<rusqlite::Result<_>>()?), next: None })
}
