//! Taking messages into the outbox: one, or several of one call, all or none of which are durable when that is answered.

use tokio::time::Instant;

use super::course::Course;
use super::queue::Phase;
use super::record::OutboxRecord;
use super::{Outbox, Sender, SubmitError, Ticket, entry};
use crate::domain::Timestamp;
use crate::send_log::{SendRecord, SendStatus};
use crate::session::OutgoingMessage;
use crate::store::{DocWrite, StoreError};

/// How the messages of one call belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// Each for itself.
    Independent,
    /// They are the parts of one message to one space: each is sent once Spaces is known to have the one before, and fails if that
    /// does not come there.
    Parts,
}

impl Outbox {
    /// Makes a message durable, from where it is sent without its caller. If there is a send of this reference already, nothing is
    /// written, and the ticket is that one's.
    pub async fn submit(&self, message: OutgoingMessage, sender: Sender) -> Result<Ticket, SubmitError> {
        let mut tickets = self.submit_all(vec![message], sender, Together::Independent).await?;
        Ok(tickets.pop().expect("one ticket for each message"))
    }

    /// Makes messages durable, in one transaction and in this order, from where they are sent without their caller. Those of which
    /// there is a send of their reference already are not written again, and their tickets are of what is there. Answers a ticket for
    /// each, in the order of the messages.
    pub async fn submit_all(
        &self,
        messages: Vec<OutgoingMessage>,
        sender: Sender,
        together: Together,
    ) -> Result<Vec<Ticket>, SubmitError> {
        let Sender { account, session } = sender;
        let now = self.0.parts.clock.now();
        let mut records: Vec<_> = messages
            .into_iter()
            .map(|message| OutboxRecord::new(message, (account.clone(), session.clone()), now, Course::queued()))
            .collect();
        if together == Together::Parts {
            for number in 1..records.len() {
                records[number].follows = Some(records[number - 1].reference.clone());
            }
        }
        let parts = (together == Together::Parts && records.len() > 1).then_some(records.len());
        let mut shown: Vec<_> = records.iter().map(|record| queued(record, now)).collect();
        if let Some((first, others)) = shown.split_first_mut() {
            first.parts = parts;
            for part in others {
                part.part_of = parts.map(|_| first.reference.clone());
            }
        }
        let mut known: Vec<Option<SendRecord>> = vec![None; records.len()];
        loop {
            let new: Vec<_> = (0..records.len()).filter(|index| known[*index].is_none()).collect();
            let taken = self.take(&mut records, &shown, &new).await;
            // Repeats take no places of their own, so that one of which all is known finds room anyway.
            if !matches!(taken, Ok(true)) {
                let before = new.len();
                for index in new {
                    known[index] = self.0.parts.sends.get(&records[index].reference).await?;
                }
                let left = known.iter().filter(|known| known.is_none()).count();
                match taken {
                    Err(error) if left == before || (left > 0 && !matches!(error, SubmitError::Full { .. })) => {
                        return Err(error);
                    }
                    // Some are known, and the others may find room now.
                    _ if left > 0 => continue,
                    _ => {}
                }
            }
            let ticket = |(shown, known): (SendRecord, Option<SendRecord>)| match known {
                None => Ticket::new(self, shown),
                Some(known) => Ticket::attach(self, known),
            };
            return Ok(shown.into_iter().zip(known).map(ticket).collect());
        }
    }

    /// Tickets for the parts of a message that was taken before, of which `first` is the first; for that alone if it is in one piece.
    pub async fn attach_parts(&self, first: SendRecord) -> Result<Vec<Ticket>, StoreError> {
        let records = self.0.parts.sends.with_parts(first).await?;
        Ok(records.into_iter().map(|record| Ticket::attach(self, record)).collect())
    }

    /// Makes those of `records` at `new` durable and queues them. `false` if there is a send of one's reference already; then nothing
    /// is taken.
    async fn take(&self, records: &mut [OutboxRecord], shown: &[SendRecord], new: &[usize]) -> Result<bool, SubmitError> {
        let Some(account) = new.first().map(|index| records[*index].account.clone()) else { return Ok(true) };
        let inner = &self.0;
        let limit = inner.parts.settings.max_per_account;
        let Some(first) = inner.queue().reserve(&account, new.len(), limit) else { return Err(SubmitError::Full { limit }) };
        let mut writes: Vec<DocWrite> = Vec::with_capacity(new.len());
        for (number, index) in (first..).zip(new) {
            records[*index].number = number;
            writes.push(records[*index].put());
        }
        let stored = inner.parts.sends.create_all(new.iter().map(|index| &shown[*index]), writes).await;
        let mut queue = inner.queue();
        if !matches!(stored, Ok(true)) {
            queue.release(&account, new.len());
            return Ok(stored?);
        }
        for index in new {
            let record = &records[*index];
            queue.insert(record.reference.clone(), entry(record, shown[*index].clone(), Phase::Queued), Instant::now());
        }
        drop(queue);
        inner.changed.notify_one();
        Ok(true)
    }
}

