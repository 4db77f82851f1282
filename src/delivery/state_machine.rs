//! A property test of everything that decides on attempts together: schedule, answers, breaker, store, restarts and a clock that
//! jumps. Whatever happens, a delivery ends delivered or dead, is never tried before its time, and is never forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use proptest::prelude::*;

use super::client::{PostError, Received};
use super::connector::ConnectError;
use super::retry::Wish;
use super::worker::DeliveryWorker;
use super::worker::tests::{webhooks, worker_on};
use crate::domain::{
    Clock, DeliveryId, DeliveryState, EventType, MAX_WAIT, Ordering, Pace, RetryPolicy, SpaceId, Timestamp, Webhook,
};
use crate::seal::Keyring;
use crate::store::{
    Claim, ClaimRequest, DeliveryFilter, Engine, Fence, Incarnation, Lane, MemoryStore, NewEvent, Query, Rows, Settled, Target,
    Verdict, Wanted,
};
use crate::webhooks::NewWebhook;

const LEASE: Duration = Duration::from_secs(75);
const PER_WEBHOOK: usize = 3;

#[derive(Debug)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(SeqCst))
    }
}

/// What happens next.
#[derive(Debug, Clone)]
enum Act {
    /// An event comes, in one of a few spaces.
    Append(u8),
    /// What is due is taken, and the first of what is under way ends like this.
    Answer(Answered),
    /// What is due is taken.
    Claim,
    /// The process is killed and started again.
    Restart,
    /// The clock goes on by so many seconds.
    Forward(u32),
    /// The clock is put back by so many seconds.
    Back(u32),
    /// The clock goes on to when the store says that something is due.
    ToNext,
}

#[derive(Debug, Clone, Copy)]
enum Answered {
    Status(u16, Option<u32>),
    Abort,
    Timeout,
    Refused,
}

fn answered() -> impl Strategy<Value = Answered> {
    let wait = prop_oneof![3 => Just(None), 1 => (0_u32..200_000).prop_map(Some)];
    prop_oneof![
        2 => Just(Answered::Status(204, None)),
        6 => (prop_oneof![Just(500_u16), Just(404), Just(429), Just(503), Just(502), Just(301)], wait)
            .prop_map(|(status, wait)| Answered::Status(status, wait)),
        1 => Just(Answered::Abort),
        2 => Just(Answered::Timeout),
        3 => Just(Answered::Refused),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0_u8..3).prop_map(Act::Append),
        12 => answered().prop_map(Act::Answer),
        1 => Just(Act::Claim),
        1 => Just(Act::Restart),
        2 => (0_u32..100_000).prop_map(Act::Forward),
        1 => (0_u32..5_000).prop_map(Act::Back),
        8 => Just(Act::ToNext),
    ]
}

fn policy() -> impl Strategy<Value = RetryPolicy> {
    prop_oneof![Just(RetryPolicy::Standard), proptest::collection::vec(1_u32..=86_400, 0..6).prop_map(RetryPolicy::Steps),]
}

/// The service as far as it matters here, and what has to hold.
struct World {
    clock: Arc<TestClock>,
    engine: Arc<dyn Engine>,
    keyring: Arc<Keyring>,
    worker: DeliveryWorker,
    webhook: Arc<Webhook>,
    incarnation: Incarnation,
    fence: Fence,
    under_way: Vec<Claim>,
    appended: u32,
    /// The earliest time of each delivery's next attempt, and how many it had.
    allowed: HashMap<DeliveryId, (Timestamp, u32)>,
    held_until: Timestamp,
}

