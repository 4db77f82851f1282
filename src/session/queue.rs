//! [`SendQueue`]: sends that have not been emitted, and whose turn it is.
//!
//! Within a space they leave in the order in which they were accepted. Between spaces they take turns, so that nobody waits for another
//! space's flood. Spaces with a send that someone waits for go before those that only have sends which may take their time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::time::Instant;

use super::pending::Reply;
use super::types::{OutgoingMessage, SendClass};
use crate::domain::{MessageRef, SpaceId};

/// A send that has not been emitted.
#[derive(Debug)]
pub(super) struct QueuedSend {
    pub(super) message: Box<OutgoingMessage>,
    pub(super) reply: Reply,
    pub(super) accepted_at: Instant,
    pub(super) resent: bool,
}

/// The sends of one space, the first to leave first.
#[derive(Debug)]
struct Lane {
    sends: VecDeque<QueuedSend>,
    /// How many of them someone waits for.
    interactive: usize,
    /// Its place among the lanes of its class.
    turn: u64,
}

impl Lane {
    fn class(&self) -> SendClass {
        if self.interactive > 0 { SendClass::Interactive } else { SendClass::Bulk }
    }
}

#[derive(Debug, Default)]
pub(super) struct SendQueue {
    lanes: HashMap<SpaceId, Lane>,
    turns: BTreeMap<(SendClass, u64), SpaceId>,
    next_turn: u64,
    len: usize,
}

