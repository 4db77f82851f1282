//! Looking for a message that left, or may have: in the record of sends, in the event log, and in the upstream's history.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Inner;
use super::course::Stage;
use super::record::OutboxRecord;
use super::sought::Sought;
use super::worker::OutboxWork;
use crate::domain::{Credential, Timestamp};
use crate::send_log::SendStatus;
use crate::session::{Identity, SessionHandle};
use crate::store::{EventFilter, Query, Rows, StoreError};
use crate::upstream::{HistoryPage, LOOPBACK_BRIDGE, ReceivedMessage, RestError};

/// How far the upstream's clock may be behind ours.
const CLOCKS_APART: Duration = Duration::from_mins(2);

/// Pages of history that one look follows, 50 messages each.
const MAX_PAGES: usize = 60;

/// Events of the log read at a time, and in one look.
const EVENTS: usize = 200;
const MAX_EVENTS: usize = 20_000;

/// What a look found.
pub(super) enum Found {
    /// The message.
    It(SendStatus),
    /// Everything that can be looked into, and not the message.
    Nothing,
    /// It could not be looked into for now.
    NotNow {
        /// Why.
        why: String,
        /// When to look again, if the upstream said so.
        retry_after: Option<Duration>,
    },
    /// It cannot be looked into.
    Never {
        /// Why.
        why: String,
    },
}

impl Found {
    fn not_now(why: impl Into<String>) -> Self {
        Self::NotNow { why: why.into(), retry_after: None }
    }
}

/// Messages that the log knows the bridge to have sent.
#[derive(Default)]
struct Logged {
    it: Option<SendStatus>,
    /// Those of other sends.
    others: HashSet<String>,
}

/// One listing of the history.
enum Listed {
    /// In order of appearance, those that may be the message.
    Like(Vec<SendStatus>),
    Failed(RestError),
}

impl Inner {
    /// Looks for the message of `record`.
    pub(super) async fn search(
        &self,
        work: &OutboxWork,
        record: &OutboxRecord,
        session: Option<&SessionHandle>,
    ) -> Result<Found, StoreError> {
        let Stage::Sending { at, .. } = record.course.stage else { return Ok(Found::Nothing) };
        let from = at.saturating_sub(CLOCKS_APART);
        let Some(logged) = self.search_log(record, from).await? else {
            return Ok(Found::Never { why: "too much has happened in the space since to look for it".to_owned() });
        };
        if let Some(it) = logged.it {
            return Ok(Found::It(it));
        }
        let Some(session) = session else { return Ok(Found::not_now("the account has no session")) };
        let Some(Identity { user_id, .. }) = session.status().identity else {
            return Ok(Found::not_now("it is not known yet whom the token belongs to"));
        };
        let Some(user_id) = user_id else {
            return Ok(Found::Never {
                why: "the token may not ask whom it belongs to, so that nothing tells its messages".to_owned(),
            });
        };
        let (who, what) = ((user_id.as_str(), record.space.as_str()), (record.category.as_str(), &*record.plain_text));
        let sought = Sought::new(&record.payload, who, what, from);
        let mut failures = Vec::new();
        for source in [Source::Activity, Source::Messages] {
            match list(work, session.credential(), record, &sought, source).await {
                Listed::Like(candidates) => {
                    for candidate in candidates {
                        if !self.is_of_another(record, &logged.others, &candidate).await? {
                            return Ok(Found::It(candidate));
                        }
                    }
                }
                Listed::Failed(error) => failures.push(error),
            }
        }
        Ok(verdict(&failures))
    }

    /// Whether a message of the history is known to be another send's.
    async fn is_of_another(
        &self,
        record: &OutboxRecord,
        others: &HashSet<String>,
        candidate: &SendStatus,
    ) -> Result<bool, StoreError> {
        let Some(id) = candidate.confirmed_id() else { return Ok(true) };
        if others.contains(id) {
            return Ok(true);
        }
        self.parts.sends.is_claimed(&record.account, id, &record.reference).await
    }

    /// The bridge's own messages in the space since `since`, as the log has them. `None` if there is too much to read.
    async fn search_log(&self, record: &OutboxRecord, since: Timestamp) -> Result<Option<Logged>, StoreError> {
        let (mut logged, mut cursor, mut read) = (Logged::default(), None, 0);
        loop {
            let filter = EventFilter { account: record.account.clone(), space: Some(record.space.clone()), since: Some(since) };
            let page = self.parts.engine.query(Query::Events { filter, cursor, limit: EVENTS }).await?;
            let Rows::Events(events) = page.rows else {
                let source = "the store answered another question".into();
                return Err(StoreError::Failed { operation: "read events", source });
            };
            for event in &events {
                logged.take(&event.body, record);
            }
            read += events.len();
            cursor = events.last().map(|event| event.position).or(cursor);
            if page.next.is_none() || events.is_empty() {
                return Ok(Some(logged));
            }
            if read >= MAX_EVENTS {
                return Ok(None);
            }
        }
    }
}

