//! What only a store on a disk can show.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use spaces_bridge::domain::{Clock, DeliveryState};
use spaces_bridge::store::{
    Appended, DeliveryFilter, DocKind, EmbeddedSettings, EmbeddedStore, Engine, EventFilter, Flow, Maintenance, NewEvent, Query,
    StoreError, Verdict,
};
use tempfile::TempDir;

use super::harness::{
    ManualClock, TTL, account, document, event, event_for, event_id, fence, open, ordered_event, request, seconds, session,
    settlement, webhook,
};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory for the test")
}

fn open_with(directory: &Path, clock: &Arc<ManualClock>, max_bytes: Option<u64>) -> Result<EmbeddedStore, StoreError> {
    let settings = EmbeddedSettings { max_bytes, ..EmbeddedSettings::new(directory) };
    EmbeddedStore::open(settings, Arc::clone(clock) as Arc<dyn Clock>)
}

/// What can be read of the store.
async fn contents(store: &EmbeddedStore) -> Vec<String> {
    let mut contents = Vec::new();
    let filter = EventFilter { account: account("ada"), space: None, since: None };
    contents.push(store.query(Query::Events { filter, cursor: None, limit: 1_000 }).await);
    for hook in ["a", "b"] {
        let filter = DeliveryFilter::of(webhook(hook));
        contents.push(store.query(Query::Deliveries { filter, cursor: None, limit: 1_000 }).await);
    }
    for number in 1..10 {
        contents.push(store.query(Query::Attempts(spaces_bridge::domain::DeliveryId::from_number(number))).await);
    }
    let mut contents: Vec<_> = contents.into_iter().map(|page| format!("{:?}", page.expect("reading works"))).collect();
    contents.push(format!("{:?}", store.doc_get(DocKind::Webhook, "a").await.expect("reading works")));
    contents.push(format!("{:?}", store.owner(&session("main")).await.expect("reading works")));
    contents.push(format!("{:?}", store.next_due().await.expect("reading works")));
    contents
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = open(&directory, &clock);
    let member = store.join("http://one.internal", TTL).await.expect("joining works");
    let fence = fence(&store, member.incarnation).await;
    store.doc_put(vec![document(DocKind::Webhook, "a", "the webhook")]).await.expect("writing works");
    let events = vec![event_for(1, "a"), event_for(2, "a"), event_for(3, "a"), ordered_event(4, "b", "red"), event(5)];
    store.append(fence, events).await.expect("appending works");
    let claims = store.claim(request(member.incarnation, 10, 3)).await.expect("claiming works");
    let verdicts = [Verdict::Delivered, Verdict::Retry(seconds(60))];
    let settlements = claims.iter().zip(verdicts).map(|(claim, verdict)| settlement(claim, verdict));
    store.settle(settlements.collect()).await.expect("settling works");
    let before = contents(&store).await;
    store.close().await;
    let store = open(&directory, &clock);
    assert_eq!(contents(&store).await, before);
    drop(store);
    let store = open(&directory, &clock);
    assert_eq!(contents(&store).await, before);
    let second = store.join("http://two.internal", TTL).await.expect("joining works");
    assert!(second.incarnation > member.incarnation, "an incarnation was given out twice");
    let again = store.claim(request(second.incarnation, 10, 3)).await.expect("claiming works");
    assert_eq!(again.len(), claims.len() - 2, "what was in flight is due, the retry waits");
}

#[tokio::test]
async fn numbers_are_not_given_out_again_after_forgetting_and_reopening() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = open(&directory, &clock);
    let member = store.join("http://one.internal", TTL).await.expect("joining works");
    let right = fence(&store, member.incarnation).await;
    store.append(right.clone(), vec![event_for(1, "a")]).await.expect("appending works");
    let claims = store.claim(request(member.incarnation, 1, 1)).await.expect("claiming works");
    store.settle(vec![settlement(&claims[0], Verdict::Delivered)]).await.expect("settling works");
    clock.turn(1_000);
    let all = Maintenance { events_before: Some(clock.now()), bytes_above: None, budget: 10 };
    assert_eq!(store.maintain(all).await.expect("maintaining works").events, 1);
    store.close().await;
    let store = open(&directory, &clock);
    store.append(right, vec![event_for(2, "a")]).await.expect("appending works");
    let claims = store.claim(request(member.incarnation, 1, 1)).await.expect("claiming works");
    assert_eq!(claims[0].delivery.number(), 2);
}

#[tokio::test]
async fn a_second_opening_is_refused_at_once() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = open(&directory, &clock);
    let second = open_with(&directory.path().join("data"), &clock, None);
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
    drop(store);
    open_with(&directory.path().join("data"), &clock, None).expect("the store is free");
}

