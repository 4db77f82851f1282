//! Opening, joining and every way of being refused.

use fake_upstream::{AckStyle, Fault, Limits, Options, Refusal, RootConnect, TokenKind};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{Client, DEADLINE, LATE, QUIET, Refused, Scene, connect_url, query};

/// Opens with Ana's token and asks to join; the open packet and `40` are consumed.
async fn ask(scene: &Scene) -> Client {
    let mut client = Client::open(&scene.upstream, &scene.anas).await;
    assert!(client.frame().await.starts_with("0{"));
    assert_eq!(client.frame().await, "40");
    client.ask_to_join(&scene.anas).await;
    client
}

#[tokio::test]
async fn a_client_opens_joins_and_pings() {
    let scene = Scene::new().await;
    let mut client = Client::open(&scene.upstream, &scene.anas).await;
    let open = client.frame().await;
    assert!(open.starts_with(r#"0{"sid":""#), "{open}");
    assert!(open.ends_with(r#""upgrades":[],"pingInterval":25000,"pingTimeout":60000}"#), "{open}");
    assert_eq!(client.frame().await, "40");
    client.ask_to_join(&scene.anas).await;
    assert_eq!(client.frame().await, "40/chat,");
    client.nothing_came().await;
}

#[tokio::test]
async fn the_root_acknowledgement_comes_before_after_late_or_never() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.root_connect.next(1, RootConnect::After).next(1, RootConnect::Never);
        script.root_connect.next(1, RootConnect::Late(LATE));
    });
    for expected in [vec!["40/chat,", "40", "3"], vec!["40/chat,", "3"], vec!["40/chat,", "3", "40"], vec!["40", "40/chat,", "3"]]
    {
        let mut client = Client::open(&scene.upstream, &scene.anas).await;
        assert!(client.frame().await.starts_with("0{"));
        client.ask_to_join(&scene.anas).await;
        client.send("2").await;
        let mut seen = Vec::new();
        for _ in &expected {
            seen.push(client.frame().await);
        }
        assert_eq!(seen, expected);
        scene.upstream.fault(&fake_upstream::Who::Everybody, &Fault::Cut);
        scene.upstream.wait_until(DEADLINE, |seen| seen.open_now() == 0).await.expect("the cut works");
    }
}

#[tokio::test]
async fn the_join_is_acknowledged_in_the_scripted_style_and_time() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.ack_style.next(1, AckStyle::Bare).next(1, AckStyle::WithData(json!({"sid": "x"})));
        script.ack_delay.next(1, LATE);
    });
    let mut late = ask(&scene).await;
    late.send("2").await;
    assert_eq!(late.frame().await, "3", "the answer to a later ping overtakes the late acknowledgement");
    assert_eq!(late.frame().await, "40/chat");
    assert_eq!(ask(&scene).await.frame().await, r#"40/chat,{"sid":"x"}"#);
    assert_eq!(ask(&scene).await.frame().await, "40/chat,");
}

