//! Every kind of credential becomes an account with a session.

use fake_upstream::{TokenKind, UserKind};
use serde_json::{Value, json};

use super::*;
use crate::support::receiver::{Receiver, Reply};

/// Makes an account with the credential, and sees that its session comes online and that nothing secret is shown.
async fn comes_online(scene: &Scene, bridge: &Bridge, credential: &Value, secrets: &[&str]) -> Value {
    let created = create(bridge, credential).await;
    let id = created["id"].as_str().expect("an id");
    let shown = account_is_online(bridge, id).await;
    assert_eq!(shown["credentialKind"], credential["kind"]);
    let list = operator(bridge, Method::GET, "/accounts?limit=1", None).await;
    assert_eq!((&list.json()["data"][0]["id"], &list.json()["nextCursor"]), (&created["id"], &Value::Null));
    let connected = scene.upstream.seen(|seen| seen.connections().next_back().map(|connection| connection.token.to_string()));
    for secret in secrets.iter().copied().chain(connected.as_deref()) {
        note_secret(secret);
        for text in [created.to_string(), shown.to_string(), list.text.clone()] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    shown
}

#[tokio::test]
async fn a_token_as_it_is() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let token = scene.upstream.token_for(&scene.ana, TokenKind::Jwt).value;
    let shown = comes_online(&scene, &bridge, &json!({"kind": "token", "token": token}), &[&token]).await;
    assert_eq!((&shown["id"], &shown["tokenKind"], &shown["name"]), (&json!(scene.ana_account()), &json!("jwt"), &json!("lift")));
    assert_eq!(shown["user"], json!({"id": scene.ana.id, "displayName": "Ana"}));
    assert!(shown["tokenExpiresAt"].is_string() && shown["lastFailure"].is_null(), "{shown}");
    assert!(bridge.shows("spaces_bridge_accounts{state=\"active\"} 1").await);
    let left = bridge.metric("spaces_bridge_account_soonest_expiry_seconds").await;
    assert!((80_000.0..=86_400.0).contains(&left), "{left}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_token_of_a_service_application_whose_user_nobody_may_ask_for() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let token = scene.upstream.with_world(|world| {
        let robot = world.add_user("Robot", "robot@corp.example", UserKind::Service);
        world.token_for(&robot, TokenKind::Service).value
    });
    let credential = json!({"kind": "token", "token": token, "tokenKind": "service_app"});
    let shown = comes_online(&scene, &bridge, &credential, &[&token]).await;
    assert_eq!((&shown["user"], &shown["tokenKind"]), (&Value::Null, &json!("service_app")));
    bridge.stop().await;
}

#[tokio::test]
async fn a_refresh_token() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let credential = scene.refresh_credential();
    let refresh_token = credential["refreshToken"].as_str().expect("a token").to_owned();
    let shown = comes_online(&scene, &bridge, &credential, &[CLIENT_SECRET, &refresh_token]).await;
    assert_eq!((&shown["id"], &shown["tokenKind"]), (&json!(scene.ana_account()), &json!("oauth")));
    assert_eq!(scene.upstream.with_world(|world| world.unused_refresh_tokens(&scene.ana).len()), 1, "the new one is kept");
    bridge.stop().await;
}

#[tokio::test]
async fn a_name_and_a_password() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let shown = comes_online(&scene, &bridge, &Scene::password_credential(), &[CLIENT_SECRET, PASSWORD]).await;
    assert_eq!(shown["id"], scene.ana_account());
    bridge.stop().await;
}

