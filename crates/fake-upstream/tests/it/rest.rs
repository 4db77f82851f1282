//! REST endpoints as documented.

use fake_upstream::{FakeUpstream, SpaceKind, Token, TokenKind, User, UserKind};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Scene, call, call_with};

impl Scene {
    async fn get(&self, token: &Token, path: &str) -> Reply {
        call(&self.upstream, token, Method::GET, path, None).await
    }

    async fn post(&self, token: &Token, path: &str, body: Value) -> Reply {
        call(&self.upstream, token, Method::POST, path, Some(body)).await
    }
}

fn guest(upstream: &FakeUpstream) -> (User, Token) {
    let guest = upstream.with_world(|world| world.add_user("Guest7", "guest7", UserKind::Anonymous));
    let token = upstream.token_for(&guest, TokenKind::Anonymous);
    (guest, token)
}

#[tokio::test]
async fn a_profile_is_bare_and_needs_a_valid_token_of_the_right_scheme() {
    let scene = Scene::new().await;
    let profile = scene.get(&scene.anas, "/api/users/me").await.json();
    assert_eq!((&profile["_id"], &profile["aType"]), (&json!(scene.ana.id), &json!("user")));
    let value = &scene.anas.value;
    for (authorization, status) in [
        (format!("JWT {value}"), 200),
        (format!("bearer {value}"), 401),
        ("jwt nonsense".to_owned(), 401),
        (value.clone(), 401),
        (format!("Bearer {}", scene.bos.value), 200),
    ] {
        let reply =
            call_with(&scene.upstream, Method::GET, "/api/users/me", &[("authorization", authorization)], Vec::new()).await;
        assert_eq!(reply.status, status);
        assert!(status == 200 || reply.json()["code"].is_string());
    }
}

#[tokio::test]
async fn a_service_app_may_send_but_not_ask_who_it_is() {
    let scene = Scene::new().await;
    let service = scene.upstream.token_for(&scene.ana, TokenKind::Service);
    for path in ["/api/users/me", "/api/users/me/spaces", "/api/users/me/messages?spacelist=x"] {
        assert_eq!(scene.get(&service, path).await.status, 401);
    }
    let path = format!("/api/spaces/{}/chats", scene.ops.id);
    assert_eq!(scene.post(&service, &path, json!({"content": {"bodyText": "x"}})).await.status, 200);
    assert_eq!(scene.get(&service, &format!("/api/spaces/direct/user/{}", scene.bo.id)).await.status, 200);
}

#[tokio::test]
async fn a_space_is_shown_and_joined_by_those_it_admits() {
    let scene = Scene::new().await;
    let path = format!("/api/spaces/{}", scene.ops.id);
    let space = scene.get(&scene.anas, &path).await.json();
    assert_eq!((&space["title"], &space["type"]), (&json!("Ops"), &json!("group")));
    let roles: Vec<_> = space["members"].as_array().expect("members").iter().map(|member| member["role"].clone()).collect();
    assert_eq!(roles, ["admin", "member"]);
    assert_eq!(scene.get(&scene.anas, "/api/spaces/nope").await.status, 404);
    let (_, guest) = guest(&scene.upstream);
    assert_eq!(scene.get(&guest, &format!("{path}/join")).await.status, 403);
    scene.upstream.with_world(|world| world.change_space(&scene.ops.id, |space| space.open = true));
    let joined = scene.get(&guest, &format!("{path}/join")).await.json();
    assert_eq!(joined["topic"]["members"].as_array().map(Vec::len), Some(3));
    assert_eq!(scene.get(&guest, &format!("/api/topics/{}/members", scene.ops.id)).await.json()["total"], 3);
    assert_eq!(scene.get(&guest, &format!("/api/spaces/invites/{}/join", scene.ops.id)).await.status, 200);
}

