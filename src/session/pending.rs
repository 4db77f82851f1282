//! Sends that were emitted and wait for their echo.
//!
//! An echo is recognised by the reference in its `loopbackMetadata`. Where the echo carries none, the oldest waiting send of the same
//! space, category and text stands for it, provided that the sender is the session's own user. Posts and tasks must say the same beside
//! their title too.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::types::{OutgoingMessage, SendOutcome, SessionError, Unconfirmed};
use crate::domain::{MessageRef, SpaceId};
use crate::upstream::{Beside, CHAT_CATEGORY, LOOPBACK_BRIDGE, ReceivedLoopback, plain_text};

/// How long a send that nobody waits for any more is still looked out for.
const LATE_ECHO: Duration = Duration::from_mins(10);

/// Most sends of one session that nobody waits for; beyond it the oldest are looked out for no longer.
const MAX_LATE: usize = 256;

/// How far the clocks of Spaces and of this machine may differ for a message of the history to be taken for a send.
const CLOCKS_DIFFER: Duration = Duration::from_secs(2);

/// Where the end of a send is told.
pub(super) type Reply = oneshot::Sender<Result<SendOutcome, SessionError>>;

/// An emitted send.
#[derive(Debug)]
pub(super) struct PendingSend {
    pub(super) message: Box<OutgoingMessage>,
    /// Who waits for it; `None` once nobody does.
    pub(super) reply: Option<Reply>,
    /// When it was handed to the session.
    pub(super) accepted_at: Instant,
    /// Whether it is a second try after Spaces asked for a subscription.
    pub(super) resent: bool,
    /// Set when nobody waits any more: until when it is looked out for.
    late_until: Option<Instant>,
}

/// The emitted sends of a session, oldest first.
#[derive(Debug, Default)]
pub(super) struct PendingSends {
    by_number: BTreeMap<u64, PendingSend>,
    numbers: HashMap<MessageRef, u64>,
    next_number: u64,
    late: usize,
}

/// What tells which send an answer belongs to.
#[derive(Debug)]
pub(super) struct Trace<'a> {
    pub(super) loopback: Option<&'a ReceivedLoopback<'a>>,
    pub(super) space: &'a str,
    pub(super) category: Option<&'a str>,
    pub(super) html: Option<&'a str>,
    /// All that came.
    pub(super) whole: &'a RawValue,
}

impl Trace<'_> {
    /// Whether it is of the space and kind of `message`.
    fn is_of_place(&self, message: &OutgoingMessage) -> bool {
        message.space.as_str() == self.space && self.category.is_none_or(|word| word == message.category)
    }

    /// Whether nothing of what is said beside the text tells it from `message`.
    fn may_be(&self, message: &OutgoingMessage) -> bool {
        message.category == CHAT_CATEGORY || Beside::of(&message.payload).may_be(&Beside::of(self.whole.get()))
    }
}

impl PendingSends {
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// How many callers wait.
    pub(super) fn waiting(&self) -> usize {
        self.by_number.len() - self.late
    }

    pub(super) fn contains_space(&self, space: &SpaceId) -> bool {
        self.by_number.values().any(|send| send.message.space == *space)
    }

