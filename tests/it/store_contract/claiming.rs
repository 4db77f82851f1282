//! Deliveries are taken, attempted and settled.

use std::collections::BTreeSet;
use std::sync::Arc;

use spaces_bridge::domain::{DeadReason, DeliveryState, ErrorClass};
use spaces_bridge::store::{Flow, FlowLimits, Hold, Lane, NewEvent, Settled, Settlement, Target, Verdict};

use super::contract;
use super::harness::{LEASE, Store, event, event_for, request, seconds, settlement, webhook};

/// How many of `claims` go to each of `hooks`.
fn shares(claims: &[spaces_bridge::store::Claim], hooks: &[&str]) -> Vec<usize> {
    hooks.iter().map(|hook| claims.iter().filter(|claim| claim.webhook == webhook(hook)).count()).collect()
}

async fn append_many(store: &Store, hook: &str, numbers: std::ops::Range<u32>) {
    store.append(numbers.map(|number| event_for(number, hook)).collect()).await;
}

/// A hold without a probe.
fn hold(time: u64) -> Hold {
    Hold { time: seconds(time), probe: false }
}

contract! {
    async fn a_delivery_is_claimed_once_and_settled_once(store) {
        store.append(vec![event_for(1, "a")]).await;
        let claim = store.claim_one().await;
        assert_eq!((claim.attempt, claim.claimed_at, claim.deadline), (1, store.now(), store.now().saturating_add(LEASE)));
        assert_eq!(store.claim(1).await, [], "a delivery in flight was given again");
        assert_eq!(store.state(claim.delivery).await, DeliveryState::InFlight(claim.deadline));
        store.clock.turn(12);
        assert!(store.settle(&claim, Verdict::Delivered).await.counted());
        assert_eq!(store.settle(&claim, Verdict::Delivered).await, Settled::Stale);
        let delivery = store.delivery(claim.delivery).await;
        assert_eq!((delivery.state, delivery.attempts, delivery.updated_at), (DeliveryState::Delivered, 1, store.now()));
        let attempts = store.attempts(claim.delivery).await;
        assert_eq!(attempts.len(), 1, "a stale settlement was logged");
        assert_eq!((attempts[0].number, attempts[0].started_at), (1, claim.claimed_at));
        assert_eq!((attempts[0].outcome.status, attempts[0].outcome.error), (Some(204), None));
        assert_eq!(store.engine.next_due().await.expect("reading works"), None);
    }

    async fn a_batch_is_settled_one_by_one(store) {
        append_many(store, "a", 0..3).await;
        let claims = store.claim(3).await;
        let mut stale = settlement(&claims[1], Verdict::Delivered);
        stale.claim_no += 1;
        let batch = [
            settlement(&claims[0], Verdict::Delivered),
            stale,
            settlement(&claims[2], Verdict::Dead(DeadReason::Gone)),
            settlement(&claims[2], Verdict::Delivered),
        ];
        let counted: Vec<bool> = store.settle_all(&batch).await.into_iter().map(Settled::counted).collect();
        assert_eq!(counted, [true, false, true, false]);
        assert_eq!(store.state(claims[2].delivery).await, DeliveryState::Dead(DeadReason::Gone));
        assert_eq!(store.state(claims[1].delivery).await, DeliveryState::InFlight(claims[1].deadline));
    }

    async fn a_retry_waits_for_its_time(store) {
        store.append(vec![event_for(1, "a")]).await;
        let claim = store.claim_one().await;
        assert!(store.settle(&claim, Verdict::Retry(seconds(5))).await.counted());
        let due = store.now().saturating_add(seconds(5));
        assert_eq!(store.state(claim.delivery).await, DeliveryState::Waiting(due));
        assert_eq!(store.engine.next_due().await.expect("reading works"), Some(due));
        store.clock.turn(4_999);
        assert_eq!(store.claim(1).await, []);
        store.clock.turn(1);
        let again = store.claim_one().await;
        assert_eq!((again.delivery, again.attempt), (claim.delivery, 2));
        assert_ne!(again.claim_no, claim.claim_no);
        assert_eq!(store.settle(&claim, Verdict::Delivered).await, Settled::Stale);
        assert!(store.settle(&again, Verdict::Delivered).await.counted());
        let numbers: Vec<_> = store.attempts(claim.delivery).await.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, [1, 2]);
    }

    async fn an_expired_claim_comes_back_with_its_attempt_counted(store) {
        store.append(vec![event_for(1, "a")]).await;
        let lost = store.claim_one().await;
        assert_eq!(store.engine.next_due().await.expect("reading works"), Some(lost.deadline));
        store.clock.turn(59_999);
        assert_eq!(store.claim(1).await, []);
        store.clock.turn(1);
        let again = store.claim_one().await;
        assert_eq!((again.delivery, again.attempt), (lost.delivery, 2));
        assert_eq!(store.settle(&lost, Verdict::Delivered).await, Settled::Stale);
        let attempts = store.attempts(lost.delivery).await;
        assert_eq!((attempts.len(), attempts[0].number, attempts[0].started_at), (1, 1, lost.claimed_at));
        assert_eq!(attempts[0].outcome.error, Some(ErrorClass::Unknown));
        assert_eq!(attempts[0].outcome.duration_ms, None);
    }

    async fn a_late_settlement_counts_until_the_claim_is_taken_back(store) {
        store.append(vec![event_for(1, "a")]).await;
        let claim = store.claim_one().await;
        store.clock.turn(120_000);
        assert!(store.settle(&claim, Verdict::Delivered).await.counted());
        assert_eq!(store.state(claim.delivery).await, DeliveryState::Delivered);
    }

    async fn a_webhook_has_no_more_in_flight_than_its_limit(store) {
        append_many(store, "a", 0..10).await;
        append_many(store, "b", 10..11).await;
        let first = store.claim_with(100, 3).await;
        assert_eq!(shares(&first, &["a", "b"]), [3, 1]);
        assert_eq!(store.claim_with(100, 3).await, []);
        let due = store.engine.next_due().await.expect("reading works");
        assert_eq!(due, Some(first[0].deadline), "a webhook at its limit keeps the worker awake");
        store.settle(&first[0], Verdict::Delivered).await;
        assert!(store.engine.next_due().await.expect("reading works").is_some_and(|due| due <= store.now()));
        assert_eq!(store.claim_with(100, 3).await.len(), 1);
        assert_eq!(store.claim_with(100, 5).await.len(), 2, "a higher limit lets more go");
        assert_eq!(store.claim_with(100, 2).await, []);
    }

    async fn webhooks_take_turns(store) {
        append_many(store, "huge", 0..100).await;
        for (number, hook) in (100..).zip(["b", "c", "d"]) {
            append_many(store, hook, number..number + 1).await;
        }
        let hooks = ["huge", "b", "c", "d"];
        assert_eq!(shares(&store.claim_with(4, 1_000).await, &hooks), [1, 1, 1, 1]);
        append_many(store, "b", 200..210).await;
        assert_eq!(shares(&store.claim_with(10, 1_000).await, &hooks), [5, 5, 0, 0]);
        assert_eq!(shares(&store.claim_with(1, 1_000).await, &hooks).iter().sum::<usize>(), 1);
        append_many(store, "c", 300..301).await;
        let next = store.claim_with(1, 1_000).await;
        assert_eq!(shares(&next, &hooks), [0, 0, 1, 0], "the webhook that gave longest ago is first");
    }

    async fn a_webhook_gives_in_the_order_of_due_times(store) {
        append_many(store, "a", 0..1).await;
        let first = store.claim_one().await;
        store.settle(&first, Verdict::Retry(seconds(10))).await;
        store.clock.turn(1_000);
        append_many(store, "a", 1..2).await;
        store.clock.turn(20_000);
        append_many(store, "a", 2..3).await;
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(store.claim_one().await.event.id.to_string());
        }
        assert_eq!(order, ["evt_1", "evt_0", "evt_2"]);
    }

    async fn a_held_webhook_gives_nothing_until_the_hold_is_over(store) {
        append_many(store, "a", 0..3).await;
        append_many(store, "b", 3..4).await;
        let claim = store.claim_one().await;
        assert_eq!(claim.webhook, webhook("a"));
        let overloaded = Settlement { hold: Some(hold(30)), ..settlement(&claim, Verdict::Retry(seconds(5))) };
        store.settle_all(&[overloaded]).await;
        let others = store.claim(10).await;
        assert_eq!(shares(&others, &["a", "b"]), [0, 1]);
        store.settle(&others[0], Verdict::Delivered).await;
        assert_eq!(store.engine.next_due().await.expect("reading works"), Some(store.now().saturating_add(seconds(30))));
        store.clock.turn(29_999);
        assert_eq!(store.claim(10).await, []);
        store.clock.turn(1);
        assert_eq!(store.claim(10).await.len(), 3);
    }

    async fn a_shorter_hold_does_not_end_a_longer_one(store) {
        append_many(store, "a", 0..2).await;
        let claims = store.claim(2).await;
        let held = |claim, time| Settlement { hold: Some(hold(time)), ..settlement(claim, Verdict::Retry(seconds(1))) };
        store.settle_all(&[held(&claims[0], 60), held(&claims[1], 5)]).await;
        assert_eq!(store.engine.next_due().await.expect("reading works"), Some(store.now().saturating_add(seconds(60))));
        store.set_flow("a", Flow::Open(FlowLimits::default())).await;
        store.clock.turn(1_000);
        assert_eq!(store.claim(10).await.len(), 2, "opening the flow ends the hold");
    }

    async fn a_paused_webhook_keeps_its_deliveries(store) {
        append_many(store, "a", 0..2).await;
        let in_flight = store.claim_one().await;
        store.set_flow("a", Flow::Paused).await;
        append_many(store, "a", 2..3).await;
        assert_eq!(store.claim(10).await, []);
        assert!(store.settle(&in_flight, Verdict::Retry(seconds(1))).await.counted());
        store.clock.turn(60_000);
        assert_eq!(store.claim(10).await, []);
        assert_eq!(store.engine.next_due().await.expect("reading works"), None);
        store.set_flow("a", Flow::Open(FlowLimits::default())).await;
        assert_eq!(store.claim(10).await.len(), 3);
    }

    async fn the_end_of_a_webhook_ends_its_deliveries(store) {
        append_many(store, "a", 0..3).await;
        append_many(store, "b", 3..4).await;
        let claims = store.claim_with(3, 2).await;
        assert_eq!(shares(&claims, &["a", "b"]), [2, 1]);
        let of_a: Vec<_> = claims.iter().filter(|claim| claim.webhook == webhook("a")).collect();
        store.set_flow("a", Flow::Ended).await;
        let deleted = DeliveryState::Dead(DeadReason::WebhookDeleted);
        assert!(store.settle(of_a[0], Verdict::Retry(seconds(1))).await.counted());
        assert_eq!(store.state(of_a[0].delivery).await, deleted);
        assert!(store.settle(of_a[1], Verdict::Delivered).await.counted());
        assert_eq!(store.state(of_a[1].delivery).await, DeliveryState::Delivered);
        store.clock.turn(60_000);
        let left = store.claim(10).await;
        assert_eq!(shares(&left, &["a", "b"]), [0, 1], "only the expired claim of the other webhook");
        let waited = spaces_bridge::domain::DeliveryId::from_number(3);
        assert_eq!(store.state(waited).await, deleted);
    }

    async fn a_worker_that_hears_no_hints_finds_everything_by_the_due_times(store) {
        append_many(store, "a", 0..2).await;
        append_many(store, "b", 2..4).await;
        store.append(vec![NewEvent {
            targets: vec![Target { webhook: webhook("c"), lane: Lane::Ordered("general".parse().expect("an id")) }],
            ..event(9)
        }]).await;
        let mut delivered = BTreeSet::new();
        let mut rounds = 0;
        while let Some(due) = store.engine.next_due().await.expect("reading works") {
            rounds += 1;
            assert!(rounds < 100, "the due times lead nowhere");
            store.clock.turn((due.as_millis() - store.now().as_millis()).max(0));
            for claim in store.claim_with(2, 1).await {
                let verdict = match claim.attempt {
                    1 => Verdict::Retry(seconds(7)),
                    // The end of the second attempt is never told.
                    2 => continue,
                    _ => Verdict::Delivered,
                };
                assert!(store.settle(&claim, verdict).await.counted());
                if verdict == Verdict::Delivered {
                    assert!(delivered.insert(claim.delivery));
                }
            }
        }
        assert_eq!(delivered.len(), 5);
    }

    async fn workers_at_once_never_get_the_same_delivery(store) {
        append_many(store, "a", 0..100).await;
        append_many(store, "b", 100..200).await;
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (engine, request) = (Arc::clone(&store.engine), request(store.member.incarnation, 7, 1_000));
            workers.spawn(async move {
                let mut all = Vec::new();
                loop {
                    let claims = engine.claim(request).await.expect("claiming works");
                    if claims.is_empty() {
                        return all;
                    }
                    all.extend(claims.into_iter().map(|claim| claim.delivery));
                }
            });
        }
        let all = workers.join_all().await.concat();
        assert_eq!(all.len(), 200);
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 200);
    }

    async fn claims_of_one_event_share_it(store) {
        let targets = ["a", "b"].map(|hook| Target { webhook: webhook(hook), lane: Lane::Parallel });
        store.append(vec![NewEvent { targets: targets.to_vec(), ..event(1) }]).await;
        let claims = store.claim(2).await;
        assert!(Arc::ptr_eq(&claims[0].event, &claims[1].event));
    }
}
