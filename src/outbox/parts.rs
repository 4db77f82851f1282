//! A message in parts: on disk all or none, and no part leaves before the one before it is known to be in Spaces.
//!
//! The parts stand in one lane one after the other, so that a part's turn comes only when the one before it has ended.

use tokio::time::Instant;

use super::course::Course;
use super::queue::Phase;
use super::record::OutboxRecord;
use super::{Inner, Outbox, Sender, SubmitError, Ticket, entry};
use crate::send_log::{SendFailure, SendRecord, SendStatus};
use crate::session::OutgoingMessage;
use crate::store::StoreError;

/// What the part before one means for it.
pub(super) enum MayFollow {
    /// It may leave.
    Now,
    /// It has to wait.
    Later,
    /// It ends like this.
    Never(SendStatus),
}

impl Outbox {
    /// Makes the parts of one message durable, all or none, from where they are sent in their order without their caller. If there is
    /// a send of the first one's reference already, nothing is written, and the tickets are that one's.
    pub async fn submit_parts(&self, parts: Vec<OutgoingMessage>, sender: Sender) -> Result<Vec<Ticket>, SubmitError> {
        let inner = &self.0;
        let limit = inner.parts.settings.max_per_account;
        let now = inner.parts.clock.now();
        let Some(numbers) = inner.queue().reserve_all(&sender.account, limit, parts.len()) else {
            // A repeat takes no places of its own.
            let first = parts.first().map(|part| &part.reference);
            let known = if let Some(first) = first { inner.parts.sends.get(first).await? } else { None };
            return if let Some(known) = known { Ok(self.attach_parts(known).await?) } else { Err(SubmitError::Full { limit }) };
        };
        let record = |(part, number)| {
            let sender = (sender.account.clone(), sender.session.clone());
            OutboxRecord { number, ..OutboxRecord::new(part, sender, now, Course::queued()) }
        };
        let records: Vec<_> = parts.into_iter().zip(numbers).map(record).collect();
        let mut shown: Vec<_> = records.iter().map(OutboxRecord::send_record).collect();
        SendRecord::link(&mut shown);
        for shown in &mut shown {
            shown.settle(SendStatus::Queued { reason: None }, now);
        }
        let created = inner.parts.sends.create_parts(&shown, records.iter().map(OutboxRecord::put).collect()).await;
        if !matches!(created, Ok(None)) {
            let mut queue = inner.queue();
            records.iter().for_each(|record| queue.release(&record.account));
        }
        if let Some(known) = created? {
            return Ok(self.attach_parts(known).await?);
        }
        for (record, shown) in records.iter().zip(&shown) {
            inner.queue().insert(record.reference.clone(), entry(record, shown.clone(), Phase::Queued), Instant::now());
        }
        let tickets = shown.into_iter().map(|shown| Ticket::new(self, shown)).collect();
        inner.changed.notify_one();
        Ok(tickets)
    }

    /// Tickets for the parts of a message that was taken before, of which `first` is the first; for that alone if it is in one piece.
    pub async fn attach_parts(&self, first: SendRecord) -> Result<Vec<Ticket>, StoreError> {
        let records = self.0.parts.sends.with_parts(first).await?;
        Ok(records.into_iter().map(|record| Ticket::attach(self, record)).collect())
    }
}

impl Inner {
    /// Whether a message may leave, as far as the part before it decides; `known` is the message's own record.
    pub(super) async fn may_follow(&self, known: Option<&SendRecord>) -> Result<MayFollow, StoreError> {
        let Some(part) = known.and_then(|known| known.part_of.as_ref()) else { return Ok(MayFollow::Now) };
        let before = self.parts.sends.get(&part.before).await?.map(|before| before.status);
        let failed = |words: &str| {
            let message = Some(words.to_owned());
            MayFollow::Never(SendStatus::Failed { kind: SendFailure::PartBefore, code: None, message })
        };
        Ok(match before {
            Some(SendStatus::Confirmed { .. }) => MayFollow::Now,
            _ if self.queue().get(&part.before).is_some() => MayFollow::Later,
            Some(SendStatus::Cancelled) => MayFollow::Never(SendStatus::Cancelled),
            Some(SendStatus::Failed { .. }) => failed("the part before it is not in Spaces"),
            Some(SendStatus::Queued { .. } | SendStatus::Sent { .. } | SendStatus::Unconfirmed { .. }) | None => {
                failed("it is not known whether the part before it is in Spaces")
            }
        })
    }
}
