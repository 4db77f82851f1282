//! Blows to open connections, ends of tokens, and a server that dies.

use std::time::{SystemTime, UNIX_EPOCH};

use fake_upstream::{ConnectionId, Ended, Expiry, Fault, SendFault, TokenKind, Who};
use http::Method;
use serde_json::json;

use crate::support::{DEADLINE, Scene, call};

impl Scene {
    fn strike(&self, fault: &Fault) {
        assert_eq!(self.upstream.fault(&Who::token(&self.anas), fault), 1);
    }

    fn stored(&self) -> usize {
        self.upstream.with_world(|world| world.messages_in(&self.ops.id).len())
    }
}

#[tokio::test]
async fn kicks_and_closes_have_their_frames() {
    let scene = Scene::new().await;
    let mut client = scene.subscribe(&scene.anas).await;
    scene.strike(&Fault::Kick);
    assert_eq!(client.frame().await, "41/chat");
    scene.upstream.post_as(&scene.bo, &scene.ops, "unheard").expect("a known space");
    client.nothing_came().await;
    scene.strike(&Fault::Disconnect);
    assert_eq!(client.frame().await, "41");
    assert_eq!(client.frame().await, "41/chat");
    assert_eq!(client.close_frame().await, None);

    let mut client = scene.join(&scene.bos).await;
    assert_eq!(scene.upstream.fault(&Who::user(&scene.bo), &Fault::Close), 1);
    assert_eq!(client.close_frame().await, None);
}

#[tokio::test]
async fn a_close_can_have_a_code() {
    let scene = Scene::new().await;
    let mut client = scene.join(&scene.anas).await;
    scene.strike(&Fault::CloseWith(1012));
    assert_eq!(client.close_frame().await, Some(1012));
    let ended = scene.upstream.wait_for(DEADLINE, |seen| seen.connections().next()?.ended);
    assert_eq!(ended.await.expect("the connection ends"), Ended::ServerClosed);
}

#[tokio::test]
async fn cuts_and_resets_have_no_close_frame() {
    let scene = Scene::new().await;
    let mut client = scene.join(&scene.anas).await;
    scene.strike(&Fault::Cut);
    assert!(!client.abrupt_end().await);
    let mut client = scene.join(&scene.anas).await;
    scene.upstream.wait_until(DEADLINE, |seen| seen.open_now() == 1).await.expect("the first one is gone");
    scene.strike(&Fault::Reset);
    assert!(client.abrupt_end().await, "a reset");
}

#[tokio::test]
async fn a_frozen_socket_says_and_does_nothing_until_it_thaws() {
    let scene = Scene::new().await;
    let mut client = scene.subscribe(&scene.anas).await;
    scene.strike(&Fault::Freeze);
    scene.upstream.post_as(&scene.bo, &scene.ops, "unheard").expect("a known space");
    client.chat(&scene.ops.id, "into the void").await;
    client.is_frozen().await;
    assert_eq!(scene.stored(), 1);
    scene.strike(&Fault::Thaw);
    client.nothing_came().await;
    client.chat(&scene.ops.id, "hello").await;
    assert_eq!(client.texts(1).await, ["hello"]);
}

#[tokio::test]
async fn a_deaf_socket_answers_pings_and_hears_nothing() {
    let scene = Scene::new().await;
    let mut client = scene.subscribe(&scene.anas).await;
    scene.strike(&Fault::Deafen);
    scene.upstream.post_as(&scene.bo, &scene.ops, "unheard").expect("a known space");
    client.chat(&scene.ops.id, "unheard").await;
    client.nothing_came().await;
    assert_eq!(scene.stored(), 1);
}

#[tokio::test]
async fn a_forgotten_subscription_is_felt_at_the_next_send() {
    let scene = Scene::new().await;
    let mut client = scene.subscribe(&scene.anas).await;
    scene.strike(&Fault::Unsubscribe(scene.ops.id.clone()));
    assert!(!scene.upstream.seen(|seen| seen.is_subscribed(&scene.anas, &scene.ops.id)));
    scene.upstream.post_as(&scene.bo, &scene.ops, "unheard").expect("a known space");
    client.nothing_came().await;
    client.chat(&scene.ops.id, "hi").await;
    client.event("SEND_MESSAGE_FAILED").await;
}

