//! [`Watermarks`]: how far each space of an account has been heard.
//!
//! A watermark is a time of Spaces up to which everything of a space is durable in the log. It never runs ahead of that: it moves when
//! an event has become durable while the space is heard without a gap, and stands still from the loss of the connection until the gap
//! is closed. One that is older than it could be is harmless, since reading again what is known changes nothing. So it is stored
//! lazily, one small document per space, and costs the way of an event nothing but a comparison.

mod stored;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::stored::{AccountMark, KEPT, SEPARATOR, StoredMark, write};
pub(super) use self::stored::{Stored, forget, load, store, store_wish};
use crate::domain::{AccountId, SpaceId, SpaceSelector, Timestamp};
use crate::store::DocWrite;

/// When the watermark of a quiet space is written again, so that it does not go.
const REFRESHED: Duration = Duration::from_hours(30 * 24);

/// How long a space that is missing in the list of the user's spaces may come back as if it had not been gone: the list is read page by
/// page while it changes.
const MISSING: Duration = Duration::from_mins(10);

/// How far a space has been heard.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// Nothing before is asked for.
    floor: Timestamp,
    /// Everything from the floor to here is durable.
    heard: Timestamp,
    /// Whether an event of this very time is durable: a history from before then on is not empty.
    by_event: bool,
    /// Whether there is no gap between here and what comes in now.
    live: bool,
    /// The latest time of an event that became durable while there was a gap.
    beyond_gap: Option<Timestamp>,
    /// Since when it is missing in the list of spaces.
    missing_since: Option<Timestamp>,
    /// When it was stored last.
    stored_at: Option<Timestamp>,
    dirty: bool,
}

/// Someone asked for the history of spaces from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wish {
    /// Of which spaces.
    pub(super) spaces: Vec<SpaceSelector>,
    /// From when on.
    pub(super) since: Timestamp,
}

/// Where to read a space's history from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadFrom {
    /// From when on.
    pub(super) from: Timestamp,
    /// What is too long ago to be read: from and to.
    pub(super) too_old: Option<(Timestamp, Timestamp)>,
}

/// How far back to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// So much before the watermark, since events of one time may come in any order and clocks differ.
    pub(super) overlap: Duration,
    /// Nothing that is longer ago.
    pub(super) limit: Duration,
}

/// The watermarks of an account, as one session sees them.
#[derive(Debug, Default)]
pub(super) struct Watermarks {
    spaces: BTreeMap<SpaceId, Mark>,
    account: AccountMark,
    account_dirty: bool,
    /// Marks that are to be written, and those to be removed.
    dirty: Vec<SpaceId>,
    removed: Vec<String>,
    has_new: bool,
    wishes: Vec<(String, Wish)>,
}

impl Watermarks {
    /// What would be stored of the space: its floor, and how far it has been heard.
    #[cfg(test)]
    pub(super) fn snapshot(&self, space: &SpaceId) -> Option<(Timestamp, Timestamp)> {
        self.spaces.get(space).map(|mark| (mark.floor, mark.heard))
    }

    /// Whether it is known how far the space has been heard.
    pub(super) fn is_known(&self, space: &SpaceId) -> bool {
        self.spaces.contains_key(space)
    }

    /// Whether the space has been heard and may have a gap now.
    pub(super) fn has_gap(&self, space: &SpaceId) -> bool {
        self.spaces.get(space).is_some_and(|mark| !mark.live)
    }

    /// How far the space has been heard.
    pub(super) fn heard(&self, space: &SpaceId) -> Option<Timestamp> {
        self.spaces.get(space).map(|mark| mark.heard)
    }

    /// Spaces that have been heard.
    pub(super) fn spaces(&self) -> impl Iterator<Item = &SpaceId> {
        self.spaces.keys()
    }

    /// Hears a space that is not known from `at` on: without a gap if it is `live`, else after its history from then on is read.
    pub(super) fn start(&mut self, space: &SpaceId, at: Timestamp, live: bool) {
        if !self.spaces.contains_key(space) {
            let mark = Mark {
                floor: at,
                heard: at,
                by_event: false,
                live,
                beyond_gap: None,
                missing_since: None,
                stored_at: None,
                dirty: false,
            };
            self.spaces.insert(space.clone(), mark);
            self.has_new = true;
            self.touch(space);
        }
    }

    /// Notes that an event of this time is durable.
    pub(super) fn durable(&mut self, space: &SpaceId, at: Timestamp) {
        let Some(mark) = self.spaces.get_mut(space) else { return };
        if !mark.live {
            mark.beyond_gap = mark.beyond_gap.max(Some(at));
        } else if at > mark.heard {
            mark.heard = at;
            mark.by_event = true;
            self.touch(space);
        }
    }

    /// From now on there may be a gap in every space.
    pub(super) fn connection_lost(&mut self) {
        for mark in self.spaces.values_mut() {
            mark.live = false;
        }
    }

    /// From now on there may be a gap in this space.
    pub(super) fn lost(&mut self, space: &SpaceId) {
        if let Some(mark) = self.spaces.get_mut(space) {
            mark.live = false;
        }
    }

