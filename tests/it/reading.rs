//! Reading over the real service: who the caller is and which spaces there are, whatever the upstream's REST API does.

use std::time::Duration;

use fake_upstream::{EndOfList, ErrorBody, Options, Pagination, RestFault, SpaceKind, TokenKind};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::bridge::{Bridge, Scene, send};
use crate::support::wait::eventually;

#[tokio::test]
async fn the_caller_is_told_who_they_are() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let me = bridge.get("/me", &scene.token).await;
    assert_eq!(me.status, StatusCode::OK, "{}", me.text);
    let me = me.json();
    assert_eq!((&me["userId"], &me["displayName"]), (&json!(scene.ana.id), &json!("Ana")));
    assert_eq!((&me["username"], &me["type"]), (&json!("ana@corp.example"), &json!("user")));
    assert_eq!(me["account"], format!("acc_{}", scene.ana.id));
    assert_eq!(me["sessionId"], bridge.session().await["id"]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_service_application_is_a_caller_whom_spaces_does_not_name() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let token = scene.upstream.token_for(&scene.ana, TokenKind::Service);
    let request = bridge.plain(Method::GET, &format!("{}/me", bridge.api)).header("authorization", token.authorization());
    let me = send(request).await;
    assert_eq!(me.status, StatusCode::OK, "{}", me.text);
    assert_eq!(me.json()["userId"], json!(null));
    bridge.stop().await;
}

#[tokio::test]
async fn all_spaces_are_listed_however_the_upstream_pages_and_ends() {
    let scene = Scene::new().await;
    let mut expected = vec![scene.space.id.clone(), scene.upstream.direct_space(&scene.ana, &scene.bo).id];
    let room = scene.upstream.with_world(|world| world.add_space("Room", SpaceKind::Personal, &[&scene.ana]));
    expected.push(room.id);
    expected.extend((0..110).map(|number| scene.upstream.space(&format!("Space {number}"), &[&scene.ana]).id));
    expected.sort();
    let bridge = Bridge::start_with(&scene.upstream, |_| {}).await;
    for pagination in [Pagination::Page, Pagination::Cursor] {
        for end in [EndOfList::Missing, EndOfList::Empty, EndOfList::End, EndOfList::EmptyPage] {
            for limit in [200, 33] {
                scene.upstream.script(|script| {
                    script.pagination.always(pagination);
                    script.end_of_list.always(end);
                });
                let mut found = Vec::new();
                let mut path = format!("/spaces?limit={limit}");
                loop {
                    let page = bridge.get(&path, &scene.token).await;
                    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
                    let page = page.json();
                    let spaces = page["data"].as_array().expect("a list");
                    assert!(spaces.len() <= limit);
                    found.extend(spaces.iter().map(|space| space["id"].as_str().expect("an id").to_owned()));
                    let Some(cursor) = page["nextCursor"].as_str() else { break };
                    path = format!("/spaces?limit={limit}&cursor={cursor}");
                }
                found.sort();
                assert_eq!(found, expected, "{pagination:?} {end:?} {limit}");
            }
        }
    }
    let page = bridge.get("/spaces?limit=200", &scene.token).await.json();
    let kinds = |kind: &str| page["data"].as_array().map(|all| all.iter().filter(|space| space["type"] == kind).count());
    assert_eq!((kinds("group"), kinds("direct"), kinds("personal")), (Some(111), Some(1), Some(1)));
    bridge.stop().await;
}

