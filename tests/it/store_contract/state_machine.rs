//! Any sequence of calls has the same observable results in every back end as in the model.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use spaces_bridge::domain::{Clock, DeadReason, DeliveryId, Timestamp};
use spaces_bridge::store::{
    Claim, ClaimRequest, Cursor, DeliveryFilter, DocKind, DocList, DocWrite, Engine, EventFilter, Expected, Fence, Flow,
    FlowLimits, Hold, Incarnation, Lane, Maintained, Maintenance, MemoryStore, NewEvent, Ownership, Query, Rate, ReplayItem,
    Requeue, RequeueMode, Settlement, StateFilter, Target, Verdict, Version, Wanted,
};

use super::harness::{ManualClock, account, document, event, event_id, open, session, settlement, space, webhook};

const SESSIONS: [&str; 3] = ["a", "b", "c"];
const WEBHOOKS: [&str; 3] = ["x", "y", "z"];
const SPACES: [&str; 2] = ["red", "blue"];

/// Which claim is settled, how, and with which hold: milliseconds, and whether the webhook is probed afterwards.
type Ending = (usize, Verdict, Option<(u64, bool)>);

#[derive(Debug, Clone)]
enum Step {
    Turn(i64),
    Join(u64),
    Heartbeat(usize),
    Leave(usize),
    Acquire(usize, usize),
    AcquireStored(usize, usize),
    Release(usize, usize),
    Owner(usize),
    Append(usize, usize, Vec<Appended>),
    Claim { member: usize, max: usize, per_webhook: usize, lease: u64 },
    Settle(Vec<Ending>),
    NextDue,
    One(usize, i64, usize),
    Redrive(usize, i64, usize, Option<i64>),
    Replay(usize, Vec<(i64, usize, u64)>, bool),
    Put(Vec<Put>),
    List(usize, bool, Option<usize>, usize),
    Events(Option<usize>, Option<i64>, Option<i64>, usize),
    Deliveries(usize, Option<StateFilter>, Option<u32>, Option<i64>, usize),
    Maintain(Option<i64>, usize),
}

/// An event to append: its number, its space, and webhook and lane of each target.
#[derive(Debug, Clone)]
struct Appended {
    number: u32,
    space: usize,
    targets: Vec<(usize, usize)>,
}

/// A document to write.
#[derive(Debug, Clone)]
struct Put {
    kind: usize,
    id: usize,
    body: Option<u8>,
    expected: Expected,
    expires: Option<i64>,
    flow: Option<(usize, Flow)>,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Delivered),
        (0..4_000_u64).prop_map(|delay| Verdict::Retry(Duration::from_millis(delay))),
        Just(Verdict::Dead(DeadReason::Exhausted)),
        Just(Verdict::Dead(DeadReason::Gone)),
    ]
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        4 => Just(Expected::Any),
        1 => Just(Expected::Absent),
        2 => (1..4_i64).prop_map(|version| Expected::Version(Version(version))),
    ]
}

fn flow() -> impl Strategy<Value = Flow> {
    let rate = (1..4_u32, 1..3_000_u64).prop_map(|(count, per)| Rate { count, per: Duration::from_millis(per) });
    let open = prop::option::of(rate).prop_map(|rate| Flow::Open(FlowLimits { rate }));
    prop_oneof![4 => open, 3 => Just(Flow::Paused), 1 => Just(Flow::Ended)]
}

fn state_filter() -> impl Strategy<Value = StateFilter> {
    prop_oneof![Just(StateFilter::Waiting), Just(StateFilter::InFlight), Just(StateFilter::Delivered), Just(StateFilter::Dead)]
}