#[tokio::test]
async fn any_frame_and_any_event_can_be_injected() {
    let scene = Scene::new().await;
    let mut client = scene.subscribe(&scene.anas).await;
    scene.strike(&Fault::Frame("2".to_owned()));
    assert_eq!(client.frame().await, "2");
    scene.strike(&Fault::Binary(vec![4, 1, 2]));
    assert_eq!(client.binary().await, [4, 1, 2]);
    let odd = json!({"category": "meeting.unheard.of", "topicId": scene.ops.id});
    for who in [Who::token(&scene.anas), Who::space(&scene.ops), Who::Everybody, Who::Connection(ConnectionId(1))] {
        assert_eq!(scene.upstream.inject(&who, "MESSAGE_SENT", &odd), 1);
        assert_eq!(client.event("MESSAGE_SENT").await, odd);
    }
}

#[tokio::test]
async fn a_blow_strikes_before_or_after_the_message_is_stored() {
    let scene = Scene::new().await;
    let mut bo = scene.subscribe(&scene.bos).await;
    scene.upstream.script_for(&scene.anas, |script| {
        script.send_fault.next(1, SendFault::BeforeStoring(Fault::Cut)).next(1, SendFault::AfterStoring(Fault::Reset));
        script.send_fault.next(1, SendFault::AfterStoring(Fault::Disconnect));
    });
    let mut client = scene.subscribe(&scene.anas).await;
    client.chat(&scene.ops.id, "lost").await;
    assert!(!client.abrupt_end().await);
    assert_eq!(scene.stored(), 0);

    let mut client = scene.subscribe(&scene.anas).await;
    client.chat(&scene.ops.id, "kept").await;
    assert!(client.abrupt_end().await);
    assert_eq!(bo.texts(1).await, ["kept"]);

    let mut client = scene.subscribe(&scene.anas).await;
    client.chat(&scene.ops.id, "kept too").await;
    assert_eq!(client.frame().await, "41");
    assert_eq!(bo.texts(1).await, ["kept too"]);
    assert_eq!(scene.stored(), 2);
}

#[tokio::test]
async fn the_end_of_a_token_has_the_scripted_consequence() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.expiry.next(1, Expiry::Kept).next(1, Expiry::Fault(Fault::Kick)).next(1, Expiry::Fault(Fault::Close));
        script.expiry.next(1, Expiry::Fault(Fault::Deafen));
    });
    let mut kept = Vec::new();
    for consequence in ["kept", "41/chat", "close", "deaf"] {
        let token = scene.upstream.with_world(|world| world.token_until(&scene.ana, TokenKind::Jwt, soon()));
        let mut client = scene.subscribe(&token).await;
        while call(&scene.upstream, &token, Method::GET, "/api/users/me", None).await.status == 200 {
            tokio::task::yield_now().await;
        }
        match consequence {
            "41/chat" => assert_eq!(client.frame().await, "41/chat"),
            "close" => {
                assert_eq!(client.close_frame().await, None);
                continue;
            }
            "deaf" => {
                let deaf = scene.upstream.wait_until(DEADLINE, |seen| !seen.is_subscribed(&token, &scene.ops.id));
                deaf.await.expect("the subscription goes");
            }
            _ => {}
        }
        scene.upstream.post_as(&scene.bo, &scene.ops, "still there?").expect("a known space");
        if consequence == "kept" {
            assert_eq!(client.texts(1).await, ["still there?"]);
        }
        client.nothing_came().await;
        // Its token's end may be acted on a moment later and must not fall to the next one.
        kept.push(client);
    }
}

/// A second from now.
fn soon() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("a time") + 1000
}

#[tokio::test]
async fn a_token_can_be_ended_at_once() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.expiry.always(Expiry::Fault(Fault::Disconnect));
    });
    let mut client = scene.join(&scene.anas).await;
    scene.upstream.expire(&scene.anas);
    assert_eq!(client.frame().await, "41");
    let reply = call(&scene.upstream, &scene.anas, Method::GET, "/api/users/me", None).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn a_stopped_server_cuts_all_and_comes_back_on_its_port_with_its_world() {
    let scene = Scene::new().await;
    let mut client = scene.subscribe(&scene.anas).await;
    let address = scene.upstream.address();
    scene.upstream.stop().await;
    client.abrupt_end().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    scene.upstream.backdate_as(&scene.bo, &scene.ops, "meanwhile", 1_000).expect("a known space");
    scene.upstream.restart().await.expect("the port is free");
    assert_eq!(scene.upstream.address(), address);
    scene.subscribe(&scene.anas).await;
    assert_eq!(scene.stored(), 1);
}

#[tokio::test]
async fn dropping_the_fake_ends_everything() {
    let scene = Scene::new().await;
    let mut client = scene.join(&scene.anas).await;
    let address = scene.upstream.address();
    drop(scene);
    client.abrupt_end().await;
    let gone = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("the listener is gone");
}
