//! Tokens are renewed ahead of their end, when Spaces refuses them, and when the operator wants it; nothing is lost over it.

use fake_upstream::{ErrorBody, Fault, RestFault, TokenKind, Who};
use serde_json::json;

use super::*;
use crate::support::receiver::{Receiver, Reply};

/// The texts that the receiver got, in order, each once.
fn texts(receiver: &Receiver) -> Vec<String> {
    let requests = receiver.recorded();
    let texts = requests.iter().filter_map(|request| request.json()["data"]["message"]["text"].as_str().map(str::to_owned));
    texts.collect()
}

#[tokio::test]
async fn tokens_are_renewed_ahead_of_their_end_and_nothing_is_lost_or_repeated_over_it() {
    let scene = Scene::start().await;
    scene.upstream.with_world(|world| world.set_oauth_life(Duration::from_secs(4)));
    let bridge = scene.bridge().await;
    let created = create(&bridge, &scene.refresh_credential()).await;
    let mut token = scene.connected().await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let own = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    bridge.register_with(&own, &receiver, json!({"events": ["message.*"]})).await;
    let listening = |seen: &Seen| seen.connections().any(|connection| connection.subscriptions.contains(&scene.space.id));
    scene.upstream.wait_until(DEADLINE, listening).await.expect("a session listens");

    let mut said = Vec::new();
    for round in 0..3 {
        // While the sessions change over, and when they have.
        for moment in ["before", "after"] {
            if moment == "after" {
                token = scene.goes_over(&token).await;
            }
            let text = format!("{moment} {round}");
            scene.upstream.post_as(&scene.bo, &scene.space, &text).expect("Bo is a member");
            said.push(text);
        }
    }
    eventually("every message at the receiver", async || {
        let texts = texts(&receiver);
        said.iter().all(|text| texts.contains(text)).then_some(())
    })
    .await;
    let mut got = texts(&receiver);
    got.sort();
    said.sort();
    assert_eq!(got, said);
    let shown = account(&bridge, &scene.ana_account()).await;
    assert_ne!(shown["lastRenewedAt"], created["lastRenewedAt"]);
    assert!(bridge.metric("spaces_bridge_account_renewals_total{result=\"renewed\"}").await >= 3.0);
    bridge.stop().await;
}

#[tokio::test]
async fn a_refused_token_is_renewed_at_once() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    create(&bridge, &scene.refresh_credential()).await;
    let first = scene.connected().await;
    account_is_online(&bridge, &scene.ana_account()).await;
    scene.upstream.expire(&first);
    scene.upstream.fault(&Who::token(&first), &Fault::Cut);
    scene.goes_over(&first).await;
    let shown = account_is_online(&bridge, &scene.ana_account()).await;
    assert!(shown["lastFailure"].is_null(), "{shown}");
    assert_eq!(scene.grants(), 2);
    bridge.stop().await;
}

#[tokio::test]
async fn a_token_that_nothing_can_renew_ends_with_a_clear_word_until_it_is_replaced() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    let token = scene.upstream.token_for(&scene.ana, TokenKind::Jwt).value;
    create(&bridge, &json!({"kind": "token", "token": token})).await;
    let first = scene.connected().await;
    account_is_online(&bridge, &scene.ana_account()).await;
    scene.upstream.expire(&first);
    scene.upstream.fault(&Who::token(&first), &Fault::Cut);
    let id = scene.ana_account();
    let shown = eventually("the refusal", async || {
        let account = account(&bridge, &id).await;
        (account["state"] == "credential_refused" && account["sessionState"] == "auth_failed").then_some(account)
    })
    .await;
    assert!(shown["lastFailure"]["reason"].is_string(), "{shown}");
    let fresh = scene.upstream.token_for(&scene.ana, TokenKind::Jwt).value;
    let replaced = replace(&bridge, &id, &json!({"kind": "token", "token": fresh})).await;
    assert_eq!(replaced.status, 200, "{}", replaced.text);
    assert_eq!(scene.goes_over(&first).await, fresh);
    account_is_online(&bridge, &id).await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_server_that_is_down_is_asked_again_and_the_old_token_serves_meanwhile() {
    let scene = Scene::start().await;
    let bridge = scene.bridge().await;
    create(&bridge, &scene.refresh_credential()).await;
    let (id, first) = (scene.ana_account(), scene.connected().await);
    account_is_online(&bridge, &id).await;
    let down = RestFault::Answer { status: 503, body: ErrorBody::Empty, retry_after: None };
    scene.upstream.script(|script| _ = script.rest.on("POST /oauth2/access_token").next(1, down));
    renew(&bridge, &id).await.assert_problem(503, "credential_unavailable");
    let shown = account(&bridge, &id).await;
    assert_eq!(shown["sessionState"], "online", "{shown}");
    assert_eq!(scene.connected().await, first);
    // By itself.
    scene.goes_over(&first).await;
    let shown = account_is_online(&bridge, &id).await;
    assert!(shown["lastFailure"]["reason"].as_str().expect("a reason").contains("503"), "{shown}");
    bridge.stop().await;
}

#[tokio::test]
async fn calls_that_come_while_a_token_is_being_got_share_it() {
    let scene = Scene::start().await;
    let patient = |config: &mut Config| {
        scene.allow_all(config);
        config.upstream.rest_timeout_seconds = 60;
        config.shutdown.grace_seconds = 1;
    };
    let bridge = Bridge::start_with(&scene.upstream, patient).await;
    create(&bridge, &scene.refresh_credential()).await;
    let id = scene.ana_account();
    account_is_online(&bridge, &id).await;
    // Not answered as long as anyone waits.
    scene.upstream.script(|script| _ = script.rest.on("POST /oauth2/access_token").always(RestFault::Hang));
    let calls = futures_util::future::join_all((0..50).map(|_| renew(&bridge, &id)));
    for answer in calls.await {
        let shown = answer.json();
        assert_eq!((answer.status.as_u16(), &shown["state"]), (200, &json!("renewing")), "{}", answer.text);
    }
    assert_eq!(scene.grants(), 2);
    bridge.stop().await;
}