#[tokio::test]
async fn what_goes_wrong_upstream_is_a_problem_of_its_kind() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.upstream.rest_timeout_seconds = 1).await;
    assert_eq!(bridge.get("/me", &scene.token).await.status, StatusCode::OK);
    let raw = |status, body: &str| RestFault::Answer {
        status,
        body: ErrorBody::Raw("text/html".to_owned(), body.to_owned()),
        retry_after: None,
    };
    let garbled = |body: &str| RestFault::Garbled { content_type: "application/json".to_owned(), body: body.to_owned() };
    let wrapped = ErrorBody::Wrapped("no.no".to_owned(), "not you".to_owned());
    let faults = [
        (RestFault::status(400, "bad", "so bad"), 422, "upstream_refused", json!("bad")),
        (RestFault::status(403, "no.no", "not you"), 403, "upstream_forbidden", json!("no.no")),
        (RestFault::Answer { status: 403, body: wrapped, retry_after: None }, 403, "upstream_forbidden", json!("no.no")),
        (RestFault::status(404, "gone", "nowhere"), 404, "upstream_not_found", json!("gone")),
        (RestFault::status(409, "twice", "already"), 409, "upstream_conflict", json!("twice")),
        (RestFault::status(500, "oops", "oh no"), 502, "upstream_error", json!("oops")),
        (raw(503, "<html>maintenance</html>"), 502, "upstream_error", json!(null)),
        (RestFault::Answer { status: 504, body: ErrorBody::Empty, retry_after: None }, 502, "upstream_error", json!(null)),
        (raw(302, "elsewhere"), 502, "upstream_error", json!(null)),
        (garbled("<html>login</html>"), 502, "upstream_error", json!(null)),
        (garbled("{\"data\":"), 502, "upstream_error", json!(null)),
        (garbled("[]"), 502, "upstream_error", json!(null)),
        (garbled("{}"), 502, "upstream_error", json!(null)),
        (RestFault::Hang, 503, "upstream_unreachable", json!(null)),
        (RestFault::Cut, 503, "upstream_unreachable", json!(null)),
        (RestFault::Slow(Duration::from_secs(30)), 503, "upstream_unreachable", json!(null)),
    ];
    for path in ["/me", "/spaces"] {
        for (fault, status, code, upstream_code) in &faults {
            scene.upstream.script(|script| {
                script
                    .rest
                    .on(&format!("/api/users{}", if path == "/me" { "/me" } else { "/me/spaces" }))
                    .off()
                    .always(fault.clone());
            });
            let answer = bridge.get(path, &scene.token).await;
            answer.assert_problem(*status, code);
            assert_eq!(answer.json()["upstreamCode"], *upstream_code, "{path} {fault:?}");
        }
    }
    scene.upstream.clear_script();
    assert_eq!(bridge.get("/spaces", &scene.token).await.status, StatusCode::OK, "and it recovers");
    bridge.stop().await;
}

#[tokio::test]
async fn the_first_call_of_a_token_tells_what_went_wrong_upstream() {
    for (fault, status, code) in [
        (RestFault::too_many(1), 429, "upstream_rate_limited"),
        (RestFault::status(500, "oops", "oh no"), 502, "upstream_error"),
        (RestFault::Cut, 503, "upstream_unreachable"),
    ] {
        let scene = Scene::new().await;
        scene.upstream.script(|script| {
            script.rest.on("/api/users/me").always(fault);
        });
        let bridge = Bridge::start(&scene.upstream).await;
        bridge.get("/me", &scene.token).await.assert_problem(status, code);
        scene.upstream.script(|script| script.rest.off());
        let me = eventually("calls that Spaces wants again", async || {
            let me = bridge.get("/me", &scene.token).await;
            (me.json()["code"] != "call_budget_exhausted").then_some(me)
        })
        .await;
        assert_eq!((me.status, &me.json()["userId"]), (StatusCode::OK, &json!(scene.ana.id)), "{}", me.text);
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_next_page_on_another_host_is_not_followed() {
    let scene = Scene::with(Options::default()).await;
    let bridge = Bridge::start(&scene.upstream).await;
    for next in ["https://example.com/steal", "//example.com/steal", "http://127.0.0.1:1/steal"] {
        let body = json!({"data": [{"_id": "s1", "title": "t", "type": "group"}], "nextPageUrl": next}).to_string();
        scene.upstream.script(|script| {
            let fault = RestFault::Garbled { content_type: "application/json".to_owned(), body };
            script.rest.on("/api/users/me/spaces").off().always(fault);
        });
        bridge.get("/spaces", &scene.token).await.assert_problem(502, "upstream_error");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_list_that_never_ends_is_given_in_pages() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let body =
        json!({"data": [{"_id": "s1", "title": "t", "type": "odd"}], "nextPageUrl": "/api/users/me/spaces?page=1"}).to_string();
    scene.upstream.script(|script| {
        let fault = RestFault::Garbled { content_type: "application/json".to_owned(), body };
        script.rest.on("/api/users/me/spaces").always(fault);
    });
    let page = bridge.get("/spaces?limit=3", &scene.token).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let page = page.json();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(3));
    assert_eq!(page["data"][0], json!({"id": "s1", "title": "t", "type": null}));
    assert!(page["nextCursor"].is_string());
    bridge.stop().await;
}