fn step() -> impl Strategy<Value = Step> {
    let targets = prop::collection::vec((0..WEBHOOKS.len(), 0..3_usize), 0..3);
    let events = (0..40_u32, 0..SPACES.len(), targets).prop_map(|(number, space, targets)| Appended { number, space, targets });
    let events = prop::collection::vec(events, 1..4);
    let put = (0..2_usize, 0..3_usize, prop::option::weighted(0.8, any::<u8>()), expected());
    let put = (put, prop::option::weighted(0.3, -500..4_000_i64), prop::option::weighted(0.1, (0..WEBHOOKS.len(), flow())))
        .prop_map(|((kind, id, body, expected), expires, flow)| Put { kind, id, body, expected, expires, flow });
    let cursor = || prop::option::weighted(0.3, 0..30_i64);
    prop_oneof![
        10 => prop_oneof![5 => 0..3_000_i64, 1 => -700..0_i64].prop_map(Step::Turn),
        1 => (1..8_000_u64).prop_map(Step::Join),
        2 => (0..3_usize).prop_map(Step::Heartbeat),
        1 => (0..6_usize).prop_map(Step::Leave),
        3 => (0..3_usize, 0..SESSIONS.len()).prop_map(|(member, session)| Step::Acquire(member, session)),
        2 => (0..3_usize, 0..3_usize).prop_map(|(member, most)| Step::AcquireStored(member, most)),
        2 => (0..3_usize, 0..6_usize).prop_map(|(member, which)| Step::Release(member, which)),
        2 => (0..SESSIONS.len()).prop_map(Step::Owner),
        14 => (0..3_usize, 0..4_usize, events).prop_map(|(member, which, events)| Step::Append(member, which, events)),
        16 => (0..4_usize, 0..7_usize, prop_oneof![4 => Just(3_usize), 1 => 0..5_usize], 1..5_u64)
            .prop_map(|(member, max, per_webhook, lease)| Step::Claim { member: member / 3, max, per_webhook, lease }),
        16 => prop::collection::vec((0..8_usize, verdict(), prop::option::weighted(0.1, (0..4_000_u64, any::<bool>()))), 1..5)
            .prop_map(Step::Settle),
        6 => Just(Step::NextDue),
        2 => (0..WEBHOOKS.len(), 1..40_i64, 0..2_usize).prop_map(|(hook, delivery, limit)| Step::One(hook, delivery, limit)),
        2 => (0..WEBHOOKS.len(), -6_000..0_i64, 0..4_usize, cursor())
            .prop_map(|(hook, since, limit, cursor)| Step::Redrive(hook, since, limit, cursor)),
        2 => (0..WEBHOOKS.len(), prop::collection::vec((0..30_i64, 0..3_usize, 0..2_000_u64), 0..4), any::<bool>())
            .prop_map(|(hook, items, dry_run)| Step::Replay(hook, items, dry_run)),
        6 => prop::collection::vec(put, 1..4).prop_map(Step::Put),
        2 => (0..2_usize, any::<bool>(), prop::option::of(0..3_usize), 0..4_usize)
            .prop_map(|(kind, own, after, limit)| Step::List(kind, own, after, limit)),
        2 => (prop::option::of(0..SPACES.len()), prop::option::of(-6_000..0_i64), cursor(), 0..6_usize)
            .prop_map(|(space, since, cursor, limit)| Step::Events(space, since, cursor, limit)),
        3 => (0..WEBHOOKS.len(), prop::option::of(state_filter()), prop::option::weighted(0.2, 0..40_u32), cursor(), 0..6_usize)
            .prop_map(|(hook, state, event, cursor, limit)| Step::Deliveries(hook, state, event, cursor, limit)),
        3 => (prop::option::of(-3_000..1_000_i64), 0..5_usize).prop_map(|(before, budget)| Step::Maintain(before, budget)),
    ]
}

/// One of the spaces' lanes, or the parallel one.
fn lane_of(number: usize) -> Lane {
    SPACES.get(number).map_or(Lane::Parallel, |name| Lane::Ordered(space(name)))
}

fn replay_item((position, lane, due_in): &(i64, usize, u64)) -> ReplayItem {
    ReplayItem { position: Cursor(*position), lane: lane_of(*lane), due_in: Duration::from_millis(*due_in) }
}

/// What both stores are driven by: the numbers that earlier answers gave.
struct Driver {
    clock: Arc<ManualClock>,
    members: Vec<Incarnation>,
    owned: Vec<Ownership>,
    claims: Vec<Claim>,
}

/// The `back`-th last of `list`, so that recent ones are likely.
fn recent<T: Clone>(list: &[T], back: usize) -> Option<T> {
    list.len().checked_sub(back + 1).map(|index| list[index].clone())
}

impl Driver {
    fn at(&self, offset: i64) -> Timestamp {
        Timestamp::from_millis(self.clock.now().as_millis() + offset)
    }

    fn member(&self, back: usize) -> Incarnation {
        recent(&self.members, back).unwrap_or(Incarnation(1))
    }

    fn events(events: &[Appended]) -> Vec<NewEvent> {
        let target = |(hook, lane): &(usize, usize)| Target { webhook: webhook(WEBHOOKS[*hook]), lane: lane_of(*lane) };
        events
            .iter()
            .map(|appended| NewEvent {
                space: space(SPACES[appended.space]),
                targets: appended.targets.iter().map(target).collect(),
                ..event(appended.number)
            })
            .collect()
    }

