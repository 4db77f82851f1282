//! The log's reading end: an account's events from a cursor on, oldest first.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::EventLog;
use crate::domain::{AccountId, EventPattern, Filter, SpaceId, Timestamp};
use crate::store::{Cursor, EventFilter, Query, Result, Rows, StoreError, StoredEvent};
use crate::webhooks::Envelope;

/// Events asked of the store at a time.
const BATCH: usize = 100;

/// Events that one read looks at; what it has not found by then, the next one looks for.
const MAX_LOOKED_AT: usize = 2_000;

/// Bytes beyond which a page ends.
const MAX_BYTES: usize = 4 << 20;

/// Which events of an account.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// In this space only.
    pub space: Option<SpaceId>,
    /// In these spaces only; what happened in no space is in none of them.
    pub within: Option<Arc<BTreeSet<SpaceId>>>,
    /// Of these types only; of all types if there is none.
    pub types: Vec<EventPattern>,
    /// Appended at or after.
    pub since: Option<Timestamp>,
    /// Messages of which this holds; what happened in no space is chosen by its type alone, as with webhooks.
    pub filter: Option<Arc<Filter>>,
    /// Whether messages that the account sent through the bridge are left out.
    pub ignore_own: bool,
}

impl Selection {
    fn includes(&self, event: &StoredEvent) -> bool {
        self.space.as_ref().is_none_or(|space| event.space == *space)
            && self.within.as_ref().is_none_or(|spaces| spaces.contains(&event.space))
            && (self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(&event.event_type)))
            && self.includes_message(event)
    }

    /// What needs a look into the body.
    fn includes_message(&self, event: &StoredEvent) -> bool {
        if event.space.is_nowhere() || (self.filter.is_none() && !self.ignore_own) {
            return true;
        }
        let envelope = Envelope::read(&event.body);
        !(self.ignore_own && envelope.own)
            && self.filter.as_ref().is_none_or(|filter| filter.matches(&envelope.into_facts(&event.account)))
    }
}

/// A page of events.
#[derive(Debug)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
    /// Where to go on, also at the end of the log.
    pub next: Cursor,
    /// Whether there is more to look at now.
    pub more: bool,
}

/// The place before every event.
pub const START: Cursor = Cursor(0);

impl EventLog {
    /// The place after the account's newest event.
    pub async fn tail(&self, account: &AccountId) -> Result<Cursor> {
        let newest = self.events(Query::EventsTail { account: account.clone() }).await?.0;
        Ok(newest.last().map_or(START, |event| event.position))
    }

    /// Up to `limit` of the account's events after `cursor`.
    pub async fn read(&self, account: &AccountId, cursor: Cursor, selection: &Selection, limit: usize) -> Result<EventPage> {
        // Before the rest, so that nothing new is passed over. Only what is older than `since` lies before it then.
        let tail = if selection.since.is_some() { self.tail(account).await? } else { START };
        let (mut next, mut events, mut looked_at, mut bytes) = (cursor, Vec::new(), 0, 0);
        loop {
            let filter = EventFilter { account: account.clone(), space: None, since: selection.since };
            let (found, more) = self.events(Query::Events { filter, cursor: Some(next), limit: BATCH }).await?;
            let mut found = choose(selection, found).await?.into_iter().peekable();
            while let Some((event, is_wanted)) = found.next() {
                next = event.position;
                looked_at += 1;
                if is_wanted {
                    bytes += event.body.len();
                    events.push(event);
                }
                if events.len() >= limit || bytes >= MAX_BYTES || looked_at >= MAX_LOOKED_AT {
                    return Ok(EventPage { events, next, more: more || found.peek().is_some() });
                }
            }
            if !more {
                return Ok(EventPage { events, next: next.max(tail), more });
            }
        }
    }

    /// Whether the event at `cursor` is gone, so that others after it may be gone as well.
    pub async fn is_forgotten(&self, account: &AccountId, cursor: Cursor) -> Result<bool> {
        if cursor <= START {
            return Ok(false);
        }
        let filter = EventFilter { account: account.clone(), space: None, since: None };
        let found = self.events(Query::Events { filter, cursor: Some(Cursor(cursor.0 - 1)), limit: 1 }).await?.0;
        Ok(found.first().is_none_or(|event| event.position != cursor))
    }

    async fn events(&self, query: Query) -> Result<(Vec<StoredEvent>, bool)> {
        let page = self.engine.query(query).await?;
        match page.rows {
            Rows::Events(events) => Ok((events, page.next.is_some())),
            _ => Err(StoreError::Failed { operation: "read events", source: "the store answered another question".into() }),
        }
    }
}

