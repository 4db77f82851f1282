//! [`DeliveryWorker`]: makes one attempt of a claimed delivery and says how the claim is to be settled.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::breaker::Finding;
use super::breakers::Breakers;
use super::client::{PostError, Posting, Received, WebhookClient};
use super::disabler::Disabler;
use super::endpoint::{Endpoint, EndpointError, Endpoints};
use super::format::{self, NoEnvelope};
use super::reply::{Answered, ReplySink};
use super::retry::{Answer, Wish, next_step, parse_retry_after};
use super::signature::signature_header;
use crate::domain::{AttemptOutcome, Clock, DeadReason, ErrorClass, EventType, RetryPolicy, Timestamp, Webhook, WebhookStatus};
use crate::metrics::Metrics;
use crate::store::{Claim, Hold, Settlement, Verdict};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Makes attempts. Shared by all of them.
pub(super) struct DeliveryWorker {
    pub(super) client: Arc<WebhookClient>,
    pub(super) endpoints: Endpoints,
    pub(super) breakers: Breakers,
    pub(super) disabler: Arc<Disabler>,
    pub(super) replies: Option<Arc<dyn ReplySink>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
}

impl DeliveryWorker {
    /// Makes the attempt that `claim` stands for, if it can begin until `start_before`; otherwise the claim ends by itself, because
    /// by the end of the attempt someone else may hold the delivery.
    pub(super) async fn work(&self, claim: &Claim, start_before: Instant) -> Option<Settlement> {
        let now = self.clock.now();
        let prepared = self.endpoints.get(&claim.webhook).and_then(|endpoint| {
            let posting = posting(&endpoint, claim, now)?;
            Ok((endpoint, posting))
        });
        let (endpoint, posting) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Some(not_sent(claim, &error)),
        };
        if Instant::now() > start_before {
            warn!(delivery.id = %claim.delivery, webhook.id = %claim.webhook, "the claim of `{}` is too old to begin", claim.delivery);
            return None;
        }
        if claim.attempt == 1 {
            self.metrics.event_to_attempt.observe(now.since(claim.event.appended_at).as_secs_f64());
        }
        self.breakers.begun(&endpoint.webhook, claim.claimed_at);
        let started = Instant::now();
        let result = self.client.post(posting).await;
        let took = started.elapsed();
        let wish = wish(&result);
        let settlement = self.judge(claim, &endpoint.webhook, result, wish, took);
        if !self.hand_on(claim, &endpoint, &settlement).await {
            return None;
        }
        self.observe(claim, &endpoint, &settlement);
        // Durable before the delivery is settled, so that no crash leaves a webhook on whose receiver wants no more.
        if settlement.verdict == Verdict::Dead(DeadReason::Gone) {
            self.disabler.disable(&claim.webhook, WebhookStatus::Gone, None).await;
        } else if wish.disable {
            self.disabler.disable(&claim.webhook, WebhookStatus::Steered, None).await;
        }
        Some(settlement)
    }

    /// Hands an answer in words on, durably before the delivery is settled, so that none gets lost. `false` if that failed: the
    /// claim then ends by itself, and the event comes again.
    async fn hand_on(&self, claim: &Claim, endpoint: &Endpoint, settlement: &Settlement) -> bool {
        let (Some(replies), Some(body)) = (&self.replies, &settlement.outcome.response) else { return true };
        let webhook = &endpoint.webhook;
        let is_answer = settlement.verdict == Verdict::Delivered && settlement.outcome.status == Some(200);
        if !webhook.reply || !is_answer || claim.event.event_type != EventType::MESSAGE_CREATED {
            return true;
        }
        match replies.take(Answered { delivery: claim.delivery, webhook, event: &claim.event, body }).await {
            Ok(()) => true,
            Err(error) => {
                let (id, error) = (claim.delivery, &error as &dyn std::error::Error);
                warn!(delivery.id = %id, webhook.id = %webhook.id, error, "the answer to `{id}` could not be recorded; it will be asked for again");
                false
            }
        }
    }

    /// What follows from the result of an attempt.
    pub(super) fn judge(
        &self,
        claim: &Claim,
        webhook: &Webhook,
        result: Result<Received, PostError>,
        wish: Wish,
        took: Duration,
    ) -> Settlement {
        let now = self.clock.now();
        let answer = match &result {
            Ok(received) => {
                let retry_after = received.retry_after.as_ref();
                let wait = retry_after.and_then(|value| parse_retry_after(value.as_bytes(), now));
                Answer::Status(received.status, wait)
            }
            Err(_) => Answer::Failed,
        };
        let step = next_step(&webhook.pace.retry, answer, claim.attempt, random_jitter());
        let next = match answer {
            Answer::Status(status, wait) => format::stricter(webhook.request.format, step, status, wait),
            Answer::Failed => step,
        }
        .wished(wish);
        let duration_ms = Some(u32::try_from(took.as_millis()).unwrap_or(u32::MAX));
        let outcome = AttemptOutcome { duration_ms, ..outcome(result) };
        let finding = Finding::of(outcome.status, outcome.error);
        let down = self.breakers.found(webhook, finding, claim.claimed_at, now);
        let hold = match (next.hold, down) {
            (overload, Some(down)) => Some(Hold { time: overload.map_or(down, |hold| hold.time.max(down)), probe: true }),
            (overload, None) => overload,
        };
        Settlement { delivery: claim.delivery, claim_no: claim.claim_no, verdict: next.verdict, outcome, hold }
    }

    fn observe(&self, claim: &Claim, endpoint: &Endpoint, settlement: &Settlement) {
        let outcome = &settlement.outcome;
        self.metrics.attempt_latency.observe(f64::from(outcome.duration_ms.unwrap_or(0)) / 1000.0);
        let Some(error) = outcome.error.map(ErrorClass::as_str) else {
            self.metrics.attempts.with_label_values(&["none"]).inc();
            return;
        };
        self.metrics.attempts.with_label_values(&[error]).inc();
        let (id, attempt, host) = (claim.delivery, claim.attempt, endpoint.host());
        let (webhook, status, detail) = (&claim.webhook, outcome.status, outcome.detail.as_deref());
        match settlement.verdict {
            Verdict::Retry(delay) => debug!(
                delivery.id = %id, webhook.id = %webhook, event.id = %claim.event.id, attempt, host, error, status, detail,
                "attempt {attempt} of `{id}` failed, the next follows in {delay:?}"
            ),
            Verdict::Dead(reason) => info!(
                delivery.id = %id, webhook.id = %webhook, event.id = %claim.event.id, attempt, host, error, status, detail,
                "attempt {attempt} of `{id}` failed and was the last: {}", reason.as_str()
            ),
            Verdict::Delivered => {}
        }
    }
}

