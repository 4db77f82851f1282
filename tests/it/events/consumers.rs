//! Named consumers.

use reqwest::StatusCode;
use serde_json::json;

use super::{Talk, messages, text};

const CONSUMER: &str = "/consumers/nightly-report";
const EVENTS: &str = "/consumers/nightly-report/events?type=message.*&limit=2";

#[tokio::test]
async fn runs_of_a_job_neither_miss_nor_repeat_what_was_done() {
    let talk = Talk::start().await;
    let created = talk.put(CONSUMER, &json!({})).await;
    assert_eq!((created.status, created.header("location")), (StatusCode::CREATED, CONSUMER));
    let said: Vec<String> = (0..3).map(|number| talk.bo_says(&number.to_string())).collect();
    talk.stored(3).await;

    // The first run crashes between reading and acknowledging; the second gets the same.
    let lost = talk.page(EVENTS).await;
    let page = talk.page(EVENTS).await;
    assert_eq!((messages(&lost), messages(&page)), (said[..2].to_vec(), said[..2].to_vec()));
    let done = json!({"cursor": page["nextCursor"], "from": created.json()["cursor"]});
    let acknowledged = talk.put(CONSUMER, &done).await;
    assert_eq!((acknowledged.status, &acknowledged.json()["cursor"]), (StatusCode::OK, &page["nextCursor"]));

    // What was done stays done over a restart.
    let bridge = talk.bridge.restart().await;
    let talk = Talk { scene: talk.scene, bridge };
    let page = talk.page(EVENTS).await;
    assert_eq!((messages(&page), &page["hasMore"]), (said[2..].to_vec(), &json!(false)));
    assert_eq!(talk.put(CONSUMER, &json!({"cursor": page["nextCursor"]})).await.status, StatusCode::OK);
    assert_eq!(talk.page(EVENTS).await["data"], json!([]));
    talk.bridge.stop().await;
}

#[tokio::test]
async fn of_two_runs_at_a_time_one_is_told_that_it_was_overtaken() {
    let talk = Talk::start().await;
    let start = talk.put(CONSUMER, &json!({})).await.json();
    talk.bo_says("one");
    talk.stored(1).await;
    let (one, other) = tokio::join!(talk.page(EVENTS), talk.page(EVENTS));
    assert_eq!(one["data"], other["data"]);
    let done = json!({"cursor": one["nextCursor"], "from": start["cursor"]});
    assert_eq!(talk.put(CONSUMER, &done).await.status, StatusCode::OK);
    let late = talk.put(CONSUMER, &done).await;
    late.assert_problem(409, "acknowledgement_stale");
    assert!(late.json()["detail"].as_str().is_some_and(|detail| detail.contains(&text(&one["nextCursor"]))), "{}", late.text);
    talk.put(CONSUMER, &json!({"cursor": start["cursor"]})).await.assert_problem(409, "acknowledgement_stale");
    assert_eq!(talk.page(CONSUMER).await["cursor"], one["nextCursor"], "nothing was taken back");
    talk.bridge.stop().await;
}

#[tokio::test]
async fn consumers_are_listed_and_deleted_by_their_owner_alone() {
    let talk = Talk::start().await;
    for name in ["b", "a", "c"] {
        assert_eq!(talk.put(&format!("/consumers/{name}"), &json!({})).await.status, StatusCode::CREATED);
    }
    let page = talk.page("/consumers?limit=2").await;
    let rest = talk.page(&format!("/consumers?limit=2&cursor={}", text(&page["nextCursor"]))).await;
    let names = |page: &serde_json::Value| -> Vec<String> {
        page["data"].as_array().expect("a list").iter().map(|consumer| text(&consumer["name"])).collect()
    };
    assert_eq!(
        (names(&page), names(&rest), &rest["nextCursor"]),
        (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()], &json!(null))
    );

    let bo = talk.scene.bos_token();
    assert_eq!(talk.bridge.get("/consumers", &bo).await.json()["data"], json!([]));
    for path in ["/consumers/a", "/consumers/a/events"] {
        talk.bridge.get(path, &bo).await.assert_problem(404, "consumer_not_found");
    }
    talk.bridge.delete("/consumers/a", &bo).await.assert_problem(404, "consumer_not_found");
    assert_eq!(talk.bridge.delete("/consumers/a", &talk.scene.token).await.status, StatusCode::NO_CONTENT);
    talk.bridge.delete("/consumers/a", &talk.scene.token).await.assert_problem(404, "consumer_not_found");
    talk.put("/consumers/a", &json!({"from": page["nextCursor"]})).await.assert_problem(422, "invalid_body");
    talk.put("/consumers/a", &json!({"cursor": "x"})).await.assert_problem(422, "invalid_body");
    talk.put("/consumers/a", &json!({"place": 1})).await.assert_problem(422, "invalid_body");
    talk.put("/consumers/a.b", &json!({})).await.assert_problem(400, "invalid_path");
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_consumer_may_wait_for_events() {
    let talk = Talk::start().await;
    let now = talk.now().await;
    assert_eq!(talk.put(CONSUMER, &json!({"cursor": now})).await.status, StatusCode::CREATED);
    let path = format!("{CONSUMER}/events?type=message.*&wait=60");
    let (page, id) = tokio::join!(talk.page(&path), async {
        talk.listeners(1).await;
        talk.bo_says("at last")
    });
    assert_eq!(messages(&page), [id]);
    talk.bridge.stop().await;
}
