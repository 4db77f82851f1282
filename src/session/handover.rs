//! The planned change from one session of an account to another: the new one joins and subscribes while the old one still listens, then
//! it serves the account, and only then does the old one end.

use tokio::sync::watch;

use super::{SessionHandle, SessionStatus};
use crate::domain::SessionState;

/// How the session before stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// It has its connection.
    Online,
    /// It has none at present.
    Offline,
    /// It has ended, or is ending.
    Ended,
}

/// How the session that comes after stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// It has no connection yet, or lost it.
    Offline,
    /// Spaces lets the user have no further connection.
    Limited,
    /// It is joined, and so many spaces are still to be subscribed.
    Online { missing: usize },
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The session before goes on serving.
    Wait,
    /// The session that comes after serves from now on.
    TakeOver,
}

/// Decides by how both stand.
pub(super) fn next(before: Before, own: Own) -> Next {
    match (before, own) {
        // Nobody listens but the new one, or nobody at all; or the new one hears as much; or there is no room beside the old one, so that
        // it has to go first, and what falls between is found in the history.
        (Before::Ended, _)
        | (Before::Offline, Own::Online { .. } | Own::Limited)
        | (Before::Online, Own::Online { missing: 0 } | Own::Limited) => Next::TakeOver,
        (Before::Online, Own::Online { .. }) | (Before::Online | Before::Offline, Own::Offline) => Next::Wait,
    }
}

/// How far the hand-over is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The session before serves.
    Preparing,
    /// That this one serves is being stored.
    Storing,
    /// This one serves, and the one before is ending.
    Following,
    /// Seen from the other side: the token of this one was refused, and the session of the renewed one is about to take its place.
    GivingWay,
}

/// A hand-over as one of the two sessions sees it.
#[derive(Debug)]
pub(super) struct Handover {
    other: SessionHandle,
    status: watch::Receiver<SessionStatus>,
    pub(super) phase: Phase,
    gone: bool,
}

impl Handover {
    pub(super) fn new(other: SessionHandle, phase: Phase) -> Self {
        let status = other.watch();
        Self { other, status, phase, gone: false }
    }

    /// The other session: the one before, unless this one gives way.
    pub(super) fn other(&self) -> &SessionHandle {
        &self.other
    }

    /// How it stands.
    pub(super) fn stand(&self) -> Before {
        match self.other.state() {
            SessionState::Online => Before::Online,
            SessionState::Connecting | SessionState::Reconnecting | SessionState::Degraded => Before::Offline,
            SessionState::AuthFailed | SessionState::Closing | SessionState::Closed => Before::Ended,
        }
    }

    /// Whether its connection is closed for good.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Waits until the other session has changed. Safe to cancel.
    pub(super) async fn changed(handover: &mut Option<Self>) {
        match handover {
            Some(handover) if !handover.gone => handover.gone = handover.status.changed().await.is_err(),
            Some(_) | None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_old_one_serves_until_the_new_one_hears_as_much() {
        for (before, own, expected) in [
            (Before::Online, Own::Offline, Next::Wait),
            (Before::Online, Own::Online { missing: 3 }, Next::Wait),
            (Before::Online, Own::Online { missing: 0 }, Next::TakeOver),
            (Before::Offline, Own::Offline, Next::Wait),
            (Before::Offline, Own::Online { missing: 3 }, Next::TakeOver),
            (Before::Ended, Own::Offline, Next::TakeOver),
            (Before::Ended, Own::Limited, Next::TakeOver),
            (Before::Online, Own::Limited, Next::TakeOver),
            (Before::Offline, Own::Limited, Next::TakeOver),
        ] {
            assert_eq!(next(before, own), expected, "{before:?} {own:?}");
        }
    }

    /// What may befall two sessions of an account.
    #[derive(Debug, Clone, Copy)]
    enum Blow {
        OldLost,
        OldBack,
        OldRefused,
        NewJoined,
        NewSubscribed,
        NewLost,
        NewRefused,
    }

    const SPACES: usize = 3;

    /// Two sessions and who serves.
    #[derive(Debug)]
    struct Model {
        old: Before,
        /// `None` once it is refused.
        new: Option<Own>,
        new_serves: bool,
    }

    impl Model {
        fn suffer(&mut self, blow: Blow) {
            match blow {
                Blow::OldLost if self.old == Before::Online => self.old = Before::Offline,
                Blow::OldBack if self.old == Before::Offline => self.old = Before::Online,
                Blow::OldRefused => self.old = Before::Ended,
                Blow::NewJoined if self.new == Some(Own::Offline) => self.new = Some(Own::Online { missing: SPACES }),
                Blow::NewSubscribed => {
                    if let Some(Own::Online { missing }) = &mut self.new {
                        *missing = missing.saturating_sub(1);
                    }
                }
                Blow::NewLost if self.new.is_some() => self.new = Some(Own::Offline),
                Blow::NewRefused => self.new = None,
                Blow::OldLost | Blow::OldBack | Blow::NewJoined | Blow::NewLost => {}
            }
            if let Some(own) = self.new
                && !self.new_serves
                && next(self.old, own) == Next::TakeOver
            {
                self.new_serves = true;
                self.old = Before::Ended;
            }
        }

        fn hears_everything(&self) -> bool {
            self.old == Before::Online || self.new == Some(Own::Online { missing: 0 })
        }
    }

    fn blow() -> impl Strategy<Value = Blow> {
        prop_oneof![
            1 => Just(Blow::OldLost),
            1 => Just(Blow::OldBack),
            1 => Just(Blow::OldRefused),
            1 => Just(Blow::NewJoined),
            4 => Just(Blow::NewSubscribed),
            1 => Just(Blow::NewLost),
            1 => Just(Blow::NewRefused),
        ]
    }

    proptest! {
        /// The hand-over itself takes no ear away: whoever hears everything before a step does so after it, unless the step is a blow
        /// to the one that did.
        #[test]
        fn no_ear_is_lost_by_handing_over(blows in prop::collection::vec(blow(), 0..40)) {
            let mut model = Model { old: Before::Online, new: Some(Own::Offline), new_serves: false };
            for blow in blows {
                let (heard, old_heard) = (model.hears_everything(), model.old == Before::Online);
                let served = model.new_serves;
                model.suffer(blow);
                let struck = match blow {
                    Blow::OldLost | Blow::OldRefused => old_heard,
                    Blow::NewLost | Blow::NewRefused => !old_heard,
                    Blow::OldBack | Blow::NewJoined | Blow::NewSubscribed => false,
                };
                prop_assert!(!heard || struck || model.hears_everything(), "{blow:?} left {model:?}");
                prop_assert!(!served || model.new_serves, "nobody takes the account back");
                prop_assert!(!(model.new_serves && model.old == Before::Online), "two serve: {model:?}");
            }
        }

        /// If nothing goes wrong any more and both live, the new one serves in the end.
        #[test]
        fn it_comes_to_an_end(blows in prop::collection::vec(blow(), 0..40)) {
            let mut model = Model { old: Before::Online, new: Some(Own::Offline), new_serves: false };
            for blow in blows {
                model.suffer(blow);
            }
            if model.new.is_some() {
                model.suffer(Blow::NewJoined);
                for _ in 0..SPACES {
                    model.suffer(Blow::NewSubscribed);
                }
                prop_assert!(model.new_serves, "{model:?}");
            }
        }
    }
}
