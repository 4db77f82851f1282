//! A joined connection: events, acks, binary, heartbeats, back-pressure and every way to end.

use std::sync::Arc;

use crate::support::{Server, TOKEN, end_of, joined, next_event, soon};
use socketio_client::{
    AckError, Client, Connection, Disconnect, EmitError, Incoming, Protocol, ProtocolError, Received, RefusedBy, connect,
};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const BOTH: [Protocol; 2] = [Protocol::EngineIo3, Protocol::EngineIo4];

/// Drives the connection until the other future is done.
async fn driving<F: Future>(connection: &mut Connection, future: F) -> F::Output {
    let drive = async {
        loop {
            connection.next().await.expect("a living connection");
        }
    };
    soon(async {
        tokio::select! {
            output = future => output,
            () = drive => unreachable!("driving never ends"),
        }
    })
    .await
}

#[tokio::test]
async fn emitted_events_have_the_forms_of_the_protocol() {
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    connection.emit("SEND", r#"{"a": "ü\u2028"}"#).expect("room");
    connection.emit_args("NONE", &[]).expect("room");
    connection.emit_args("MULTI", &["1", r#""two""#]).expect("room");
    connection.emit("na\"me\n", "null").expect("room");
    let first = connection.emit_with_ack("ASK", "{}").expect("room");
    let second = connection.emit_args_with_ack("ASK", &[]).expect("room");
    assert_eq!((first.get(), second.get()), (0, 1));
    assert_eq!(connection.queued_messages(), 6);
    let expected = [
        r#"42/chat,["SEND",{"a": "ü\u2028"}]"#,
        r#"42/chat,["NONE"]"#,
        r#"42/chat,["MULTI",1,"two"]"#,
        r#"42/chat,["na\"me\n",null]"#,
        r#"42/chat,0["ASK",{}]"#,
        r#"42/chat,1["ASK"]"#,
    ];
    driving(&mut connection, async {
        for frame in expected {
            assert_eq!(peer.text().await, frame);
        }
    })
    .await;
    assert_eq!(connection.queued_messages(), 0);
    // The CONNECT packet was the first.
    assert_eq!(connection.counters().frames_out, 7);
}

#[tokio::test]
async fn acks_go_both_ways() {
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    let id = connection.emit_with_ack("ASK", "{}").expect("room");
    peer.send(r#"43/chat,0["pong",{"x":1}]"#).await;
    let Ok(Incoming::Ack(ack)) = soon(connection.next()).await else { panic!("an ack") };
    assert_eq!(ack.id(), id);
    assert_eq!(ack.args().iter().collect::<Vec<_>>(), [r#""pong""#, r#"{"x":1}"#]);

    peer.send(r#"42/chat,4294967296["question"]"#).await;
    let question = next_event(&mut connection).await;
    connection.ack(question.ack_id().expect("an id"), &["true"]).expect("room");
    driving(&mut connection, async {
        assert_eq!(peer.text().await, r#"42/chat,0["ASK",{}]"#);
        assert_eq!(peer.text().await, "43/chat,4294967296[true]");
    })
    .await;
}

#[tokio::test]
async fn binary_events_are_skipped_and_the_stream_stays_in_step() {
    for protocol in BOTH {
        let server = Server::start().await;
        let (mut connection, mut peer) = server.join(protocol, 25_000, 60_000).await;
        peer.send(r#"452-/chat,3["bin",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#).await;
        peer.send_binary(&[4, 1]).await;
        peer.send("6").await;
        peer.send_binary(&[4, 2]).await;
        peer.send(r#"461-/other,7[{"_placeholder":true,"num":0}]"#).await;
        peer.send_binary(&[]).await;
        peer.send(r#"450-/chat,["none"]"#).await;
        peer.send(r#"461-/chat,7[{"_placeholder":true,"num":0}]"#).await;
        peer.send_binary(&[4]).await;
        peer.send(r#"42/chat,["text"]"#).await;
        for (event, ack, attachments) in [(Some("bin"), Some(3), 2), (Some("none"), None, 0), (None, Some(7), 1)] {
            let Ok(Incoming::BinarySkipped(skipped)) = soon(connection.next()).await else { panic!("a binary event") };
            assert_eq!(skipped.event.as_deref(), event);
            assert_eq!(skipped.ack.map(socketio_client::AckId::get), ack);
            assert_eq!(skipped.attachments, attachments);
        }
        assert_eq!(next_event(&mut connection).await.name(), "text");
        assert_eq!(connection.counters().binary_skipped, 3);
    }
}

#[tokio::test]
async fn messages_out_of_step_break_the_protocol() {
    let binary = Message::binary(vec![1]);
    let text = |text: &str| Message::text(text);
    let cases: [&[Message]; 6] = [
        &[binary],
        &[text(r#"451-/chat,["bin"]"#), text(r#"42/chat,["text"]"#)],
        &[text("42/chat,[1]")],
        &[text("9")],
        &[text("")],
        &[text(&crate::support::open(1, 1))],
    ];
    for messages in cases {
        let server = Server::start().await;
        let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
        for message in messages {
            peer.send_message(message.clone()).await;
        }
        assert!(matches!(end_of(&mut connection).await, Disconnect::Protocol(_)));
        assert!(peer.until_closed().await, "the client closes the WebSocket");
    }
}

#[tokio::test]
async fn bytes_that_are_no_frames_break_the_protocol() {
    let server = Server::start().await;
    let (mut connection, peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    peer.into_stream().write_all(&[0xFF; 8]).await.expect("to write");
    assert!(matches!(end_of(&mut connection).await, Disconnect::Protocol(ProtocolError::Frame(_))));
}

#[tokio::test]
async fn websocket_pings_are_answered() {
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    peer.send_message(Message::Ping(b"are you there".to_vec().into())).await;
    let answer = driving(&mut connection, peer.message()).await;
    assert_eq!(answer, Some(Message::Pong(b"are you there".to_vec().into())));
}

#[tokio::test]
async fn what_does_not_concern_the_namespace_is_ignored() {
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    for packet in [
        "6",
        "3",
        "40",
        "40/chat,",
        "40/other,",
        "41/other,",
        r#"44/other,"no""#,
        r#"44"root""#,
        r#"42["root"]"#,
        "43/other,0[]",
        r#"42/chat?token=x,["ours"]"#,
    ] {
        peer.send(packet).await;
    }
    assert_eq!(next_event(&mut connection).await.name(), "ours");
}

#[tokio::test]
async fn a_ping_of_the_server_is_answered_even_in_engine_io_3() {
    for protocol in BOTH {
        let server = Server::start().await;
        let (mut connection, mut peer) = server.join(protocol, 25_000, 60_000).await;
        peer.send("2").await;
        assert_eq!(driving(&mut connection, peer.text()).await, "3");
        peer.send("2probe").await;
        assert_eq!(driving(&mut connection, peer.text()).await, "3probe");
    }
}

#[tokio::test]
async fn a_pong_passes_queued_events() {
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo4, 25_000, 20_000).await;
    peer.send_together(&[r#"42/chat,["before"]"#, "2", r#"42/chat,["after"]"#]).await;
    assert_eq!(next_event(&mut connection).await.name(), "before");
    connection.emit("first", "1").expect("room");
    assert_eq!(next_event(&mut connection).await.name(), "after");
    driving(&mut connection, async {
        assert_eq!(peer.text().await, "3");
        assert_eq!(peer.text().await, r#"42/chat,["first",1]"#);
    })
    .await;
}

#[tokio::test]
async fn a_dead_connection_is_closed() {
    for protocol in BOTH {
        let server = Server::start().await;
        let (mut connection, mut peer) = server.join(protocol, 100, 150).await;
        assert!(matches!(end_of(&mut connection).await, Disconnect::HeartbeatTimeout));
        peer.until_closed().await;
        assert!(matches!(soon(connection.next()).await, Err(Disconnect::Closed)));
        assert_eq!(connection.emit("late", "1"), Err(EmitError::Closed));
    }
}

#[tokio::test]
async fn a_kick_from_the_namespace_is_told_apart_from_one_from_the_server() {
    let cases: [(&[&str], bool, bool); 4] = [
        (&["41/chat,"], false, false),
        (&["41/chat"], false, false),
        (&["41", "41/chat,"], true, true),
        (&["41/chat,"], true, true),
    ];
    for (packets, closes, expected) in cases {
        let server = Server::start().await;
        let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
        peer.send_together(packets).await;
        if closes {
            peer.send_message(Message::Close(None)).await;
        }
        match end_of(&mut connection).await {
            Disconnect::Kicked { whole } => assert_eq!(whole, expected, "{packets:?}"),
            other => panic!("{other:?}"),
        }
        assert!(peer.until_closed().await || closes, "the client closes the WebSocket");
    }
}

#[tokio::test]
async fn a_namespace_that_is_withdrawn_later_is_a_refusal() {
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    peer.send(&format!(r#"44/chat,"{TOKEN} expired""#)).await;
    let Disconnect::Refused(refusal) = end_of(&mut connection).await else { panic!("a refusal") };
    assert_eq!(refusal.by, RefusedBy::Namespace);
    assert_eq!(refusal.payload.expect("words").get(), r#""*** expired""#);
    assert!(peer.until_closed().await);
}

#[tokio::test]
async fn a_close_of_the_server_tells_code_and_reason() {
    let too_big = CloseFrame { code: CloseCode::Size, reason: "too big".into() };
    for (frame, code, reason) in [(None, None, ""), (Some(too_big), Some(1009), "too big")] {
        let server = Server::start().await;
        let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
        peer.send_message(Message::Close(frame)).await;
        match end_of(&mut connection).await {
            Disconnect::ServerClosed { code: seen, reason: text } => assert_eq!((seen, text.as_str()), (code, reason)),
            other => panic!("{other:?}"),
        }
    }
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    peer.send("1").await;
    assert!(matches!(end_of(&mut connection).await, Disconnect::ServerClosed { code: None, .. }));
}

#[tokio::test]
async fn a_connection_that_breaks_is_lost() {
    let server = Server::start().await;
    let (mut connection, peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    drop(peer);
    assert!(matches!(end_of(&mut connection).await, Disconnect::Lost(_)));

    let (mut connection, peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    let stream = peer.into_stream();
    stream.set_zero_linger().expect("to set a socket option");
    drop(stream);
    connection.emit("into the void", "1").expect("room");
    assert!(matches!(end_of(&mut connection).await, Disconnect::Lost(_)));
}

#[tokio::test]
async fn closing_says_goodbye() {
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    connection.emit("last words", "1").expect("room");
    let ((), ()) = soon(async {
        tokio::join!(connection.close(), async {
            assert_eq!(peer.text().await, r#"42/chat,["last words",1]"#);
            assert_eq!(peer.text().await, "41/chat,");
            assert!(matches!(peer.message().await, Some(Message::Close(_))));
            peer.until_closed().await;
        })
    })
    .await;
}

#[tokio::test]
async fn dropping_a_connection_closes_it() {
    let server = Server::start().await;
    let (connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    drop(connection);
    assert!(!peer.until_closed().await, "there is no time for a close frame");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is_queued() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3).max_message_bytes(40).outbound_queue(2, 60);
    let serve = async {
        let (mut peer, _) = server.accept_opened(25_000, 60_000).await;
        peer.send(joined(Protocol::EngineIo3)).await;
        peer
    };
    let (connection, mut peer) = soon(async { tokio::join!(connect(&options), serve) }).await;
    let mut connection = connection.expect("to join");
    for payload in ["", "{", "1 2", "1,2", "]", "undefined"] {
        assert_eq!(connection.emit("bad", payload), Err(EmitError::InvalidJson), "{payload}");
    }
    let long = format!("\"{}\"", "x".repeat(40));
    assert_eq!(connection.emit("big", &long), Err(EmitError::TooLarge { size: 58, limit: 40 }));
    assert!(connection.has_room());
    connection.emit("a", "1").expect("room");
    connection.emit("b", "2").expect("room");
    assert!(!connection.has_room());
    assert_eq!(connection.emit("c", "3"), Err(EmitError::QueueFull));
    assert!(connection.emit_with_ack("c", "3").is_err());
    driving(&mut connection, async {
        assert_eq!(peer.text().await, r#"42/chat,["a",1]"#);
        assert_eq!(peer.text().await, r#"42/chat,["b",2]"#);
    })
    .await;
    assert_eq!(connection.emit_with_ack("c", "3").expect("room").get(), 0, "no id is lost to a failure");
}

#[tokio::test]
async fn the_servers_limit_counts_when_it_is_smaller() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo4);
    let serve = async {
        let mut peer = server.accept().await;
        peer.send(r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100}"#).await;
        peer.text().await;
        peer.send(joined(Protocol::EngineIo4)).await;
        peer
    };
    let (connection, _peer) = soon(async { tokio::join!(connect(&options), serve) }).await;
    assert_eq!(connection.expect("to join").max_message_bytes(), 100);
}

#[tokio::test]
async fn a_message_above_the_inbound_limit_ends_the_connection() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3).max_inbound_bytes(1_000);
    let serve = async {
        let (mut peer, _) = server.accept_opened(25_000, 60_000).await;
        peer.send(joined(Protocol::EngineIo3)).await;
        peer.send(&format!(r#"42/chat,["{}"]"#, "x".repeat(1_000))).await;
        peer
    };
    let (connection, _peer) = soon(async { tokio::join!(connect(&options), serve) }).await;
    let end = end_of(&mut connection.expect("to join")).await;
    assert!(matches!(end, Disconnect::Protocol(ProtocolError::Frame(_))), "{end:?}");
}

#[tokio::test]
async fn a_client_handle_emits_and_waits_for_acks() {
    let server = Server::start().await;
    let (connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    let (client, mut events) = Client::spawn(connection, 4);
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.emit_with_ack("ASK", "1").await }
    });
    assert_eq!(peer.text().await, r#"42/chat,0["ASK",1]"#);
    peer.send_together(&[r#"42/chat,9["event"]"#, "43/chat,0[true]"]).await;
    let ack = soon(asking).await.expect("no panic").expect("an ack");
    assert_eq!(ack.arg(0), Some("true"));
    let Ok(Received::Event(event)) = soon(events.next()).await else { panic!("an event") };
    client.ack(event.ack_id().expect("an id"), &[]).await.expect("to send");
    assert_eq!(peer.text().await, "43/chat,9[]");
    assert_eq!(client.emit("bad", "{").await, Err(EmitError::InvalidJson));
    let big = format!("\"{}\"", "x".repeat(1_000_000));
    assert!(matches!(client.emit("big", &big).await, Err(EmitError::TooLarge { .. })));

    let unanswered = tokio::spawn({
        let client = client.clone();
        async move { client.emit_with_ack("ASK", "2").await }
    });
    assert_eq!(peer.text().await, r#"42/chat,1["ASK",2]"#);
    peer.send("461-/chat,5[]").await;
    peer.send_binary(&[4]).await;
    drop(peer);
    assert_eq!(soon(unanswered).await.expect("no panic").map(drop), Err(AckError::ConnectionEnded));
    assert!(matches!(soon(events.next()).await, Err(Disconnect::Lost(_))));
    assert!(matches!(soon(events.next()).await, Err(Disconnect::Closed)));
    assert_eq!(client.emit("late", "1").await, Err(EmitError::Closed));
}

#[tokio::test]
async fn a_binary_ack_fails_its_waiter() {
    let server = Server::start().await;
    let (connection, mut peer) = server.join(Protocol::EngineIo4, 25_000, 60_000).await;
    let (client, _events) = Client::spawn(connection, 4);
    let asking = tokio::spawn(async move { client.emit_with_ack("ASK", "1").await });
    peer.text().await;
    peer.send(r#"461-/chat,0[{"_placeholder":true,"num":0}]"#).await;
    peer.send_binary(&[1]).await;
    assert_eq!(soon(asking).await.expect("no panic").map(drop), Err(AckError::Binary));
}

#[tokio::test]
async fn a_client_whose_events_nobody_wants_goes_on() {
    let server = Server::start().await;
    let (connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    let (client, events) = Client::spawn(connection, 1);
    for _ in 0..4 {
        peer.send(r#"42/chat,["unwanted"]"#).await;
    }
    drop(events);
    client.emit("wanted", "1").await.expect("to send");
    assert_eq!(peer.text().await, r#"42/chat,["wanted",1]"#);
    let closing = tokio::spawn(async move { client.close().await });
    assert_eq!(peer.text().await, "41/chat,");
    peer.until_closed().await;
    soon(closing).await.expect("no panic");
}

#[tokio::test]
async fn more_commands_than_the_queue_holds_wait_and_are_not_lost() {
    const EVENTS: usize = 20_000;
    let server = Server::start().await;
    let (connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    let (client, _events) = Client::spawn(connection, 1);
    let payload: Arc<str> = format!("\"{}\"", "x".repeat(200)).into();
    let emitting = tokio::spawn(async move {
        for _ in 0..EVENTS {
            client.emit("n", &payload).await.expect("to send");
        }
        client
    });
    for _ in 0..EVENTS {
        assert!(peer.text().await.starts_with(r#"42/chat,["n","x"#));
    }
    soon(emitting).await.expect("no panic");
}

#[tokio::test]
async fn no_secret_shows_in_any_debug_output() {
    let server = Server::start().await;
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    connection.emit("x", "1").expect("room");
    peer.send(&format!(r#"42/chat,["private","{TOKEN}"]"#)).await;
    let event = next_event(&mut connection).await;
    assert!(!format!("{event:?}").contains(TOKEN));
    assert!(!format!("{connection:?}").contains(TOKEN));
    assert!(!format!("{:?}", server.options(Protocol::EngineIo3)).contains(TOKEN));
}
