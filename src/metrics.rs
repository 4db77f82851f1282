//! Every metric of the service, as a documented field. Nothing else names a metric; labels have few values, and none from outside.

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Buckets in seconds for what normally takes milliseconds and may take a minute.
const LATENCY_BUCKETS: [f64; 14] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// The metrics and the registry they are in.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `spaces_bridge_sessions{state}`: sessions by state.
    pub sessions: IntGaugeVec,
    /// `spaces_bridge_session_reconnects_total`: connections made again after a loss.
    pub reconnects: IntCounter,
    /// `spaces_bridge_session_connect_failures_total{class}`: attempts that failed (`auth`, `config`, `protocol`, `unavailable`,
    /// `limit`).
    pub connect_failures: IntCounterVec,
    /// `spaces_bridge_session_auth_failures_total`: sessions that ended because Spaces refused their token.
    pub auth_failures: IntCounter,
    /// `spaces_bridge_session_handovers_total{result}`: changes from one session of an account to another (`done`, `failed`).
    pub handovers: IntCounterVec,
    /// `spaces_bridge_session_token_end_seconds{kind}`: time until the first token of a kind ends, as far as tokens say, refreshed at
    /// each scrape.
    pub token_end: IntGaugeVec,
    /// `spaces_bridge_emits_total`: Socket.IO events sent to the upstream.
    pub emits: IntCounter,
    /// `spaces_bridge_limit_waits_total{limit}`: times that something waited for a limit of Spaces (`emits`, `rest_calls`).
    pub limit_waits: IntCounterVec,
    /// `spaces_bridge_limit_refusals_total{limit}`: callers turned away for a limit of Spaces (`emits`, `rest_calls`, `payload`), and
    /// calls that Spaces itself answered with 429 (`upstream`).
    pub limit_refusals: IntCounterVec,
    /// `spaces_bridge_sends_total{outcome}`: sends by outcome (`confirmed`, `unconfirmed`, `refused`, `not_sent`).
    pub sends: IntCounterVec,
    /// `spaces_bridge_send_confirmation_seconds`: from taking a send from its queue to its confirmation.
    pub send_latency: Histogram,
    /// `spaces_bridge_events_total{result}`: events from the upstream (`appended`, `repeated`, `unreadable`, `left_out`).
    pub events: IntCounterVec,
    /// `spaces_bridge_events_recovered_total`: events that no connection saw and that were found in the history.
    pub events_recovered: IntCounter,
    /// `spaces_bridge_recoveries_total{result}`: gaps of spaces that were `closed` or `given_up`.
    pub recoveries: IntCounterVec,
    /// `spaces_bridge_recoveries_open`: spaces whose history is still to be read.
    pub recoveries_open: IntGauge,
    /// `spaces_bridge_recovery_seconds`: from the beginning of a gap's recovery to its end, by space.
    pub recovery_latency: Histogram,
    /// `spaces_bridge_gaps_total{reason}`: gaps that were told of as `session.gap`.
    pub gaps: IntCounterVec,
    /// `spaces_bridge_probes_total{result}`: questions for a sign of life, `answered` or `unanswered`.
    pub probes: IntCounterVec,
    /// `spaces_bridge_comparisons_total{result}`: comparisons of what was heard with the history: `complete`, `missing` or `unknown`.
    pub comparisons: IntCounterVec,
    /// `spaces_bridge_degraded_total{reason}`: sessions that were found to be deaf and connected anew.
    pub degraded: IntCounterVec,
    /// `spaces_bridge_append_failures_total`: appends that the store refused and that are tried again.
    pub append_failures: IntCounter,
    /// `spaces_bridge_append_seconds`: one durable append.
    pub append_latency: Histogram,
    /// `spaces_bridge_deliveries_total{outcome}`: deliveries settled (`delivered`, `retry`, `dead`).
    pub deliveries: IntCounterVec,
    /// `spaces_bridge_delivery_attempts_total{error}`: attempts by error class, `none` for success.
    pub attempts: IntCounterVec,
    /// `spaces_bridge_webhook_attempts_total{webhook,outcome}`: settled attempts by webhook and outcome (`delivered`, `retry`,
    /// `dead`); webhooks beyond a bound share the label `other`.
    pub webhook_attempts: IntCounterVec,
    /// `spaces_bridge_webhook_breakers{state}`: endpoints that count as dead (`open`) or are being probed (`half_open`).
    pub breakers: IntGaugeVec,
    /// `spaces_bridge_webhooks_disabled_total{reason}`: webhooks that the bridge switched off (`failing`, `gone`, `steered`).
    pub webhooks_disabled: IntCounterVec,
    /// `spaces_bridge_delivery_attempt_seconds`: one attempt, from connecting to the end of the answer.
    pub attempt_latency: Histogram,
    /// `spaces_bridge_event_to_first_attempt_seconds`: from the append to the start of the first attempt.
    pub event_to_attempt: Histogram,
    /// `spaces_bridge_replies_total{outcome}`: answers in words of receivers (`posted`, `unconfirmed`, `failed`, `dropped`).
    pub replies: IntCounterVec,
    /// `spaces_bridge_delivery_queue{state}`: deliveries `waiting`, `in_flight` and `dead`, refreshed at each scrape.
    pub delivery_queue: IntGaugeVec,
    /// `spaces_bridge_delivery_oldest_waiting_seconds`: age of the oldest delivery that waits, refreshed at each scrape.
    pub oldest_waiting: IntGauge,
    /// `spaces_bridge_settle_seconds`: one batch of settlements.
    pub settle_latency: Histogram,
    /// `spaces_bridge_outbox_messages{state}`: messages that wait to leave (`queued`) or are looked for (`doubtful`), refreshed at each
    /// scrape.
    pub outbox_messages: IntGaugeVec,
    /// `spaces_bridge_outbox_oldest_queued_seconds`: age of the oldest message that has not left, refreshed at each scrape.
    pub outbox_oldest: IntGauge,
    /// `spaces_bridge_outbox_outcomes_total{outcome}`: messages by outcome (`confirmed`, `failed`, `unconfirmed`, `cancelled`).
    pub outbox_outcomes: IntCounterVec,
    /// `spaces_bridge_outbox_looks_total{result}`: looks for a message in doubt (`found`, `absent`, `failed`, `impossible`).
    pub outbox_looks: IntCounterVec,
    /// `spaces_bridge_outbox_resends_total`: messages sent again because Spaces did not have them.
    pub outbox_resends: IntCounter,
    /// `spaces_bridge_store_bytes`: space that the store takes.
    pub store_bytes: IntGauge,
    /// `spaces_bridge_event_listeners`: open event streams and long polls.
    pub listeners: IntGauge,
    /// `spaces_bridge_incoming_hook_calls_total{outcome}`: calls of incoming hooks (`taken`, `repeated`, `not_understood`, `not_readable`,
    /// `template_failed`, `rate_limited`, `unproven`, `unknown`, `refused`).
    pub hook_calls: IntCounterVec,
    /// `spaces_bridge_template_renderings_total{outcome}`: templates that were read or filled, by what became of it (`done`,
    /// `unreadable`, `failed`, `empty`, `too_costly`, `too_slow`, `too_hungry`, `too_long`, `busy`, `unavailable`).
    pub renderings: IntCounterVec,
    /// `spaces_bridge_accounts{state}`: managed accounts by state, refreshed at each scrape.
    pub accounts: IntGaugeVec,
    /// `spaces_bridge_account_renewals_total{result}`: renewals of their tokens (`renewed`, `unchanged`, `refused`, `failed`,
    /// `unavailable`).
    pub account_renewals: IntCounterVec,
    /// `spaces_bridge_account_soonest_expiry_seconds`: until the first of their tokens ends, refreshed at each scrape.
    pub account_soonest_expiry: IntGauge,
    /// `spaces_bridge_http_requests_total{method,route,status}`: answers by route template.
    pub http_requests: IntCounterVec,
    /// `spaces_bridge_idempotent_calls_total{result}`: calls with an idempotency key: the `first` with its key, made `again` because the
    /// one before had no answer to keep, `replayed`, `reused` for another request, or `in_progress` for too long.
    pub idempotent_calls: IntCounterVec,
    /// `spaces_bridge_uploads_total{outcome}`: files that callers sent, by what became of them (`stored`, `failed` at the storage of
    /// Spaces, `broken_off` by the caller).
    pub uploads: IntCounterVec,
    /// `spaces_bridge_upload_bytes_total`: bytes of files that were stored.
    pub upload_bytes: IntCounter,
    /// `spaces_bridge_downloads_total{mode}`: files that callers asked for (`redirect`, `stream`).
    pub downloads: IntCounterVec,
    /// `spaces_bridge_upload_room_bytes`: room on disk that files on their way take, refreshed at each scrape.
    pub upload_room: IntGauge,
    /// `spaces_bridge_http_request_seconds`: from the request's head to the answer's head.
    pub http_latency: Histogram,
}