    fn settlements(&self, settlements: &[Ending]) -> Vec<Settlement> {
        settlements
            .iter()
            .filter_map(|(back, verdict, hold)| {
                let claim = recent(&self.claims, *back)?;
                let hold = hold.map(|(millis, probe)| Hold { time: Duration::from_millis(millis), probe });
                Some(Settlement { hold, ..settlement(&claim, *verdict) })
            })
            .collect()
    }

    fn write(&self, put: &Put) -> DocWrite {
        let kind = [DocKind::Token, DocKind::Send][put.kind];
        DocWrite {
            account: put.id.is_multiple_of(2).then(|| account("ada")),
            body: put.body.map(|byte| vec![byte].into()),
            expected: put.expected,
            expires_at: put.expires.map(|offset| self.at(offset)),
            flow: put.flow.map(|(hook, flow)| (webhook(WEBHOOKS[hook]), flow)),
            ..document(kind, session(SESSIONS[put.id]).as_str(), "")
        }
    }

    /// Makes one call and tells what came of it, in words that two back ends must agree on.
    async fn call(&self, engine: &dyn Engine, step: &Step) -> (String, Found) {
        let mut found = Found::default();
        let said = match step {
            Step::Turn(_) => String::new(),
            Step::Join(ttl) => {
                let member = engine.join("http://here", Duration::from_millis(*ttl)).await.expect("join");
                found.member = Some(member.incarnation);
                format!("{member:?}")
            }
            Step::Heartbeat(member) => format!("{:?}", engine.heartbeat(self.member(*member)).await.expect("heartbeat")),
            Step::Leave(member) => format!("{:?}", engine.leave(self.member(*member)).await.expect("leave")),
            Step::Acquire(member, name) => {
                let wanted = Wanted::Session(session(SESSIONS[*name]));
                found.owned = engine.acquire(self.member(*member), wanted).await.expect("acquire");
                format!("{:?}", found.owned)
            }
            Step::AcquireStored(member, most) => {
                found.owned = engine.acquire(self.member(*member), Wanted::Stored(*most)).await.expect("acquire");
                format!("{:?}", found.owned)
            }
            Step::Release(member, back) => {
                let ownerships: Vec<_> = recent(&self.owned, *back).into_iter().collect();
                format!("{:?}", engine.release(self.member(*member), &ownerships).await.expect("release"))
            }
            Step::Owner(name) => format!("{:?}", engine.owner(&session(SESSIONS[*name])).await.expect("owner")),
            Step::Append(member, back, events) => {
                let ownership = recent(&self.owned, *back).unwrap_or(Ownership { session: session("a"), epoch: 1 });
                let fence = Fence { incarnation: self.member(member / 2), ownership };
                format!("{:?}", engine.append(fence, Self::events(events)).await.expect("append"))
            }
            Step::Claim { member, max, per_webhook, lease } => {
                let request = ClaimRequest {
                    incarnation: self.member(*member),
                    max: *max,
                    per_webhook: *per_webhook,
                    lease: Duration::from_secs(*lease),
                };
                found.claims = engine.claim(request).await.expect("claim");
                found.claims.sort_by_key(|claim| claim.delivery);
                format!("{:?}", found.claims)
            }
            Step::Settle(settlements) => {
                format!("{:?}", engine.settle(self.settlements(settlements)).await.expect("settle"))
            }
            Step::NextDue => {
                // A past time means now, whatever it is.
                let due = engine.next_due().await.expect("next_due");
                format!("{:?}", due.map(|due| due.max(self.clock.now())))
            }
            Step::One(hook, delivery, limit) => {
                let mode = RequeueMode::One(DeliveryId::from_number(*delivery));
                self.requeue(engine, *hook, mode, *limit, None).await
            }
            Step::Redrive(hook, since, limit, cursor) => {
                self.requeue(engine, *hook, RequeueMode::Redrive { since: self.at(*since), until: self.at(1) }, *limit, *cursor)
                    .await
            }
            Step::Replay(hook, items, dry_run) => {
                let mode = RequeueMode::Replay { items: items.iter().map(replay_item).collect(), dry_run: *dry_run };
                self.requeue(engine, *hook, mode, 0, None).await
            }
            Step::Put(writes) => {
                let writes = writes.iter().map(|write| self.write(write)).collect();
                format!("{:?}", engine.doc_put(writes).await.expect("doc_put"))
            }
            Step::List(kind, own, after, limit) => {
                let list = DocList {
                    kind: [DocKind::Token, DocKind::Send][*kind],
                    account: own.then(|| account("ada")),
                    after: after.map(|name| session(SESSIONS[name]).into()),
                    limit: *limit,
                };
                format!("{:?}", engine.doc_list(list).await.expect("doc_list"))
            }
            Step::Events(in_space, since, cursor, limit) => {
                let filter = EventFilter {
                    account: account("ada"),
                    space: in_space.map(|name| space(SPACES[name])),
                    since: since.map(|offset| self.at(offset)),
                };
                let query = Query::Events { filter, cursor: cursor.map(Cursor), limit: *limit };
                format!("{:?}", engine.query(query).await.expect("query"))
            }
            Step::Deliveries(hook, state, event, cursor, limit) => {
                let filter =
                    DeliveryFilter { state: *state, event: event.map(event_id), ..DeliveryFilter::of(webhook(WEBHOOKS[*hook])) };
                let query = Query::Deliveries { filter, cursor: cursor.map(Cursor), limit: *limit };
                format!("{:?}", engine.query(query).await.expect("query"))
            }
            Step::Maintain(before, budget) => {
                let maintenance =
                    Maintenance { events_before: before.map(|offset| self.at(offset)), bytes_above: None, budget: *budget };
                let maintained = engine.maintain(maintenance).await.expect("maintain");
                format!("{:?}", Maintained { bytes: 0, ..maintained })
            }
        };
        (said, found)
    }

