//! Deliveries are made again, on request.

use spaces_bridge::domain::{DeliveryState, ErrorClass, Timestamp};
use spaces_bridge::store::{Flow, Requeue, RequeueMode, Requeued, Settled, Verdict};

use super::contract;
use super::harness::{Store, account, event, event_for, seconds, webhook};

const EVER: Timestamp = Timestamp::from_millis(0);

async fn requeue(store: &Store, mode: RequeueMode) -> Requeued {
    let request = Requeue { webhook: webhook("a"), mode, limit: 100, cursor: None };
    store.engine.requeue(request).await.expect("requeueing works")
}

fn replay(since: Timestamp) -> RequeueMode {
    RequeueMode::Replay { account: account("ada"), since, ordered: false }
}

/// Repeats a request of at most `limit` each until its end; answers the counts.
async fn resume(store: &Store, mode: RequeueMode, limit: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    let mut cursor = None;
    loop {
        let request = Requeue { webhook: webhook("a"), mode: mode.clone(), limit, cursor };
        let requeued = store.engine.requeue(request).await.expect("requeueing works");
        counts.push(requeued.count);
        cursor = requeued.cursor;
        if cursor.is_none() {
            return counts;
        }
        assert!(counts.len() < 100, "the request never ends");
    }
}

contract! {
    async fn a_dead_delivery_is_made_again_with_a_fresh_schedule(store) {
        store.append(vec![event_for(1, "a")]).await;
        let dead = store.kill_one().await;
        assert_eq!(store.claim(1).await, []);
        assert_eq!(requeue(store, RequeueMode::One(dead.delivery)).await, Requeued { count: 1, cursor: None });
        assert_eq!(store.delivery(dead.delivery).await.attempts, 0);
        let again = store.claim_one().await;
        assert_eq!((again.delivery, again.attempt), (dead.delivery, 1));
        assert_ne!(again.claim_no, dead.claim_no, "an old claim could settle the new attempt");
        assert_eq!(store.settle(&dead, Verdict::Delivered).await, Settled::Stale);
        assert!(store.settle(&again, Verdict::Delivered).await.counted());
        let classes: Vec<_> =
            store.attempts(dead.delivery).await.into_iter().map(|attempt| attempt.outcome.error).collect();
        assert_eq!(classes, [Some(ErrorClass::Http), None], "the log keeps the attempts of both schedules in order");
    }

    async fn a_delivery_in_flight_or_of_another_webhook_is_left_alone(store) {
        store.append(vec![event_for(1, "a"), event_for(2, "b")]).await;
        let claims = store.claim(2).await;
        for claim in &claims {
            assert_eq!(requeue(store, RequeueMode::One(claim.delivery)).await.count, 0);
        }
        store.settle(&claims[1], Verdict::Delivered).await;
        assert_eq!(requeue(store, RequeueMode::One(claims[1].delivery)).await.count, 0);
        assert_eq!(store.state(claims[1].delivery).await, DeliveryState::Delivered);
    }

    async fn a_waiting_delivery_can_be_hurried(store) {
        store.append(vec![event_for(1, "a")]).await;
        let claim = store.claim_one().await;
        store.settle(&claim, Verdict::Retry(seconds(3_600))).await;
        let mut hints = store.engine.hints();
        hints.mark_unchanged();
        assert_eq!(requeue(store, RequeueMode::One(claim.delivery)).await.count, 1);
        assert!(hints.has_changed().expect("the store is open"));
        assert_eq!(store.claim_one().await.delivery, claim.delivery);
    }

    async fn dead_ones_are_driven_again_bounded_and_once(store) {
        store.append((0..2).map(|number| event_for(number, "a")).collect()).await;
        store.kill_one().await;
        store.kill_one().await;
        store.clock.turn(1_000);
        let since = store.now();
        store.append((2..7).map(|number| event_for(number, "a")).collect()).await;
        store.append(vec![event_for(7, "b")]).await;
        for _ in 2..8 {
            store.kill_one().await;
        }
        let mode = RequeueMode::Redrive { since };
        assert_eq!(resume(store, mode.clone(), 2).await, [2, 2, 1]);
        assert_eq!(resume(store, mode, 2).await, [0], "a repeated request did something");
        let claims = store.claim(10).await;
        assert_eq!(claims.len(), 5);
        assert!(claims.iter().all(|claim| claim.webhook == webhook("a") && claim.attempt == 1));
    }

    async fn a_replay_makes_new_deliveries_bounded_and_once(store) {
        store.append(vec![event_for(0, "a")]).await;
        store.clock.turn(1_000);
        let since = store.now();
        // Older than the webhook: nobody got them.
        store.append((1..6).map(event).collect()).await;
        assert_eq!(resume(store, replay(since), 2).await, [2, 2, 1]);
        assert_eq!(resume(store, replay(since), 2).await, [0, 0, 0], "an event with an open delivery got another");
        let mut claims = store.claim_with(10, 10).await;
        assert_eq!(claims.len(), 6);
        claims.retain(|claim| claim.event.id.as_str() != "evt_0");
        let ids: Vec<_> = claims.iter().map(|claim| claim.event.id.to_string()).collect();
        assert_eq!(ids, ["evt_1", "evt_2", "evt_3", "evt_4", "evt_5"]);
        for claim in &claims {
            store.settle(claim, Verdict::Delivered).await;
        }
        assert_eq!(requeue(store, replay(since)).await.count, 5, "what was delivered can be replayed");
    }

    async fn a_replay_takes_the_accounts_own_events_only(store) {
        let mut of_bob = event(1);
        of_bob.account = account("bob");
        store.append(vec![of_bob, event(2)]).await;
        assert_eq!(requeue(store, replay(EVER)).await.count, 1);
        assert_eq!(store.claim_one().await.event.id.as_str(), "evt_2");
    }

    async fn an_ordered_replay_goes_one_by_one(store) {
        store.append((1..4).map(event).collect()).await;
        let mode = RequeueMode::Replay { account: account("ada"), since: EVER, ordered: true };
        assert_eq!(requeue(store, mode).await.count, 3);
        let first = store.claim(10).await;
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].event.id.as_str(), "evt_1");
    }

    async fn nothing_is_made_again_for_a_deleted_webhook(store) {
        store.append(vec![event_for(1, "a")]).await;
        let dead = store.kill_one().await;
        store.set_flow("a", Flow::Ended).await;
        for mode in [RequeueMode::One(dead.delivery), RequeueMode::Redrive { since: EVER }, replay(EVER)] {
            assert_eq!(requeue(store, mode).await, Requeued { count: 0, cursor: None });
        }
    }
}
