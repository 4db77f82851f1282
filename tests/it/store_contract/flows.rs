//! How fast webhooks give: rates, probes, and what is told of them.

use spaces_bridge::domain::DeadReason;
use spaces_bridge::store::{Flow, FlowLimits, FlowStatus, Hold, Query, Rate, Rows, Settled, Settlement, Verdict};

use super::contract;
use super::harness::{Store, event_for, ordered_event, seconds, settlement, webhook};

async fn append_many(store: &Store, hook: &str, numbers: std::ops::Range<u32>) {
    store.append(numbers.map(|number| event_for(number, hook)).collect()).await;
}

async fn status(store: &Store, hook: &str) -> Option<FlowStatus> {
    let page = store.engine.query(Query::Flow(webhook(hook))).await.expect("reading works");
    let Rows::Flows(mut rows) = page.rows else { panic!("flows were asked for") };
    rows.pop()
}

async fn limit(store: &Store, hook: &str, count: u32, per: u64) {
    let rate = Some(Rate { count, per: seconds(per) });
    store.set_flow(hook, Flow::Open(FlowLimits { rate })).await;
}

fn probe(claim: &spaces_bridge::store::Claim, time: u64) -> Settlement {
    let hold = Some(Hold { time: seconds(time), probe: true });
    Settlement { hold, ..settlement(claim, Verdict::Retry(seconds(1))) }
}

contract! {
    async fn a_rate_lets_so_many_go_and_then_one_by_one(store) {
        limit(store, "a", 3, 60).await;
        append_many(store, "a", 0..10).await;
        append_many(store, "b", 10..14).await;
        let first = store.claim(100).await;
        assert_eq!(first.iter().filter(|claim| claim.webhook == webhook("a")).count(), 3);
        assert_eq!(first.len(), 7, "the other webhook has no rate");
        for claim in &first {
            assert!(store.settle(claim, Verdict::Delivered).await.counted());
        }
        assert_eq!(store.claim(100).await, []);
        assert_eq!(store.engine.next_due().await.expect("reading works"), Some(store.now().saturating_add(seconds(20))));
        store.clock.turn(19_999);
        assert_eq!(store.claim(100).await, []);
        store.clock.turn(1);
        assert_eq!(store.claim(100).await.len(), 1);
        store.clock.turn(40_000);
        assert_eq!(store.claim(100).await.len(), 2);
    }

    async fn an_unchanged_rate_keeps_its_bucket_and_none_ends_it(store) {
        limit(store, "a", 1, 60).await;
        append_many(store, "a", 0..4).await;
        assert_eq!(store.claim(100).await.len(), 1);
        limit(store, "a", 1, 60).await;
        assert_eq!(store.claim(100).await, [], "opening again is no way around the rate");
        store.set_flow("a", Flow::Open(FlowLimits::default())).await;
        assert_eq!(store.claim(100).await.len(), 3);
    }

    async fn a_probed_webhook_gives_one_at_a_time_until_one_is_delivered(store) {
        append_many(store, "a", 0..5).await;
        let claim = store.claim_one().await;
        store.settle_all(&[probe(&claim, 30)]).await;
        assert_eq!(store.claim(100).await, []);
        store.clock.turn(30_000);
        let probing = store.claim(100).await;
        assert_eq!(probing.len(), 1);
        assert_eq!(store.claim(100).await, [], "one probe at a time");
        store.settle_all(&[probe(&probing[0], 60)]).await;
        store.clock.turn(59_999);
        assert_eq!(store.claim(100).await, [], "a probe that failed brings a hold of its own");
        store.clock.turn(1);
        let probing = store.claim(100).await;
        assert_eq!(probing.len(), 1);
        assert!(store.settle(&probing[0], Verdict::Delivered).await.counted());
        assert_eq!(store.claim(100).await.len(), 4);
    }

    async fn a_probe_whose_end_nobody_saw_is_made_again(store) {
        append_many(store, "a", 0..3).await;
        let claim = store.claim_one().await;
        store.settle_all(&[probe(&claim, 1)]).await;
        store.clock.turn(1_000);
        assert_eq!(store.claim(100).await.len(), 1);
        store.clock.turn(600_000);
        assert_eq!(store.claim(100).await.len(), 1);
    }

    async fn probed_webhooks_are_listed_page_by_page(store) {
        for (number, name) in (0_u32..).zip(["a", "b", "c"]) {
            append_many(store, name, number * 2..number * 2 + 2).await;
            let claim = store.claim(100).await.into_iter().find(|claim| claim.webhook == webhook(name)).expect("it is due");
            let settlement = Settlement { verdict: Verdict::Retry(seconds(9)), ..probe(&claim, 30) };
            store.settle_all(&[if name == "b" { Settlement { hold: None, ..settlement } } else { settlement }]).await;
        }
        for (after, expected) in [(None, Some("a")), (Some("a"), Some("c")), (Some("c"), None)] {
            let query = Query::ProbedFlows { after: after.map(webhook), limit: 1 };
            let Rows::Flows(rows) = store.engine.query(query).await.expect("reading works").rows else { panic!("no flows") };
            assert!(rows.iter().all(|flow| flow.probing && flow.held_until.is_some()));
            let found = rows.into_iter().map(|flow| flow.webhook).collect::<Vec<_>>();
            assert_eq!(found, expected.map(webhook).into_iter().collect::<Vec<_>>());
        }
    }

    async fn opening_a_flow_ends_its_probing_and_forgets_its_failures(store) {
        append_many(store, "a", 0..3).await;
        let claim = store.claim_one().await;
        store.settle_all(&[probe(&claim, 600)]).await;
        store.set_flow("a", Flow::Open(FlowLimits::default())).await;
        let after = status(store, "a").await.expect("it has deliveries");
        assert_eq!((after.probing, after.failing_since, after.held_until), (false, None, None));
        store.clock.turn(1_000);
        assert_eq!(store.claim(100).await.len(), 3);
    }

    async fn it_is_told_since_when_there_is_nothing_but_failures(store) {
        append_many(store, "a", 0..3).await;
        let claims = store.claim(3).await;
        let began = store.now();
        let failing = Settled::Ok { failing_since: Some(began) };
        assert_eq!(store.settle(&claims[0], Verdict::Retry(seconds(9))).await, failing);
        store.clock.turn(5_000);
        assert_eq!(store.settle(&claims[1], Verdict::Dead(DeadReason::Exhausted)).await, failing);
        assert_eq!(status(store, "a").await.expect("it has deliveries").failing_since, Some(began));
        assert_eq!(store.settle(&claims[2], Verdict::Delivered).await, Settled::Ok { failing_since: None });
        assert_eq!(status(store, "a").await.expect("it has deliveries").failing_since, None);
    }

    async fn a_flow_tells_what_waits_and_since_when(store) {
        assert_eq!(status(store, "a").await, None);
        let made = store.now();
        store.append(vec![ordered_event(1, "a", "red"), ordered_event(2, "a", "red"), event_for(3, "a")]).await;
        store.clock.turn(1_000);
        append_many(store, "a", 4..6).await;
        append_many(store, "b", 6..7).await;
        let dead = store.kill_one().await;
        assert_eq!(dead.webhook, webhook("a"));
        let flow = status(store, "a").await.expect("it has deliveries");
        assert_eq!((flow.waiting, flow.in_flight, flow.dead), (4, 0, 1));
        assert_eq!((flow.oldest_waiting, flow.failing_since), (Some(made), Some(store.now())));
    }
}