impl World {
    async fn new(ordering: Ordering, retry: RetryPolicy) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(1_900_000_000_000)));
        let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let keyring = Arc::new(Keyring::random());
        let registry = webhooks(&engine, &keyring, Arc::clone(&clock) as Arc<dyn Clock>).await;
        let new = NewWebhook { ordering, pace: Pace { retry, ..Pace::default() }, ..super::worker::tests::new_webhook() };
        let (webhook, _) = registry.create("acc_1".parse().expect("an id"), new).await.expect("created");
        let (incarnation, fence) = join(&engine).await;
        let worker = worker_on(&engine, registry, Arc::clone(&clock) as Arc<dyn Clock>, incarnation);
        let (allowed, held_until) = (HashMap::new(), Timestamp::from_millis(0));
        let (under_way, appended) = (Vec::new(), 0);
        Self { clock, engine, keyring, worker, webhook, incarnation, fence, under_way, appended, allowed, held_until }
    }

    fn move_clock(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, SeqCst);
    }

    async fn restart(&mut self) {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let registry = webhooks(&self.engine, &self.keyring, Arc::clone(&clock)).await;
        (self.incarnation, self.fence) = join(&self.engine).await;
        self.worker = worker_on(&self.engine, registry, clock, self.incarnation);
        let Rows::Flows(flows) = self.engine.query(Query::Flow(self.webhook.id.clone())).await.expect("read").rows else {
            panic!("other rows")
        };
        for flow in flows.iter().filter(|flow| flow.probing) {
            self.worker.breakers.resume(&flow.webhook, flow.held_until.unwrap_or(self.clock.now()));
        }
        // Their ends are not seen any more; they are due at once.
        for claim in self.under_way.drain(..) {
            self.allowed.insert(claim.delivery, (Timestamp::from_millis(0), claim.attempt));
        }
    }

    async fn append(&mut self, space: u8) {
        self.appended += 1;
        let space: SpaceId = format!("space{space}").parse().expect("an id");
        let lane = match self.webhook.ordering {
            Ordering::Parallel => Lane::Parallel,
            Ordering::Space => Lane::Ordered(space.clone()),
        };
        let event = NewEvent {
            id: format!("evt_{}", self.appended).parse().expect("an id"),
            account: self.webhook.account.clone(),
            space,
            event_type: EventType::MESSAGE_CREATED,
            occurred_at: self.clock.now(),
            body: "{}".into(),
            targets: vec![Target { webhook: self.webhook.id.clone(), lane }],
        };
        self.engine.append(self.fence.clone(), vec![event]).await.expect("appended");
    }

    async fn claim(&mut self) {
        let now = self.clock.now();
        let (incarnation, max, per_webhook) = (self.incarnation, 10, PER_WEBHOOK);
        // Claims whose time is over are taken back by the store when it is asked for more.
        for claim in self.under_way.extract_if(.., |claim| claim.deadline <= now) {
            self.allowed.insert(claim.delivery, (Timestamp::from_millis(0), claim.attempt));
        }
        let request = ClaimRequest { incarnation, max, per_webhook, lease: LEASE };
        for claim in self.engine.claim(request).await.expect("claimed") {
            let (earliest, attempts) = self.allowed.remove(&claim.delivery).unwrap_or((Timestamp::from_millis(0), 0));
            assert!(claim.claimed_at >= earliest, "{} is tried {:?} early", claim.delivery, earliest.since(claim.claimed_at));
            assert!(claim.claimed_at >= self.held_until, "{} is tried during a hold", claim.delivery);
            assert_eq!(claim.attempt, attempts + 1, "an attempt of {} is missing", claim.delivery);
            assert!(
                self.under_way.iter().all(|other| other.delivery != claim.delivery),
                "{} is tried twice at once",
                claim.delivery
            );
            self.worker.breakers.begun(&self.webhook, claim.claimed_at);
            self.under_way.push(claim);
        }
        assert!(self.under_way.len() <= PER_WEBHOOK);
    }

    async fn answer(&mut self, answered: Answered) {
        self.claim().await;
        if self.under_way.is_empty() {
            return;
        }
        let claim = self.under_way.remove(0);
        let (result, asked) = result_of(answered);
        let wish = Wish { abort: matches!(answered, Answered::Abort), disable: false };
        let settlement = self.worker.judge(&claim, &self.webhook, result, wish, Duration::from_secs(1));
        let now = self.clock.now();
        match settlement.verdict {
            Verdict::Retry(_) => {
                let step = self.webhook.pace.retry.wait_after(claim.attempt).expect("a further attempt");
                // The store keeps whole milliseconds.
                let least = step.mul_f64(0.8).saturating_sub(Duration::from_millis(1));
                let wait = least.max(asked).min(MAX_WAIT);
                self.allowed.insert(claim.delivery, (now.saturating_add(wait), claim.attempt));
            }
            Verdict::Dead(_) => assert!(
                claim.attempt >= self.webhook.pace.retry.attempts() || matches!(answered, Answered::Abort),
                "given up after attempt {}",
                claim.attempt
            ),
            Verdict::Delivered => assert!(matches!(answered, Answered::Status(204, _))),
        }
        if let Some(hold) = settlement.hold {
            self.held_until = self.held_until.max(now.saturating_add(hold.time));
        }
        let settled = self.engine.settle(vec![settlement]).await.expect("settled");
        assert!(matches!(settled[..], [Settled::Ok { .. }]), "{settled:?}");
    }

    async fn to_next(&self) -> bool {
        let Some(next) = self.engine.next_due().await.expect("asked") else { return false };
        self.clock.0.fetch_max(next.as_millis(), SeqCst);
        true
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Append(space) => self.append(space).await,
            Act::Answer(answered) => self.answer(answered).await,
            Act::Claim => self.claim().await,
            Act::Restart => self.restart().await,
            Act::Forward(seconds) => self.move_clock(seconds.into()),
            Act::Back(seconds) => self.move_clock(-i64::from(seconds)),
            Act::ToNext => {
                self.to_next().await;
            }
        }
    }

    /// Lets the receiver fail for good, or be well for good, until nothing is left to be done.
    async fn end(mut self, well: bool) {
        let last = if well { Answered::Status(204, None) } else { Answered::Refused };
        // Each delivery has its attempts, and some that were lost.
        for _ in 0..100_000 {
            self.claim().await;
            if !self.under_way.is_empty() {
                self.answer(last).await;
            } else if !self.to_next().await {
                break;
            }
        }
        let query = Query::Deliveries { filter: DeliveryFilter::of(self.webhook.id.clone()), cursor: None, limit: 1000 };
        let Rows::Deliveries(deliveries) = self.engine.query(query).await.expect("read").rows else { panic!("other rows") };
        assert_eq!(deliveries.len(), self.appended as usize);
        let open =
            deliveries.iter().find(|delivery| !matches!(delivery.state, DeliveryState::Delivered | DeliveryState::Dead(_)));
        assert!(open.is_none(), "{open:?} is stuck");
    }
}

