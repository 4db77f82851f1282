//! What the operator does with accounts, and what is refused.

use fake_upstream::{ErrorBody, RestFault, TokenKind};
use serde_json::{Value, json};

use super::*;
use crate::support::receiver::{Receiver, Reply};

#[tokio::test]
async fn accounts_are_for_the_operator() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let token = scene.upstream.token_for(&scene.bo, TokenKind::Jwt);
    for (method, path) in [
        (Method::GET, "/accounts"),
        (Method::POST, "/accounts"),
        (Method::GET, "/accounts/acc_1"),
        (Method::DELETE, "/accounts/acc_1"),
        (Method::PUT, "/accounts/acc_1/credential"),
        (Method::POST, "/accounts/acc_1/renew"),
    ] {
        let body = json!({"kind": "anonymous", "displayName": "x"});
        send(bridge.request(method.clone(), path, &token).json(&body)).await.assert_problem(403, "operator_required");
        send(bridge.plain(method.clone(), &format!("{}{path}", bridge.api))).await.assert_problem(401, "credentials_missing");
        if path.contains("acc_1") {
            operator(&bridge, method, path, Some(&body)).await.assert_problem(404, "account_not_found");
        }
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_credential_that_makes_no_sense_is_refused_field_by_field() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    for (credential, pointer) in [
        (json!({"kind": "magic"}), "/credential/kind"),
        (json!({"token": "abc"}), "/credential"),
        (json!({"kind": "token", "token": "abc", "colour": "red"}), "/credential"),
        (json!({"kind": "token", "token": ""}), "/credential/token"),
        (json!({"kind": "token", "token": "hidden words"}), "/credential/token"),
        (json!({"kind": "token", "token": "abc", "tokenKind": "hidden"}), "/credential"),
        (json!({"kind": "oauth_refresh", "clientId": " ", "refreshToken": "hidden"}), "/credential/clientId"),
        (json!({"kind": "oauth_password", "clientId": "c", "username": "u", "password": ""}), "/credential/password"),
        (json!({"kind": "anonymous", "displayName": ""}), "/credential/displayName"),
        (json!({"kind": "token_command", "command": "hidden"}), "/credential"),
        (json!({"kind": "token_command", "command": []}), "/credential/command"),
        (json!({"kind": "token_command", "command": ["a"], "timeoutSeconds": 0}), "/credential/timeoutSeconds"),
        (json!({"kind": "token_url", "url": "ftp://hidden"}), "/credential/url"),
        (json!({"kind": "token_url", "url": "https://hidden:hidden@a.example"}), "/credential/url"),
        (json!({"kind": "token_url", "url": "https://a.example", "headers": {"a b": "hidden"}}), "/credential/headers"),
        (json!({"kind": "token_url", "url": "https://a.example", "headers": ["hidden"]}), "/credential"),
    ] {
        let answer = operator(&bridge, Method::POST, "/accounts", Some(&json!({"credential": credential}))).await;
        answer.assert_problem(422, "invalid_body");
        let found = answer.json()["errors"][0]["pointer"].as_str().expect("a pointer").to_owned();
        assert!(found.starts_with(pointer), "{credential}: {}", answer.text);
        assert!(!answer.text.contains("hidden"), "{}", answer.text);
    }
    let named = json!({"name": "n".repeat(201), "credential": {"kind": "anonymous", "displayName": "x"}});
    operator(&bridge, Method::POST, "/accounts", Some(&named)).await.assert_problem(422, "invalid_body");
    assert_eq!(scene.upstream.seen(Seen::rest_total), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn what_the_settings_do_not_allow_is_refused() {
    let scene = Scene::start().await;
    let strict = |config: &mut Config| {
        config.upstream.accounts_url = None;
        config.accounts.max_accounts = 1;
    };
    let bridge = Bridge::start_with(&scene.upstream, strict).await;
    let file = scene.directory.path().join("token");
    std::fs::write(&file, "abc").expect("written");
    for credential in [
        json!({"kind": "token_command", "command": ["touch", scene.directory.path().join("touched")]}),
        json!({"kind": "token_file", "path": file}),
        Scene::password_credential(),
    ] {
        let answer = operator(&bridge, Method::POST, "/accounts", Some(&json!({"credential": credential}))).await;
        answer.assert_problem(422, "credential_not_allowed");
    }
    assert!(!scene.directory.path().join("touched").exists());
    create(&bridge, &json!({"kind": "anonymous", "displayName": "x"})).await;
    let second = json!({"credential": {"kind": "anonymous", "displayName": "y"}});
    operator(&bridge, Method::POST, "/accounts", Some(&second)).await.assert_problem(409, "account_limit_reached");
    bridge.stop().await;
}

#[tokio::test]
async fn a_credential_that_is_not_valid_makes_no_account() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    for (credential, words) in [
        (json!({"kind": "oauth_refresh", "clientId": "c", "refreshToken": "a-refresh-token-of-nobody"}), "invalid_grant"),
        (
            json!({"kind": "oauth_password", "clientId": "c", "username": "ana@corp.example", "password": "a-wrong-password"}),
            "invalid_grant",
        ),
        (json!({"kind": "token", "token": "a-token-of-nobody-at-all"}), "401"),
    ] {
        let answer = operator(&bridge, Method::POST, "/accounts", Some(&json!({"credential": credential}))).await;
        answer.assert_problem(422, "credential_refused");
        assert!(answer.text.contains(words), "{}", answer.text);
    }
    assert_eq!(operator(&bridge, Method::GET, "/accounts", None).await.json()["data"], json!([]));
    bridge.stop().await;
}

#[tokio::test]
async fn a_refresh_token_that_was_used_while_spaces_was_down_is_not_lost() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let credential = json!({"credential": scene.refresh_credential()});
    let down = RestFault::Answer { status: 503, body: ErrorBody::Empty, retry_after: Some(7) };
    scene.upstream.script(|script| _ = script.rest.on("/api/users/me").next(1, down));
    let unavailable = operator(&bridge, Method::POST, "/accounts", Some(&credential)).await;
    unavailable.assert_problem(503, "credential_unavailable");
    assert_eq!(unavailable.header("retry-after"), "7");
    assert_eq!(operator(&bridge, Method::GET, "/accounts", None).await.json()["data"], json!([]));
    let bridge = bridge.restart().await;
    let created = operator(&bridge, Method::POST, "/accounts", Some(&credential)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(scene.grants(), 1);
    account_is_online(&bridge, &scene.ana_account()).await;
    // It is finished: the same again is a refresh token that is dead.
    operator(&bridge, Method::POST, "/accounts", Some(&credential)).await.assert_problem(422, "credential_refused");
    bridge.stop().await;
}

#[tokio::test]
async fn a_user_has_one_account_and_an_account_has_one_user() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    create(&bridge, &scene.refresh_credential()).await;
    let token = |user| json!({"kind": "token", "token": scene.upstream.token_for(user, TokenKind::Jwt).value});
    let again = json!({"credential": token(&scene.ana)});
    operator(&bridge, Method::POST, "/accounts", Some(&again)).await.assert_problem(409, "account_exists");
    let id = scene.ana_account();
    for other in [token(&scene.bo), json!({"kind": "anonymous", "displayName": "x"})] {
        replace(&bridge, &id, &other).await.assert_problem(409, "other_user");
    }
    assert_eq!(account(&bridge, &id).await["credentialKind"], "oauth_refresh");
    let before = scene.connected().await;
    let same = replace(&bridge, &id, &token(&scene.ana)).await;
    assert_eq!((same.status.as_u16(), &same.json()["credentialKind"]), (200, &json!("token")), "{}", same.text);
    scene.goes_over(&before).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_credential_that_ends_is_told_of_and_a_new_one_heals_the_account() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    create(&bridge, &scene.refresh_credential()).await;
    let (id, first) = (scene.ana_account(), scene.connected().await);
    scene.upstream.with_world(|world| world.revoke_refresh_tokens(&scene.ana));
    renew(&bridge, &id).await.assert_problem(422, "credential_refused");
    let shown = account(&bridge, &id).await;
    assert_eq!((&shown["state"], &shown["sessionState"]), (&json!("credential_refused"), &json!("online")), "{shown}");
    assert!(shown["lastFailure"]["reason"].as_str().expect("a reason").contains("invalid_grant"), "{shown}");
    assert!(bridge.shows("spaces_bridge_accounts{state=\"credential_refused\"} 1").await);
    assert!(bridge.shows("spaces_bridge_account_renewals_total{result=\"refused\"} 1").await);
    // The account is told, although its present token still works.
    let owner = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    eventually("the event", async || {
        let events = bridge.get("/events?type=session.auth_failed", &owner).await;
        (events.json()["data"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;

    // Over a restart nothing is asked that was refused for good.
    let asked = scene.grants();
    let bridge = bridge.restart().await;
    assert_eq!(account(&bridge, &id).await["state"], "credential_refused");
    assert_eq!(scene.grants(), asked);
    let healed = replace(&bridge, &id, &scene.refresh_credential()).await;
    assert_eq!(healed.json()["state"], "active", "{}", healed.text);
    assert_eq!(healed.json()["lastFailure"], Value::Null);
    scene.goes_over(&first).await;
    account_is_online(&bridge, &id).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_deleted_account_is_forgotten_and_its_session_ends() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    create(&bridge, &scene.refresh_credential()).await;
    let (id, path) = (scene.ana_account(), format!("/accounts/{}", scene.ana_account()));
    account_is_online(&bridge, &id).await;
    assert_eq!(operator(&bridge, Method::DELETE, &path, None).await.status, 204);
    operator(&bridge, Method::GET, &path, None).await.assert_problem(404, "account_not_found");
    operator(&bridge, Method::DELETE, &path, None).await.assert_problem(404, "account_not_found");
    scene.upstream.wait_until(DEADLINE, |seen| seen.open_now() == 0).await.expect("the session ends");
    let bridge = bridge.restart().await;
    assert_eq!(operator(&bridge, Method::GET, "/accounts", None).await.json()["data"], json!([]));
    assert_eq!(bridge.operator(Method::GET, "/sessions").await.json()["data"], json!([]));
    // The user can have an account again.
    create(&bridge, &scene.refresh_credential()).await;
    bridge.stop().await;
}

#[tokio::test]
async fn webhooks_outlive_the_account_and_need_it_no_more_than_a_token() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    create(&bridge, &scene.refresh_credential()).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let own = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    let (webhook, _) = bridge.register(&own, &receiver).await;
    let deleted = operator(&bridge, Method::DELETE, &format!("/accounts/{}", scene.ana_account()), None).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert_eq!(bridge.get(&format!("/webhooks/{webhook}"), &own).await.status, 200);
    let listening = |seen: &Seen| seen.connections().any(|connection| connection.subscriptions.contains(&scene.space.id));
    scene.upstream.wait_until(DEADLINE, listening).await.expect("a session listens");
    scene.upstream.post_as(&scene.bo, &scene.space, "still here").expect("Bo is a member");
    eventually("the message at the receiver", async || {
        receiver.recorded().iter().any(|request| request.json()["data"]["message"]["text"] == "still here").then_some(())
    })
    .await;
    bridge.stop().await;
}
