//! Reading the log and forgetting what is old.

use spaces_bridge::domain::DeadReason;
use spaces_bridge::store::{
    Cursor, DeliveryFilter, DocKind, DocWrite, EventFilter, Maintained, Maintenance, NewEvent, Page, Query, Rows, StateFilter,
    Verdict,
};

use super::contract;
use super::harness::{Store, account, document, event, event_for, event_id, seconds, space, webhook};

fn events_of_ada() -> EventFilter {
    EventFilter { account: account("ada"), space: None, since: None }
}

fn deliveries_of_a() -> DeliveryFilter {
    DeliveryFilter::of(webhook("a"))
}

async fn events(store: &Store, filter: EventFilter, cursor: Option<Cursor>, limit: usize) -> (Vec<String>, Option<Cursor>) {
    let page = store.engine.query(Query::Events { filter, cursor, limit }).await.expect("reading works");
    let Rows::Events(rows) = page.rows else { panic!("events were asked for") };
    (rows.into_iter().map(|event| event.id.to_string()).collect(), page.next)
}

async fn deliveries(store: &Store, filter: DeliveryFilter, cursor: Option<Cursor>, limit: usize) -> (Vec<i64>, Option<Cursor>) {
    let page = store.engine.query(Query::Deliveries { filter, cursor, limit }).await.expect("reading works");
    let Rows::Deliveries(rows) = page.rows else { panic!("deliveries were asked for") };
    (rows.into_iter().map(|delivery| delivery.id.number()).collect(), page.next)
}

async fn depths(store: &Store) -> (u64, u64, u64) {
    let Page { rows: Rows::Depths { waiting, in_flight, dead, .. }, .. } =
        store.engine.query(Query::Depths).await.expect("reading works")
    else {
        panic!("depths were asked for")
    };
    (waiting, in_flight, dead)
}

async fn maintain(store: &Store, budget: usize) -> Maintained {
    let maintenance = Maintenance { events_before: Some(store.now()), bytes_above: None, budget };
    let maintained = store.engine.maintain(maintenance).await.expect("maintaining works");
    Maintained { bytes: 0, ..maintained }
}