/// What the two listings together say. Only what all that can be read agree on is taken for true.
fn verdict(failures: &[RestError]) -> Found {
    let is_refusal = |error: &RestError| error.is_final() && !error.is_auth();
    match failures {
        [] => Found::Nothing,
        // A token may be barred from one of them.
        [one] if is_refusal(one) => Found::Nothing,
        all if all.len() > 1 && all.iter().all(is_refusal) => {
            Found::Never { why: format!("the history of the space cannot be read: {}", all[0]) }
        }
        all => Found::NotNow {
            why: format!("the history of the space cannot be read now: {}", all[0]),
            retry_after: all.iter().filter_map(RestError::retry_after).max(),
        },
    }
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Activity,
    Messages,
}

/// Reads one listing to its end.
async fn list(work: &OutboxWork, credential: &Credential, record: &OutboxRecord, sought: &Sought<'_>, source: Source) -> Listed {
    let (mut like, mut next) = (Vec::new(), None::<String>);
    for _ in 0..MAX_PAGES {
        let (space, from) = (&record.space, sought.from);
        let page = match source {
            Source::Activity => work.rest.activity_page(credential, space, from, next.as_deref()).await,
            Source::Messages => work.rest.messages_page(credential, space, from, next.as_deref()).await,
        };
        let HistoryPage { messages, next: following } = match page {
            Ok(page) => page,
            Err(error) => return Listed::Failed(error),
        };
        like.extend(messages.iter().filter_map(|raw| as_sought(raw, sought)));
        match following {
            Some(following) => next = Some(following),
            None => return Listed::Like(like),
        }
    }
    // The message may stand on a page beyond.
    if like.is_empty() { Listed::Failed(RestError::Unreadable { detail: "too many pages" }) } else { Listed::Like(like) }
}

/// The message as a confirmation, if it may be the one.
fn as_sought(raw: &RawValue, sought: &Sought<'_>) -> Option<SendStatus> {
    let message: ReceivedMessage<'_> = serde_json::from_str(raw.get()).ok()?;
    if sought.may_be(&message) && sought.agrees(raw) { confirmed(&message, raw) } else { None }
}

fn confirmed(message: &ReceivedMessage<'_>, raw: &RawValue) -> Option<SendStatus> {
    let created_at = message.created.as_deref().and_then(Timestamp::parse);
    Some(SendStatus::Confirmed { id: message.id.as_deref()?.to_owned(), created_at, message: raw.to_owned() })
}

impl Logged {
    /// Takes note of an event if it is of a message that the bridge sent.
    fn take(&mut self, body: &[u8], record: &OutboxRecord) {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(borrow)]
            data: Data<'a>,
        }
        #[derive(Deserialize)]
        struct Data<'a> {
            #[serde(borrow)]
            upstream: &'a RawValue,
        }
        // Events of the bridge itself have no such object.
        let Ok(event) = serde_json::from_slice::<Event<'_>>(body) else { return };
        let raw = event.data.upstream;
        let Ok(message) = serde_json::from_str::<ReceivedMessage<'_>>(raw.get()) else { return };
        let loopback = message.loopback.as_ref().filter(|loopback| loopback.bridge.as_deref() == Some(LOOPBACK_BRIDGE));
        let Some(reference) = loopback.and_then(|loopback| loopback.reference.as_deref()) else { return };
        if reference == record.reference.as_str() {
            self.it = confirmed(&message, raw);
        } else if let Some(id) = message.id.as_deref() {
            self.others.insert(id.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_is_believed_only_where_nothing_that_can_be_read_was_not() {
        let refused =
            |status| RestError::Refused { status, code: None, message: None, retry_after: Some(Duration::from_secs(7)) };
        let broken = || RestError::Unreachable { detail: "no answer in time" };
        for (failures, expected) in [
            (vec![], "nothing"),
            (vec![refused(403)], "nothing"),
            (vec![refused(404)], "nothing"),
            (vec![refused(403), refused(404)], "never"),
            (vec![refused(401)], "not now"),
            (vec![refused(429)], "not now"),
            (vec![refused(500)], "not now"),
            (vec![broken()], "not now"),
            (vec![refused(403), broken()], "not now"),
        ] {
            let found = match verdict(&failures) {
                Found::It(_) => "it",
                Found::Nothing => "nothing",
                Found::NotNow { .. } => "not now",
                Found::Never { .. } => "never",
            };
            assert_eq!(found, expected, "{failures:?}");
        }
    }
}