    /// Something of that time did not come although later things did: every space may have lost something from then on.
    pub(super) fn doubt(&mut self, since: Timestamp) {
        let heard_later = |mark: &Mark| mark.heard > since;
        let spaces: Vec<SpaceId> =
            self.spaces.iter().filter(|(_, mark)| heard_later(mark)).map(|(space, _)| space.clone()).collect();
        for space in spaces {
            if let Some(mark) = self.spaces.get_mut(&space) {
                mark.heard = since.max(mark.floor);
                mark.by_event = false;
                mark.live = false;
            }
            // The store knows it as heard farther.
            self.has_new = true;
            self.touch(&space);
        }
    }

    /// The gap is closed, or told of: everything up to `at` is durable or given up, and what comes in now follows it.
    pub(super) fn closed(&mut self, space: &SpaceId, at: Timestamp) {
        let Some(mark) = self.spaces.get_mut(space) else { return };
        mark.live = true;
        let last = mark.beyond_gap.take();
        let heard = mark.heard.max(at).max(last.unwrap_or(at));
        mark.by_event = last == Some(heard) || (mark.by_event && mark.heard == heard);
        mark.heard = heard;
        self.touch(space);
    }

    /// Lets the history of the space be read from `since` on.
    pub(super) fn reach_back(&mut self, space: &SpaceId, since: Timestamp) {
        self.start(space, since, false);
        if let Some(mark) = self.spaces.get_mut(space) {
            mark.live = false;
            mark.floor = mark.floor.min(since);
            mark.by_event &= mark.heard <= since;
            mark.heard = mark.heard.min(since);
        }
        self.has_new = true;
        self.touch(space);
    }

    /// Whether the history of the space, read from its watermark on, tells of one event at least.
    pub(super) fn ends_with_event(&self, space: &SpaceId) -> bool {
        self.spaces.get(space).is_some_and(|mark| mark.by_event)
    }

    /// Where to read the history of the space from, to close its gap.
    pub(super) fn read_from(&self, space: &SpaceId, reach: Reach, now: Timestamp) -> Option<ReadFrom> {
        let mark = self.spaces.get(space)?;
        let earliest = now.saturating_sub(reach.limit);
        let from = mark.heard.saturating_sub(reach.overlap).max(mark.floor);
        if from >= earliest {
            return Some(ReadFrom { from, too_old: None });
        }
        // A space that was quiet for long has an old watermark and yet no gap while the session was connected.
        let gap = self.account.online_until.map_or(mark.heard, |until| mark.heard.max(Timestamp::from_millis(until)));
        Some(ReadFrom { from: earliest, too_old: (gap < earliest).then_some((gap, earliest)) })
    }

    /// The space is not listened to any more, because nobody wants it.
    pub(super) fn remove(&mut self, space: &SpaceId) {
        if self.spaces.remove(space).is_some_and(|mark| mark.stored_at.is_some()) {
            self.removed.push(space.as_str().to_owned());
        }
    }

    /// The space is not in the list of the user's spaces any more. It may come back at once.
    pub(super) fn missing(&mut self, space: &SpaceId, now: Timestamp) {
        if let Some(mark) = self.spaces.get_mut(space) {
            mark.live = false;
            mark.missing_since.get_or_insert(now);
        }
    }

    /// Forgets the space if it has been missing for too long, so that it starts anew.
    pub(super) fn returned(&mut self, space: &SpaceId, now: Timestamp) {
        let Some(mark) = self.spaces.get_mut(space) else { return };
        if mark.missing_since.take().is_some_and(|since| now.since(since) >= MISSING) {
            self.remove(space);
        }
    }

    /// When the user's spaces were listed last.
    pub(super) fn listed_at(&self) -> Option<Timestamp> {
        self.account.listed_at.map(Timestamp::from_millis)
    }

    /// Notes when the user's spaces were listed; `None` if their list is of no interest any more.
    pub(super) fn listed(&mut self, at: Option<Timestamp>) {
        // An old time is harmless, so that only a first one is worth a write of its own.
        self.account_dirty |= self.account.listed_at.is_some() != at.is_some();
        self.account.listed_at = at.map(Timestamp::as_millis);
    }

    /// Notes that the session is connected now.
    pub(super) fn online(&mut self, now: Timestamp) {
        self.account.online_until = self.account.online_until.max(Some(now.as_millis()));
        self.account_dirty = true;
    }

    /// Has what is quiet written again where that is due.
    pub(super) fn refresh(&mut self, now: Timestamp) {
        let stale = |mark: &Mark| !mark.dirty && mark.stored_at.is_some_and(|at| now.since(at) >= REFRESHED);
        let spaces: Vec<SpaceId> = self.spaces.iter().filter(|(_, mark)| stale(mark)).map(|(space, _)| space.clone()).collect();
        for space in spaces {
            self.touch(&space);
        }
        let is_gone = |mark: &Mark| mark.missing_since.is_some_and(|since| now.since(since) >= MISSING);
        let gone: Vec<SpaceId> = self.spaces.iter().filter(|(_, mark)| is_gone(mark)).map(|(space, _)| space.clone()).collect();
        for space in gone {
            self.remove(&space);
        }
    }

