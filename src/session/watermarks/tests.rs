use std::sync::Arc;

use super::*;
use crate::domain::{Clock as _, SystemClock};
use crate::store::MemoryStore;

const REACH: Reach = Reach { overlap: Duration::from_millis(100), limit: Duration::from_secs(1) };

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn space(id: &str) -> SpaceId {
    id.parse().expect("an id")
}

fn from(marks: &Watermarks, now: i64) -> i64 {
    marks.read_from(&space("s1"), REACH, at(now)).expect("it is known").from.as_millis()
}

#[test]
fn a_watermark_moves_with_what_is_durable_and_stands_still_in_a_gap() {
    let (mut marks, s1) = (Watermarks::default(), space("s1"));
    marks.start(&s1, at(5_000), true);
    marks.durable(&s1, at(5_300));
    marks.durable(&s1, at(5_200));
    assert_eq!(from(&marks, 5_300), 5_200, "the overlap is read again");
    marks.connection_lost();
    marks.durable(&s1, at(5_900));
    assert_eq!(marks.heard(&s1), Some(at(5_300)), "what came after the gap does not close it");
    marks.closed(&s1, at(5_800));
    assert_eq!((marks.heard(&s1), marks.has_gap(&s1)), (Some(at(5_900)), false));
}

#[test]
fn what_did_not_come_is_read_although_later_things_were_heard() {
    let (mut marks, s1, s2) = (Watermarks::default(), space("s1"), space("s2"));
    marks.start(&s1, at(5_000), true);
    marks.start(&s2, at(5_000), true);
    marks.durable(&s1, at(5_900));
    marks.durable(&s2, at(5_300));
    let account = "acc_1".parse().expect("an id");
    marks.take_writes(&account, at(5_900));
    marks.doubt(at(5_400));
    assert_eq!((from(&marks, 5_900), marks.has_gap(&s1), marks.has_new()), (5_300, true, true));
    assert_eq!((marks.heard(&s2), marks.has_gap(&s2)), (Some(at(5_300)), false), "it was not heard as far");
    assert_eq!(marks.take_writes(&account, at(5_900)).len(), 1);
}

#[test]
fn nothing_before_the_first_sight_is_read() {
    let (mut marks, s1) = (Watermarks::default(), space("s1"));
    marks.start(&s1, at(5_000), true);
    marks.durable(&s1, at(5_050));
    assert_eq!(from(&marks, 5_060), 5_000);
    marks.reach_back(&s1, at(4_500));
    assert_eq!((from(&marks, 5_060), marks.has_gap(&s1)), (4_500, true));
}

#[test]
fn a_gap_that_is_too_old_is_known_from_a_space_that_was_only_quiet() {
    let (mut marks, s1) = (Watermarks::default(), space("s1"));
    marks.start(&s1, at(5_000), true);
    let read = |marks: &Watermarks, now| marks.read_from(&s1, REACH, at(now)).expect("it is known");
    assert_eq!(read(&marks, 9_000), ReadFrom { from: at(8_000), too_old: Some((at(5_000), at(8_000))) });
    marks.online(at(8_500));
    assert_eq!(read(&marks, 9_000), ReadFrom { from: at(8_000), too_old: None });
    assert_eq!(read(&marks, 9_700), ReadFrom { from: at(8_700), too_old: Some((at(8_500), at(8_700))) });
}

#[test]
fn a_space_that_is_missing_in_one_list_only_goes_on_where_it_was() {
    let (mut marks, s1) = (Watermarks::default(), space("s1"));
    marks.start(&s1, at(5_000), true);
    marks.missing(&s1, at(6_000));
    marks.returned(&s1, at(7_000));
    assert!(marks.has_gap(&s1));
    marks.missing(&s1, at(7_000));
    marks.returned(&s1, at(7_000).saturating_add(MISSING));
    assert!(!marks.is_known(&s1), "that long it was really gone");
}

#[tokio::test]
async fn what_is_stored_comes_back_and_what_is_removed_does_not() {
    let engine = MemoryStore::new(Arc::new(SystemClock));
    let account: AccountId = "acc_1".parse().expect("an id");
    let others: [AccountId; 3] = ["acc_1-a", "acc_10", "acc_1_"].map(|id| id.parse().expect("an id"));
    let now = SystemClock.now();
    for other in &others {
        let mut marks = Watermarks::default();
        marks.start(&space("foreign"), now, true);
        store(&engine, &marks.take_writes(other, now)).await.expect("stored");
    }
    let mut marks = Watermarks::default();
    for id in ["s1", "s2"] {
        marks.start(&space(id), now, true);
    }
    marks.online(now);
    let writes = marks.take_writes(&account, now);
    marks.not_written(&writes);
    let again = marks.take_writes(&account, now);
    assert_eq!(again.len(), writes.len(), "what was not written is written later");
    store(&engine, &again).await.expect("stored");
    let wish = Wish { spaces: vec![SpaceSelector::All], since: now };
    store_wish(&engine, &account, &wish, now).await.expect("stored");
    marks.remove(&space("s2"));
    store(&engine, &marks.take_writes(&account, now)).await.expect("stored");
    assert!(!marks.is_dirty());

    let mut loaded = Watermarks::default();
    loaded.merge(load(&engine, &account).await.expect("read"), now);
    assert_eq!(loaded.spaces().collect::<Vec<_>>(), [&space("s1")]);
    assert!(loaded.has_gap(&space("s1")), "nobody knows what happened meanwhile");
    assert!(loaded.take_wishes(false).is_empty() && loaded.wants_list());
    assert_eq!(loaded.take_wishes(true), [wish]);
    store(&engine, &loaded.take_writes(&account, now)).await.expect("stored");
    assert!(load(&engine, &account).await.expect("read").wishes.is_empty());
    forget(&engine, &account).await.expect("forgotten");
    assert!(load(&engine, &account).await.expect("read").spaces.is_empty());
    assert_eq!(load(&engine, &others[0]).await.expect("read").spaces.len(), 1);
}