/// What the receiver asks for beyond its status.
fn wish(result: &Result<Received, PostError>) -> Wish {
    let steering = result.as_ref().ok().and_then(|received| received.steering.as_ref());
    steering.map_or_else(Wish::default, |value| Wish::parse(value.as_bytes()))
}

/// How an attempt went, its duration apart.
fn outcome(result: Result<Received, PostError>) -> AttemptOutcome {
    match result {
        Ok(received) => {
            let failed = !received.status.is_success();
            AttemptOutcome {
                duration_ms: None,
                status: Some(received.status.as_u16()),
                error: failed.then_some(ErrorClass::Http),
                detail: failed.then(|| format!("the receiver answered {}", received.status)),
                response: (!received.body.is_empty()).then_some(received.body),
            }
        }
        Err(error) => AttemptOutcome {
            duration_ms: None,
            status: error.status().map(|status| status.as_u16()),
            error: Some(error.class()),
            detail: Some(error.detail()),
            response: None,
        },
    }
}

/// Settles a claim without a request.
fn not_sent(claim: &Claim, error: &EndpointError) -> Settlement {
    let verdict = match error {
        EndpointError::Deleted => Verdict::Dead(DeadReason::WebhookDeleted),
        // Due at once, but held by the webhook's pause until it is switched on again.
        EndpointError::Off => Verdict::Retry(Duration::ZERO),
        EndpointError::Sealed(_)
        | EndpointError::Key(_)
        | EndpointError::Header
        | EndpointError::Uri(_)
        | EndpointError::Body(_) => {
            warn!(webhook.id = %claim.webhook, %error, "webhook `{}` cannot be sent to", claim.webhook);
            next_step(&RetryPolicy::Standard, Answer::Failed, claim.attempt, random_jitter()).verdict
        }
    };
    let outcome = AttemptOutcome {
        duration_ms: Some(0),
        status: None,
        error: Some(ErrorClass::Unknown),
        detail: Some(format!("nothing was sent: {error}")),
        response: None,
    };
    Settlement { delivery: claim.delivery, claim_no: claim.claim_no, verdict, outcome, hold: None }
}

/// The request of an attempt. The body is made from what the log keeps, the same bytes each time; time and signature are those of
/// this attempt.
fn posting(endpoint: &Endpoint, claim: &Claim, now: Timestamp) -> Result<Posting, NoEnvelope> {
    let (id, timestamp) = (claim.event.id.as_str(), now.as_seconds().to_string());
    let body = format::body(endpoint.format(), &claim.event.id, &endpoint.webhook.account, &claim.event.body)?;
    let mut headers = endpoint.headers.clone();
    headers.insert(WEBHOOK_ID, HeaderValue::from_str(id).expect("an id is plain ASCII"));
    headers.insert(WEBHOOK_SIGNATURE, signature_header(endpoint.keys(now), id, &timestamp, &body));
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::try_from(timestamp).expect("digits may stand in a header"));
    Ok(Posting { uri: endpoint.uri.clone(), headers, body, timeout: endpoint.webhook.pace.timeout() })
}

