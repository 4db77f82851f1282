//! Events come in once.

use std::sync::Arc;

use spaces_bridge::domain::{DeadReason, DeliveryState};
use spaces_bridge::store::{Appended, DeliveryFilter, Flow, Query, Rows};

use super::contract;
use super::harness::{event, event_for, event_id, webhook};

contract! {
    async fn an_event_known_already_is_a_no_op_and_so_are_its_targets(store) {
        assert_eq!(store.append(vec![event_for(1, "a"), event_for(1, "a"), event(2)]).await, [true, false, true]);
        assert_eq!(store.append(vec![event_for(2, "b"), event_for(1, "c")]).await, [false, false]);
        let claims = store.claim(10).await;
        assert_eq!(claims.len(), 1, "a repeat made deliveries");
        assert_eq!((&claims[0].event.id, &claims[0].webhook), (&event_id(1), &webhook("a")));
    }

    async fn an_event_is_kept_as_it_came(store) {
        let sent = event_for(1, "a");
        store.append(vec![sent.clone()]).await;
        let page = store.engine.query(Query::Event(sent.id.clone())).await.expect("reading works");
        let Rows::Events(rows) = page.rows else { panic!("events were asked for") };
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0].id, &rows[0].account, &rows[0].space), (&sent.id, &sent.account, &sent.space));
        assert_eq!((&rows[0].event_type, rows[0].occurred_at), (&sent.event_type, sent.occurred_at));
        assert_eq!((&rows[0].body, rows[0].appended_at), (&sent.body, store.now()));
        let claim = store.claim_one().await;
        assert_eq!((&claim.event.body, &claim.event.event_type), (&sent.body, &sent.event_type));
        assert_eq!(store.engine.query(Query::Event(event_id(9))).await.expect("reading works").rows, Rows::Events(vec![]));
    }

    async fn appends_at_once_write_each_event_once(store) {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..16_u32 {
            let (engine, fence) = (Arc::clone(&store.engine), store.fence.clone());
            writers.spawn(async move {
                let mut new = 0_usize;
                for number in 0..20 {
                    // Every event is written by two writers.
                    let events = vec![event_for((writer / 2) * 100 + number, "a")];
                    match engine.append(fence.clone(), events).await.expect("appending works") {
                        Appended::Durable(news) => new += news.into_iter().filter(|new| *new).count(),
                        Appended::Fenced => panic!("the fence holds"),
                    }
                }
                new
            });
        }
        assert_eq!(writers.join_all().await.into_iter().sum::<usize>(), 160);
        let filter = DeliveryFilter::of(webhook("a"));
        let page = store.engine.query(Query::Deliveries { filter, cursor: None, limit: 1_000 }).await.expect("reading works");
        let Rows::Deliveries(rows) = page.rows else { panic!("deliveries were asked for") };
        assert_eq!(rows.len(), 160);
    }

    async fn a_delivery_for_a_deleted_webhook_is_dead_from_the_start(store) {
        store.set_flow("a", Flow::Ended).await;
        store.append(vec![event_for(1, "a")]).await;
        assert_eq!(store.claim(1).await, []);
        let filter = DeliveryFilter { event: Some(event_id(1)), ..DeliveryFilter::of(webhook("a")) };
        let page = store.engine.query(Query::Deliveries { filter, cursor: None, limit: 10 }).await.expect("reading works");
        let Rows::Deliveries(rows) = page.rows else { panic!("deliveries were asked for") };
        assert_eq!(rows[0].state, DeliveryState::Dead(DeadReason::WebhookDeleted));
    }

    async fn an_append_is_hinted_at(store) {
        let mut hints = store.engine.hints();
        hints.mark_unchanged();
        store.append(vec![event_for(1, "a")]).await;
        assert!(hints.has_changed().expect("the store is open"));
    }
}
