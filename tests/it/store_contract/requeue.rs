//! Deliveries are made again, on request.

use std::time::Duration;

use spaces_bridge::domain::{DeliveryState, ErrorClass, Timestamp};
use spaces_bridge::store::{Cursor, Flow, Lane, ReplayItem, Requeue, RequeueMode, Requeued, Settled, Verdict};

use super::contract;
use super::harness::{Store, event, event_for, seconds, space, webhook};

const EVER: Timestamp = Timestamp::from_millis(0);

async fn requeue(store: &Store, mode: RequeueMode) -> Requeued {
    let request = Requeue { webhook: webhook("a"), mode, limit: 100, cursor: None };
    store.engine.requeue(request).await.expect("requeueing works")
}

/// An event in the parallel lane, due at once.
fn item(position: i64) -> ReplayItem {
    ReplayItem { position: Cursor(position), lane: Lane::Parallel, due_in: Duration::ZERO }
}

fn replay(positions: std::ops::RangeInclusive<i64>, dry_run: bool) -> RequeueMode {
    RequeueMode::Replay { items: positions.map(item).collect(), dry_run }
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
        let mode = RequeueMode::Redrive { since, until: store.now().saturating_add(seconds(1)) };
        assert_eq!(resume(store, mode.clone(), 2).await, [2, 2, 1]);
        assert_eq!(resume(store, mode, 2).await, [0], "a repeated request did something");
        let claims = store.claim(10).await;
        assert_eq!(claims.len(), 5);
        assert!(claims.iter().all(|claim| claim.webhook == webhook("a") && claim.attempt == 1));
    }

    async fn a_redrive_ends_where_it_is_told_to(store) {
        store.append(vec![event_for(1, "a")]).await;
        let early = store.kill_one().await;
        store.clock.turn(1_000);
        let until = store.now();
        store.append(vec![event_for(2, "a")]).await;
        store.kill_one().await;
        assert_eq!(requeue(store, RequeueMode::Redrive { since: EVER, until }).await.count, 1);
        assert_eq!(store.claim_one().await.delivery, early.delivery);
    }

    async fn a_replay_makes_new_deliveries_once(store) {
        // Older than the webhook: nobody got them.
        store.append((1..6).map(event).collect()).await;
        assert_eq!(requeue(store, replay(1..=5, true)).await.count, 5);
        assert_eq!(store.claim(10).await, [], "only asking how many makes none");
        assert_eq!(requeue(store, replay(1..=3, false)).await.count, 3);
        assert_eq!(requeue(store, replay(1..=9, true)).await.count, 2, "three are on their way and four do not exist");
        assert_eq!(requeue(store, replay(1..=9, false)).await.count, 2);
        let claims = store.claim(10).await;
        let ids: Vec<_> = claims.iter().map(|claim| claim.event.id.to_string()).collect();
        assert_eq!(ids, ["evt_1", "evt_2", "evt_3", "evt_4", "evt_5"]);
        for claim in &claims {
            store.settle(claim, Verdict::Delivered).await;
        }
        assert_eq!(requeue(store, replay(1..=5, false)).await.count, 5, "what was delivered can be replayed");
    }

    async fn replayed_deliveries_are_due_when_they_are_told_to(store) {
        store.append((1..4).map(event).collect()).await;
        let item = |position: u32| ReplayItem { due_in: seconds(u64::from(position) * 10), ..item(i64::from(position)) };
        requeue(store, RequeueMode::Replay { items: (1..=3).map(item).collect(), dry_run: false }).await;
        store.append(vec![event_for(9, "a")]).await;
        for (turn, expected) in [(0, "evt_9"), (10_000, "evt_1"), (10_000, "evt_2"), (10_000, "evt_3")] {
            store.clock.turn(turn);
            let claims = store.claim(10).await;
            assert_eq!(claims.iter().map(|claim| claim.event.id.as_str()).collect::<Vec<_>>(), [expected]);
        }
    }

    async fn an_ordered_replay_goes_one_by_one(store) {
        store.append((1..4).map(event).collect()).await;
        let items = (1..=3).map(|position| ReplayItem { lane: Lane::Ordered(space("general")), ..item(position) }).collect();
        assert_eq!(requeue(store, RequeueMode::Replay { items, dry_run: false }).await.count, 3);
        let first = store.claim(10).await;
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].event.id.as_str(), "evt_1");
    }

    async fn nothing_is_made_again_for_a_deleted_webhook(store) {
        store.append(vec![event_for(1, "a")]).await;
        let dead = store.kill_one().await;
        store.set_flow("a", Flow::Ended).await;
        let until = store.now().saturating_add(seconds(1));
        for mode in [RequeueMode::One(dead.delivery), RequeueMode::Redrive { since: EVER, until }, replay(1..=1, false)] {
            assert_eq!(requeue(store, mode).await, Requeued { count: 0, cursor: None });
        }
    }
}