impl SendQueue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains_space(&self, space: &SpaceId) -> bool {
        self.lanes.contains_key(space)
    }

    /// Puts a send in its place among those of its space: by the time at which it was accepted.
    pub(super) fn push(&mut self, send: QueuedSend) {
        let space = send.message.space.clone();
        self.change(&space, |lane| {
            let place =
                lane.sends.iter().rposition(|before| before.accepted_at <= send.accepted_at).map_or(0, |before| before + 1);
            lane.sends.insert(place, send);
        });
    }

    /// Takes the first send of `space`, whose next turn comes after those of all others.
    pub(super) fn pop(&mut self, space: &SpaceId) -> Option<QueuedSend> {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.change(space, |lane| {
            let send = lane.sends.pop_front();
            // Only in a lane of others is there a turn to be lost.
            lane.turn = turn;
            send
        })
    }

    /// Takes the send with this reference.
    pub(super) fn remove(&mut self, reference: &MessageRef) -> Option<QueuedSend> {
        let has = |lane: &Lane| lane.sends.iter().position(|send| send.message.reference == *reference);
        let (space, place) = self.lanes.iter().find_map(|(space, lane)| Some((space.clone(), has(lane)?)))?;
        self.change(&space, |lane| lane.sends.remove(place))
    }

    /// Takes all sends of `space`.
    pub(super) fn take_space(&mut self, space: &SpaceId) -> VecDeque<QueuedSend> {
        self.change(space, |lane| std::mem::take(&mut lane.sends))
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = QueuedSend> + use<> {
        let lanes = std::mem::take(self).lanes;
        lanes.into_values().flat_map(|lane| lane.sends)
    }

    /// The send with this reference.
    pub(super) fn get(&self, reference: &MessageRef) -> Option<&QueuedSend> {
        let mut sends = self.lanes.values().flat_map(|lane| &lane.sends);
        sends.find(|send| send.message.reference == *reference)
    }

    /// The class as which the sends of `space` go.
    pub(super) fn class_of(&self, space: &SpaceId) -> Option<SendClass> {
        self.lanes.get(space).map(Lane::class)
    }

    /// The spaces with sends, in the order of their turns.
    pub(super) fn turns(&self) -> impl Iterator<Item = (SendClass, &SpaceId)> {
        self.turns.iter().map(|((class, _), space)| (*class, space))
    }

    /// Changes the lane of a space and keeps what is known of it true.
    fn change<T>(&mut self, space: &SpaceId, change: impl FnOnce(&mut Lane) -> T) -> T {
        let next_turn = &mut self.next_turn;
        let lane = self.lanes.entry(space.clone()).or_insert_with(|| {
            let turn = *next_turn;
            *next_turn += 1;
            Lane { sends: VecDeque::new(), interactive: 0, turn }
        });
        let (place, len) = ((lane.class(), lane.turn), lane.sends.len());
        let result = change(lane);
        self.len = self.len + lane.sends.len() - len;
        lane.interactive = lane.sends.iter().filter(|send| send.message.class == SendClass::Interactive).count();
        let (now_at, is_empty) = ((lane.class(), lane.turn), lane.sends.is_empty());
        if is_empty {
            self.lanes.remove(space);
            self.turns.remove(&place);
        } else if now_at != place || len == 0 {
            self.turns.remove(&place);
            self.turns.insert(now_at, space.clone());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;

    fn send(space: u8, class: SendClass, text: &str, accepted_at: Instant) -> QueuedSend {
        let space: SpaceId = format!("s{space}").parse().expect("an id");
        let message = OutgoingMessage::chat(MessageRef::random(), space, (text, text.to_owned()), None, &[]);
        let message = Box::new(OutgoingMessage { class, ..message });
        QueuedSend { message, reply: oneshot::channel().0, accepted_at, resent: false }
    }

    /// Takes everything as the session does if nothing holds it.
    fn drain(queue: &mut SendQueue) -> Vec<(String, String)> {
        let mut order = Vec::new();
        loop {
            let next = queue.turns().next().map(|(_, space)| space.clone());
            let Some(space) = next else { return order };
            let send = queue.pop(&space).expect("a send");
            order.push((space.as_str().to_owned(), send.message.plain_text.clone()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spaces_take_turns_and_keep_their_order() {
        let (mut queue, now) = (SendQueue::default(), Instant::now());
        for text in ["1", "2", "3"] {
            queue.push(send(1, SendClass::Interactive, text, now));
        }
        queue.push(send(2, SendClass::Interactive, "4", now));
        queue.push(send(3, SendClass::Interactive, "5", now));
        let order: Vec<_> = drain(&mut queue).into_iter().map(|(_, text)| text).collect();
        assert_eq!(order, ["1", "4", "5", "2", "3"]);
        assert!(queue.is_empty() && queue.lanes.is_empty() && queue.turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_someone_waits_for_goes_first_and_takes_what_is_before_it_along() {
        let (mut queue, now) = (SendQueue::default(), Instant::now());
        queue.push(send(1, SendClass::Bulk, "bulk", now));
        queue.push(send(2, SendClass::Bulk, "before", now));
        queue.push(send(2, SendClass::Interactive, "awaited", now));
        queue.push(send(2, SendClass::Bulk, "after", now));
        let order: Vec<_> = drain(&mut queue).into_iter().map(|(_, text)| text).collect();
        assert_eq!(order, ["before", "awaited", "bulk", "after"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_stands_before_what_was_accepted_later() {
        let (mut queue, now) = (SendQueue::default(), Instant::now());
        let second = std::time::Duration::from_secs(1);
        queue.push(send(1, SendClass::Interactive, "2", now + second));
        queue.push(send(1, SendClass::Interactive, "1", now));
        queue.push(send(1, SendClass::Interactive, "3", now + second));
        let order: Vec<_> = drain(&mut queue).into_iter().map(|(_, text)| text).collect();
        assert_eq!(order, ["1", "2", "3"]);
    }

    proptest! {
        /// Whatever is pushed, taken and given up in whatever order: nothing is lost, each space keeps its order, and no space has two
        /// turns of a class before another that was there has one.
        #[test]
        fn order_and_turns_hold(steps in proptest::collection::vec((0_u8..4, 0_u8..5, any::<bool>()), 1..200)) {
            let (mut queue, now) = (SendQueue::default(), Instant::now());
            let mut left: Vec<(SpaceId, MessageRef)> = Vec::new();
            for (step, (action, space, bulk)) in steps.into_iter().enumerate() {
                match action {
                    0 | 1 => {
                        let class = if bulk { SendClass::Bulk } else { SendClass::Interactive };
                        let send = send(space, class, &step.to_string(), now);
                        left.push((send.message.space.clone(), send.message.reference.clone()));
                        queue.push(send);
                    }
                    2 => {
                        let Some((class, space)) = queue.turns().next().map(|(class, space)| (class, space.clone())) else { continue };
                        prop_assert_eq!(queue.class_of(&space), Some(class));
                        let others = queue.turns().filter(|(other, _)| *other == class).count() - 1;
                        let sent = queue.pop(&space).expect("a send");
                        let first = left.iter().position(|(of, _)| *of == space).expect("a send of the space");
                        prop_assert_eq!(&left.remove(first).1, &sent.message.reference);
                        if let Some(place) = queue.turns().filter(|(other, _)| *other == class).position(|(_, other)| *other == space) {
                            prop_assert_eq!(place, others, "its next turn is the last");
                        }
                    }
                    _ => {
                        let Some((_, reference)) = left.get(usize::from(space)).cloned() else { continue };
                        prop_assert!(queue.get(&reference).is_some());
                        prop_assert!(queue.remove(&reference).is_some());
                        left.remove(usize::from(space));
                    }
                }
                prop_assert_eq!(queue.len(), left.len());
                prop_assert_eq!(queue.turns().count(), queue.lanes.len());
            }
            let rest: Vec<_> = queue.take_all().map(|send| send.message.reference.clone()).collect();
            prop_assert_eq!(rest.len(), left.len());
            prop_assert!(queue.is_empty() && queue.turns().next().is_none());
        }
    }
}
