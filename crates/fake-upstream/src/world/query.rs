//! Reading the world: histories and lists of spaces.

use super::{Message, Space, User, World};

/// Which way a history is read, from a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Newest first, older than the point.
    Before,
    /// Oldest first, newer than the point.
    After,
}

impl World {
    /// Every record of a space in the order of creation, deleted ones included.
    pub(crate) fn records_in(&self, space_id: &str) -> impl DoubleEndedIterator<Item = &Message> {
        let log = self.spaces.get(space_id).map(|space| &space.log);
        log.into_iter().flatten().filter_map(|id| self.messages.get(id))
    }

    /// The undeleted messages of a space before or after a time of creation.
    pub(crate) fn history(&self, space_id: &str, direction: Direction, reference_ms: i64) -> Vec<&Message> {
        let records = self.records_in(space_id).filter(|message| !message.deleted);
        match direction {
            Direction::After => records.filter(|message| message.created_ms > reference_ms).collect(),
            Direction::Before => records.rev().filter(|message| message.created_ms < reference_ms).collect(),
        }
    }

    /// Every record of some spaces that was added, changed or deleted before or after a time.
    pub(crate) fn changes(&self, space_ids: &[&str], direction: Direction, reference_ms: i64) -> Vec<&Message> {
        let mut records: Vec<&Message> = space_ids
            .iter()
            .flat_map(|space_id| self.records_in(space_id))
            .filter(|message| match direction {
                Direction::After => message.modified_ms > reference_ms,
                Direction::Before => message.modified_ms < reference_ms,
            })
            .collect();
        records.sort_by_key(|message| message.modified_ms);
        if direction == Direction::Before {
            records.reverse();
        }
        records
    }

    /// The spaces of a user, the most recently active first.
    pub(crate) fn spaces_of(&self, user: &User) -> Vec<&Space> {
        let mut spaces: Vec<&Space> = self.spaces.values().filter(|space| space.is_member(&user.id)).collect();
        spaces.sort_by_key(|space| std::cmp::Reverse(space.active_ms));
        spaces
    }

    /// Whether two users may open a direct space: registered ones, unless separated, or any who share a space.
    pub(crate) fn may_talk_directly(&self, one: &User, other: &User) -> bool {
        !self.strangers.contains(&(one.id.clone(), other.id.clone()))
    }
}