/// An even draw from -1 to 1.
fn random_jitter() -> f64 {
    let random = getrandom::u32().expect("the operating system provides random numbers");
    f64::from(random) / f64::from(u32::MAX) * 2.0 - 1.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::delivery::{AddressGuard, DeliverySettings, SystemResolver};
    use crate::domain::{DeliveryId, SystemClock};
    use crate::event_log::EventLog;
    use crate::seal::Keyring;
    use crate::store::{ClaimedEvent, Engine, Incarnation, MemoryStore};
    use crate::webhooks::{NewWebhook, WebhookPatch, WebhookRegistry, WebhookUrl};

    pub(in crate::delivery) async fn webhooks(
        engine: &Arc<dyn Engine>,
        keyring: &Arc<Keyring>,
        clock: Arc<dyn Clock>,
    ) -> Arc<WebhookRegistry> {
        Arc::new(WebhookRegistry::load(Arc::clone(engine), Arc::clone(keyring), clock).await.expect("loaded"))
    }

    pub(in crate::delivery) fn new_webhook() -> NewWebhook {
        let url = WebhookUrl::parse("https://receiver.example/", &AddressGuard::default()).expect("a URL");
        NewWebhook { events: Vec::new(), spaces: Vec::new(), ..NewWebhook::to(url) }
    }

    pub(in crate::delivery) fn worker_on(
        engine: &Arc<dyn Engine>,
        webhooks: Arc<WebhookRegistry>,
        clock: Arc<dyn Clock>,
        incarnation: Incarnation,
    ) -> DeliveryWorker {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.expect("TLS versions").with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let (settings, guard) = (DeliverySettings::default().client(), Arc::new(AddressGuard::default()));
        let client = Arc::new(WebhookClient::new(settings, guard, Arc::new(SystemResolver), Arc::new(tls)));
        let endpoints = Endpoints::new(Arc::clone(&webhooks), client.origin().clone());
        let metrics = Arc::new(Metrics::new());
        let (engine, log_clock) = (Arc::clone(engine), Arc::clone(&clock));
        let event_log = EventLog::new(engine, incarnation, Arc::clone(&webhooks), log_clock, Arc::clone(&metrics));
        let breakers = Breakers::new(Arc::clone(&webhooks), Arc::clone(&metrics));
        let (event_log, disabler_clock) = (Arc::new(event_log), Arc::clone(&clock));
        let disabler = Arc::new(Disabler { webhooks, event_log, clock: disabler_clock, metrics: Arc::clone(&metrics) });
        DeliveryWorker { client, endpoints, breakers, disabler, replies: None, clock, metrics }
    }

    async fn worker() -> (DeliveryWorker, Arc<Webhook>) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let webhooks = webhooks(&engine, &Arc::new(Keyring::random()), Arc::clone(&clock)).await;
        let (webhook, _) = webhooks.create("acc_1".parse().expect("an id"), new_webhook()).await.expect("created");
        (worker_on(&engine, webhooks, clock, Incarnation(1)), webhook)
    }

    fn claim(webhook: &Webhook) -> Claim {
        let now = SystemClock.now();
        let event = ClaimedEvent {
            id: "evt_1".parse().expect("an id"),
            event_type: EventType::MESSAGE_CREATED,
            appended_at: now,
            body: "{}".into(),
        };
        Claim {
            delivery: DeliveryId::from_number(1),
            webhook: webhook.id.clone(),
            attempt: 1,
            claim_no: 1,
            event: Arc::new(event),
            claimed_at: now,
            deadline: now,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[tokio::test]
    async fn a_webhook_switched_off_after_the_claim_gets_nothing_and_keeps_the_delivery() {
        let (worker, webhook) = worker().await;
        let off = WebhookPatch { enabled: Some(false), ..WebhookPatch::default() };
        worker.disabler.webhooks.update(&webhook.id, off).await.expect("updated");
        let settlement = worker.work(&claim(&webhook), soon()).await.expect("a settlement");
        assert_eq!(settlement.verdict, Verdict::Retry(Duration::ZERO));
        assert_eq!((settlement.outcome.status, settlement.outcome.error), (None, Some(ErrorClass::Unknown)));
    }

    #[tokio::test]
    async fn a_webhook_deleted_after_the_claim_gets_nothing() {
        let (worker, webhook) = worker().await;
        worker.disabler.webhooks.delete(&webhook.id).await.expect("deleted");
        let settlement = worker.work(&claim(&webhook), soon()).await.expect("a settlement");
        assert_eq!(settlement.verdict, Verdict::Dead(DeadReason::WebhookDeleted));
    }

    #[tokio::test]
    async fn a_claim_that_has_become_old_begins_no_attempt() {
        let (worker, webhook) = worker().await;
        let past = Instant::now().checked_sub(Duration::from_millis(1)).expect("time has passed since the start");
        assert_eq!(worker.work(&claim(&webhook), past).await, None);
    }

    #[test]
    fn jitter_is_drawn_from_the_whole_range() {
        let draws: Vec<f64> = (0..10_000).map(|_| random_jitter()).collect();
        assert!(draws.iter().all(|draw| (-1.0..=1.0).contains(draw)));
        assert!(draws.iter().any(|draw| *draw < -0.9) && draws.iter().any(|draw| *draw > 0.9));
    }
}
