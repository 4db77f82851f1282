//! The two histories of Spaces: how they are paged, how they fail, and what stands in for them.

use fake_upstream::{EndOfList, ErrorBody, Pagination, RestFault};
use serde_json::json;

use super::Talk;
use crate::support::wait::eventually;

const ACTIVITY: &str = "/api/activitiesrecord/messages";
const MESSAGES: &str = "/api/spaces/*/messages/query";

impl Talk {
    fn calls(&self, path: &str) -> usize {
        self.scene.upstream.seen(|seen| seen.rest_calls().filter(|call| call.path.contains(path)).count())
    }

    fn fails(&self, path: &str, fault: &RestFault) {
        self.scene.upstream.script(|script| {
            script.rest.on(path).always(fault.clone());
        });
    }
}

fn garbled() -> RestFault {
    RestFault::Garbled { content_type: "text/html".to_owned(), body: "<html>".to_owned() }
}

fn empty(status: u16) -> RestFault {
    RestFault::Answer { status, body: ErrorBody::Empty, retry_after: None }
}

#[tokio::test]
async fn all_pages_are_read_however_they_are_numbered_and_end() {
    let expected: Vec<String> = (0..110).map(|number| format!("+{number}")).collect();
    for closed in [None, Some(ACTIVITY)] {
        for style in [Pagination::Page, Pagination::Cursor] {
            for end in [EndOfList::Missing, EndOfList::Empty, EndOfList::End, EndOfList::EmptyPage] {
                let talk = Talk::start().await;
                talk.scene.upstream.script(|script| {
                    script.pagination.always(style);
                    script.end_of_list.always(end);
                });
                if let Some(closed) = closed {
                    talk.fails(closed, &empty(404));
                }
                talk.while_cut(async || {
                    for number in 0..110 {
                        talk.bo_says(&number.to_string());
                    }
                })
                .await;
                assert_eq!(talk.texts(expected.len()).await, expected, "{closed:?} {style:?} {end:?}");
                assert_eq!(talk.recovered().await["eventsRecovered"], 110, "{closed:?} {style:?} {end:?}");
                talk.bridge.stop().await;
            }
        }
    }
}

#[tokio::test]
async fn where_one_history_is_closed_or_fails_the_other_one_is_read() {
    for fault in [empty(404), empty(403), empty(500), garbled(), RestFault::Cut, empty(400)] {
        let talk = Talk::start().await;
        talk.fails(ACTIVITY, &fault);
        talk.while_cut(async || {
            talk.bo_says("missed");
        })
        .await;
        assert_eq!(talk.texts(1).await, ["+missed"], "{fault:?}");
        // What only fails may tell of changes yet.
        talk.scene.upstream.clear_script();
        let recovery = talk.recovered().await;
        assert_eq!((&recovery["state"], &recovery["gaps"]), (&json!("idle"), &json!([])), "{fault:?}");
        talk.bridge.stop().await;
    }
}

#[tokio::test]
async fn edits_and_deletions_are_not_lost_over_a_record_of_activity_that_fails_at_first() {
    for fault in [empty(500), garbled(), RestFault::Cut] {
        // So that the query does not show by chance what became of messages before the gap.
        let talk = Talk::with(|config| config.session.recovery_overlap_seconds = 0).await;
        let (edited, deleted) = (talk.bo_says("first"), talk.bo_says("second"));
        talk.texts(2).await;
        talk.scene.upstream.script(|script| {
            script.rest.on(ACTIVITY).next(2, fault.clone());
        });
        talk.while_cut(async || {
            talk.bo_says("missed");
            talk.scene.upstream.edit(&edited, "changed").expect("it exists");
            talk.scene.upstream.delete(&deleted).expect("it exists");
        })
        .await;
        let events = eventually("all events", async || {
            let events = talk.events("type=message.*").await;
            (events.len() >= 5).then_some(events)
        })
        .await;
        let told =
            |kind: &str| events[2..].iter().find(|event| event["type"] == kind).map(|event| &event["data"]["message"]["id"]);
        assert_eq!(told("message.updated"), Some(&json!(edited)), "{fault:?}");
        assert_eq!(told("message.deleted"), Some(&json!(deleted)), "{fault:?}");
        assert_eq!(talk.recovered().await["state"], "idle", "{fault:?}");
        talk.bridge.stop().await;
    }
}

#[tokio::test]
async fn a_history_that_was_closed_is_not_asked_for_again_by_the_same_session() {
    let talk = Talk::start().await;
    talk.fails(ACTIVITY, &empty(403));
    for number in 1..=3 {
        talk.while_cut(async || {
            talk.bo_says("missed");
        })
        .await;
        talk.texts(number).await;
        talk.recovered().await;
    }
    assert_eq!(talk.calls("activitiesrecord"), 1);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn what_fails_for_a_while_is_asked_for_again() {
    let talk = Talk::start().await;
    talk.scene.upstream.script(|script| {
        script.rest.on(ACTIVITY).next(2, empty(503));
        script.rest.on(MESSAGES).next(1, garbled());
    });
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    assert_eq!(talk.texts(1).await, ["+missed"]);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn who_is_told_to_come_later_comes_later_and_does_not_turn_elsewhere() {
    let talk = Talk::start().await;
    talk.scene.upstream.script(|script| {
        script.rest.on(ACTIVITY).next(1, RestFault::too_many(1));
    });
    talk.while_cut(async || {
        talk.bo_says("missed");
    })
    .await;
    assert_eq!(talk.texts(1).await, ["+missed"]);
    assert_eq!((talk.calls("activitiesrecord"), talk.calls("messages/query")), (2, 0));
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_page_that_fails_in_the_middle_loses_and_repeats_nothing() {
    for fault in [empty(500), empty(404), RestFault::CutAfter] {
        let talk = Talk::start().await;
        talk.scene.upstream.script(|script| {
            script.rest.on(ACTIVITY).next(1, RestFault::Slow(std::time::Duration::ZERO)).next(1, fault.clone());
        });
        let expected: Vec<String> = (0..120).map(|number| format!("+{number}")).collect();
        talk.while_cut(async || {
            for number in 0..120 {
                talk.bo_says(&number.to_string());
            }
        })
        .await;
        assert_eq!(talk.texts(120).await, expected, "{fault:?}");
        talk.recovered().await;
        assert_eq!(talk.texts(120).await.len(), 120, "{fault:?}");
        talk.bridge.stop().await;
    }
}