    /// Adds what the store knows. Where both know a space the older knowledge counts, since what lies between may be a gap.
    pub(super) fn merge(&mut self, stored: Stored, now: Timestamp) {
        for (space, StoredMark { floor, heard, by_event }) in stored.spaces {
            let (floor, heard) = (Timestamp::from_millis(floor), Timestamp::from_millis(heard));
            match self.spaces.get_mut(&space) {
                Some(mark) => {
                    if heard < mark.floor {
                        mark.live = false;
                    }
                    mark.floor = mark.floor.min(floor);
                    mark.by_event = if heard <= mark.heard { by_event } else { mark.by_event };
                    mark.heard = mark.heard.min(heard);
                    mark.stored_at = Some(now);
                }
                None => {
                    let mark = Mark {
                        floor,
                        heard,
                        by_event,
                        live: false,
                        beyond_gap: None,
                        missing_since: None,
                        stored_at: Some(now),
                        dirty: false,
                    };
                    self.spaces.insert(space, mark);
                }
            }
        }
        let (known, stored_account) = (self.account, stored.account);
        self.account.online_until = known.online_until.max(stored_account.online_until);
        self.account.listed_at = known.listed_at.or(stored_account.listed_at);
        for wish in stored.wishes {
            self.wish(wish.0, wish.1);
        }
    }

    /// Adds a wish that is stored under `id`.
    pub(super) fn wish(&mut self, id: String, wish: Wish) {
        if !self.wishes.iter().any(|(known, _)| *known == id) {
            self.wishes.push((id, wish));
        }
    }

    /// Forgets the wishes, which concern another session now, or nobody.
    pub(super) fn forget_wishes(&mut self) {
        self.wishes.clear();
    }

    /// Whether a wish waits for the list of spaces.
    pub(super) fn wants_list(&self) -> bool {
        self.wishes.iter().any(|(_, wish)| wish.spaces.iter().any(|selector| !matches!(selector, SpaceSelector::One(_))))
    }

    /// Takes the wishes that can be granted: those that name their spaces, and all others once the spaces are listed.
    pub(super) fn take_wishes(&mut self, is_listed: bool) -> Vec<Wish> {
        let names = |wish: &Wish| wish.spaces.iter().all(|selector| matches!(selector, SpaceSelector::One(_)));
        let (granted, left) = std::mem::take(&mut self.wishes).into_iter().partition(|(_, wish)| is_listed || names(wish));
        self.wishes = left;
        let granted: Vec<(String, Wish)> = granted;
        granted
            .into_iter()
            .map(|(id, wish)| {
                self.removed.push(id);
                wish
            })
            .collect()
    }

    /// Whether something is to be written that no older state stands for.
    pub(super) fn has_new(&self) -> bool {
        self.has_new
    }

    /// Whether there is something to write.
    pub(super) fn is_dirty(&self) -> bool {
        self.account_dirty || !self.dirty.is_empty() || !self.removed.is_empty()
    }

    /// What is to be written now. All removals are in the batch of what replaces them.
    pub(super) fn take_writes(&mut self, account: &AccountId, now: Timestamp) -> Vec<DocWrite> {
        let expires_at = now.saturating_add(KEPT);
        let mut writes = Vec::new();
        self.has_new = false;
        if std::mem::take(&mut self.account_dirty) {
            writes.push(write(account, "", Some(&self.account), expires_at));
        }
        for space in std::mem::take(&mut self.dirty) {
            let Some(mark) = self.spaces.get_mut(&space) else { continue };
            mark.dirty = false;
            mark.stored_at = Some(now);
            let (floor, heard) = (mark.floor.as_millis(), mark.heard.as_millis());
            let stored = StoredMark { floor, heard, by_event: mark.by_event };
            writes.push(write(account, space.as_str(), Some(&stored), expires_at));
        }
        for id in std::mem::take(&mut self.removed) {
            let known_again = id.parse::<SpaceId>().is_ok_and(|space| self.spaces.contains_key(&space));
            if !known_again {
                writes.push(write::<StoredMark>(account, &id, None, expires_at));
            }
        }
        writes
    }

    /// Takes back writes that the store did not take.
    pub(super) fn not_written(&mut self, writes: &[DocWrite]) {
        for write in writes {
            let name = write.id.split_once(SEPARATOR).map(|(_, name)| name).unwrap_or_default();
            match (name.parse::<SpaceId>(), &write.body) {
                (_, None) => self.removed.push(name.to_owned()),
                (Ok(space), Some(_)) => self.touch(&space),
                (Err(_), Some(_)) => self.account_dirty = true,
            }
        }
    }

    fn touch(&mut self, space: &SpaceId) {
        if let Some(mark) = self.spaces.get_mut(space)
            && !std::mem::replace(&mut mark.dirty, true)
        {
            self.dirty.push(space.clone());
        }
    }
}