#[tokio::test]
async fn a_pin_is_needed_on_every_call_inside_the_space() {
    let scene = Scene::new().await;
    scene.upstream.with_world(|world| world.change_space(&scene.ops.id, |space| space.pin = Some("1234".to_owned())));
    for path in ["", "/join", "/members", "/messages/query"] {
        let path = format!("/api/spaces/{}{path}", scene.ops.id);
        let refused = scene.get(&scene.anas, &path).await;
        assert_eq!(refused.status, 403);
        assert!(refused.json()["message"].is_string());
        let headers = [("authorization", scene.anas.authorization()), ("spaces-x-space-password", "1234".to_owned())];
        assert_eq!(call_with(&scene.upstream, Method::GET, &path, &headers, Vec::new()).await.status, 200);
    }
}

#[tokio::test]
async fn a_direct_space_is_made_once_and_refused_to_strangers_and_absent_guests() {
    let scene = Scene::new().await;
    let path = format!("/api/spaces/direct/user/{}", scene.bo.id);
    let first = scene.get(&scene.anas, &path).await.json();
    assert_eq!(first["data"][0]["type"], "direct");
    assert_eq!(scene.get(&scene.anas, &path).await.json()["data"][0]["_id"], first["data"][0]["_id"]);
    assert_eq!(scene.get(&scene.anas, "/api/users/me/people/withdm").await.json()["data"][0]["_id"], scene.bo.id.as_str());

    let stranger = scene.upstream.user("Stranger");
    scene.upstream.with_world(|world| world.separate(&scene.ana, &stranger));
    assert_eq!(scene.get(&scene.anas, &format!("/api/spaces/direct/user/{}", stranger.id)).await.status, 403);
    assert_eq!(scene.get(&scene.anas, "/api/spaces/direct/user/nobody").await.status, 404);
    assert_eq!(scene.get(&scene.anas, "/api/spaces/direct/email/x").await.status, 400);
    assert_eq!(scene.get(&scene.anas, &format!("/api/spaces/direct/user/{}", scene.ana.id)).await.status, 400);

    let (guest, guests) = guest(&scene.upstream);
    let path = format!("/api/spaces/direct/anonymous/{}", guest.id);
    assert_eq!(scene.get(&scene.anas, &path).await.status, 403);
    scene.upstream.with_world(|world| world.change_space(&scene.ops.id, |space| space.open = true));
    let _online = scene.subscribe(&guests).await;
    assert_eq!(scene.get(&scene.anas, &path).await.status, 200);
}

#[tokio::test]
async fn a_meeting_room_leads_from_an_address_to_a_user() {
    let scene = Scene::new().await;
    let room = scene.get(&scene.anas, "/api/users/meetingroom/bo@corp.example").await.json();
    assert_eq!((&room["data"]["cid"], &room["data"]["type"]), (&json!(scene.bo.id), &json!("personal")));
    assert_eq!(scene.get(&scene.anas, "/api/users/meetingroom/no@corp.example").await.status, 404);
    let found = scene.get(&scene.anas, "/api/users/me/colleagues?search=BO").await.json();
    assert_eq!(found["data"][0]["_id"], scene.bo.id.as_str());
}

