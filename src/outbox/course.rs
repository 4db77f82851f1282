//! The course of one message: what follows from what. Pure, and the only place that decides whether a message is sent again.
//!
//! ```text
//! queued ──begin──▶ sending ──confirmed, refused──▶ ended
//!    ▲                 │
//!    ├──── not sent ───┤
//!    │                 ▼ unknown, or a crash
//!    └─ not in the ── looking ──found──▶ confirmed
//!       history         └── cannot be decided ──▶ unconfirmed
//! ```
//!
//! `sending` is durable before anything leaves, so that what a crash leaves there is in doubt. From doubt the only way back to a
//! second try is a look that shows that the message is not in Spaces.

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::send_log::Via;

/// How often one message is sent at most, each time after a look that showed that it is not in Spaces.
pub(super) const MAX_TRIES: u32 = 3;

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Nothing of it can have left.
    Queued,
    /// It left, or may have.
    Sending {
        /// Which way.
        via: Via,
        /// Since when.
        at: Timestamp,
    },
}

/// The course of a message, as it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Course {
    pub(super) stage: Stage,
    /// How often it left, or may have.
    pub(super) tries: u32,
    /// Whether it may be sent (again); else it is only looked for.
    pub(super) resend: bool,
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// Spaces has it.
    Confirmed,
    /// Spaces does not take it.
    Refused,
    /// Nothing left.
    NotSent,
    /// It left, or may have, and nothing is known of it.
    Unknown,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// Spaces has it.
    Found,
    /// Spaces does not have it, and what left can no longer arrive.
    Absent,
    /// It could not be looked for now; later it may.
    Failed,
    /// It cannot be looked for.
    Refused,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Send it.
    Try,
    /// Look for it.
    Look,
    /// It has ended: Spaces has it.
    Confirmed,
    /// It has ended: Spaces does not have it.
    Failed,
    /// It has ended: nobody can know.
    Unconfirmed,
}

impl Course {
    /// The course of a message that is to be sent.
    pub(super) fn queued() -> Self {
        Self { stage: Stage::Queued, tries: 0, resend: true }
    }

    /// The course of a message that left by itself and is only looked for.
    pub(super) fn looked_for(via: Via, at: Timestamp) -> Self {
        Self { stage: Stage::Sending { via, at }, tries: 1, resend: false }
    }

    /// What to do with a message that nobody is at work on.
    pub(super) fn next(&self) -> Next {
        match self.stage {
            Stage::Queued => Next::Try,
            Stage::Sending { .. } => Next::Look,
        }
    }

    /// It is going to leave.
    pub(super) fn begin(&mut self, via: Via, at: Timestamp) {
        self.stage = Stage::Sending { via, at };
        self.tries += 1;
    }

    /// A try that began has come to something.
    pub(super) fn tried(&mut self, tried: Tried) -> Next {
        match tried {
            Tried::Confirmed => Next::Confirmed,
            Tried::Refused => Next::Failed,
            Tried::NotSent => {
                self.stage = Stage::Queued;
                self.tries = self.tries.saturating_sub(1);
                Next::Try
            }
            Tried::Unknown => Next::Look,
        }
    }

