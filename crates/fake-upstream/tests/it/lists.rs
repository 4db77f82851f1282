//! Pages, in both styles and with every end.

use fake_upstream::{EndOfList, Pagination, Token};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Scene, call};

impl Scene {
    /// Messages `0..count` in the space, one second apart, the first at second 1.
    fn fill(&self, count: i64) {
        for number in 0..count {
            let stored = self.upstream.backdate_as(&self.ana, &self.ops, &number.to_string(), (number + 1) * 1000);
            stored.expect("a known space");
        }
    }

    async fn list(&self, token: &Token, path: &str) -> Value {
        let reply = call(&self.upstream, token, Method::GET, path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply.json()
    }

    /// Follows `nextPageUrl` to the end; answers the texts and the last page.
    async fn walk(&self, path: &str) -> (Vec<String>, Value) {
        let mut texts = Vec::new();
        let mut page = self.list(&self.anas, path).await;
        loop {
            let data = page["data"].as_array().expect("data");
            texts.extend(data.iter().map(|item| item["content"]["bodyText"].as_str().expect("a text").to_owned()));
            match page["nextPageUrl"].as_str() {
                Some(next) if next.starts_with('/') => page = self.list(&self.anas, next).await,
                _ => return (texts, page),
            }
        }
    }
}

fn numbers(range: impl Iterator<Item = i64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_history_is_walked_forwards_and_backwards_in_both_styles() {
    let scene = Scene::new().await;
    scene.fill(7);
    let path = format!("/api/spaces/{}/messages/query?size=3", scene.ops.id);
    for style in [Pagination::Cursor, Pagination::Page] {
        scene.upstream.script(|script| {
            script.pagination.always(style);
        });
        let (after, _) = scene.walk(&format!("{path}&refTime=1970-01-01T00:00:02.000Z&direction=after")).await;
        assert_eq!(after, numbers(2..7));
        let (before, _) = scene.walk(&format!("{path}&refTime=6000&direction=before")).await;
        assert_eq!(before, numbers((0..5).rev()));
    }
    let now = scene.list(&scene.anas, &path).await;
    assert_eq!(now["data"], json!([]), "by default only what comes after now");
    for wrong in ["&direction=up", "&refTime=yesterday"] {
        assert_eq!(call(&scene.upstream, &scene.anas, Method::GET, &format!("{path}{wrong}"), None).await.status, 400);
    }
}

#[tokio::test]
async fn the_two_styles_count_differently_and_link_back_under_both_names() {
    let scene = Scene::new().await;
    scene.fill(5);
    let path = format!("/api/activitiesrecord/messages?spaceid={}&after=0&size=2", scene.ops.id);
    let first = scene.list(&scene.anas, &path).await;
    assert_eq!((&first["from"], &first["to"], &first["total"]), (&json!(0), &json!(2), &json!(5)));
    let second = scene.list(&scene.anas, first["nextPageUrl"].as_str().expect("a next page")).await;
    assert_eq!(second["prevPageUrl"], second["previousPageUrl"]);
    assert_eq!(scene.list(&scene.anas, second["prevPageUrl"].as_str().expect("a previous page")).await["data"], first["data"]);

    scene.upstream.script(|script| {
        script.pagination.always(Pagination::Cursor);
    });
    let first = scene.list(&scene.anas, &path).await;
    assert_eq!((first.get("from"), &first["total"]), (None, &json!(2)));
    let second = scene.list(&scene.anas, first["nextPageUrl"].as_str().expect("a next page")).await;
    assert_eq!(scene.list(&scene.anas, second["prevPageUrl"].as_str().expect("a previous page")).await["data"], first["data"]);
}

#[tokio::test]
async fn lists_end_in_each_way() {
    let scene = Scene::new().await;
    scene.fill(4);
    let path = format!("/api/spaces/{}/messages/query?size=2&refTime=0", scene.ops.id);
    for (end, last) in [
        (EndOfList::Missing, None),
        (EndOfList::Empty, Some(json!(""))),
        (EndOfList::End, Some(json!("end"))),
        (EndOfList::EmptyPage, None),
    ] {
        scene.upstream.script(|script| {
            script.end_of_list.always(end);
        });
        let (texts, page) = scene.walk(&path).await;
        assert_eq!(texts, numbers(0..4));
        assert_eq!(page.get("nextPageUrl"), last.as_ref());
        assert_eq!(page["data"].as_array().map(Vec::len), Some(if end == EndOfList::EmptyPage { 0 } else { 2 }));
    }
}

#[tokio::test]
async fn activity_shows_additions_changes_and_deletions_by_time_of_change() {
    let scene = Scene::new().await;
    scene.fill(3);
    let page = scene.list(&scene.anas, &format!("/api/activitiesrecord/messages?spaceid={}&after=0", scene.ops.id)).await;
    let ids: Vec<&str> = page["data"].as_array().expect("data").iter().filter_map(|item| item["_id"].as_str()).collect();
    scene.upstream.edit(ids[1], "edited").expect("a message");
    scene.upstream.delete(ids[0]).expect("a message");
    let path = format!("/api/activitiesrecord/messages?spaceid={}", scene.ops.id);
    let (texts, last) = scene.walk(&format!("{path}&after=2500")).await;
    assert_eq!(texts, ["2", "edited", ""]);
    assert_eq!(last["data"][2]["isDeleted"], true);
    assert_eq!(scene.walk(&format!("{path}&before=4000")).await.0, ["2"]);
    assert_eq!(scene.walk(&path).await.0.len(), 3);

    let mine = format!("/api/users/me/messages?spacelist={}&after=0", scene.ops.id);
    assert_eq!(scene.walk(&mine).await.0, ["2", "edited"]);
    assert_eq!(scene.walk(&format!("{mine}&includedeleted=true")).await.0, ["2", "edited", ""]);
    let many = vec!["x"; 16].join(",");
    for list in ["", many.as_str()] {
        let path = format!("/api/users/me/messages?spacelist={list}");
        assert_eq!(call(&scene.upstream, &scene.anas, Method::GET, &path, None).await.status, 400);
    }
}

#[tokio::test]
async fn a_history_can_be_narrowed() {
    let scene = Scene::new().await;
    let send = |payload: Value| scene.upstream.send_as(&scene.ana, &scene.ops, &payload).expect("a known space");
    let idea = send(json!({"category": "idea", "content": {"bodyText": "an idea"}}));
    send(json!({"parentMsg": {"_id": idea["_id"]}, "content": {"bodyText": "a comment"}}));
    send(json!({"content": {"bodyText": "a file", "data": [{"fileId": "f"}]}}));
    let path = format!("/api/spaces/{}/messages/query?refTime=0", scene.ops.id);
    for (filter, expected) in [
        ("", vec!["an idea", "a comment", "a file"]),
        ("&category=idea,task", vec!["an idea"]),
        ("&parentmsg_category=idea", vec!["a comment"]),
        ("&parentmsg_category=none", vec!["an idea", "a file"]),
        ("&chatmsg_only=true", vec!["a comment", "a file"]),
        ("&file_only=true", vec!["a file"]),
        ("&searchstring=COMM", vec!["a comment"]),
    ] {
        assert_eq!(scene.walk(&format!("{path}{filter}")).await.0, expected, "{filter}");
    }
    let id = idea["_id"].as_str().expect("an id");
    assert_eq!(scene.walk(&format!("/api/ideas/{id}/messages")).await.0, ["a comment"]);
    assert_eq!(
        scene.walk(&format!("/api/activitiesrecord/messages?spaceid={}&parent={id}", scene.ops.id)).await.0,
        ["a comment"]
    );
}