#[tokio::test]
async fn chats_posts_and_tasks_are_made_within_the_rules_of_the_space() {
    let scene = Scene::new().await;
    let path = |kind: &str| format!("/api/spaces/{}/{kind}", scene.ops.id);
    let content = json!({"content": {"bodyText": "x", "description": "<p>y</p>"}});
    assert_eq!(scene.post(&scene.anas, &path("ideas?notify=true"), content.clone()).await.json()["category"], "idea");
    assert_eq!(scene.post(&scene.anas, &path("tasks"), content.clone()).await.status, 400);
    let task =
        json!({"content": {"bodyText": "x"}, "assignees": [scene.bo.id], "dueDate": "2031-03-14T17:00:00.000Z", "status": 1});
    for (field, odd) in [("assignees", json!("x")), ("dueDate", json!(null)), ("dueDate", json!("soon")), ("status", json!(2))] {
        let mut task = task.clone();
        task[field] = odd;
        assert_eq!(scene.post(&scene.anas, &path("tasks"), task).await.status, 400, "{field}");
    }
    let task = scene.post(&scene.anas, &path("tasks?notify=true"), task).await.json();
    assert_eq!(
        (&task["content"]["status"], &task["content"]["assignees"]),
        (&json!("completed"), &json!([{"_id": scene.bo.id}]))
    );
    assert_eq!(scene.get(&scene.anas, &path("tasks")).await.json()["data"][0]["_id"], task["_id"]);
    assert_eq!(scene.get(&scene.anas, &path("ideas")).await.json()["total"], 1);
    assert_eq!(scene.get(&scene.anas, &path("meetings")).await.json()["total"], 0);
    assert_eq!(scene.post(&scene.anas, &path("chats"), json!({"content": {}})).await.status, 400);
    assert_eq!(scene.post(&scene.anas, &path("chats"), json!([])).await.status, 400);

    scene.upstream.with_world(|world| world.change_space(&scene.ops.id, |space| space.open = true));
    let (_, guest) = guest(&scene.upstream);
    assert_eq!(scene.post(&guest, &path("chats"), content.clone()).await.status, 200);
    assert_eq!(scene.post(&guest, &path("ideas"), content.clone()).await.status, 403);
    scene.upstream.with_world(|world| world.change_space(&scene.ops.id, |space| space.archived = true));
    let refused = scene.post(&scene.anas, &path("chats"), content).await;
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("topic.invalid_acesss_to_archived_topic")));
}

#[tokio::test]
async fn edits_and_deletions_reach_subscribers_under_the_same_id() {
    let scene = Scene::new().await;
    let mut bo = scene.subscribe(&scene.bos).await;
    let id = scene.upstream.post_as(&scene.ana, &scene.ops, "first").expect("a known space")["_id"].clone();
    let id = id.as_str().expect("an id");
    let path = format!("/api/messages/{id}");
    let edit = |text: &str| json!({"_id": id, "content": {"bodyText": text}});
    for (method, text) in [(Method::PATCH, "second"), (Method::POST, "third")] {
        assert_eq!(call(&scene.upstream, &scene.anas, method, &path, Some(edit(text))).await.status, 200);
    }
    let deletion = scene.post(&scene.anas, "/api/messages/deletemessages", json!([id, "nope"])).await.json();
    assert_eq!((&deletion["deletedMessages"], &deletion["notFoundMmessages"]), (&json!([id]), &json!(["nope"])));

    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(bo.event("MESSAGE_SENT").await);
    }
    assert!(events.iter().all(|event| event["_id"] == id));
    let modified: Vec<_> = events.iter().map(|event| event["modified"].as_str().unwrap_or_default()).collect();
    assert!(modified.is_sorted() && modified[0].is_empty() && modified[2] < modified[3]);
    assert_eq!(events[3]["isDeleted"], true);
    assert_eq!(call(&scene.upstream, &scene.anas, Method::PATCH, &path, Some(edit("late"))).await.status, 404);

    let foreign = scene.upstream.post_as(&scene.ana, &scene.ops, "mine").expect("a known space")["_id"].clone();
    let barred = scene.post(&scene.bos, "/api/messages/deletemessages", json!([foreign])).await.json();
    assert_eq!(barred["noPermittedMessages"][0]["messageId"], foreign);
    let many: Vec<_> = (0..101).map(|number| number.to_string()).collect();
    assert_eq!(scene.post(&scene.anas, "/api/messages/deletemessages", json!(many)).await.status, 400);
}