    pub(super) fn insert(&mut self, message: Box<OutgoingMessage>, reply: Reply, accepted_at: Instant, resent: bool) {
        // A message that was looked for in vain and is sent again is one send.
        if let Some(before) = self.numbers.get(&message.reference).copied() {
            self.remove(before);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.numbers.insert(message.reference.clone(), number);
        self.by_number.insert(number, PendingSend { message, reply: Some(reply), accepted_at, resent, late_until: None });
    }

    /// Takes the send that an answer belongs to: by its reference, else by what it says.
    pub(super) fn take(&mut self, trace: &Trace<'_>) -> Option<PendingSend> {
        match trace.loopback {
            Some(loopback) if loopback.bridge.as_deref() == Some(LOOPBACK_BRIDGE) => {
                let reference = loopback.reference.as_deref()?.parse().ok()?;
                let number = *self.numbers.get(&reference)?;
                self.remove(number)
            }
            // Something else's metadata: the message of another program.
            Some(loopback) if loopback.reference.is_some() => None,
            _ => self.take_by_content(trace),
        }
    }

    /// Takes the send that a message of the history is, which was created `age` ago: one that nobody waits for any more. The echo of
    /// one that somebody waits for may still come.
    pub(super) fn take_late(&mut self, trace: &Trace<'_>, age: Duration, now: Instant) -> Option<PendingSend> {
        let number = self.of_history(trace, age, now, |send| send.late_until.is_some())?;
        self.remove(number)
    }

    /// Whether a message of the history, which was created `age` ago, is one of these sends.
    pub(super) fn contains(&self, trace: &Trace<'_>, age: Duration, now: Instant) -> bool {
        self.of_history(trace, age, now, |_| true).is_some()
    }

    /// Finds a send that was handed over no later than `age` ago. A message that is older than a send is another one, though it may say
    /// the same.
    fn of_history(
        &self,
        trace: &Trace<'_>,
        age: Duration,
        now: Instant,
        is_wanted: impl Fn(&PendingSend) -> bool,
    ) -> Option<u64> {
        if let Some(loopback) = trace.loopback.filter(|loopback| loopback.reference.is_some()) {
            let ours = loopback.bridge.as_deref() == Some(LOOPBACK_BRIDGE);
            let reference = loopback.reference.as_deref().filter(|_| ours)?.parse().ok()?;
            let number = *self.numbers.get(&reference)?;
            return self.by_number.get(&number).is_some_and(is_wanted).then_some(number);
        }
        let text = plain_text(trace.html.unwrap_or_default());
        self.by_number.iter().find_map(|(number, send)| {
            let message = &send.message;
            let in_time = now.saturating_duration_since(send.accepted_at) + CLOCKS_DIFFER >= age;
            (trace.is_of_place(message) && in_time && text == message.plain_text && is_wanted(send) && trace.may_be(message))
                .then_some(*number)
        })
    }

    fn take_by_content(&mut self, trace: &Trace<'_>) -> Option<PendingSend> {
        let mut text = None;
        let number = self.by_number.iter().find_map(|(number, send)| {
            let message = &send.message;
            let same = trace.is_of_place(message)
                && *text.get_or_insert_with(|| plain_text(trace.html.unwrap_or_default())) == message.plain_text
                && trace.may_be(message);
            same.then_some(*number)
        })?;
        self.remove(number)
    }

    /// Marks that nobody waits for `reference`. `false` if it is not pending.
    pub(super) fn stop_waiting(&mut self, reference: &MessageRef, now: Instant) -> bool {
        let Some(send) = self.numbers.get(reference).and_then(|number| self.by_number.get_mut(number)) else { return false };
        if send.late_until.is_none() {
            send.reply = None;
            send.late_until = Some(now + LATE_ECHO);
            self.late += 1;
            self.shed();
        }
        true
    }

    /// Tells everyone who waits that the connection is gone. The sends are still looked out for: a copy of the echo may yet come.
    pub(super) fn connection_lost(&mut self, now: Instant) {
        for send in self.by_number.values_mut() {
            if let Some(reply) = send.reply.take() {
                // Nobody waits any more if this fails.
                let _ = reply.send(Ok(SendOutcome::Unconfirmed(Unconfirmed::ConnectionLost)));
            }
            if send.late_until.is_none() {
                send.late_until = Some(now + LATE_ECHO);
                self.late += 1;
            }
        }
        self.shed();
    }

    /// Forgets what is no longer looked out for.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((number, _)) = self.by_number.iter().find(|(_, send)| send.late_until.is_some_and(|until| until <= now)) {
            let number = *number;
            self.remove(number);
        }
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        if self.late == 0 { None } else { self.by_number.values().filter_map(|send| send.late_until).min() }
    }

    fn shed(&mut self) {
        while self.late > MAX_LATE {
            let Some(number) = self.by_number.iter().find(|(_, send)| send.late_until.is_some()).map(|(number, _)| *number)
            else {
                return;
            };
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) -> Option<PendingSend> {
        let send = self.by_number.remove(&number)?;
        self.numbers.remove(&send.message.reference);
        if send.late_until.is_some() {
            self.late -= 1;
        }
        Some(send)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::types::SendClass;
    use super::*;

    fn pending(sends: &mut PendingSends, space: &str, text: &str) -> MessageRef {
        let message = OutgoingMessage {
            reference: MessageRef::random(),
            space: space.parse().expect("an id"),
            category: "chat".to_owned(),
            payload: "{}".into(),
            plain_text: text.to_owned(),
            class: SendClass::default(),
        };
        let reference = message.reference.clone();
        sends.insert(Box::new(message), oneshot::channel().0, Instant::now(), false);
        reference
    }

    fn loopback(reference: &MessageRef) -> ReceivedLoopback<'_> {
        ReceivedLoopback { bridge: Some(Cow::Borrowed(LOOPBACK_BRIDGE)), reference: Some(Cow::Borrowed(reference.as_str())) }
    }

    fn trace<'a>(loopback: Option<&'a ReceivedLoopback<'a>>, space: &'a str, html: &'a str) -> Trace<'a> {
        Trace { loopback, space, category: Some("chat"), html: Some(html), whole: RawValue::NULL }
    }

    #[test]
    fn without_a_reference_a_task_is_told_from_others_of_its_title() {
        let mut sends = PendingSends::default();
        let content = |words: &str| format!(r#"{{"content":{{"bodyText":"Rotate keys","description":"{words}"}}}}"#);
        let task = |words: &str| OutgoingMessage {
            reference: MessageRef::random(),
            space: "s1".parse().expect("an id"),
            category: "task".to_owned(),
            payload: content(words).into(),
            plain_text: "Rotate keys".to_owned(),
            class: SendClass::default(),
        };
        for words in ["one", "two"] {
            sends.insert(Box::new(task(words)), oneshot::channel().0, Instant::now(), false);
        }
        let mut take = |words: &str| {
            let whole = RawValue::from_string(content(words)).expect("JSON");
            let (category, html) = (Some("task"), Some("Rotate keys"));
            let taken = sends.take(&Trace { loopback: None, space: "s1", category, html, whole: &whole });
            taken.map(|send| send.message.payload.to_string())
        };
        assert_eq!((take("three"), take("two"), take("two")), (None, Some(content("two")), None));
        assert_eq!(take(""), Some(content("one")), "what is not said speaks for it");
    }

    #[test]
    fn the_reference_decides_before_the_text() {
        let mut sends = PendingSends::default();
        let first = pending(&mut sends, "s1", "same");
        let second = pending(&mut sends, "s1", "same");
        let taken = sends.take(&trace(Some(&loopback(&second)), "s1", "same")).expect("a send");
        assert_eq!(taken.message.reference, second);
        assert!(sends.take(&trace(Some(&loopback(&second)), "s1", "same")).is_none(), "a repeat settles nothing");
        let taken = sends.take(&trace(None, "s1", "<p>same</p>")).expect("a send");
        assert_eq!(taken.message.reference, first);
        assert!(sends.is_empty());
    }

    #[test]
    fn without_a_reference_the_oldest_of_space_and_text_is_meant() {
        let mut sends = PendingSends::default();
        pending(&mut sends, "s2", "it's");
        let oldest = pending(&mut sends, "s1", "it's");
        pending(&mut sends, "s1", "it's");
        assert!(sends.take(&trace(None, "s1", "other")).is_none());
        assert_eq!(sends.take(&trace(None, "s1", "<p>it&#x27;s</p>")).map(|send| send.message.reference), Some(oldest));
    }

    #[tokio::test(start_paused = true)]
    async fn a_send_that_nobody_waits_for_is_looked_out_for_a_while() {
        let mut sends = PendingSends::default();
        let reference = pending(&mut sends, "s1", "a");
        assert!(sends.stop_waiting(&reference, Instant::now()));
        assert_eq!(sends.waiting(), 0);
        let expiry = sends.next_expiry().expect("an expiry");
        sends.expire(expiry - Duration::from_millis(1));
        assert!(!sends.is_empty());
        sends.expire(expiry);
        assert!(sends.is_empty() && sends.next_expiry().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_of_the_history_is_only_a_send_that_was_given_up_and_is_no_older_than_it() {
        let mut sends = PendingSends::default();
        let (given_up, awaited) = (pending(&mut sends, "s1", "same"), pending(&mut sends, "s1", "same"));
        let second = Duration::from_secs(1);
        tokio::time::advance(second * 10).await;
        let now = Instant::now();
        assert!(sends.take_late(&trace(None, "s1", "same"), second, now).is_none(), "its echo may still come");
        assert!(sends.contains(&trace(None, "s1", "same"), second, now));
        assert!(!sends.contains(&trace(None, "s1", "same"), second * 60, now));
        sends.stop_waiting(&given_up, now);
        for (space, text, age) in [("s1", "same", second * 60), ("s1", "other", second), ("s2", "same", second)] {
            assert!(sends.take_late(&trace(None, space, text), age, now).is_none(), "{space} {text} {age:?}");
        }
        assert!(sends.take_late(&trace(Some(&loopback(&awaited)), "s1", "same"), second, now).is_none());
        let taken = sends.take_late(&trace(None, "s1", "<p>same</p>"), second * 9, now);
        assert_eq!(taken.map(|send| send.message.reference), Some(given_up));
        sends.connection_lost(now);
        let taken = sends.take_late(&trace(Some(&loopback(&awaited)), "s1", "other words"), second * 60, now);
        assert_eq!(taken.map(|send| send.message.reference), Some(awaited), "the reference decides");
    }

    #[tokio::test(start_paused = true)]
    async fn late_sends_are_bounded() {
        let mut sends = PendingSends::default();
        for _ in 0..=MAX_LATE {
            let reference = pending(&mut sends, "s1", "a");
            sends.stop_waiting(&reference, Instant::now());
        }
        assert_eq!(sends.by_number.len(), MAX_LATE);
        assert_eq!(sends.numbers.len(), MAX_LATE);
    }
}
