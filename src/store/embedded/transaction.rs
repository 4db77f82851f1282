//! What the commands of one transaction share, and the upkeep of what claims find their work by.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::rows::{QUEUED, WAITING, int};
use crate::domain::{SpaceId, Timestamp, WebhookId};
use crate::store::rate::TokenBucket;
use crate::store::{Flow, FlowLimits};

/// Numbers that the writer gives out. They live in memory, because one thread alone writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) last_event: i64,
    pub(super) last_delivery: i64,
    pub(super) last_turn: i64,
    /// The limit that the last claim came with. A webhook at that limit is not looked at until one of its claims ends.
    pub(super) per_webhook: Option<usize>,
    /// Up to which append time and event maintenance has looked in its present pass.
    pub(super) maintained: (i64, i64),
}

/// The place before all events.
pub(super) const FROM_THE_START: (i64, i64) = (i64::MIN, i64::MIN);

impl Numbers {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
        let kept = "SELECT coalesce(max(value), 0) FROM last_numbers WHERE name =";
        Ok(Self {
            last_event: number(&format!("SELECT max(coalesce(max(seq), 0), ({kept} 'event')) FROM events"))?,
            last_delivery: number(&format!("SELECT max(coalesce(max(id), 0), ({kept} 'delivery')) FROM deliveries"))?,
            last_turn: number("SELECT coalesce(max(turn), 0) FROM flows")?,
            per_webhook: None,
            maintained: FROM_THE_START,
        })
    }
}

/// A transaction under way.
pub(super) struct Work<'a> {
    pub(super) connection: &'a Connection,
    pub(super) now: i64,
    pub(super) numbers: &'a mut Numbers,
    /// Whether there may be something to claim afterwards that nobody knew of.
    pub(super) hint: bool,
    known_flows: HashMap<WebhookId, (i64, Standing)>,
    known_lanes: HashMap<(i64, SpaceId), i64>,
    changed_flows: BTreeMap<i64, FlowChange>,
    changed_lanes: BTreeSet<i64>,
}

/// What a transaction did to a webhook's row.
#[derive(Default)]
struct FlowChange {
    in_flight: i64,
    turn: Option<i64>,
}

/// A webhook's row, with the time of its first delivery that may be claimed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FlowRow {
    flow: Standing,
    held_until: i64,
    probing: bool,
    bucket: TokenBucket,
    in_flight: i64,
    turn: i64,
    due_at: Option<i64>,
    ready: bool,
    first_due: Option<i64>,
}

const FLOW: &str = "SELECT flow, held_until, in_flight, turn, due_at, ready, probing, rate_count, rate_us, full_at_us,
         (SELECT min(due_at) FROM deliveries INDEXED BY deliveries_due WHERE flow = ?1 AND state = 1)
     FROM flows WHERE id = ?1";

/// The default of a webhook that is not held.
pub(super) const NOT_HELD: i64 = i64::MIN;

impl<'a> Work<'a> {
    pub(super) fn new(connection: &'a Connection, now: Timestamp, numbers: &'a mut Numbers) -> Self {
        Self {
            connection,
            now: now.as_millis(),
            numbers,
            hint: false,
            known_flows: HashMap::new(),
            known_lanes: HashMap::new(),
            changed_flows: BTreeMap::new(),
            changed_lanes: BTreeSet::new(),
        }
    }

    /// The row of a webhook and its flow; made if it is missing.
    pub(super) fn flow_of(&mut self, webhook: &WebhookId) -> rusqlite::Result<(i64, Standing)> {
        if let Some(known) = self.known_flows.get(webhook) {
            return Ok(*known);
        }
        let mut select = self.connection.prepare_cached("SELECT id, flow FROM flows WHERE webhook = ?1")?;
        let found =
            select.query_row([webhook.as_str()], |row| Ok((row.get(0)?, Standing::from_number(row.get(1)?)))).optional()?;
        let known = if let Some(found) = found {
            found
        } else {
            let mut insert = self.connection.prepare_cached("INSERT INTO flows (webhook, held_until) VALUES (?1, ?2)")?;
            (insert.insert(params![webhook.as_str(), NOT_HELD])?, Standing::Open)
        };
        self.known_flows.insert(webhook.clone(), known);
        Ok(known)
    }

    /// Sets the flow of a webhook; opening it ends a hold and a probing, and forgets failures.
    pub(super) fn write_flow(&mut self, webhook: &WebhookId, flow: Flow) -> rusqlite::Result<i64> {
        let (id, _) = self.flow_of(webhook)?;
        let standing = match flow {
            Flow::Open(limits) => {
                self.open_flow(id, limits)?;
                Standing::Open
            }
            Flow::Paused => Standing::Paused,
            Flow::Ended => Standing::Ended,
        };
        self.connection.prepare_cached("UPDATE flows SET flow = ?2 WHERE id = ?1")?.execute(params![id, standing.number()])?;
        self.known_flows.insert(webhook.clone(), (id, standing));
        self.flow_changed(id, 0);
        Ok(id)
    }