#[tokio::test]
async fn the_second_of_two_edits_is_refused_and_an_archived_space_keeps_its_messages() {
    let scene = Scene::new().await;
    let id = scene.upstream.post_as(&scene.ana, &scene.ops, "first").expect("a known space")["_id"].clone();
    let id = id.as_str().expect("an id");
    let (path, edit) = (format!("/api/messages/{id}"), json!({"_id": id, "content": {"bodyText": "second"}}));
    scene.upstream.with_world(|world| world.set_being_edited(id, true));
    assert_eq!(scene.post(&scene.anas, &path, edit.clone()).await.status, 400);
    scene.upstream.with_world(|world| world.set_being_edited(id, false));
    assert_eq!(scene.post(&scene.anas, &path, edit).await.status, 200);

    scene.upstream.with_world(|world| world.change_space(&scene.ops.id, |space| space.archived = true));
    let kept = scene.post(&scene.anas, "/api/messages/deletemessages", json!([id])).await.json();
    assert_eq!((&kept["deletedMessages"], &kept["notDeletedMessages"][0]["messageId"]), (&json!([]), &json!(id)));
    assert!(kept["notDeletedMessages"][0]["reason"]["code"].is_string());
}

#[tokio::test]
async fn the_newest_messages_come_first_without_a_time_to_begin_at() {
    let scene = Scene::new().await;
    for text in ["one", "two"] {
        scene.upstream.post_as(&scene.ana, &scene.ops, text).expect("a known space");
    }
    let list = scene.get(&scene.bos, &format!("/api/spaces/{}/messages/query?direction=before", scene.ops.id)).await.json();
    let texts: Vec<_> = list["data"].as_array().expect("a list").iter().map(|entry| &entry["content"]["bodyText"]).collect();
    assert_eq!(texts, ["two", "one"]);
}

#[tokio::test]
async fn guests_may_be_barred_from_history() {
    let scene = Scene::new().await;
    let (_, guest) = guest(&scene.upstream);
    let path = format!("/api/spaces/{}/messages/query", scene.ops.id);
    scene.upstream.with_world(|world| {
        world.change_space(&scene.ops.id, |space| {
            space.open = true;
            space.restrict.push("deny_guest_access_history_msg".to_owned());
        })
    });
    assert_eq!(scene.get(&guest, &path).await.status, 403);
    assert_eq!(scene.get(&scene.bos, &path).await.status, 200);
}

#[tokio::test]
async fn spaces_are_made_listed_and_marked_as_read() {
    let scene = Scene::new().await;
    let body = json!({"topic": {"id": null, "title": "War room", "type": "group", "description": "d"},
        "invitees": [{"inviteeType": "email", "invitee": "bo@corp.example", "role": "member"}]});
    let made = scene.post(&scene.anas, "/api/spaces/invite", body.clone()).await.json();
    let id = made["data"][0]["topicId"].as_str().expect("an id").to_owned();
    assert_eq!(scene.get(&scene.bos, &format!("/api/spaces/{id}")).await.json()["description"], "d");
    let (_, guest) = guest(&scene.upstream);
    assert_eq!(scene.post(&guest, "/api/spaces/invite", body).await.status, 403);
    assert_eq!(scene.post(&scene.anas, &format!("/api/users/me/spaces/{id}/markread"), json!({})).await.status, 200);
    let marks = |user| {
        let marks = |world: &mut fake_upstream::World| world.read_marks(user, world.find_space(&id).expect("a space"));
        scene.upstream.with_world(marks)
    };
    assert_eq!((marks(&scene.ana), marks(&scene.bo)), (1, 0));

    scene.upstream.with_world(|world| world.add_space("Room", SpaceKind::Personal, &[&scene.ana]));
    for (query, count) in
        [("", 2), ("?topictype=all", 3), ("?topictype=personal,direct", 1), ("?search=WAR", 1), ("?topicstatus=1", 0)]
    {
        let list = scene.get(&scene.anas, &format!("/api/users/me/spaces{query}")).await.json();
        assert_eq!(list["data"].as_array().map(Vec::len), Some(count), "{query}");
    }
    assert_eq!(scene.get(&scene.anas, "/api/nothing/here").await.status, 404);
}