    async fn requeue(&self, engine: &dyn Engine, hook: usize, mode: RequeueMode, limit: usize, cursor: Option<i64>) -> String {
        let request = Requeue { webhook: webhook(WEBHOOKS[hook]), mode, limit, cursor: cursor.map(Cursor) };
        format!("{:?}", engine.requeue(request).await.expect("requeue"))
    }

    /// Everything that can be read.
    async fn dump(&self, engine: &dyn Engine) -> Vec<String> {
        let mut dump = Vec::new();
        let mut ask = async |query| dump.push(format!("{:?}", engine.query(query).await.expect("query")));
        let filter = EventFilter { account: account("ada"), space: None, since: None };
        ask(Query::Events { filter, cursor: None, limit: 1_000 }).await;
        for hook in WEBHOOKS {
            let filter = DeliveryFilter::of(webhook(hook));
            ask(Query::Deliveries { filter, cursor: None, limit: 1_000 }).await;
        }
        for number in 1..200 {
            ask(Query::Attempts(DeliveryId::from_number(number))).await;
        }
        ask(Query::Depths).await;
        for hook in WEBHOOKS {
            ask(Query::Flow(webhook(hook))).await;
        }
        ask(Query::ProbedFlows { after: None, limit: 1 }).await;
        ask(Query::ProbedFlows { after: Some(webhook(WEBHOOKS[0])), limit: 2 }).await;
        for (index, _) in SESSIONS.iter().enumerate() {
            dump.push(self.call(engine, &Step::Owner(index)).await.0);
        }
        for kind in 0..2 {
            dump.push(self.call(engine, &Step::List(kind, false, None, 1_000)).await.0);
        }
        dump.push(self.call(engine, &Step::NextDue).await.0);
        dump
    }
}

/// What an answer gave to go on with.
#[derive(Default)]
struct Found {
    member: Option<Incarnation>,
    owned: Vec<Ownership>,
    claims: Vec<Claim>,
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let clock = ManualClock::new();
    let directory = tempfile::tempdir().expect("a directory for the test");
    let model = MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
    let embedded = open(&directory, &clock);
    let mut driver = Driver { clock, members: Vec::new(), owned: Vec::new(), claims: Vec::new() };
    let start = [Step::Join(15_000), Step::Acquire(0, 0)];
    for (number, step) in start.into_iter().chain(steps).enumerate() {
        if let Step::Turn(millis) = step {
            driver.clock.turn(millis);
        }
        let (expected, found) = driver.call(&model, &step).await;
        let (actual, _) = driver.call(&embedded, &step).await;
        prop_assert_eq!(actual, expected, "step {} {:?}", number, step);
        driver.members.extend(found.member);
        driver.owned.extend(found.owned);
        driver.claims.extend(found.claims);
    }
    prop_assert_eq!(driver.dump(&embedded).await, driver.dump(&model).await);
    embedded.close().await;
    Ok(())
}

/// Fewer cases than usual, because each writes to the disk; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 96 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_sequence_of_calls_has_the_results_of_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(run(steps))?;
    }
}