    fn open_flow(&self, id: i64, limits: FlowLimits) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare_cached("SELECT rate_count, rate_us, full_at_us FROM flows WHERE id = ?1")?;
        let bucket = select.query_row([id], |row| bucket(row, 0))?.with_rate(limits.rate);
        let mut update = self.connection.prepare_cached(
            "UPDATE flows SET held_until = ?2, probing = 0, failing_since = NULL, rate_count = ?3, rate_us = ?4, full_at_us = ?5
             WHERE id = ?1",
        )?;
        let (count, interval) = bucket.rate.unzip();
        update.execute(params![id, NOT_HELD, count, interval.unwrap_or(0), bucket.full_at]).map(drop)
    }

    /// The row of the ordered lane of `space` within a webhook; made if it is missing.
    pub(super) fn lane_of(&mut self, flow: i64, space: &SpaceId) -> rusqlite::Result<i64> {
        let key = (flow, space.clone());
        if let Some(known) = self.known_lanes.get(&key) {
            return Ok(*known);
        }
        let mut select = self.connection.prepare_cached("SELECT id FROM lanes WHERE flow = ?1 AND space = ?2")?;
        let found = select.query_row(params![flow, space.as_str()], |row| row.get(0)).optional()?;
        let lane = if let Some(lane) = found {
            lane
        } else {
            let mut insert = self.connection.prepare_cached("INSERT INTO lanes (flow, space) VALUES (?1, ?2)")?;
            insert.insert(params![flow, space.as_str()])?
        };
        self.known_lanes.insert(key, lane);
        Ok(lane)
    }

    /// Notes that deliveries of a webhook changed, and by how many those in flight grew.
    pub(super) fn flow_changed(&mut self, flow: i64, in_flight: i64) {
        self.changed_flows.entry(flow).or_default().in_flight += in_flight;
    }

    /// Notes that a webhook gave deliveries at `turn`.
    pub(super) fn flow_gave(&mut self, flow: i64, in_flight: i64, turn: i64) {
        let change = self.changed_flows.entry(flow).or_default();
        change.in_flight += in_flight;
        change.turn = Some(turn);
    }

    /// Notes that the head of a lane may be another one now.
    pub(super) fn lane_changed(&mut self, lane: Option<i64>) {
        self.changed_lanes.extend(lane);
    }

    /// Brings heads of lanes and due times of webhooks up to date with what was noted. Needed before claiming and at the end, not
    /// after each command: a group of appends to one webhook touches its row once.
    pub(super) fn refresh(&mut self) -> rusqlite::Result<()> {
        for lane in std::mem::take(&mut self.changed_lanes) {
            self.refresh_lane(lane)?;
        }
        for (flow, change) in std::mem::take(&mut self.changed_flows) {
            self.refresh_flow(flow, &change)?;
        }
        Ok(())
    }

    fn refresh_flow(&self, flow: i64, change: &FlowChange) -> rusqlite::Result<()> {
        let limit = self.numbers.per_webhook.map_or(i64::MAX, int);
        let mut select = self.connection.prepare_cached(FLOW)?;
        let before = select.query_row([flow], |row| {
            Ok(FlowRow {
                flow: Standing::from_number(row.get(0)?),
                held_until: row.get(1)?,
                in_flight: row.get(2)?,
                turn: row.get(3)?,
                due_at: row.get(4)?,
                ready: row.get(5)?,
                probing: row.get(6)?,
                bucket: bucket(row, 7)?,
                first_due: row.get(10)?,
            })
        })?;
        let in_flight = before.in_flight + change.in_flight;
        let turn = change.turn.unwrap_or(before.turn);
        let limit = if before.probing { limit.min(1) } else { limit };
        let gives = before.flow == Standing::Open && in_flight < limit;
        let free_at = before.held_until.max(before.bucket.ready_at().as_millis());
        let due_at = before.first_due.filter(|_| gives).map(|due_at: i64| due_at.max(free_at));
        let ready = due_at.is_some_and(|due_at| due_at <= self.now);
        let after = FlowRow { in_flight, turn, due_at, ready, ..before };
        // An append to a webhook that has work already changes nothing of it.
        if after != before {
            let sql = "UPDATE flows SET in_flight = ?2, turn = ?3, due_at = ?4, ready = ?5 WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute(params![flow, in_flight, turn, due_at, ready])?;
        }
        Ok(())
    }

    /// Lets the oldest waiting delivery of a lane wait for its time if nothing of the lane is in flight, and all others behind it.
    fn refresh_lane(&self, lane: i64) -> rusqlite::Result<()> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, state FROM deliveries WHERE lane = ?1 AND lane IS NOT NULL AND state IN (1, 2)")?;
        let active: Vec<(i64, i64)> =
            select.query_map([lane], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        let head: Option<i64> = if active.iter().any(|(_, state)| *state != WAITING) {
            None
        } else {
            let sql = "SELECT min(id) FROM deliveries WHERE lane = ?1 AND lane IS NOT NULL AND state <= 1";
            self.connection.prepare_cached(sql)?.query_row([lane], |row| row.get(0))?
        };
        let mut update = self.connection.prepare_cached("UPDATE deliveries SET state = ?2 WHERE id = ?1")?;
        for (id, state) in &active {
            if *state == WAITING && Some(*id) != head {
                update.execute(params![id, QUEUED])?;
            }
        }
        if let Some(head) = head.filter(|head| !active.contains(&(*head, WAITING))) {
            update.execute(params![head, WAITING])?;
        }
        Ok(())
    }
}

/// Where a webhook's flow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Open,
    Paused,
    Ended,
}

impl Standing {
    fn number(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Paused => 1,
            Self::Ended => 2,
        }
    }

    fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Open,
            1 => Self::Paused,
            _ => Self::Ended,
        }
    }
}

/// How a webhook has fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) failing_since: Option<i64>,
    pub(super) probing: bool,
}

/// The token bucket in three columns from `index` on: `rate_count`, `rate_us`, `full_at_us`.
pub(super) fn bucket(row: &Row<'_>, index: usize) -> rusqlite::Result<TokenBucket> {
    let count: Option<u32> = row.get(index)?;
    let interval: i64 = row.get(index + 1)?;
    Ok(TokenBucket { rate: count.map(|count| (count, interval.max(1))), full_at: row.get(index + 2)? })
}