    /// A look has come to something; `time_is_up` if there is to be no other.
    pub(super) fn looked(&mut self, looked: Looked, time_is_up: bool) -> Next {
        match looked {
            Looked::Found => Next::Confirmed,
            Looked::Absent if !self.resend => Next::Unconfirmed,
            Looked::Absent if self.tries >= MAX_TRIES => Next::Failed,
            Looked::Absent => {
                self.stage = Stage::Queued;
                Next::Try
            }
            Looked::Refused => Next::Unconfirmed,
            Looked::Failed if time_is_up => Next::Unconfirmed,
            Looked::Failed => Next::Look,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the world does at one step.
    #[derive(Debug, Clone, Copy)]
    enum Happens {
        /// The try does this, and the answer to it is lost or not.
        Try { leaves: bool, arrives: bool, refuses: bool, answer_lost: bool },
        /// The history answers the truth, or does not.
        Look { answers: Option<bool>, time_is_up: bool },
        /// The process dies before the try's outcome is written.
        Crash,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            any::<(bool, bool, bool, bool)>().prop_map(|(leaves, arrives, refuses, answer_lost)| Happens::Try {
                leaves,
                arrives,
                refuses,
                answer_lost
            }),
            (proptest::option::weighted(0.8, any::<bool>()), any::<bool>())
                .prop_map(|(answers, time_is_up)| Happens::Look { answers, time_is_up }),
            Just(Happens::Crash),
        ]
    }

    /// Spaces, and what went there.
    #[derive(Default)]
    struct World {
        copies: u32,
        emits: u32,
        /// Whether a look has shown since the last emit that the message is not there.
        shown_absent: bool,
    }

    impl World {
        fn emit(&mut self, arrives: bool) {
            assert!(self.emits == 0 || self.shown_absent, "emitted again without a look");
            self.emits += 1;
            self.copies += u32::from(arrives);
            self.shown_absent = false;
        }

        fn attempt(&mut self, course: &mut Course, happens: Happens) -> Next {
            let Happens::Try { leaves, arrives, refuses, answer_lost } = happens else {
                // Anything else that happens now is a crash: before or after the emit.
                self.emit(matches!(happens, Happens::Look { answers: Some(true), .. }));
                return course.next();
            };
            if !leaves {
                return course.tried(Tried::NotSent);
            }
            self.emit(arrives && !refuses);
            course.tried(match (answer_lost, refuses, arrives) {
                (true, ..) | (false, false, false) => Tried::Unknown,
                (false, true, _) => Tried::Refused,
                (false, false, true) => Tried::Confirmed,
            })
        }

        fn look(&mut self, course: &mut Course, happens: Happens) -> Next {
            match happens {
                Happens::Look { answers: Some(_), time_is_up } => {
                    let looked = if self.copies > 0 { Looked::Found } else { Looked::Absent };
                    self.shown_absent = looked == Looked::Absent;
                    course.looked(looked, time_is_up)
                }
                Happens::Look { answers: None, time_is_up } => course.looked(Looked::Failed, time_is_up),
                Happens::Try { refuses: true, .. } => course.looked(Looked::Refused, false),
                Happens::Try { .. } | Happens::Crash => course.next(),
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_a_message_stands_in_spaces_at_most_once(steps in proptest::collection::vec(happens(), 1..80), resend: bool) {
            let (mut course, mut world) = (Course { resend, ..Course::queued() }, World::default());
            let mut next = course.next();
            for happens in steps {
                next = match next {
                    Next::Try => {
                        course.begin(Via::Socket, Timestamp::from_millis(1));
                        // What is on disk is all that a next process has.
                        course = serde_json::from_slice(&serde_json::to_vec(&course).expect("JSON")).expect("a course");
                        world.attempt(&mut course, happens)
                    }
                    Next::Look => world.look(&mut course, happens),
                    ended => ended,
                };
                prop_assert!(world.copies <= 1 && world.emits <= MAX_TRIES);
                prop_assert!(resend || world.emits <= 1);
                match next {
                    Next::Confirmed => prop_assert_eq!(world.copies, 1),
                    Next::Failed => prop_assert_eq!(world.copies, 0),
                    Next::Try | Next::Look | Next::Unconfirmed => {}
                }
            }
            // A truthful history ends every doubt.
            for _ in 0..2 * MAX_TRIES {
                next = match next {
                    Next::Try => {
                        course.begin(Via::Rest, Timestamp::from_millis(1));
                        world.attempt(&mut course, Happens::Try { leaves: true, arrives: false, refuses: false, answer_lost: true })
                    }
                    Next::Look => world.look(&mut course, Happens::Look { answers: Some(true), time_is_up: false }),
                    ended => ended,
                };
            }
            prop_assert!(matches!(next, Next::Confirmed | Next::Failed | Next::Unconfirmed), "{next:?}");
        }
    }

    #[test]
    fn a_message_that_never_left_is_tried_without_end() {
        let mut course = Course::queued();
        for _ in 0..100 {
            course.begin(Via::Socket, Timestamp::from_millis(1));
            assert_eq!(course.tried(Tried::NotSent), Next::Try);
        }
        assert_eq!(course, Course::queued());
    }
}
