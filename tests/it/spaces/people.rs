//! Spaces themselves, their members, people, and what bridge keys reach of all that.

use fake_upstream::{RestFault, User};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::{ADMIN_KEY, Answer, Bridge, Scene, send};

#[tokio::test]
async fn a_space_is_shown_without_what_opens_its_conference() {
    let scene = Scene::new().await;
    scene.upstream.with_world(|world| {
        world.change_space(&scene.space.id, |space| {
            space.description = "<p>on call</p>".to_owned();
            space.restrict.push("deny_guest_access_history_msg".to_owned());
        })
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/spaces/{}", scene.space.id);
    let shown = bridge.get(&path, &scene.token).await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    let space = shown.json();
    assert_eq!((&space["id"], &space["title"]), (&json!(scene.space.id), &json!("Ops")));
    assert_eq!((&space["type"], &space["description"]), (&json!("group"), &json!("<p>on call</p>")));
    assert_eq!((&space["ownerId"], &space["restrictions"]), (&json!(scene.ana.id), &json!(["deny_guest_access_history_msg"])));
    assert!(space["createdAt"].is_string() && !shown.text.contains("conf"), "{}", shown.text);

    for (body, status) in [
        (json!({"topic": {"_id": scene.space.id, "title": "wrapped", "restrict": [7, "x"]}}), 200),
        (json!({"_id": "another", "title": "foreign"}), 502),
        (json!({}), 502),
        (json!([]), 502),
    ] {
        scene.upstream.script(|script| {
            let fault = RestFault::Garbled { content_type: "application/json".to_owned(), body: body.to_string() };
            script.rest.on("/api/spaces/*").off().next(1, fault);
        });
        assert_eq!(bridge.get(&path, &scene.token).await.status, status, "{body}");
    }
    bridge.get("/spaces/64f0a1b2c3d4e5f601020399", &scene.token).await.assert_problem(404, "upstream_not_found");
    let elsewhere = scene.upstream.space("Elsewhere", &[&scene.bo]);
    bridge.get(&format!("/spaces/{}", elsewhere.id), &scene.token).await.assert_problem(403, "upstream_forbidden");
    bridge.stop().await;
}

/// All entries of a list, page by page.
async fn all(scene: &Scene, bridge: &Bridge, path: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = bridge.get(&format!("{path}{cursor}"), &scene.token).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text);
        let page = page.json();
        all.extend(page["data"].as_array().expect("a list").clone());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[tokio::test]
async fn members_are_listed_in_pages_and_searched() {
    let scene = Scene::new().await;
    scene.upstream.with_world(|world| {
        let more: Vec<User> = (0..70).map(|number| world.user(&format!("Worker {number}"))).collect();
        world.change_space(&scene.space.id, |space| space.members.extend(more.into_iter().map(|user| user.id)))
    });
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/spaces/{}/members", scene.space.id);
    for limit in [7, 50, 200] {
        let members = all(&scene, &bridge, &format!("{path}?limit={limit}")).await;
        assert_eq!(members.len(), 72, "{limit}");
        let ana = json!({"userId": scene.ana.id, "type": "user", "username": "ana@corp.example", "displayName": "Ana", "role": "admin"});
        assert_eq!(members[0], ana);
        assert_eq!(members[1]["role"], "member");
    }
    let found = all(&scene, &bridge, &format!("{path}?search=worker%206&limit=4")).await;
    assert_eq!(found.len(), 11);
    let page = bridge.get(&format!("{path}?search=worker&limit=4"), &scene.token).await.json();
    let cursor = page["nextCursor"].as_str().expect("a cursor");
    let other = bridge.get(&format!("{path}?search=ana&cursor={cursor}"), &scene.token).await;
    other.assert_problem(400, "invalid_query");
    bridge.get("/spaces/64f0a1b2c3d4e5f601020399/members", &scene.token).await.assert_problem(404, "upstream_not_found");
    bridge.stop().await;
}

#[tokio::test]
async fn people_are_found_by_address_and_by_name() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let found = all(&scene, &bridge, "/people?email=bo@corp.example").await;
    let bo = json!({"userId": scene.bo.id, "type": null, "username": "bo@corp.example", "displayName": null});
    assert_eq!(found, [bo]);
    assert_eq!(all(&scene, &bridge, "/people?email=nobody@corp.example").await, [Value::Null; 0]);
    let found = all(&scene, &bridge, "/people?search=BO").await;
    assert_eq!((&found[0]["userId"], &found[0]["displayName"]), (&json!(scene.bo.id), &json!("Bo")));
    let direct = format!("/direct/user/{}", found[0]["userId"].as_str().expect("an id"));
    assert_eq!(bridge.post(&direct, &scene.token, &json!({"text": "found you"})).await.status, StatusCode::CREATED);
    scene.upstream.with_world(|world| {
        for number in 0..60 {
            world.user(&format!("Colleague {number}"));
        }
    });
    assert_eq!(all(&scene, &bridge, "/people?search=colleague&limit=9").await.len(), 60);
    for query in ["", "?email=a@b&search=c", "?email=nobody", "?search=", "?search=%0A", "?name=bo"] {
        bridge.get(&format!("/people{query}"), &scene.token).await.assert_problem(400, "invalid_query");
    }
    scene.upstream.script(|script| {
        script.rest.on("/api/users/meetingroom/*").next(1, RestFault::status(403, "no", "no"));
    });
    bridge.get("/people?email=cleo@corp.example", &scene.token).await.assert_problem(403, "upstream_forbidden");
    bridge.stop().await;
}

async fn make_key(bridge: &Bridge, account: &str, settings: Value) -> String {
    let request = bridge.plain(Method::POST, &format!("{}/accounts/{account}/keys", bridge.api));
    let made = send(request.header("authorization", format!("Bearer {ADMIN_KEY}")).json(&settings)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    made.json()["key"].as_str().expect("a key").to_owned()
}

async fn call(bridge: &Bridge, key: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let request = bridge.plain(method, &format!("{}{path}", bridge.api)).header("authorization", format!("Bearer {key}"));
    send(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

#[tokio::test]
async fn keys_do_what_their_scopes_and_spaces_allow() {
    let scene = Scene::new().await;
    let lounge = scene.upstream.space("Lounge", &[&scene.ana, &scene.bo]);
    let bridge = Bridge::start(&scene.upstream).await;
    let subscribed = bridge.put(&format!("/spaces/{}/subscription", scene.space.id), &scene.token).await;
    assert_eq!(subscribed.status, StatusCode::OK, "{}", subscribed.text);
    let account = bridge.get("/me", &scene.token).await.json()["account"].as_str().expect("an account").to_owned();
    let spaces = json!([scene.space.id]);
    let reads = make_key(&bridge, &account, json!({"name": "reads", "scopes": ["read"], "spaces": spaces})).await;
    let sends = make_key(&bridge, &account, json!({"name": "sends", "scopes": ["send"], "spaces": spaces})).await;
    let post = |space: &fake_upstream::Space| {
        let posted = scene.upstream.post_as(&scene.ana, space, "hi").expect("a known space");
        posted["_id"].as_str().expect("an id").to_owned()
    };
    let (here, gone, there) = (post(&scene.space), post(&scene.space), post(&lounge));
    let (space, other) = (format!("/spaces/{}", scene.space.id), format!("/spaces/{}", lounge.id));
    let edit = Some(json!({"text": "edited"}));
    let reading = [
        (Method::GET, String::new()),
        (Method::GET, "/members".to_owned()),
        (Method::GET, "/messages".to_owned()),
        (Method::POST, "/read".to_owned()),
    ];
    for (method, path) in reading {
        let answer = call(&bridge, &reads, method.clone(), &format!("{space}{path}"), None).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        call(&bridge, &reads, method.clone(), &format!("{other}{path}"), None).await.assert_problem(403, "space_not_in_key");
        call(&bridge, &sends, method, &format!("{space}{path}"), None).await.assert_problem(403, "scope_missing");
    }
    let changing = [
        (Method::PATCH, format!("/messages/{here}"), edit.clone()),
        (Method::DELETE, format!("/messages/{gone}"), None),
        (Method::POST, "/typing".to_owned(), None),
    ];
    for (method, path, body) in changing {
        let refused = call(&bridge, &reads, method.clone(), &format!("{space}{path}"), body.clone()).await;
        refused.assert_problem(403, "scope_missing");
        let refused = call(&bridge, &sends, method.clone(), &format!("{other}{path}"), body.clone()).await;
        refused.assert_problem(403, "space_not_in_key");
        let answer = call(&bridge, &sends, method, &format!("{space}{path}"), body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
    }
    for (method, body) in [(Method::PATCH, edit), (Method::DELETE, None)] {
        let smuggled = call(&bridge, &sends, method, &format!("{space}/messages/{there}"), body).await;
        smuggled.assert_problem(404, "message_not_found");
    }
    call(&bridge, &reads, Method::GET, "/people?search=bo", None).await.assert_problem(403, "space_not_in_key");
    bridge.stop().await;
}