/// What callers are shown of a message that was just taken.
fn queued(record: &OutboxRecord, now: Timestamp) -> SendRecord {
    let mut shown = record.send_record();
    shown.settle(SendStatus::Queued { reason: None }, now);
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Clock, MessageRef, SystemClock};
    use crate::metrics::Metrics;
    use crate::outbox::{OutboxParts, OutboxSettings};
    use crate::send_log::SendLog;
    use crate::store::{Engine, MemoryStore};

    /// An outbox that sends nothing, with room for so many messages.
    async fn outbox(max_per_account: usize) -> (Outbox, Arc<dyn Engine>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        (on(&engine, &clock, max_per_account).await, engine)
    }

    async fn on(engine: &Arc<dyn Engine>, clock: &Arc<dyn Clock>, max_per_account: usize) -> Outbox {
        let parts = OutboxParts {
            engine: Arc::clone(engine),
            sends: Arc::new(SendLog::new(Arc::clone(engine), Arc::clone(clock))),
            clock: Arc::clone(clock),
            metrics: Arc::new(Metrics::new()),
            settings: OutboxSettings { max_per_account, ..OutboxSettings::default() },
        };
        Outbox::load(parts).await.expect("an outbox")
    }

    fn messages(first: &MessageRef, texts: &[&str]) -> Vec<OutgoingMessage> {
        let message = |(number, text): (usize, &&str)| {
            let space = "s1".parse().expect("an id");
            OutgoingMessage::chat(first.numbered(number + 1), space, (text, (*text).to_owned()), None, &[])
        };
        texts.iter().enumerate().map(message).collect()
    }

    fn sender() -> Sender {
        Sender { account: "acc_1".parse().expect("an id"), session: "ses_1".parse().expect("an id") }
    }

    fn is_new(tickets: &[Ticket]) -> Vec<bool> {
        tickets.iter().map(Ticket::is_new).collect()
    }

    #[tokio::test]
    async fn all_messages_of_a_call_are_taken_or_none() {
        let (outbox, _) = outbox(3).await;
        let (first, other) = (MessageRef::random(), MessageRef::random());
        outbox.submit_all(messages(&first, &["a", "b"]), sender(), Together::Independent).await.expect("room");
        let refused = outbox.submit_all(messages(&other, &["c", "d"]), sender(), Together::Independent).await;
        assert!(matches!(refused, Err(SubmitError::Full { limit: 3 })));
        assert_eq!(outbox.depths().queued, 2);
        assert!(outbox.0.parts.sends.get(&other).await.expect("read").is_none());
    }

    #[tokio::test]
    async fn a_repeat_takes_only_what_is_not_there() {
        let (outbox, _) = outbox(3).await;
        let first = MessageRef::random();
        let once = outbox.submit_all(messages(&first, &["a", "b"]), sender(), Together::Independent).await.expect("room");
        assert_eq!(is_new(&once), [true, true]);
        let again = outbox.submit_all(messages(&first, &["a", "b", "c"]), sender(), Together::Independent).await.expect("room");
        assert_eq!((is_new(&again), outbox.depths().queued), (vec![false, false, true], 3));
        let full = outbox.submit_all(messages(&first, &["a", "b"]), sender(), Together::Independent).await.expect("known");
        assert_eq!((is_new(&full), outbox.depths().queued), (vec![false, false], 3));
        let beyond = outbox.submit_all(messages(&first, &["a", "b", "c", "d"]), sender(), Together::Independent).await;
        assert!(matches!(beyond, Err(SubmitError::Full { .. })));
    }

    #[tokio::test]
    async fn the_parts_of_a_message_know_each_other_after_a_restart() {
        let (outbox, engine) = outbox(9).await;
        let first = MessageRef::random();
        outbox.submit_all(messages(&first, &["a", "b", "c"]), sender(), Together::Parts).await.expect("room");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let outbox = on(&engine, &clock, 9).await;
        assert_eq!(outbox.depths().queued, 3);
        let parts = |record: SendRecord| record.parts;
        let of = async |number| outbox.0.parts.sends.get(&first.numbered(number)).await.expect("read").map(parts);
        assert_eq!((of(1).await, of(2).await, of(4).await), (Some(Some(3)), Some(None), None));
        let last = outbox.0.parts.sends.get(&first.numbered(3)).await.expect("read").expect("a record");
        let all =
            outbox.attach_parts(outbox.0.parts.sends.get(&first).await.expect("read").expect("a record")).await.expect("read");
        assert_eq!((last.part_of, is_new(&all)), (Some(first), vec![false; 3]));
    }
}
