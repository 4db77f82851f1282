//! What a killed process leaves behind is enough to go on: the refresh token in the store is never a dead one.

use fake_upstream::RestFault;
use serde_json::json;

use super::*;
use crate::support::process::Service;

async fn operate(service: &Service, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let request = service.client.request(method, format!("{}{path}", service.internal));
    let request = request.header("authorization", format!("Bearer {ADMIN_KEY}"));
    send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

async fn is_online(service: &Service, scene: &Scene) -> Value {
    let path = format!("/accounts/{}", scene.ana_account());
    eventually("the account's session to be online", async || {
        let account = operate(service, Method::GET, &path, None).await.json();
        (account["state"] == "active" && account["sessionState"] == "online").then_some(account)
    })
    .await
}

/// Starts a call, waits until the server gave a token and Spaces is asked whose it is, and kills the process while that hangs.
async fn killed_between(scene: &Scene, service: Service, method: Method, path: &str, body: Option<Value>) -> Service {
    let asked = |seen: &Seen| seen.rest_count("GET", "/api/users/me");
    let (grants, before) = (scene.grants(), scene.upstream.seen(asked));
    scene.upstream.script(|script| _ = script.rest.on("/api/users/me").always(RestFault::Hang));
    let request = service.client.request(method, format!("{}{path}", service.internal));
    let request = request.header("authorization", format!("Bearer {ADMIN_KEY}"));
    let call = tokio::spawn(body.map_or(request.try_clone().expect("no stream"), |body| request.json(&body)).send());
    scene.upstream.wait_until(DEADLINE, |seen| asked(seen) > before).await.expect("the call gets that far");
    assert_eq!(scene.grants(), grants + 1);
    let killed = service.kill().await;
    assert!(call.await.expect("no panic").is_err(), "the process was killed before it answered");
    scene.upstream.clear_script();
    killed.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_refresh_token_is_on_disk_before_its_access_token_is_used() {
    let scene = Scene::start().await;
    let service = Service::start(&scene.upstream, &[]).await;
    let created = operate(&service, Method::POST, "/accounts", Some(&json!({"credential": scene.refresh_credential()}))).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let before = is_online(&service, &scene).await;

    let path = format!("/accounts/{}/renew", scene.ana_account());
    let service = killed_between(&scene, service, Method::POST, &path, None).await;
    // The session of the token before comes back too, until the new one is in use.
    eventually("the new token to be in use", async || {
        let account = is_online(&service, &scene).await;
        (account["lastRenewedAt"] != before["lastRenewedAt"]).then_some(())
    })
    .await;
    assert_eq!(scene.grants(), 2, "the token that was on disk is used, and no other is asked for");
    let renewed = operate(&service, Method::POST, &path, None).await;
    assert_eq!((renewed.status.as_u16(), &renewed.json()["state"]), (200, &json!("active")), "{}", renewed.text);
    assert_eq!(scene.grants(), 3);
    assert_eq!(
        scene.upstream.with_world(|world| world.unused_refresh_tokens(&scene.ana).len()),
        1,
        "every one but the last is dead"
    );
    let statuses = scene.upstream.seen(|seen| {
        let grants = seen.rest_calls().filter(|call| call.path == "/oauth2/access_token");
        grants.map(|call| call.status).collect::<Vec<_>>()
    });
    assert_eq!(statuses, [Some(200); 3], "no dead refresh token was ever used");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_being_made_can_be_made_with_the_same_credential() {
    let scene = Scene::start().await;
    let service = Service::start(&scene.upstream, &[]).await;
    let body = json!({"credential": scene.refresh_credential()});
    let service = killed_between(&scene, service, Method::POST, "/accounts", Some(body.clone())).await;
    assert_eq!(operate(&service, Method::GET, "/accounts", None).await.json()["data"], json!([]));
    let created = operate(&service, Method::POST, "/accounts", Some(&body)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(scene.grants(), 1);
    is_online(&service, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_a_token_that_is_still_good_is_used_on() {
    let scene = Scene::start().await;
    let service = Service::start(&scene.upstream, &[]).await;
    let created = operate(&service, Method::POST, "/accounts", Some(&json!({"credential": scene.refresh_credential()}))).await;
    let before = is_online(&service, &scene).await;
    let service = service.kill().await.start().await;
    let after = is_online(&service, &scene).await;
    for field in ["id", "sessionId", "tokenExpiresAt", "lastRenewedAt", "createdAt"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(created.json()["createdAt"], after["createdAt"]);
    assert_eq!(scene.grants(), 1);
}