#[tokio::test]
async fn a_newer_store_is_refused() {
    let (directory, clock) = (directory(), ManualClock::new());
    open(&directory, &clock).close().await;
    let database = rusqlite::Connection::open(directory.path().join("data/store.db")).expect("the database opens");
    database.pragma_update(None, "user_version", 99).expect("the version is written");
    drop(database);
    let refused = open_with(&directory.path().join("data"), &clock, None);
    assert!(matches!(refused, Err(StoreError::TooNew { found: 99, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = open(&directory, &clock);
    store.close().await;
    store.close().await;
    let written = store.join("http://one.internal", TTL).await;
    assert!(matches!(written, Err(StoreError::Closed)), "{written:?}");
    let read = store.next_due().await;
    assert!(matches!(read, Err(StoreError::Closed)), "{read:?}");
    assert!(!directory.path().join("data/store.db-wal").exists(), "the log was not folded in");
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = open(&directory, &clock);
    store.join("http://one.internal", TTL).await.expect("joining works");
    let data = directory.path().join("data");
    let mode = |path: &Path| std::fs::metadata(path).expect("the file exists").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for entry in std::fs::read_dir(&data).expect("the directory is readable") {
        let path = entry.expect("the directory is readable").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

fn large_event(number: u32, size: usize) -> NewEvent {
    NewEvent { body: Bytes::from(vec![b'x'; size]), ..event(number) }
}

#[tokio::test]
async fn a_full_store_goes_on_when_there_is_space_again() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = open_with(directory.path(), &clock, Some(512 * 1024)).expect("the store opens");
    let member = store.join("http://one.internal", TTL).await.expect("joining works");
    let fence = fence(&store, member.incarnation).await;
    let mut written = 0;
    let refused = loop {
        match store.append(fence.clone(), vec![large_event(written, 10_000)]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "the store has no bound");
    };
    assert!(matches!(refused, StoreError::Full { .. }), "{refused:?}");
    assert!(written > 10, "hardly anything fits");
    let unwritten = store.query(Query::Event(event_id(written))).await.expect("a full store can be read");
    assert_eq!(format!("{:?}", unwritten.rows), "Events([])", "a refused event was kept");
    clock.turn(1_000);
    let some = Maintenance { events_before: Some(clock.now()), bytes_above: None, budget: 5 };
    assert_eq!(store.maintain(some).await.expect("a full store can forget").events, 5);
    let again = store.append(fence, vec![large_event(written, 10_000)]).await.expect("there is space again");
    assert_eq!(again, Appended::Durable(vec![true]));
}

#[tokio::test]
async fn a_command_that_fails_fails_alone() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = Arc::new(open_with(directory.path(), &clock, Some(1024 * 1024)).expect("the store opens"));
    let member = store.join("http://one.internal", TTL).await.expect("joining works");
    let fence = fence(&*store, member.incarnation).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (store, fence) = (Arc::clone(&store), fence.clone());
        let size = if number % 10 == 5 { 4 * 1024 * 1024 } else { 100 };
        writers.spawn(async move { (number, store.append(fence, vec![large_event(number, size)]).await) });
    }
    for (number, outcome) in writers.join_all().await {
        match outcome {
            Ok(appended) => assert_eq!((number % 10 != 5, appended), (true, Appended::Durable(vec![true])), "event {number}"),
            Err(error) => assert!(number % 10 == 5 && matches!(error, StoreError::Full { .. }), "event {number}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = open(&directory, &clock);
    let member = store.join("http://one.internal", TTL).await.expect("joining works");
    let fence = fence(&store, member.incarnation).await;
    store.append(fence.clone(), vec![event_for(1, "a")]).await.expect("appending works");
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).expect("a directory for the copy");
    store.backup(&copy.join("store.db")).await.expect("a backup can be made");
    let again = store.backup(&copy.join("store.db")).await;
    assert!(again.is_err(), "a backup was overwritten");
    store.append(fence, vec![event_for(2, "a")]).await.expect("appending works");
    let restored = open_with(&copy, &clock, None).expect("the backup opens");
    let member = restored.join("http://two.internal", TTL).await.expect("joining works");
    let claims = restored.claim(request(member.incarnation, 10, 8)).await.expect("claiming works");
    let events: Vec<_> = claims.iter().map(|claim| claim.event.id.clone()).collect();
    assert_eq!(events, [event_id(1)]);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_harms_nobody() {
    let (directory, clock) = (directory(), ManualClock::new());
    let store = open(&directory, &clock);
    let member = store.join("http://one.internal", TTL).await.expect("joining works");
    let fence = fence(&store, member.incarnation).await;
    {
        let append = store.append(fence.clone(), vec![event_for(1, "a")]);
        tokio::pin!(append);
        // Polled once, so that the command is on its way, then given up.
        assert!(futures_util::poll!(append.as_mut()).is_pending());
    }
    store.append(fence, vec![event_for(2, "a")]).await.expect("appending works");
    let claims = store.claim(request(member.incarnation, 10, 8)).await.expect("claiming works");
    assert_eq!(claims.len(), 2);
    let write =
        spaces_bridge::store::DocWrite { flow: Some((webhook("a"), Flow::Ended)), ..document(DocKind::Webhook, "a", "x") };
    store.doc_put(vec![write]).await.expect("writing works");
    store.settle(vec![settlement(&claims[0], Verdict::Retry(seconds(1)))]).await.expect("settling works");
    let page = store.query(Query::Delivery(claims[0].delivery)).await.expect("reading works");
    assert!(
        format!("{:?}", page.rows)
            .contains(&format!("{:?}", DeliveryState::Dead(spaces_bridge::domain::DeadReason::WebhookDeleted)))
    );
}
