//! What an account cares about.

use std::collections::BTreeSet;

use super::{SpaceId, SpaceSelector};

/// The spaces that an account cares about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    /// All group and personal spaces of the user.
    pub all: bool,
    /// All direct spaces of the user.
    pub direct: bool,
    /// These spaces.
    pub spaces: BTreeSet<SpaceId>,
}

impl Interest {
    /// Whether nothing is cared about.
    pub fn is_empty(&self) -> bool {
        !self.all && !self.direct && self.spaces.is_empty()
    }

    /// Cares about `selector` as well.
    pub fn add(&mut self, selector: &SpaceSelector) {
        match selector {
            SpaceSelector::All => self.all = true,
            SpaceSelector::Direct => self.direct = true,
            SpaceSelector::One(space) => {
                self.spaces.insert(space.clone());
            }
        }
    }

    /// Whether the user's list of spaces is needed to know what is meant.
    pub fn needs_list(&self) -> bool {
        self.all || self.direct
    }
}
