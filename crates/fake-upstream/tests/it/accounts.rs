//! Anonymous tokens, OAuth, limits, addresses.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fake_upstream::{Limits, TokenKind};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Scene, call, call_with};

impl Scene {
    async fn form(&self, path: &str, form: &str) -> Reply {
        let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
        call_with(&self.upstream, Method::POST, path, &headers, form.as_bytes().to_vec()).await
    }
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

#[tokio::test]
async fn an_anonymous_token_is_a_new_identity_for_24_hours() {
    let scene = Scene::new().await;
    let mut ids = Vec::new();
    for body in ["displayname=Guest+Seven", r#"{"displayname":"Guest Seven"}"#, ""] {
        let reply = scene.form("/api/anonymous/auth", body).await.json();
        let token = reply["token"].as_str().expect("a token").to_owned();
        let claims = claims(&token);
        assert_eq!(claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"), 86_400);
        let headers = [("authorization", format!("jwt {token}"))];
        let me = call_with(&scene.upstream, Method::GET, "/api/users/me", &headers, Vec::new()).await.json();
        assert_eq!(me["aType"], "anonymous");
        assert_eq!(me["displayname"], if body.is_empty() { "Guest" } else { "Guest Seven" });
        ids.push(me["_id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_work_once() {
    let scene = Scene::new().await;
    let first = scene.upstream.with_world(|world| world.refresh_token_for(&scene.ana));
    let form = |token: &str| format!("grant_type=refresh_token&client_id=c&client_secret=s&refresh_token={token}");
    let reply = scene.form("/oauth2/access_token", &form(&first)).await.json();
    assert_eq!(reply["expires_in"], 3599);
    let headers = [("authorization", format!("Bearer {}", reply["access_token"].as_str().expect("a token")))];
    assert_eq!(call_with(&scene.upstream, Method::GET, "/api/users/me", &headers, Vec::new()).await.status, 200);
    let again = scene.form("/oauth2/access_token", &form(&first)).await;
    assert_eq!((again.status, &again.json()["error"]), (400, &json!("invalid_grant")));

    let second = reply["refresh_token"].as_str().expect("a token").to_owned();
    assert_ne!(first, second);
    scene.form("/oauth2/revoke_token", &format!("refresh_token={second}&client_id=c")).await;
    assert_eq!(scene.form("/oauth2/access_token", &form(&second)).await.status, 400);
}

#[tokio::test]
async fn the_life_of_access_tokens_and_the_end_of_a_sign_in_are_switches() {
    let scene = Scene::new().await;
    let first = scene.upstream.with_world(|world| {
        world.set_oauth_life(std::time::Duration::from_secs(7));
        world.refresh_token_for(&scene.ana)
    });
    let form = |token: &str| format!("grant_type=refresh_token&client_id=c&refresh_token={token}");
    let reply = scene.form("/oauth2/access_token", &form(&first)).await.json();
    assert_eq!(reply["expires_in"], 7);
    assert_eq!(scene.upstream.with_world(|world| world.unused_refresh_tokens(&scene.ana).len()), 1);
    scene.upstream.with_world(|world| world.revoke_refresh_tokens(&scene.ana));
    let second = reply["refresh_token"].as_str().expect("a token").to_owned();
    assert_eq!(scene.form("/oauth2/access_token", &form(&second)).await.status, 400);
}

#[tokio::test]
async fn the_password_grant_needs_the_password_and_a_client() {
    let scene = Scene::new().await;
    scene.upstream.with_world(|world| world.set_password(&scene.ana, "secret"));
    for (form, error) in [
        ("grant_type=password&client_id=c&username=ana%40corp.example&password=secret&scope=spaces", None),
        ("grant_type=password&client_id=c&username=ana%40corp.example&password=wrong", Some("invalid_grant")),
        ("grant_type=password&username=ana%40corp.example&password=secret", Some("invalid_client")),
        ("grant_type=magic&client_id=c", Some("unsupported_grant_type")),
    ] {
        let reply = scene.form("/oauth2/access_token", form).await.json();
        assert_eq!(reply["error"].as_str(), error);
        assert_eq!(reply["access_token"].is_string(), error.is_none());
    }
}

#[tokio::test]
async fn tokens_say_when_they_end() {
    let scene = Scene::new().await;
    let until = 1_931_246_813_000;
    for kind in [TokenKind::Jwt, TokenKind::Anonymous, TokenKind::Service] {
        let token = scene.upstream.with_world(|world| world.token_until(&scene.ana, kind, until));
        assert_eq!(claims(&token.value)["exp"], until / 1000);
    }
    let opaque = scene.upstream.token_for(&scene.ana, TokenKind::Oauth).value;
    assert!(opaque.len() == 40 && opaque.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[tokio::test]
async fn limits_and_addresses_are_told() {
    let scene = Scene::new().await;
    let limit = |scene: &Scene| {
        let (address, token) = (scene.upstream.rest_url(), scene.anas.clone());
        assert!(address.starts_with("http://127.0.0.1:"));
        token
    };
    let token = limit(&scene);
    let path = "/api/limit";
    let told = call(&scene.upstream, &token, Method::GET, path, None).await.json();
    assert_eq!(
        told["global"]["socketio"],
        json!({"max_connections": 3, "rate_limit": 600, "rate_interval": 60, "payload_size": 16})
    );
    scene.upstream.set_limits(Limits { emits: Some(200), ..Limits::default() });
    let told = call(&scene.upstream, &token, Method::GET, path, None).await.json();
    assert_eq!(told["global"]["socketio"]["rate_limit"], 200);
    scene.upstream.report_limits(Some(json!({"odd": true})));
    assert_eq!(call(&scene.upstream, &token, Method::GET, path, None).await.json(), json!({"odd": true}));
    let hosts = call_with(&scene.upstream, Method::GET, "/api/service-configurations", &[], Vec::new()).await.json();
    assert_eq!(hosts["spaces"]["socketio_server_url"], scene.upstream.socket_url());
    assert_eq!(hosts["accounts"]["server_url"], scene.upstream.accounts_url());
}
