//! Accounts whose tokens are managed: adopted, renewed, refused, released.

use std::time::Duration;

use fake_upstream::{Expiry, Fault, Limits, Options, Refusal, RestFault, SubscribeFault, TokenKind, Who};
use serde_json::json;
use spaces_bridge::domain::{MessageRef, SessionState};
use spaces_bridge::session::{OutgoingMessage, RenewalError, SendOutcome, SessionError};

use super::rig::{Rig, credential};
use crate::support::bridge::Scene;
use crate::support::wait::eventually;

/// How far the log may be behind what is posted, so that nobody is flooded.
const BEHIND: usize = 32;

/// Every way in which an open connection may learn that its token has ended.
fn ways_of_expiry() -> Vec<Fault> {
    vec![
        Fault::Kick,
        Fault::Disconnect,
        Fault::Close,
        Fault::CloseWith(4001),
        Fault::Cut,
        Fault::Reset,
        Fault::Frame("44/chat,\"jwt expired\"".to_owned()),
        Fault::Frame("44/chat,{\"message\":\"jwt expired\",\"data\":{\"code\":401}}".to_owned()),
    ]
}

fn message(rig: &Rig, text: &str) -> OutgoingMessage {
    let space = rig.scene.space.id.parse().expect("an id");
    OutgoingMessage::chat(MessageRef::random(), space, (text, text.to_owned()), None, &[])
}

#[tokio::test]
async fn an_adopted_token_has_a_session_without_webhooks_and_after_a_restart() {
    let rig = Rig::new().await;
    let handle = rig.adopt(&rig.scene.token).await;
    let again = rig.sessions.adopt(rig.ana(), credential(&rig.scene.token)).await.expect("a session");
    assert_eq!(again.id(), handle.id());
    let id = handle.id().clone();
    let rig = rig.restart().await;
    let restored = rig.sessions.get(&id).expect("the session is back");
    rig.serves(&restored).await;
    assert_eq!(rig.scene.upstream.seen(|seen| (seen.opened_with(&rig.scene.token), seen.peak_with(&rig.scene.token))), (2, 1));

    rig.sessions.release_account(&rig.ana().account).await.expect("to be released");
    rig.seen(|seen| seen.open_now() == 0).await;
    let rig = rig.restart().await;
    assert!(rig.sessions.list().is_empty(), "nothing is stored any more");
    rig.stop().await;
}

#[tokio::test]
async fn a_released_account_with_webhooks_keeps_its_session() {
    let rig = Rig::new().await;
    rig.wants(&[&rig.scene.space]);
    let handle = rig.adopt(&rig.scene.token).await;
    rig.sessions.release_account(&rig.ana().account).await.expect("to be released");
    rig.seen(|seen| seen.is_subscribed(&rig.scene.token, rig.scene.space.as_ref())).await;
    rig.serves(&handle).await;
    rig.stop().await;
}