/// Says of each event whether it is wanted. Filters may take a while, and hold up nobody else.
async fn choose(selection: &Selection, events: Vec<StoredEvent>) -> Result<Vec<(StoredEvent, bool)>> {
    let choose = |selection: &Selection, events: Vec<StoredEvent>| -> Vec<(StoredEvent, bool)> {
        let choice = |event: StoredEvent| {
            let is_wanted = selection.includes(&event);
            (event, is_wanted)
        };
        events.into_iter().map(choice).collect()
    };
    if selection.filter.is_none() {
        return Ok(choose(selection, events));
    }
    let selection = selection.clone();
    let choosing = tokio::task::spawn_blocking(move || choose(&selection, events));
    choosing.await.map_err(|source| StoreError::Failed { operation: "filter events", source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::super::tests::log;
    use super::*;
    use crate::domain::{EventId, EventType, Timestamp};
    use crate::event_log::{Logged, LoggedEvent};

    fn event(space: &str, event_type: EventType, size: usize) -> LoggedEvent {
        LoggedEvent {
            id: EventId::random(),
            account: "acc_1".parse().expect("an id"),
            space: space.parse().expect("an id"),
            direct: false,
            own: false,
            event_type,
            occurred_at: Timestamp::from_millis(1),
            body: vec![b'x'; size].into(),
        }
    }

    #[tokio::test]
    async fn pages_follow_each_other_and_what_is_not_wanted_is_passed_over() {
        let (log, fence) = log().await;
        let account: AccountId = "acc_1".parse().expect("an id");
        assert_eq!(log.tail(&account).await.expect("read"), START);
        for _ in 0..BATCH {
            let types = [EventType::MESSAGE_CREATED, EventType::MESSAGE_UPDATED, EventType::SPACE_UPDATED];
            let events = types.into_iter().zip(["s1", "s1", "s2"]).map(|(kind, space)| event(space, kind, 1)).collect();
            assert_eq!(log.append(fence.clone(), events).await.expect("appended"), Logged::Durable);
        }
        let types = vec!["message.*".parse().expect("a pattern")];
        for (selection, expected) in [
            (Selection::default(), 3 * BATCH),
            (Selection { types: types.clone(), ..Selection::default() }, 2 * BATCH),
            (Selection { space: Some("s2".parse().expect("an id")), ..Selection::default() }, BATCH),
            (Selection { space: Some("s2".parse().expect("an id")), types, ..Selection::default() }, 0),
        ] {
            let (mut cursor, mut seen) = (START, Vec::new());
            loop {
                let page = log.read(&account, cursor, &selection, 7).await.expect("read");
                assert!(page.events.len() <= 7);
                cursor = page.next;
                seen.extend(page.events.into_iter().map(|event| event.position));
                if !page.more {
                    break;
                }
            }
            assert_eq!(seen.len(), expected, "{selection:?}");
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(cursor, log.tail(&account).await.expect("read"), "the cursor stands at the end");
        }
    }

    #[tokio::test]
    async fn a_start_in_time_leaves_a_cursor_that_no_longer_needs_it() {
        let (log, fence) = log().await;
        let account: AccountId = "acc_1".parse().expect("an id");
        log.append(fence, vec![event("s1", EventType::MESSAGE_CREATED, 1)]).await.expect("appended");
        let later = log.clock.now().saturating_add(std::time::Duration::from_hours(1));
        let page = log.read(&account, START, &Selection { since: Some(later), ..Selection::default() }, 7).await.expect("read");
        assert!(page.events.is_empty() && !page.more);
        let page = log.read(&account, page.next, &Selection::default(), 7).await.expect("read");
        assert!(page.events.is_empty(), "what was older does not come after all");
    }

    #[tokio::test]
    async fn a_page_of_large_events_ends_early() {
        let (log, fence) = log().await;
        let account: AccountId = "acc_1".parse().expect("an id");
        let large = (0..5).map(|_| event("s1", EventType::MESSAGE_CREATED, MAX_BYTES / 2)).collect();
        log.append(fence, large).await.expect("appended");
        let page = log.read(&account, START, &Selection::default(), 5).await.expect("read");
        assert_eq!((page.events.len(), page.more), (2, true));
    }

    #[tokio::test]
    async fn a_cursor_whose_event_is_gone_is_told() {
        let (log, fence) = log().await;
        let account: AccountId = "acc_1".parse().expect("an id");
        log.append(fence, vec![event("s1", EventType::MESSAGE_CREATED, 1)]).await.expect("appended");
        let tail = log.tail(&account).await.expect("read");
        assert!(!log.is_forgotten(&account, tail).await.expect("read"));
        assert!(!log.is_forgotten(&account, START).await.expect("read"));
        let later = log.clock.now().saturating_add(std::time::Duration::from_hours(1));
        let all = crate::store::Maintenance { events_before: Some(later), bytes_above: None, budget: 10 };
        log.engine.maintain(all).await.expect("maintained");
        assert!(log.is_forgotten(&account, tail).await.expect("read"));
    }
}
