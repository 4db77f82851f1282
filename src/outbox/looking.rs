//! One look for a message in doubt, and what follows from it.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::Inner;
use super::course::{Looked, MAX_TRIES, Next};
use super::doubt::Found;
use super::queue::{Doubt, Phase};
use super::record::OutboxRecord;
use super::worker::{Due, OutboxWork, connection};
use crate::domain::{MessageRef, SessionState};
use crate::send_log::{SendFailure, SendStatus};
use crate::session::SessionHandle;
use crate::store::StoreError;

/// The longest wait between looks.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// How often it is looked whether the connection that carried a message has ended.
const CONNECTION_WATCH: Duration = Duration::from_secs(1);

impl Inner {
    /// Looks for a message if it is time to.
    pub(super) async fn look(&self, work: &OutboxWork, record: OutboxRecord) -> Result<Due, StoreError> {
        let session = self.session_of(work, &record).await;
        let now = Instant::now();
        let Some(doubt) = self.watch_connection(&record, session.as_ref(), now) else { return Ok(Due::Now) };
        if let Some(at) = doubt.look_at.filter(|at| *at > now) {
            return Ok(Due::In((at - now).min(CONNECTION_WATCH)));
        }
        let shown = self.parts.sends.get(&record.reference).await?;
        if shown.is_none_or(|shown| !matches!(shown.status, SendStatus::Unconfirmed { .. })) {
            let reason = "the service stopped while the message was being sent".to_owned();
            self.write(&record, SendStatus::Unconfirmed { reason }, Vec::new()).await?;
        }
        let searching = self.search(work, &record, session.as_ref());
        let Some(found) = self.stop.run_until_cancelled(searching).await else { return Ok(Due::In(CONNECTION_WATCH)) };
        let found = found?;
        let decisive_at = self.decisive_at(&doubt);
        if matches!(found, Found::Nothing) && now < decisive_at {
            // What left may still arrive.
            self.look_at(&record.reference, decisive_at);
            return Ok(Due::In((decisive_at - now).min(CONNECTION_WATCH)));
        }
        self.looked(work, record, found, now.saturating_duration_since(doubt.since)).await
    }

    async fn looked(
        &self,
        work: &OutboxWork,
        mut record: OutboxRecord,
        found: Found,
        doubtful_for: Duration,
    ) -> Result<Due, StoreError> {
        let time_is_up = doubtful_for >= self.parts.settings.doubt;
        let (looked, result, status, retry_after) = match found {
            Found::It(status) => (Looked::Found, "found", status, None),
            Found::Nothing => {
                let reason = "the history of the space does not have it".to_owned();
                (Looked::Absent, "absent", SendStatus::Unconfirmed { reason }, None)
            }
            Found::NotNow { why, retry_after } => {
                (Looked::Failed, "failed", SendStatus::Unconfirmed { reason: why }, retry_after)
            }
            Found::Never { why } => (Looked::Refused, "impossible", SendStatus::Unconfirmed { reason: why }, None),
        };
        self.parts.metrics.outbox_looks.with_label_values(&[result]).inc();
        match record.course.looked(looked, time_is_up) {
            Next::Confirmed => {
                if let Some(id) = status.confirmed_id() {
                    self.parts.sends.note_own(&record.account, id);
                }
                self.end(work, &record, status).await
            }
            Next::Unconfirmed => self.end(work, &record, status).await,
            Next::Failed => {
                let words = format!("Spaces took it in none of {MAX_TRIES} tries");
                let status = SendStatus::Failed { kind: SendFailure::NotTaken, code: None, message: Some(words) };
                self.end(work, &record, status).await
            }
            Next::Try => {
                info!(message = %record.reference, "message `{}` is not in Spaces and is sent again", record.reference);
                self.parts.metrics.outbox_resends.inc();
                let queued = SendStatus::Queued { reason: status.detail() };
                self.write(&record, queued, vec![record.put()]).await?;
                self.set_phase(&record.reference, Phase::Queued);
                Ok(Due::Now)
            }
            Next::Look => {
                let Due::In(wait) = self.wait_longer(&record.reference, LAST_WAIT) else { return Ok(Due::Now) };
                self.look_at(&record.reference, Instant::now() + wait.max(retry_after.unwrap_or_default()));
                Ok(Due::In(wait.min(CONNECTION_WATCH)))
            }
        }
    }

    /// From when on a look that does not find a message shows that it is not there: when its connection has been gone for a while,
    /// or has been there for so long that its heartbeat shows that what went over it has arrived.
    fn decisive_at(&self, doubt: &Doubt) -> Instant {
        let settings = self.parts.settings;
        let silent = doubt.since + settings.silence.max(settings.settle);
        doubt.ended_at.map_or(silent, |ended| (ended + settings.settle).min(silent))
    }

    /// Takes note of the end of the connection that carried a message, and answers how the doubt stands.
    fn watch_connection(&self, record: &OutboxRecord, session: Option<&SessionHandle>, now: Instant) -> Option<Doubt> {
        let settle = self.parts.settings.settle;
        let mut queue = self.queue();
        let Phase::Doubtful(doubt) = &mut queue.get_mut(&record.reference)?.phase else { return None };
        if let Some(carrier) = &doubt.carried_by
            && session.is_none_or(|session| connection(session) != *carrier || session.state() != SessionState::Online)
        {
            (doubt.carried_by, doubt.ended_at) = (None, Some(now));
            doubt.look_at = doubt.look_at.map(|at| at.min(now + settle));
        }
        Some(doubt.clone())
    }

    fn look_at(&self, reference: &MessageRef, at: Instant) {
        if let Some(entry) = self.queue().get_mut(reference)
            && let Phase::Doubtful(doubt) = &mut entry.phase
        {
            doubt.look_at = Some(at);
        }
    }
}