async fn join(engine: &Arc<dyn Engine>) -> (Incarnation, Fence) {
    let incarnation = engine.join("127.0.0.1:1", Duration::from_hours(1_000_000)).await.expect("joined").incarnation;
    let owned = engine.acquire(incarnation, Wanted::Session("ses_1".parse().expect("an id"))).await.expect("acquired");
    (incarnation, Fence { incarnation, ownership: owned.into_iter().next().expect("nobody else owns the session") })
}

/// The result of an attempt, and how long the receiver asks to wait.
fn result_of(answered: Answered) -> (Result<Received, PostError>, Duration) {
    let status = |status: u16| StatusCode::from_u16(status).expect("a status");
    let (status, wait) = match answered {
        Answered::Status(code, wait) => (status(code), wait),
        Answered::Abort => (status(500), None),
        Answered::Timeout => return (Err(PostError::Timeout { limit: Duration::from_secs(1), status: None }), Duration::ZERO),
        Answered::Refused => {
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            return (Err(PostError::Connect(ConnectError::Tcp(refused))), Duration::ZERO);
        }
    };
    let retry_after = wait.map(HeaderValue::from);
    let received = Received { status, retry_after, steering: None, body: Vec::new() };
    (Ok(received), wait.map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.into())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_delivery_ends_and_none_is_tried_early(
        ordered in any::<bool>(),
        retry in policy(),
        acts in proptest::collection::vec(act(), 1..80),
        well in any::<bool>(),
    ) {
        let ordering = if ordered { Ordering::Space } else { Ordering::Parallel };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new(ordering, retry).await;
            for act in acts {
                world.act(act).await;
            }
            world.end(well).await;
        });
    }
}
