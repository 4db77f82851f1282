//! The history of a space, as callers read it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fake_upstream::{EndOfList, Pagination, RestFault, TokenKind, UserKind};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Scene};

/// A moment long before the tests, in milliseconds.
const THEN: i64 = 1_700_000_000_000;

/// Everything under `query`, page by page.
async fn read(scene: &Scene, bridge: &Bridge, query: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = bridge.get(&format!("/spaces/{}/messages?{query}{cursor}", scene.space.id), &scene.token).await;
        assert_eq!(page.status, StatusCode::OK, "{query}: {}", page.text);
        let page = page.json();
        all.extend(page["data"].as_array().expect("a list").clone());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

async fn texts(scene: &Scene, bridge: &Bridge, query: &str) -> Vec<String> {
    let entries = read(scene, bridge, query).await;
    entries.iter().map(|entry| entry["message"]["text"].as_str().unwrap_or_default().to_owned()).collect()
}

fn garbled(body: &Value) -> RestFault {
    RestFault::Garbled { content_type: "application/json".to_owned(), body: body.to_string() }
}

#[tokio::test]
async fn the_whole_history_is_read_newest_first_however_spaces_pages() {
    let scene = Scene::new().await;
    for number in 0..130 {
        scene.upstream.backdate_as(&scene.bo, &scene.space, &number.to_string(), THEN + number * 1000).expect("a known space");
    }
    let bridge = Bridge::start(&scene.upstream).await;
    let expected: Vec<String> = (0..130).rev().map(|number| number.to_string()).collect();
    for pagination in [Pagination::Page, Pagination::Cursor] {
        for (end, limit) in [(EndOfList::Missing, 200), (EndOfList::End, 33), (EndOfList::EmptyPage, 50)] {
            scene.upstream.script(|script| {
                script.pagination.always(pagination);
                script.end_of_list.always(end);
            });
            assert_eq!(texts(&scene, &bridge, &format!("limit={limit}")).await, expected, "{pagination:?} {end:?} {limit}");
        }
    }
    bridge.stop().await;
}

#[tokio::test]
async fn an_entry_has_the_form_of_an_event() {
    let scene = Scene::new().await;
    let payload = json!({"category": "idea", "content": {"bodyText": "<p>it&#x27;s</p>", "description": "<p>new</p>"}});
    let posted = scene.upstream.send_as(&scene.bo, &scene.space, &payload).expect("a known space");
    let bridge = Bridge::start(&scene.upstream).await;
    let entries = read(&scene, &bridge, "").await;
    let (entry, message) = (&entries[0], &entries[0]["message"]);
    assert_eq!((&entry["spaceId"], &entry["category"]), (&json!(scene.space.id), &json!("post")));
    assert_eq!((&message["id"], &message["html"]), (&posted["_id"], &json!("<p>it&#x27;s</p>")));
    assert_eq!((&message["sender"]["id"], &message["createdAt"]), (&json!(scene.bo.id), &posted["created"]));
    assert!(message["text"].as_str().is_some_and(|text| text.contains("it's")));
    assert_eq!(entry["upstream"], posted);
    bridge.stop().await;
}

#[tokio::test]
async fn filters_choose_the_messages() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    for (number, text) in ["first", "second", "third"].into_iter().enumerate() {
        let at = THEN + i64::try_from(number).expect("small") * 1000;
        scene.upstream.backdate_as(&scene.bo, &scene.space, text, at).expect("a known space");
    }
    let send = |payload: Value| scene.upstream.send_as(&scene.bo, &scene.space, &payload).expect("a known space");
    send(json!({"category": "idea", "content": {"bodyText": "a post"}}));
    send(json!({"category": "task", "content": {"bodyText": "a task"}}));
    send(json!({"content": {"bodyText": "with a file", "data": [{"fileId": "f1", "name": "a.pdf"}]}}));
    for (query, expected) in [
        ("category=post", &["a post"][..]),
        ("category=task", &["a task"]),
        ("category=chat&before=2023-11-14T22:13:21Z", &["first"]),
        ("files=true", &["with a file"]),
        ("files=false&category=post", &["a post"]),
        ("search=FIRST", &["first"]),
        ("search=a%20", &["with a file", "a task", "a post"]),
        ("since=2023-11-14T22:13:21Z&before=2023-11-14T22:13:22Z", &["second"]),
        ("since=2023-11-14T22:13:21Z&limit=1&category=chat", &["with a file", "third", "second"]),
        ("since=2999-01-01T00:00:00Z", &[]),
    ] {
        assert_eq!(texts(&scene, &bridge, query).await, expected, "{query}");
    }
    for query in [
        "category=idea",
        "search=",
        "search=%00",
        "files=maybe",
        "since=yesterday",
        "limit=0",
        "cursor=x",
        "colour=red",
        "replyTo=a/b",
        "replyTo=m1&category=post",
        "replyTo=m1&since=2023-11-14T22:13:21Z",
    ] {
        let path = format!("/spaces/{}/messages?{query}", scene.space.id);
        bridge.get(&path, &scene.token).await.assert_problem(400, "invalid_query");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn comments_are_read_by_what_they_comment_on() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let send = |payload: Value| {
        let sent = scene.upstream.send_as(&scene.bo, &scene.space, &payload).expect("a known space");
        sent["_id"].as_str().expect("an id").to_owned()
    };
    let post = send(json!({"category": "idea", "content": {"bodyText": "a post"}}));
    let task = send(json!({"category": "task", "content": {"bodyText": "a task"}}));
    let chat = send(json!({"content": {"bodyText": "a message"}}));
    for number in 0..60 {
        send(json!({"content": {"bodyText": format!("on the post {number}")}, "parentMsg": {"_id": post}}));
    }
    send(json!({"content": {"bodyText": "on the task"}, "parentMsg": {"_id": task}}));
    let comments = read(&scene, &bridge, &format!("replyTo={post}&limit=25")).await;
    assert_eq!(comments.len(), 60);
    assert!(comments.iter().all(|entry| entry["message"]["replyTo"] == post.as_str()));
    assert_eq!(texts(&scene, &bridge, &format!("replyTo={task}")).await, ["on the task"]);

    let lounge = scene.upstream.space("Lounge", &[&scene.ana]);
    let payload = json!({"category": "idea", "content": {"bodyText": "elsewhere"}});
    let other = scene.upstream.send_as(&scene.ana, &lounge, &payload).expect("a known space")["_id"].clone();
    for id in [chat.as_str(), other.as_str().expect("an id"), "m1"] {
        let path = format!("/spaces/{}/messages?replyTo={id}", scene.space.id);
        bridge.get(&path, &scene.token).await.assert_problem(404, "message_not_found");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_cursor_leads_nowhere_else() {
    let scene = Scene::new().await;
    let lounge = scene.upstream.space("Lounge", &[&scene.ana]);
    scene.upstream.post_as(&scene.ana, &lounge, "not for this list").expect("a known space");
    for number in 0..3 {
        scene.upstream.post_as(&scene.bo, &scene.space, &number.to_string()).expect("a known space");
    }
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/spaces/{}/messages", scene.space.id);
    let page = bridge.get(&format!("{path}?limit=1&category=chat"), &scene.token).await.json();
    let cursor = page["nextCursor"].as_str().expect("a cursor");
    bridge.get(&format!("{path}?cursor={cursor}"), &scene.token).await.assert_problem(400, "invalid_query");

    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).expect("base64")).expect("a text");
    let mut forged: Value = serde_json::from_str(&text).expect("JSON");
    for (next, status) in [
        (format!("/api/spaces/{}/messages/query?direction=before", lounge.id), 200),
        ("https://example.com/steal".to_owned(), 502),
    ] {
        forged["place"]["page"] = next.into();
        let cursor = URL_SAFE_NO_PAD.encode(forged.to_string());
        let page = bridge.get(&format!("{path}?category=chat&cursor={cursor}"), &scene.token).await;
        assert_eq!(page.status, status, "{}", page.text);
        assert!(!page.text.contains("not for this list"));
    }
    let asked = format!("/api/spaces/{}/messages/query", lounge.id);
    assert_eq!(scene.upstream.seen(|seen| seen.rest_count("GET", &asked)), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn odd_entries_are_left_out_and_odd_answers_told() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let good = json!({"_id": "m1", "category": "chat", "topicId": scene.space.id, "content": {"bodyText": "good"}});
    let odd = json!({"_id": 7, "category": null, "sender": "nobody", "content": [], "created": 5});
    let foreign = json!({"_id": "m3", "category": "chat", "topicId": "elsewhere", "content": {"bodyText": "foreign"}});
    let list = json!({"data": [good, odd, foreign, 7, "text", null, []]});
    scene.upstream.script(|script| {
        script.rest.on("/api/spaces/*/messages/query").next(1, garbled(&list));
    });
    let entries = read(&scene, &bridge, "").await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_eq!((&entries[0]["message"]["text"], &entries[1]["message"]["id"]), (&json!("good"), &Value::Null));
    for body in [json!({}), json!([]), json!({"data": {}}), json!({"data": [good], "nextPageUrl": "https://example.com/"})] {
        scene.upstream.script(|script| {
            script.rest.on("/api/spaces/*/messages/query").off().next(1, garbled(&body));
        });
        let path = format!("/spaces/{}/messages", scene.space.id);
        bridge.get(&path, &scene.token).await.assert_problem(502, "upstream_error");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn who_may_not_read_is_told_so() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let (cleo, open) = (scene.upstream.user("Cleo"), scene.upstream.space("Open", &[&scene.ana]));
    let (cleos, guests) = scene.upstream.with_world(|world| {
        world.change_space(&open.id, |space| {
            space.open = true;
            space.restrict.push("deny_guest_access_history_msg".to_owned());
        });
        let guest = world.add_user("Guest", "guest-7", UserKind::Anonymous);
        (world.token_for(&cleo, TokenKind::Jwt), world.token_for(&guest, TokenKind::Anonymous))
    });
    let path = format!("/spaces/{}/messages", scene.space.id);
    bridge.get(&path, &cleos).await.assert_problem(403, "upstream_forbidden");
    bridge.get(&format!("/spaces/{}/messages", open.id), &guests).await.assert_problem(403, "upstream_forbidden");
    bridge.get("/spaces/64f0a1b2c3d4e5f601020399/messages", &cleos).await.assert_problem(404, "upstream_not_found");
    scene.upstream.script(|script| {
        script.rest.on("/api/spaces/*/messages/query").next(1, RestFault::too_many(3));
    });
    let limited = bridge.get(&path, &scene.token).await;
    limited.assert_problem(429, "upstream_rate_limited");
    assert_eq!(limited.header("retry-after"), "3");
    bridge.stop().await;
}