contract! {
    async fn pages_of_events_stay_stable_while_rows_are_added(store) {
        store.append((0..5).map(event).collect()).await;
        let (first, next) = events(store, events_of_ada(), None, 2).await;
        assert_eq!(first, ["evt_0", "evt_1"]);
        store.append((5..7).map(event).collect()).await;
        let (second, next) = events(store, events_of_ada(), next, 4).await;
        assert_eq!(second, ["evt_2", "evt_3", "evt_4", "evt_5"]);
        let (third, next) = events(store, events_of_ada(), next, 4).await;
        assert_eq!((third, next), (vec!["evt_6".to_owned()], None));
    }

    async fn the_newest_event_of_an_account_is_found(store) {
        let newest = async |name: &str| {
            let query = Query::EventsTail { account: account(name) };
            let page = store.engine.query(query).await.expect("reading works");
            let Rows::Events(rows) = page.rows else { panic!("events were asked for") };
            assert_eq!(page.next, None);
            rows.into_iter().map(|event| event.id.to_string()).collect::<Vec<_>>()
        };
        assert!(newest("ada").await.is_empty());
        store.append((0..5).map(event).collect()).await;
        assert_eq!((newest("ada").await, newest("bob").await), (vec!["evt_4".to_owned()], Vec::new()));
    }

    async fn pages_of_deliveries_stay_stable_while_rows_are_added(store) {
        store.append((0..5).map(|number| event_for(number, "a")).collect()).await;
        let (first, next) = deliveries(store, deliveries_of_a(), None, 2).await;
        assert_eq!(first, [5, 4]);
        store.append((5..7).map(|number| event_for(number, "a")).collect()).await;
        let (second, next) = deliveries(store, deliveries_of_a(), next, 2).await;
        assert_eq!(second, [3, 2]);
        let (third, next) = deliveries(store, deliveries_of_a(), next, 2).await;
        assert_eq!((third, next), (vec![1], None));
    }

    async fn events_are_found_by_account_space_and_time(store) {
        let mut elsewhere = event(1);
        elsewhere.space = space("elsewhere");
        let mut of_bob = event(2);
        of_bob.account = account("bob");
        store.append(vec![event(0), elsewhere, of_bob]).await;
        store.clock.turn(1_000);
        let since = store.now();
        store.append(vec![event(3)]).await;
        assert_eq!(events(store, events_of_ada(), None, 10).await.0, ["evt_0", "evt_1", "evt_3"]);
        let there = EventFilter { space: Some(space("elsewhere")), ..events_of_ada() };
        assert_eq!(events(store, there, None, 10).await.0, ["evt_1"]);
        let late = EventFilter { since: Some(since), ..events_of_ada() };
        assert_eq!(events(store, late, None, 10).await.0, ["evt_3"]);
    }

    async fn deliveries_are_found_by_state_and_event(store) {
        store.append((0..4).map(|number| event_for(number, "a")).collect()).await;
        let claims = store.claim(3).await;
        store.settle(&claims[0], Verdict::Delivered).await;
        store.settle(&claims[1], Verdict::Dead(DeadReason::Gone)).await;
        let cases = [
            (StateFilter::Delivered, vec![1]),
            (StateFilter::Dead, vec![2]),
            (StateFilter::InFlight, vec![3]),
            (StateFilter::Waiting, vec![4]),
        ];
        for (state, expected) in cases {
            let filter = DeliveryFilter { state: Some(state), ..deliveries_of_a() };
            assert_eq!(deliveries(store, filter, None, 10).await.0, expected, "{state:?}");
        }
        let filter = DeliveryFilter { event: Some(event_id(2)), ..deliveries_of_a() };
        assert_eq!(deliveries(store, filter, None, 10).await.0, [3]);
        let filter = DeliveryFilter { webhook: webhook("b"), ..deliveries_of_a() };
        assert_eq!(deliveries(store, filter, None, 10).await.0, [0; 0]);
        assert_eq!(depths(store).await, (1, 1, 1));
    }

    async fn old_events_go_in_bounded_pieces(store) {
        store.append((0..5).map(|number| event_for(number, "a")).collect()).await;
        for claim in store.claim(5).await {
            store.settle(&claim, Verdict::Delivered).await;
        }
        store.clock.turn(1_000);
        store.append(vec![event(9)]).await;
        assert_eq!(maintain(store, 3).await, Maintained { events: 3, documents: 0, more: true, bytes: 0 });
        assert_eq!(maintain(store, 3).await, Maintained { events: 2, documents: 0, more: false, bytes: 0 });
        assert_eq!(events(store, events_of_ada(), None, 10).await.0, ["evt_9"]);
        assert_eq!(deliveries(store, deliveries_of_a(), None, 10).await.0, [0; 0]);
        let gone = spaces_bridge::domain::DeliveryId::from_number(1);
        assert_eq!(store.attempts(gone).await, []);
        store.append(vec![event_for(10, "a")]).await;
        assert_eq!(deliveries(store, deliveries_of_a(), None, 10).await.0, [6], "a delivery's number was given out twice");
    }

    async fn an_event_with_an_open_delivery_stays(store) {
        store.append((0..4).map(|number| event_for(number, "a")).collect()).await;
        let claims = store.claim(3).await;
        store.settle(&claims[0], Verdict::Retry(seconds(3_600))).await;
        store.settle(&claims[1], Verdict::Dead(DeadReason::Exhausted)).await;
        store.clock.turn(1_000);
        assert_eq!(maintain(store, 100).await, Maintained { events: 1, documents: 0, more: false, bytes: 0 });
        assert_eq!(events(store, events_of_ada(), None, 10).await.0, ["evt_0", "evt_2", "evt_3"]);
    }

    async fn many_old_events_with_open_deliveries_do_not_hide_those_behind_them(store) {
        store.append((0..1_000).map(|number| event_for(number, "a")).collect()).await;
        store.append((1_000..1_005).map(event).collect()).await;
        store.clock.turn(1_000);
        let mut removed = 0;
        for _ in 0..20 {
            removed += maintain(store, 1).await.events;
        }
        assert_eq!(removed, 5);
        assert_eq!(events(store, events_of_ada(), None, 2_000).await.0.len(), 1_000);
    }

    async fn a_store_that_is_too_large_forgets_its_oldest_events(store) {
        let large = |number| NewEvent { body: vec![b'x'; 20_000].into(), ..event(number) };
        for number in 0..100 {
            store.append(vec![large(number)]).await;
            store.clock.turn(10);
        }
        let unlimited = Maintenance { events_before: None, bytes_above: None, budget: 1_000 };
        let full = store.engine.maintain(unlimited).await.expect("maintaining works").bytes;
        let limit = Maintenance { bytes_above: Some(full / 2), ..unlimited };
        let first = store.engine.maintain(Maintenance { budget: 10, ..limit }).await.expect("maintaining works");
        assert_eq!((first.events, first.more), (10, true));
        let rest = store.engine.maintain(limit).await.expect("maintaining works");
        assert!(!rest.more && rest.bytes <= full / 2, "{rest:?} of {full}");
        let kept = events(store, events_of_ada(), None, 2_000).await.0;
        assert!(!kept.is_empty() && kept.last().is_some_and(|last| last == "evt_99"), "the newest stay: {kept:?}");
    }

    async fn expired_documents_go(store) {
        let expiring = |id: &str, after| DocWrite {
            expires_at: Some(store.now().saturating_add(seconds(after))),
            ..document(DocKind::Idempotency, id, "x")
        };
        let writes = vec![expiring("a", 1), expiring("b", 2), expiring("c", 60), document(DocKind::Send, "d", "x")];
        store.engine.doc_put(writes).await.expect("writing works");
        store.clock.turn(2_000);
        let maintenance = Maintenance { events_before: None, bytes_above: None, budget: 1 };
        for more in [true, false] {
            let done = store.engine.maintain(maintenance).await.expect("maintaining works");
            assert_eq!((done.documents, done.more), (1, more));
        }
        assert!(store.engine.doc_get(DocKind::Idempotency, "c").await.expect("reading works").is_some());
        assert!(store.engine.doc_get(DocKind::Send, "d").await.expect("reading works").is_some());
    }

    async fn what_was_forgotten_may_come_again(store) {
        store.append(vec![event(1)]).await;
        store.clock.turn(1_000);
        maintain(store, 10).await;
        assert_eq!(store.append(vec![event(1)]).await, [true]);
    }

    async fn the_space_used_is_told(store) {
        let large = |number| NewEvent { body: vec![b'x'; 5_000].into(), ..event(number) };
        store.append((0..50).map(large).collect()).await;
        store.clock.turn(1_000);
        let full = store.engine.maintain(Maintenance { events_before: None, bytes_above: None, budget: 0 }).await.expect("maintaining works");
        let everything = Maintenance { events_before: Some(store.now()), bytes_above: None, budget: 100 };
        let empty = store.engine.maintain(everything).await.expect("maintaining works");
        assert!(full.bytes > empty.bytes, "{} bytes before and {} after", full.bytes, empty.bytes);
    }
}
