//! Ordered lanes: one at a time, in the order of appending.

use spaces_bridge::domain::{DeadReason, DeliveryState};
use spaces_bridge::store::{Claim, Flow, Requeue, RequeueMode, Verdict};

use super::contract;
use super::harness::{event_for, ordered_event, seconds, webhook};

fn events(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.event.id.as_str()).collect()
}

contract! {
    async fn a_lane_gives_one_at_a_time_in_order(store) {
        store.append((1..4).map(|number| ordered_event(number, "a", "red")).collect()).await;
        for expected in ["evt_1", "evt_2", "evt_3"] {
            let claims = store.claim(10).await;
            assert_eq!(events(&claims), [expected]);
            store.settle(&claims[0], Verdict::Delivered).await;
        }
        assert_eq!(store.claim(10).await, []);
    }

    async fn a_failing_head_blocks_its_own_lane_only(store) {
        store.append(vec![
            ordered_event(1, "a", "red"),
            ordered_event(2, "a", "red"),
            ordered_event(3, "a", "blue"),
            ordered_event(4, "b", "red"),
            event_for(5, "a"),
        ]).await;
        let claims = store.claim(10).await;
        assert_eq!(events(&claims), ["evt_1", "evt_3", "evt_4", "evt_5"]);
        store.settle(&claims[0], Verdict::Retry(seconds(5))).await;
        for claim in &claims[1..] {
            store.settle(claim, Verdict::Delivered).await;
        }
        assert_eq!(store.claim(10).await, [], "the second was given before the first");
        assert_eq!(store.engine.next_due().await.expect("reading works"), Some(store.now().saturating_add(seconds(5))));
        store.append(vec![ordered_event(6, "a", "blue"), ordered_event(7, "a", "red")]).await;
        assert_eq!(events(&store.claim(10).await), ["evt_6"]);
        store.clock.turn(5_000);
        let head = store.claim(10).await;
        assert_eq!((events(&head), head[0].attempt), (vec!["evt_1"], 2));
        store.settle(&head[0], Verdict::Delivered).await;
        assert_eq!(events(&store.claim(10).await), ["evt_2"]);
    }

    async fn a_dead_head_frees_its_lane(store) {
        store.append(vec![ordered_event(1, "a", "red"), ordered_event(2, "a", "red")]).await;
        let dead = store.kill_one().await;
        assert_eq!(store.state(dead.delivery).await, DeliveryState::Dead(DeadReason::Exhausted));
        assert_eq!(events(&store.claim(10).await), ["evt_2"]);
    }

    async fn an_expired_head_keeps_its_place(store) {
        store.append(vec![ordered_event(1, "a", "red"), ordered_event(2, "a", "red")]).await;
        store.claim_one().await;
        store.clock.turn(60_000);
        let again = store.claim(10).await;
        assert_eq!((events(&again), again[0].attempt), (vec!["evt_1"], 2));
    }

    async fn a_delivery_made_again_goes_before_younger_ones(store) {
        store.append((1..4).map(|number| ordered_event(number, "a", "red")).collect()).await;
        let dead = store.kill_one().await;
        let second = store.claim_one().await;
        let again = Requeue { webhook: webhook("a"), mode: RequeueMode::One(dead.delivery), limit: 1, cursor: None };
        assert_eq!(store.engine.requeue(again).await.expect("requeueing works").count, 1);
        assert_eq!(store.claim(10).await, [], "two of one lane were in flight");
        store.settle(&second, Verdict::Retry(seconds(0))).await;
        let mut order = Vec::new();
        for _ in 0..3 {
            let claim = store.claim_one().await;
            store.settle(&claim, Verdict::Delivered).await;
            order.push(claim.event.id.to_string());
        }
        assert_eq!(order, ["evt_1", "evt_2", "evt_3"]);
    }

    async fn the_end_of_a_webhook_ends_its_lanes(store) {
        store.append((1..4).map(|number| ordered_event(number, "a", "red")).collect()).await;
        let claim = store.claim_one().await;
        store.set_flow("a", Flow::Ended).await;
        store.settle(&claim, Verdict::Delivered).await;
        assert_eq!(store.claim(10).await, []);
        for number in [2, 3] {
            let waited = spaces_bridge::domain::DeliveryId::from_number(number);
            assert_eq!(store.state(waited).await, DeliveryState::Dead(DeadReason::WebhookDeleted));
        }
    }
}