#[tokio::test]
async fn what_a_newer_token_hears_waits_for_what_the_session_before_still_holds() {
    let rig = Rig::new().await;
    let (space, other) = (&rig.scene.space, rig.scene.upstream.space("Other", &[&rig.scene.ana, &rig.scene.bo]));
    rig.wants(&[space, &other]);
    rig.adopt(&rig.scene.token).await;
    rig.seen(|seen| seen.is_subscribed(&rig.scene.token, space.as_ref())).await;
    let bo_says = |text: &str| rig.scene.upstream.post_as(&rig.scene.bo, space, text).expect("a message");
    bo_says("before");
    eventually("the first message", async || (rig.texts().await.len() == 1).then_some(())).await;
    // From here on nobody gets at the history, and the newer session lacks the other space.
    rig.scene.upstream.script(|script| {
        for listing in ["/api/activitiesrecord/messages", "/api/spaces/*/messages/query"] {
            script.rest.on(listing).always(RestFault::status(503, "internal", "later"));
        }
    });
    rig.scene.upstream.fault(&Who::Everybody, &Fault::Cut);
    rig.seen(|seen| seen.opened_with(&rig.scene.token) == 2 && seen.is_subscribed(&rig.scene.token, space.as_ref())).await;
    bo_says("one");
    let newer = rig.another_token();
    rig.scene.upstream.script_for(&newer, |script| {
        script
            .subscribe
            .next(1, SubscribeFault::Late(Duration::from_millis(1)))
            .next(1, SubscribeFault::Late(Duration::from_secs(1)));
    });
    let after = rig.sessions.adopt(rig.ana(), credential(&newer)).await.expect("a session");
    rig.seen(|seen| seen.is_subscribed(&newer, space.as_ref())).await;
    bo_says("two");
    rig.serves(&after).await;
    rig.scene.upstream.clear_script();
    let texts = eventually("all messages", async || Some(rig.texts().await).filter(|texts| texts.len() == 3)).await;
    assert_eq!(texts, ["before", "one", "two"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_newer_token_takes_over_without_a_moment_of_deafness() {
    let rig =
        Rig::on(Scene::with(Options { limits: Limits { connections: Some(2), ..Limits::none() }, ..Options::default() }).await)
            .await;
    let other = rig.scene.upstream.space("Other", &[&rig.scene.ana, &rig.scene.bo]);
    rig.wants(&[&rig.scene.space, &other]);
    let mut before = rig.adopt(&rig.scene.token).await;
    let mut token = rig.scene.token.clone();
    let mut posted = Vec::new();
    for round in 0..5 {
        rig.seen(|seen| seen.is_subscribed(&token, rig.scene.space.as_ref()) && seen.is_subscribed(&token, other.as_ref())).await;
        let newer = rig.another_token();
        let after = rig.sessions.adopt(rig.ana(), credential(&newer)).await.expect("a session");
        for number in 0.. {
            let text = format!("{round}.{number}");
            rig.scene
                .upstream
                .post_as(&rig.scene.bo, if number % 2 == 0 { &rig.scene.space } else { &other }, &text)
                .expect("a message");
            posted.push(text);
            // At every moment one of the two hears both spaces.
            let hears = |token: &_| {
                rig.scene
                    .upstream
                    .seen(|seen| seen.is_subscribed(token, rig.scene.space.as_ref()) && seen.is_subscribed(token, other.as_ref()))
            };
            assert!(hears(&token) || hears(&newer), "{round}: nobody hears everything");
            if before.state() == SessionState::Closed {
                break;
            }
            rig.has_logged(posted.len().saturating_sub(BEHIND)).await;
        }
        rig.serves(&after).await;
        assert_eq!(rig.scene.upstream.seen(|seen| (seen.open_now(), seen.open_now_with(&newer))), (1, 1));
        (before, token) = (after, newer);
    }
    eventually("every message", async || (rig.texts().await.len() >= posted.len()).then_some(())).await;
    let mut texts = rig.texts().await;
    texts.sort();
    posted.sort();
    assert_eq!(texts, posted, "each exactly once");
    assert_eq!(rig.events("session.auth_failed").await, Vec::<serde_json::Value>::new());
    assert_eq!(
        rig.events("session.disconnected").await,
        Vec::<serde_json::Value>::new(),
        "the account is connected all the time"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_send_under_way_is_finished_by_the_session_that_began_it() {
    let rig = Rig::new().await;
    let before = rig.adopt(&rig.scene.token).await;
    rig.scene.upstream.script_for(&rig.scene.token, |script| {
        script.echo.next(1, fake_upstream::EchoFault::Held);
    });
    let sending = tokio::spawn({
        let (before, message) = (before.clone(), message(&rig, "slow"));
        async move { before.send(message, Duration::from_mins(1)).await }
    });
    rig.seen(|seen| seen.sends().len() == 1).await;
    let newer = rig.another_token();
    let after = rig.sessions.adopt(rig.ana(), credential(&newer)).await.expect("a session");
    rig.serves(&after).await;
    assert_eq!(rig.scene.upstream.seen(|seen| seen.open_now_with(&rig.scene.token)), 1, "it waits for its echo");
    rig.scene.upstream.release();
    let outcome = sending.await.expect("no panic").expect("an outcome");
    assert!(matches!(outcome, SendOutcome::Confirmed(_)), "{outcome:?}");
    rig.stands(&before, SessionState::Closed).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_newer_token_that_is_refused_leaves_the_session_alone() {
    let rig = Rig::new().await;
    rig.wants(&[&rig.scene.space]);
    let before = rig.adopt(&rig.scene.token).await;
    for refusal in [Refusal::Text("Not authorized".to_owned()), Refusal::RootText("no".to_owned()), Refusal::http(401, "no")] {
        let bad = rig.another_token();
        rig.scene.upstream.script_for(&bad, |script| {
            script.refuse.always(refusal.clone());
        });
        let after = rig.sessions.adopt(rig.ana(), credential(&bad)).await.expect("a session");
        rig.stands(&after, SessionState::AuthFailed).await;
        let again = rig.sessions.adopt(rig.ana(), credential(&bad)).await;
        assert!(matches!(again, Err(SessionError::AuthFailed { .. })), "{again:?}");
        rig.serves(&before).await;
    }
    rig.scene.upstream.post_as(&rig.scene.bo, &rig.scene.space, "still here").expect("a message");
    eventually("the message", async || (rig.texts().await == ["still here"]).then_some(())).await;
    assert_eq!(rig.events("session.auth_failed").await, Vec::<serde_json::Value>::new());
    assert_eq!(rig.scene.upstream.seen(|seen| seen.opened_with(&rig.scene.token)), 1);
    assert!(rig.metrics.render().contains("spaces_bridge_session_handovers_total{result=\"failed\"} 3"));
    rig.stop().await;
}

#[tokio::test]
async fn the_last_of_several_new_tokens_serves() {
    let rig = Rig::new().await;
    rig.wants(&[&rig.scene.space]);
    let before = rig.adopt(&rig.scene.token).await;
    let (second, third) = (rig.another_token(), rig.another_token());
    rig.scene.upstream.script_for(&second, |script| {
        script.subscribe.always(SubscribeFault::Ignored);
    });
    let overtaken = rig.sessions.adopt(rig.ana(), credential(&second)).await.expect("a session");
    rig.stands(&overtaken, SessionState::Online).await;
    let last = rig.sessions.adopt(rig.ana(), credential(&third)).await.expect("a session");
    rig.serves(&last).await;
    for ended in [&before, &overtaken] {
        rig.stands(ended, SessionState::Closed).await;
    }
    assert_eq!(rig.scene.upstream.seen(|seen| (seen.open_now(), seen.open_now_with(&third))), (1, 1));
    rig.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_renewed_once_and_nobody_is_told_of_a_failure() {
    for fault in ways_of_expiry() {
        let rig = Rig::new().await;
        rig.wants(&[&rig.scene.space]);
        let before = rig.adopt(&rig.scene.token).await;
        let newer = rig.another_token();
        rig.tokens.will_answer(Ok(credential(&newer)));
        rig.scene.upstream.script(|script| {
            script.expiry.always(Expiry::Fault(fault.clone()));
        });
        rig.scene.upstream.expire(&rig.scene.token);
        rig.seen(|seen| seen.is_subscribed(&newer, rig.scene.space.as_ref())).await;
        let after = rig.sessions.of_account(&rig.ana().account).expect("a session");
        rig.stands(&before, SessionState::Closed).await;
        rig.serves(&after).await;
        assert_eq!(rig.tokens.asked(), [before.id().clone()], "{fault:?}");
        assert!(rig.events("session.auth_failed").await.is_empty(), "{fault:?}");
        assert_eq!(rig.scene.upstream.seen(|seen| seen.peak_with(&newer)), 1, "{fault:?}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_ends_silently_is_left_behind_in_time() {
    for expiry in [Expiry::Kept, Expiry::Fault(Fault::Deafen), Expiry::Fault(Fault::Freeze)] {
        let rig = Rig::new().await;
        rig.wants(&[&rig.scene.space]);
        let before = rig.adopt(&rig.scene.token).await;
        rig.scene.upstream.script(|script| {
            script.expiry.always(expiry.clone());
        });
        rig.scene.upstream.expire(&rig.scene.token);
        let newer = rig.another_token();
        let after = rig.sessions.adopt(rig.ana(), credential(&newer)).await.expect("a session");
        rig.serves(&after).await;
        rig.seen(|seen| seen.is_subscribed(&newer, rig.scene.space.as_ref())).await;
        rig.scene.upstream.post_as(&rig.scene.bo, &rig.scene.space, "heard").expect("a message");
        eventually("the message", async || (rig.texts().await == ["heard"]).then_some(())).await;
        rig.stands(&before, SessionState::Closed).await;
        assert!(rig.tokens.asked().is_empty(), "{expiry:?}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_is_turned_away_without_a_word_is_asked_about_and_renewed() {
    let rig = Rig::new().await;
    rig.adopt(&rig.scene.token).await;
    let newer = rig.another_token();
    rig.tokens.will_answer(Ok(credential(&newer)));
    rig.scene.upstream.script(|script| {
        script.bad_token.always(Refusal::Close);
        script.expiry.always(Expiry::Fault(Fault::Cut));
    });
    rig.scene.upstream.expire(&rig.scene.token);
    rig.seen(|seen| seen.open_now_with(&newer) == 1).await;
    assert_eq!(rig.tokens.asked().len(), 1);
    assert!(rig.events("session.auth_failed").await.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_renewed_token_that_is_refused_too_is_told_and_a_valid_one_mends_it() {
    let rig = Rig::new().await;
    rig.wants(&[&rig.scene.space]);
    let before = rig.adopt(&rig.scene.token).await;
    let bad = rig.another_token();
    rig.scene.upstream.script_for(&bad, |script| {
        script.refuse.always(Refusal::Text("Not authorized".to_owned()));
    });
    rig.tokens.will_answer(Ok(credential(&bad)));
    rig.scene.upstream.script(|script| {
        script.expiry.always(Expiry::Fault(Fault::Kick));
    });
    rig.scene.upstream.expire(&rig.scene.token);
    rig.stands(&before, SessionState::AuthFailed).await;
    assert_eq!(rig.tokens.asked(), [before.id().clone()]);
    eventually("the event", async || (rig.events("session.auth_failed").await.len() == 1).then_some(())).await;
    let sent = before.send(message(&rig, "too late"), Duration::from_secs(1)).await;
    assert!(matches!(sent, Err(SessionError::AuthFailed { .. })), "{sent:?}");

    let valid = rig.another_token();
    let after = rig.adopt(&valid).await;
    rig.seen(|seen| seen.is_subscribed(&valid, rig.scene.space.as_ref())).await;
    after.send(message(&rig, "back"), Duration::from_secs(30)).await.expect("to be sent");
    rig.stop().await;
}

#[tokio::test]
async fn a_renewed_token_that_is_let_in_and_then_refused_is_not_renewed_for_ever() {
    let rig = Rig::new().await;
    rig.adopt(&rig.scene.token).await;
    let expired = Fault::Frame("44/chat,\"jwt expired\"".to_owned());
    rig.scene.upstream.script(|script| {
        script.after_join.always(expired.clone());
    });
    for _ in 0..5 {
        rig.tokens.will_answer(Ok(credential(&rig.another_token())));
    }
    rig.scene.upstream.fault(&Who::token(&rig.scene.token), &expired);
    eventually("the event", async || (rig.events("session.auth_failed").await.len() == 1).then_some(())).await;
    assert_eq!(rig.tokens.asked().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_credential_that_is_refused_is_told_with_its_reason() {
    let rig = Rig::new().await;
    let before = rig.adopt(&rig.scene.token).await;
    rig.tokens.will_answer(Err(RenewalError::Refused("invalid_grant".to_owned())));
    rig.scene.upstream.script(|script| {
        script.expiry.always(Expiry::Fault(Fault::Kick));
    });
    rig.scene.upstream.expire(&rig.scene.token);
    let status = rig.stands(&before, SessionState::AuthFailed).await;
    assert_eq!(status.reason.as_deref(), Some("invalid_grant"));
    eventually("the event", async || {
        let events = rig.events("session.auth_failed").await;
        events.first().map(|event| assert_eq!(event["data"]["reason"], json!("invalid_grant"), "{event}"))
    })
    .await;
    assert!(rig.metrics.render().contains("spaces_bridge_session_auth_failures_total 1"));
    rig.stop().await;
}

#[tokio::test]
async fn a_renewal_that_is_not_possible_now_is_tried_again() {
    let rig = Rig::new().await;
    let before = rig.adopt(&rig.scene.token).await;
    let newer = rig.another_token();
    let unavailable = RenewalError::Unavailable { detail: "no answer from the accounts server".to_owned(), retry_after: None };
    rig.tokens.will_answer(Err(unavailable));
    rig.scene.upstream.script(|script| {
        script.expiry.always(Expiry::Fault(Fault::Kick));
    });
    rig.scene.upstream.expire(&rig.scene.token);
    eventually("the reason", async || {
        let status = before.status();
        let told = status.reason.is_some_and(|reason| reason.contains("no answer from the accounts server"));
        (told && status.state == SessionState::Reconnecting).then_some(())
    })
    .await;
    let sent = before.send(message(&rig, "not now"), Duration::from_millis(10)).await;
    assert!(matches!(sent, Err(SessionError::NotConnected { .. })), "{sent:?}");
    rig.tokens.will_answer(Ok(credential(&newer)));
    rig.seen(|seen| seen.open_now_with(&newer) == 1).await;
    assert_eq!(rig.tokens.asked().len(), 2);
    assert!(rig.events("session.auth_failed").await.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_session_leaves_its_account_to_another_one_that_is_there() {
    let rig = Rig::new().await;
    rig.wants(&[&rig.scene.space]);
    let first = rig.sessions.open(credential(&rig.scene.token)).expect("a session");
    let identity = first.identity(Duration::from_secs(30)).await.expect("an identity");
    rig.sessions.keep(&first, &identity).await.expect("to be kept");
    let newer = rig.another_token();
    let second = rig.sessions.open(credential(&newer)).expect("a session");
    second.identity(Duration::from_secs(30)).await.expect("an identity");
    rig.scene.upstream.script(|script| {
        script.expiry.always(Expiry::Fault(Fault::Kick));
    });
    rig.scene.upstream.expire(&rig.scene.token);
    rig.stands(&first, SessionState::AuthFailed).await;
    rig.serves(&second).await;
    rig.seen(|seen| seen.is_subscribed(&newer, rig.scene.space.as_ref())).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_opaque_token_is_adopted_like_any_other() {
    let rig = Rig::new().await;
    let token = rig.scene.upstream.token_for(&rig.scene.ana, TokenKind::Oauth);
    let handle = rig.adopt(&token).await;
    assert_eq!(handle.status().token_expires_at, None, "it does not say when it ends");
    let newer = rig.another_token();
    let after = rig.adopt(&newer).await;
    assert!(after.status().token_expires_at.is_some());
    rig.stands(&handle, SessionState::Closed).await;
    rig.stop().await;
}

/// What may strike during a hand-over.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Old,
    New,
    Both,
}

#[tokio::test]
async fn a_hand_over_survives_whatever_befalls_the_connections() {
    let faults = [Fault::Cut, Fault::Kick, Fault::Disconnect, Fault::Reset, Fault::Freeze];
    let options = Options {
        limits: Limits::none(),
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_secs(1),
        ..Options::default()
    };
    let rig = Rig::on(Scene::with(options).await).await;
    rig.wants(&[&rig.scene.space]);
    let mut token = rig.scene.token.clone();
    let mut before = rig.adopt(&token).await;
    for (round, fault) in faults.iter().cycle().take(15).enumerate() {
        let blow = [Blow::Old, Blow::New, Blow::Both][round % 3];
        rig.seen(|seen| seen.is_subscribed(&token, rig.scene.space.as_ref())).await;
        let newer = rig.another_token();
        // So that the blow falls while the hand-over is under way.
        rig.scene.upstream.script_for(&newer, |script| {
            script.subscribe.next(1, SubscribeFault::Late(Duration::from_millis(50)));
        });
        let after = rig.sessions.adopt(rig.ana(), credential(&newer)).await.expect("a session");
        rig.seen(|seen| seen.open_now_with(&newer) == 1).await;
        let struck: &[_] = match blow {
            Blow::Old => &[&token],
            Blow::New => &[&newer],
            Blow::Both => &[&token, &newer],
        };
        for struck in struck {
            rig.scene.upstream.fault(&Who::token(struck), fault);
        }
        rig.serves(&after).await;
        rig.stands(&before, SessionState::Closed).await;
        rig.seen(|seen| seen.is_subscribed(&newer, rig.scene.space.as_ref())).await;
        rig.seen(|seen| seen.open_now_with(&token) == 0).await;
        let peaks = rig.scene.upstream.seen(|seen| (seen.peak_with(&token), seen.peak_with(&newer)));
        assert_eq!(peaks, (1, 1), "{blow:?} {fault:?}");
        (before, token) = (after, newer);
    }
    rig.scene.upstream.post_as(&rig.scene.bo, &rig.scene.space, "after all").expect("a message");
    eventually("the message", async || (rig.texts().await == ["after all"]).then_some(())).await;
    rig.stop().await;
}
