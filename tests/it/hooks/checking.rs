//! Senders that have to prove themselves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use super::{Hooks, Made};
use crate::support::bridge::{Answer, send};
use crate::support::hex;

const BODY: &str = r#"{"text": "signed"}"#;

fn mac(key: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().to_vec()
}

async fn call(hooks: &Hooks, hook: &Made, headers: &[(&str, String)]) -> Answer {
    let request = headers.iter().fold(hooks.call(hook), |request, (name, value)| request.header(*name, value));
    send(request.header("content-type", "application/json").body(BODY)).await
}

#[tokio::test]
async fn only_who_knows_the_secret_gets_in() {
    let hooks = Hooks::new().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let (github, key) = ("a-secret-for-github", [7_u8; 32]);
    let standard = format!("whsec_{}", STANDARD.encode(key));
    let signature =
        |at: u64| format!("v1,{}", STANDARD.encode(mac(&key, &[b"msg_1.", at.to_string().as_bytes(), b".", BODY.as_bytes()])));
    let signed = |at: u64| {
        vec![("webhook-id", "msg_1".to_owned()), ("webhook-timestamp", at.to_string()), ("webhook-signature", signature(at))]
    };
    let cases = [
        (
            json!({"type": "github", "secret": github}),
            vec![("x-hub-signature-256", format!("sha256={}", hex(&mac(github.as_bytes(), &[BODY.as_bytes()]))))],
            vec![("x-hub-signature-256", format!("sha256={}", hex(&mac(b"another", &[BODY.as_bytes()]))))],
        ),
        (
            json!({"type": "gitlab", "secret": "a-token-for-gitlab"}),
            vec![("x-gitlab-token", "a-token-for-gitlab".to_owned())],
            vec![("x-gitlab-token", "a-token-for-gitlab2".to_owned())],
        ),
        (json!({"type": "standard", "secret": standard}), signed(now), signed(now - 3600)),
    ];
    let count = cases.len();
    for (check, good, bad) in cases {
        let hook = hooks.make(json!({"check": check})).await;
        for headers in [&bad[..], &[]] {
            let refused = call(&hooks, &hook, headers).await;
            refused.assert_problem(403, "incoming_hook_check_failed");
            assert!(!refused.text.contains(check["secret"].as_str().expect("a text")));
        }
        let shown = hooks.shown(&hook).await;
        assert_eq!(
            (&shown["check"], &shown["lastFailure"]["reason"]),
            (&json!({"type": check["type"]}), &json!("incoming_hook_check_failed"))
        );
        assert_eq!(call(&hooks, &hook, &good).await.text, "ok", "{check}");
    }
    assert_eq!(hooks.texts(count).await, vec!["signed"; count]);
    hooks.bridge.stop().await;
}

#[tokio::test]
async fn a_check_can_be_changed_and_goes_when_it_is_taken_away() {
    let hooks = Hooks::new().await;
    let hook = hooks.make(json!({"check": {"type": "gitlab", "secret": "the-first-token"}})).await;
    let token = |token: &str| vec![("x-gitlab-token", token.to_owned())];
    let change = async |check| hooks.bridge.patch(&hook.path(), &hooks.scene.token, &json!({ "check": check })).await;
    assert_eq!(change(json!({"type": "gitlab", "secret": "the-other-token"})).await.status, 200);
    call(&hooks, &hook, &token("the-first-token")).await.assert_problem(403, "incoming_hook_check_failed");
    assert_eq!(call(&hooks, &hook, &token("the-other-token")).await.status, 200);
    assert_eq!(change(json!(null)).await.json()["check"], json!(null));
    assert_eq!(call(&hooks, &hook, &[]).await.status, 200);
    change(json!({"type": "standard", "secret": "whsec_short"})).await.assert_problem(422, "invalid_body");
    change(json!({"type": "basic", "secret": "12345678"})).await.assert_problem(422, "invalid_body");
    hooks.bridge.stop().await;
}
