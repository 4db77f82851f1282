//! One try over REST for a send whose caller waits: the record is durable before the call, and what is in doubt afterwards is looked
//! for as everything else, but nothing is sent again.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::time::Instant;

use super::course::Course;
use super::queue::Doubt;
use super::record::OutboxRecord;
use super::{Outbox, Sender};
use crate::domain::{Credential, Timestamp};
use crate::send_log::{SendFailure, SendRecord, SendStatus, Via};
use crate::session::OutgoingMessage;
use crate::store::StoreError;
use crate::upstream::{PostError, RestClient, RestError, RestMessage};

/// How a try over REST ended that is not on record as anything else.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// Nothing has left.
    #[error("the message was not sent over REST")]
    NotSent(#[source] RestError),
    /// The store failed before anything left.
    #[error("failed to record a send over REST")]
    NotRecorded(#[source] StoreError),
    /// The message left, and what became of it could not be recorded.
    #[error("failed to record what became of a send over REST")]
    Unrecorded(#[source] StoreError),
}

/// Whether the record of a send may be taken back, as if it had never been, or was shown to its caller and has to tell how the send ended.
#[derive(Debug, Default)]
pub struct Showing(AtomicU8);

const UNDECIDED: u8 = 0;
const SHOWN: u8 = 1;
const TAKEN_BACK: u8 = 2;

impl Showing {
    /// Decides to show the record. `false` if it was taken back before.
    pub fn show(&self) -> bool {
        self.decide(SHOWN)
    }

    fn take_back(&self) -> bool {
        self.decide(TAKEN_BACK)
    }

    fn decide(&self, choice: u8) -> bool {
        self.0.compare_exchange(UNDECIDED, choice, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl Outbox {
    /// Posts a message that REST can carry over REST, once. Answers its record: confirmed, failed or unconfirmed. What was not sent
    /// leaves no record, unless that was shown.
    pub async fn post_once(
        &self,
        message: OutgoingMessage,
        sender: Sender,
        rest: &RestClient,
        credential: &Credential,
        showing: &Showing,
    ) -> Result<SendRecord, Unsettled> {
        let parts = &self.0.parts;
        let now = parts.clock.now();
        let course = Course::looked_for(Via::Rest, now);
        let record = OutboxRecord::new(message, (sender.account, sender.session), now, course);
        let mut shown = record.send_record();
        shown.settle(SendStatus::Sent { via: Via::Rest }, now);
        let known = parts.sends.create(&shown, vec![record.put()]).await.map_err(Unsettled::NotRecorded)?;
        if let Some(known) = known {
            return Ok(known);
        }
        let status = match post(rest, credential, &record).await {
            Ok(confirmed) => confirmed,
            Err(PostError::Refused(error)) => failed(&error),
            Err(PostError::NotSent(error)) if showing.take_back() => {
                parts.sends.forget(&shown, vec![record.delete()]).await.map_err(Unsettled::NotRecorded)?;
                return Err(Unsettled::NotSent(error));
            }
            Err(PostError::NotSent(error)) => {
                SendStatus::Failed { kind: SendFailure::NotTaken, code: None, message: Some(error.to_string()) }
            }
            Err(PostError::Unknown(error)) => SendStatus::Unconfirmed { reason: in_doubt(&error) },
        };
        if let SendStatus::Confirmed { id, .. } = &status {
            parts.sends.note_own(&record.account, id);
        }
        let is_known = status.is_known();
        let beside = if is_known { vec![record.delete()] } else { Vec::new() };
        let settle = |shown: &mut SendRecord| shown.settle(status.clone(), parts.clock.now());
        let written = parts.sends.update(&shown, settle, beside).await;
        if written.is_err() || !is_known {
            // Whatever the disk says by then, it is looked for and written again.
            self.0.begin_looking(&record, shown, Doubt::of_lost(Instant::now()));
        }
        written.map_err(Unsettled::Unrecorded)
    }
}

/// Posts the message of `record`.
pub(super) async fn post(rest: &RestClient, credential: &Credential, record: &OutboxRecord) -> Result<SendStatus, PostError> {
    let message = RestMessage::of(&record.payload).expect("only messages that REST can carry are posted");
    let posted = rest.post_message(credential, &record.space, &message).await?;
    let created_at = posted.created.as_deref().and_then(Timestamp::parse);
    Ok(SendStatus::Confirmed { id: posted.id, created_at, message: posted.message })
}

/// The end of a send that REST refused.
pub(super) fn failed(error: &RestError) -> SendStatus {
    match error {
        RestError::Refused { status, code, message, .. } => SendStatus::Failed {
            kind: if matches!(status, 403 | 404) { SendFailure::SpaceRefused } else { SendFailure::MessageRefused },
            code: code.clone(),
            // The upstream's own words may not say which no it is; the status does.
            message: match (status, message) {
                (404, message) => Some(format!("not found{}", after(message.as_deref()))),
                (403, message) => Some(format!("forbidden{}", after(message.as_deref()))),
                (_, message) => message.clone(),
            },
        },
        other => SendStatus::Failed { kind: SendFailure::MessageRefused, code: None, message: Some(other.to_string()) },
    }
}

fn after(words: Option<&str>) -> String {
    words.map_or_else(String::new, |words| format!(": {words}"))
}

/// Why a message that was posted is in doubt.
pub(super) fn in_doubt(error: &RestError) -> String {
    format!("the message was posted over REST, and what became of it is not known: {error}")
}