#[tokio::test]
async fn a_join_is_refused_in_each_shape() {
    let scene = Scene::new().await;
    let shapes = [
        (Refusal::Text("Not authorized".to_owned()), r#"44/chat,"Not authorized""#),
        (Refusal::Object(json!({"status": 401})), r#"44/chat,{"status":401}"#),
        (Refusal::RootText("root refused".to_owned()), r#"44"root refused""#),
        (Refusal::Kick, "41/chat"),
    ];
    for (refusal, frame) in shapes {
        scene.upstream.script(|script| {
            script.refuse.next(1, refusal);
        });
        let mut client = ask(&scene).await;
        assert_eq!(client.frame().await, frame);
        // The socket stays open, and events are dropped.
        client.ask_to_subscribe(&scene.ops.id).await;
        client.nothing_came().await;
    }
    scene.upstream.script(|script| {
        script.refuse.next(1, Refusal::Silence).next(1, Refusal::Close);
    });
    ask(&scene).await.nothing_came().await;
    assert_eq!(ask(&scene).await.close_frame().await, None);
    assert_eq!(scene.upstream.seen(fake_upstream::Seen::refused), 6);
    assert_eq!(ask(&scene).await.frame().await, "40/chat,");
}

#[tokio::test]
async fn an_upgrade_is_refused_in_each_shape() {
    let scene = Scene::new().await;
    scene.upstream.script_for(&scene.anas, |script| {
        script.refuse.next(1, Refusal::http(401, "Unauthorized")).next(1, Refusal::http(400, "Forbidden"));
        script.refuse.next(1, Refusal::Http { status: 429, body: String::new(), retry_after: Some(7) });
        script.refuse.next(1, Refusal::Hangup);
    });
    for (status, body, retry_after) in [(401, "Unauthorized", None), (400, "Forbidden", None), (429, "", Some("7"))] {
        let refused = Client::try_open(&scene.upstream, &scene.anas).await.err();
        let expected = Refused::Http { status, body: body.to_owned(), retry_after: retry_after.map(str::to_owned) };
        assert_eq!(refused, Some(expected));
    }
    assert_eq!(Client::try_open(&scene.upstream, &scene.anas).await.err(), Some(Refused::Hangup));
    scene.upstream.script_for(&scene.anas, |script| {
        script.refuse.off().next(1, Refusal::Unanswered).next(1, Refusal::Mute);
    });
    let unanswered = timeout(QUIET, Client::try_open(&scene.upstream, &scene.anas)).await;
    assert!(unanswered.is_err());
    let mut mute = Client::open(&scene.upstream, &scene.anas).await;
    mute.ask_to_join(&scene.anas).await;
    mute.is_frozen().await;
    // Another token is not concerned.
    scene.join(&scene.bos).await;
    scene.join(&scene.anas).await;
}

#[tokio::test]
async fn a_bad_token_is_refused_as_scripted() {
    let scene = Scene::new().await;
    scene.upstream.with_world(|world| world.revoke(&scene.anas));
    assert_eq!(ask(&scene).await.frame().await, r#"44/chat,"Not authorized""#);
    scene.upstream.script(|script| {
        script.bad_token.next(1, Refusal::Object(json!({"code": 401}))).always(Refusal::http(403, "no"));
    });
    assert_eq!(ask(&scene).await.frame().await, r#"44/chat,{"code":401}"#);
    assert!(Client::try_open(&scene.upstream, &scene.anas).await.is_err());
    scene.join(&scene.bos).await;
}

#[tokio::test]
async fn an_expired_token_cannot_join() {
    let scene = Scene::new().await;
    let past = scene.upstream.with_world(|world| world.token_until(&scene.ana, TokenKind::Jwt, 1_000));
    let mut client = Client::open(&scene.upstream, &past).await;
    client.frame().await;
    client.frame().await;
    client.ask_to_join(&past).await;
    assert_eq!(client.frame().await, r#"44/chat,"Not authorized""#);
}

#[tokio::test]
async fn the_type_of_the_token_must_fit_and_defaults_to_any() {
    let scene = Scene::new().await;
    let service = scene.upstream.token_for(&scene.ana, TokenKind::Service);
    for (token, token_type, welcome) in [
        (&scene.anas, "&tokenType=jwt", true),
        (&scene.anas, "&tokenType=oauth", false),
        (&scene.anas, "", true),
        (&scene.bos, "&tokenType=oauth", true),
        (&service, "&tokenType=service_app", true),
    ] {
        let query = format!("token={}{token_type}", token.value);
        let url = format!("/socket.io/?{query}&EIO=3&transport=websocket");
        let mut client = connect_url(&scene.upstream, &url).await.expect("the upgrade is accepted");
        client.frame().await;
        client.frame().await;
        client.send(&format!("40/chat?{query},")).await;
        assert_eq!(client.frame().await.starts_with("40/chat"), welcome, "{token_type}");
    }
}

#[tokio::test]
async fn the_url_wins_over_the_packet_and_either_is_enough() {
    let scene = Scene::new().await;
    // The URL's good token covers the packet's bad one.
    let mut client = Client::open(&scene.upstream, &scene.anas).await;
    client.frame().await;
    client.frame().await;
    client.send("40/chat?token=bad&tokenType=jwt,").await;
    assert_eq!(client.frame().await, "40/chat,");
    // The packet alone, with the 1.x spelling without a comma.
    let mut client = connect_url(&scene.upstream, "/socket.io/?EIO=3&transport=websocket").await.expect("accepted");
    client.frame().await;
    client.frame().await;
    client.send(&format!("40/chat?{}", query(&scene.bos))).await;
    assert_eq!(client.frame().await, "40/chat,");
}

#[tokio::test]
async fn joins_that_socket_io_2_does_not_know_are_treated_as_it_does() {
    let scene = Scene::new().await;
    let mut client = Client::open(&scene.upstream, &scene.anas).await;
    client.frame().await;
    client.frame().await;
    client.send("40/nope,").await;
    assert_eq!(client.frame().await, r#"44/nope,"Invalid namespace""#);
    client.send(r#"40/chat,{"token":"x"}"#).await;
    client.nothing_came().await;
    client.ask_to_join(&scene.anas).await;
    assert_eq!(client.frame().await, "40/chat,");
}

#[tokio::test]
async fn other_transports_and_unknown_sessions_are_bad_requests() {
    let scene = Scene::new().await;
    for (path, body) in [
        ("/socket.io/?EIO=3&transport=polling", "Transport unknown"),
        ("/socket.io/?EIO=3", "Transport unknown"),
        ("/socket.io/?EIO=3&transport=websocket&sid=abc", "Session ID unknown"),
    ] {
        let refused = connect_url(&scene.upstream, path).await.err();
        assert_eq!(refused, Some(Refused::Http { status: 400, body: body.to_owned(), retry_after: None }));
        let reply = crate::support::call(&scene.upstream, &scene.anas, http::Method::GET, path, None).await;
        assert_eq!((reply.status, reply.json()["message"].as_str()), (400, Some(body)));
    }
}

#[tokio::test]
async fn one_connection_more_than_allowed_is_refused() {
    let limits = Limits { connections: Some(2), ..Limits::default() };
    let scene = Scene::with(Options { limits, ..Options::default() }).await;
    let _first = scene.join(&scene.anas).await;
    let _second = scene.join(&scene.anas).await;
    assert_eq!(ask(&scene).await.frame().await, r#"44/chat,"Too many connections""#);
    scene.upstream.script(|script| {
        script.over_connections.next(1, Refusal::Kick).next(1, Refusal::http(429, "Too many"));
    });
    assert_eq!(ask(&scene).await.frame().await, "41/chat");
    assert!(Client::try_open(&scene.upstream, &scene.anas).await.is_err());
    scene.join(&scene.bos).await;
}

#[tokio::test]
async fn a_fault_can_strike_right_after_the_join() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.after_join.next(1, Fault::Kick).next(1, Fault::Cut);
    });
    let mut client = ask(&scene).await;
    assert_eq!(client.frame().await, "40/chat,");
    assert_eq!(client.frame().await, "41/chat");
    // A kicked client may join again on the same socket; what it is told still arrives before the cut.
    client.ask_to_join(&scene.anas).await;
    assert_eq!(client.frame().await, "40/chat,");
    assert!(!client.abrupt_end().await);
}