impl Metrics {
    /// Registers every metric.
    #[expect(clippy::too_many_lines, reason = "the list of all metrics")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let new = Builder(&registry);
        Self {
            sessions: new.gauges("sessions", "Sessions by state.", &["state"]),
            reconnects: new.counter("session_reconnects_total", "Connections made again after a loss."),
            connect_failures: new.counters(
                "session_connect_failures_total",
                "Connection attempts that failed, by class of failure.",
                &["class"],
            ),
            auth_failures: new.counter("session_auth_failures_total", "Sessions that ended because Spaces refused their token."),
            handovers: new.counters(
                "session_handovers_total",
                "Changes from one session of an account to another, by result.",
                &["result"],
            ),
            token_end: new.gauges(
                "session_token_end_seconds",
                "Time until the first token of a kind ends, as far as tokens say.",
                &["kind"],
            ),
            emits: new.counter("emits_total", "Socket.IO events sent to the upstream."),
            limit_waits: new.counters("limit_waits_total", "Times that something waited for a limit of Spaces.", &["limit"]),
            limit_refusals: new.counters(
                "limit_refusals_total",
                "Callers turned away for a limit of Spaces, and calls that Spaces answered with 429.",
                &["limit"],
            ),
            sends: new.counters("sends_total", "Sends by outcome.", &["outcome"]),
            send_latency: new.histogram("send_confirmation_seconds", "From taking a send from its queue to its confirmation."),
            events: new.counters("events_total", "Events from the upstream, by what became of them.", &["result"]),
            events_recovered: new
                .counter("events_recovered_total", "Events that no connection saw and that were found in the history."),
            recoveries: new.counters("recoveries_total", "Gaps of spaces that were closed or given up, by result.", &["result"]),
            recoveries_open: new.gauge("recoveries_open", "Spaces whose history is still to be read."),
            recovery_latency: new.histogram("recovery_seconds", "The recovery of a space's gap."),
            gaps: new.counters("gaps_total", "Gaps that could not be closed, by reason.", &["reason"]),
            probes: new.counters("probes_total", "Questions for a sign of life, by result.", &["result"]),
            comparisons: new.counters(
                "comparisons_total",
                "Comparisons of what was heard with the history, by result.",
                &["result"],
            ),
            degraded: new.counters("degraded_total", "Sessions that were deaf and were connected anew, by reason.", &["reason"]),
            append_failures: new.counter("append_failures_total", "Appends that the store refused and that are tried again."),
            append_latency: new.histogram("append_seconds", "One durable append."),
            deliveries: new.counters("deliveries_total", "Deliveries settled, by outcome.", &["outcome"]),
            attempts: new.counters("delivery_attempts_total", "Delivery attempts by error class.", &["error"]),
            webhook_attempts: new.counters(
                "webhook_attempts_total",
                "Settled delivery attempts by webhook and outcome.",
                &["webhook", "outcome"],
            ),
            breakers: new.gauges("webhook_breakers", "Endpoints that are not posted to freely, by state.", &["state"]),
            webhooks_disabled: new.counters(
                "webhooks_disabled_total",
                "Webhooks that the bridge switched off, by reason.",
                &["reason"],
            ),
            attempt_latency: new.histogram("delivery_attempt_seconds", "One delivery attempt."),
            event_to_attempt: new
                .histogram("event_to_first_attempt_seconds", "From the append of an event to the start of its first attempt."),
            replies: new.counters("replies_total", "Answers in words of receivers, by outcome.", &["outcome"]),
            delivery_queue: new.gauges("delivery_queue", "Deliveries by open state.", &["state"]),
            oldest_waiting: new.gauge("delivery_oldest_waiting_seconds", "Age of the oldest delivery that waits, in seconds."),
            settle_latency: new.histogram("settle_seconds", "One batch of settlements."),
            outbox_messages: new.gauges("outbox_messages", "Messages of the outbox by state.", &["state"]),
            outbox_oldest: new.gauge("outbox_oldest_queued_seconds", "Age of the oldest message that has not left, in seconds."),
            outbox_outcomes: new.counters("outbox_outcomes_total", "Messages of the outbox by outcome.", &["outcome"]),
            outbox_looks: new.counters("outbox_looks_total", "Looks for messages in doubt, by result.", &["result"]),
            outbox_resends: new.counter("outbox_resends_total", "Messages sent again because Spaces did not have them."),
            store_bytes: new.gauge("store_bytes", "Space that the store takes, in bytes."),
            listeners: new.gauge("event_listeners", "Open event streams and long polls."),
            hook_calls: new.counters("incoming_hook_calls_total", "Calls of incoming hooks, by outcome.", &["outcome"]),
            renderings: new.counters(
                "template_renderings_total",
                "Templates of incoming hooks that were read or filled, by outcome.",
                &["outcome"],
            ),
            accounts: new.gauges("accounts", "Managed accounts by state.", &["state"]),
            account_renewals: new.counters(
                "account_renewals_total",
                "Renewals of the tokens of managed accounts, by result.",
                &["result"],
            ),
            account_soonest_expiry: new.gauge(
                "account_soonest_expiry_seconds",
                "Until the first token of a managed account ends, in seconds; 0 if no end is known.",
            ),
            http_requests: new.counters("http_requests_total", "HTTP answers.", &["method", "route", "status"]),
            idempotent_calls: new.counters(
                "idempotent_calls_total",
                "Calls with an idempotency key, by what became of them.",
                &["result"],
            ),
            uploads: new.counters("uploads_total", "Files that callers sent, by what became of them.", &["outcome"]),
            upload_bytes: new.counter("upload_bytes_total", "Bytes of files that were stored in Spaces."),
            downloads: new.counters("downloads_total", "Files that callers asked for, by how they got them.", &["mode"]),
            upload_room: new.gauge("upload_room_bytes", "Room on disk that files on their way take, in bytes."),
            http_latency: new.histogram("http_request_seconds", "From the head of a request to the head of its answer."),
            registry,
        }
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("metrics of the registry encode");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

struct Builder<'a>(&'a Registry);

const VALID: &str = "names and labels are constants that Prometheus accepts";

impl Builder<'_> {
    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect(VALID);
        collector
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("spaces_bridge")
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(Self::opts(name, help)).expect(VALID))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Self::opts(name, help), labels).expect(VALID))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(Self::opts(name, help)).expect(VALID))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Self::opts(name, help), labels).expect(VALID))
    }

    fn histogram(&self, name: &str, help: &str) -> Histogram {
        let opts = HistogramOpts::new(name, help).namespace("spaces_bridge").buckets(LATENCY_BUCKETS.to_vec());
        self.register(Histogram::with_opts(opts).expect(VALID))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_render_with_their_names() {
        let metrics = Metrics::new();
        metrics.emits.inc();
        assert!(metrics.render().contains("spaces_bridge_emits_total 1"));
    }
}