#[tokio::test]
async fn a_guest_is_another_user_each_time_and_the_account_stays() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let shown = comes_online(&scene, &bridge, &json!({"kind": "anonymous", "displayName": "Lift 3"}), &[]).await;
    assert_eq!((&shown["user"]["displayName"], &shown["tokenKind"]), (&json!("Lift 3"), &json!("jwt")));
    let id = shown["id"].as_str().expect("an id");
    let renewed = renew(&bridge, id).await.json();
    assert_eq!(renewed["id"], shown["id"]);
    assert_ne!(renewed["user"]["id"], shown["user"]["id"]);
    account_is_online(&bridge, id).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_file_that_changes_gives_the_next_token() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let token = || scene.upstream.token_for(&scene.ana, TokenKind::Jwt).value;
    let (first, second) = (token(), token());
    // As mounted secrets are: a link to a file that another link leads to, which is swapped.
    let inside = |name: &str| scene.directory.path().join(name);
    std::fs::write(inside("one"), format!("{first}\n")).expect("written");
    std::fs::write(inside("two"), json!({"token": second}).to_string()).expect("written");
    std::os::unix::fs::symlink("one", inside("data")).expect("a link");
    std::os::unix::fs::symlink("data", inside("token")).expect("a link");
    let credential = json!({"kind": "token_file", "path": inside("token")});
    comes_online(&scene, &bridge, &credential, &[&first, &second]).await;
    assert_eq!(scene.connected().await, first);

    std::os::unix::fs::symlink("two", inside("next")).expect("a link");
    std::fs::rename(inside("next"), inside("data")).expect("swapped");
    assert_eq!(scene.goes_over(&first).await, second);
    account_is_online(&bridge, &scene.ana_account()).await;

    // Another user's token is no token of this account: the one before goes on.
    let bos = scene.upstream.token_for(&scene.bo, TokenKind::Jwt).value;
    note_secret(&bos);
    std::fs::write(inside("two"), &bos).expect("written");
    let refused = account_is(&bridge, &scene.ana_account(), "credential_refused").await;
    assert!(refused["lastFailure"]["reason"].as_str().expect("a reason").contains("another user"), "{refused}");
    assert_eq!(scene.connected().await, second);
    assert_eq!(scene.upstream.seen(|seen| seen.opened_with(&bos)), 0);
    let third = token();
    std::fs::write(inside("two"), &third).expect("written");
    assert_eq!(scene.goes_over(&second).await, third);
    bridge.stop().await;
}

#[tokio::test]
async fn what_a_command_prints() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let token = scene.upstream.token_for(&scene.ana, TokenKind::Jwt).value;
    let file = scene.directory.path().join("printed");
    std::fs::write(&file, &token).expect("written");
    let command = |command: Value| json!({"kind": "token_command", "command": command, "timeoutSeconds": 1});
    for (words, said) in [
        (json!(["sleep", "60"]), "longer than 1 s"),
        (json!(["false"]), "exit status: 1"),
        (json!(["yes"]), "prints too much"),
        (json!(["/does/not/exist"]), "cannot be run"),
        (json!(["echo", "two words"]), "no token"),
    ] {
        let body = json!({"credential": command(words)});
        let answer = operator(&bridge, Method::POST, "/accounts", Some(&body)).await;
        answer.assert_problem(422, "credential_failed");
        assert!(answer.text.contains(said), "{}", answer.text);
    }
    comes_online(&scene, &bridge, &command(json!(["cat", file])), &[&token]).await;
    bridge.stop().await;
}

#[tokio::test]
async fn what_an_address_answers() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let token = scene.upstream.token_for(&scene.ana, TokenKind::Jwt).value;
    let answer = |status, headers, body: String| Reply::Answer(status, headers, body.into_bytes());
    let source = Receiver::start(Reply::status(500)).await;
    let credential = json!({"kind": "token_url", "url": format!("{}&key=url-key-of-these-tests", source.url()), "headers": {"X-Vault-Token": "vault-token-of-these-tests"}});
    for (reply, status, code) in [
        (Reply::status(503), 503, "credential_unavailable"),
        (Reply::status(403), 422, "credential_refused"),
        (answer(302, vec![("location", "/elsewhere".to_owned())], String::new()), 422, "credential_refused"),
        (answer(200, Vec::new(), "a".repeat(70_000)), 422, "credential_failed"),
        (answer(200, Vec::new(), "{}".to_owned()), 422, "credential_failed"),
        (Reply::Close, 503, "credential_unavailable"),
    ] {
        source.script([reply]);
        let refused = operator(&bridge, Method::POST, "/accounts", Some(&json!({"credential": credential}))).await;
        refused.assert_problem(status, code);
    }
    source.script([answer(200, Vec::new(), json!({"access_token": token, "expires_in": 3600}).to_string())]);
    comes_online(&scene, &bridge, &credential, &[&token, "vault-token-of-these-tests", "url-key-of-these-tests"]).await;
    let asked = source.recorded();
    let last = asked.last().expect("a request");
    assert!(last.line.starts_with("GET /hook") && last.header("x-vault-token") == "vault-token-of-these-tests", "{last:?}");
    bridge.stop().await;
}
