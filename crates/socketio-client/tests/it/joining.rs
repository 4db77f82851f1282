//! Opening, joining, and every way in which that can fail, against a scripted server.

use crate::support::{ENCODED_TOKEN, Server, TOKEN, joined, next_event, open, read_head, soon};
use socketio_client::{ConnectError, ConnectOptions, FailureClass, Protocol, RefusedBy, connect};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

#[tokio::test]
async fn the_request_and_the_connect_packet_carry_the_query_of_engine_io_3() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3);
    let serve = async {
        let (mut peer, connect) = server.accept_opened(25_000, 60_000).await;
        peer.send("40/chat,").await;
        (peer, connect)
    };
    let (connection, (peer, connect_packet)) = soon(async { tokio::join!(connect(&options), serve) }).await;
    let connection = connection.expect("to join");
    assert_eq!(peer.path_and_query, format!("/socket.io/?token={ENCODED_TOKEN}&tokenType=jwt&EIO=3&transport=websocket"));
    assert_eq!(connect_packet, format!("40/chat?token={ENCODED_TOKEN}&tokenType=jwt,"));
    assert!(!peer.headers.iter().any(|(name, _)| name == "sec-websocket-extensions"), "no compression is offered");
    assert_eq!(connection.sid(), "abc");
    assert_eq!(connection.ping_interval(), Duration::from_secs(25));
    assert_eq!(connection.ping_timeout(), Duration::from_mins(1));
}

#[tokio::test]
async fn the_connect_packet_carries_an_auth_object_in_engine_io_4() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo4);
    let serve = async {
        let (mut peer, connect) = server.accept_opened(25_000, 20_000).await;
        peer.send(joined(Protocol::EngineIo4)).await;
        (peer, connect)
    };
    let (connection, (peer, connect_packet)) = soon(async { tokio::join!(connect(&options), serve) }).await;
    connection.expect("to join");
    assert!(peer.path_and_query.ends_with("&EIO=4&transport=websocket"), "{}", peer.path_and_query);
    assert_eq!(connect_packet, format!(r#"40/chat,{{"token":"{TOKEN}","tokenType":"jwt"}}"#));
}

#[tokio::test]
async fn without_a_query_the_connect_packet_is_bare() {
    for (protocol, packet) in [(Protocol::EngineIo3, "40/chat,"), (Protocol::EngineIo4, "40/chat,")] {
        let server = Server::start().await;
        let address = server.options(protocol);
        let bare = ConnectOptions::new(&base_url(&address)).expect("a URL").namespace("/chat").expect("a namespace");
        let serve = async {
            let (mut peer, connect) = server.accept_opened(25_000, 20_000).await;
            peer.send(joined(protocol)).await;
            connect
        };
        let options = bare.protocol(protocol);
        let (connection, connect_packet) = soon(async { tokio::join!(connect(&options), serve) }).await;
        connection.expect("to join");
        assert_eq!(connect_packet, packet);
    }
}

/// Takes the address out of the options' `Debug` output, which shows it.
fn base_url(options: &ConnectOptions) -> String {
    let shown = format!("{options:?}");
    let port = shown.split("port: ").nth(1).and_then(|rest| rest.split(',').next()).expect("a port");
    format!("http://127.0.0.1:{port}")
}

#[tokio::test]
async fn the_root_packet_may_come_before_after_or_never() {
    let orders: [&[&str]; 5] =
        [&["40", "40/chat,"], &["40/chat,", "40"], &["40/chat,"], &["40/chat"], &["40", r#"40/chat,{"sid":"defensive"}"#]];
    for order in orders {
        let server = Server::start().await;
        let options = server.options(Protocol::EngineIo3);
        let serve = async {
            let (mut peer, _) = server.accept_opened(25_000, 60_000).await;
            for packet in order {
                peer.send(packet).await;
            }
            peer.send(r#"42/chat,["hello"]"#).await;
            peer
        };
        let (connection, _peer) = soon(async { tokio::join!(connect(&options), serve) }).await;
        let mut connection = connection.expect("to join");
        assert_eq!(next_event(&mut connection).await.name(), "hello");
    }
}

#[tokio::test]
async fn the_root_namespace_of_engine_io_3_is_joined_without_asking() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3).namespace("/").expect("the root");
    let serve = async {
        let mut peer = server.accept().await;
        peer.send(&open(25_000, 60_000)).await;
        peer.send("40").await;
        peer
    };
    let (connection, mut peer) = soon(async { tokio::join!(connect(&options), serve) }).await;
    let mut connection = connection.expect("to join");
    connection.emit("first", "1").expect("room");
    let first = tokio::select! {
        first = peer.text() => first,
        said = connection.next() => panic!("something to say: {said:?}"),
    };
    assert_eq!(first, r#"42["first",1]"#);
}

#[tokio::test]
async fn events_that_follow_the_joined_packet_in_the_same_read_are_not_lost() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3);
    let serve = async {
        let (mut peer, _) = server.accept_opened(25_000, 60_000).await;
        peer.send_together(&["40/chat,", r#"42/chat,["one"]"#, r#"42/other,["not ours"]"#, r#"42/chat,["two"]"#]).await;
        peer
    };
    let (connection, _peer) = soon(async { tokio::join!(connect(&options), serve) }).await;
    let mut connection = connection.expect("to join");
    assert_eq!(next_event(&mut connection).await.name(), "one");
    assert_eq!(next_event(&mut connection).await.name(), "two");
}

#[tokio::test]
async fn a_ping_right_after_the_open_packet_is_answered() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo4);
    let serve = async {
        let mut peer = server.accept().await;
        peer.send_together(&[&open(25_000, 20_000), "2"]).await;
        let mut seen = vec![peer.text().await, peer.text().await];
        seen.sort();
        peer.send(joined(Protocol::EngineIo4)).await;
        seen
    };
    let (connection, seen) = soon(async { tokio::join!(connect(&options), serve) }).await;
    connection.expect("to join");
    assert_eq!(seen[0], "3");
    assert!(seen[1].starts_with("40/chat,"), "{}", seen[1]);
}

#[tokio::test]
async fn a_namespace_that_refuses_is_reported_with_its_words() {
    let cases = [
        (Protocol::EngineIo3, r#"44/chat,"Not authorized""#, r#""Not authorized""#),
        (Protocol::EngineIo3, r#"44/chat,{"status":401,"reason":"expired"}"#, r#"{"status":401,"reason":"expired"}"#),
        (Protocol::EngineIo3, "44/chat,401", "401"),
        (
            Protocol::EngineIo4,
            r#"44/chat,{"message":"Not authorized","data":{"status":401}}"#,
            r#"{"message":"Not authorized","data":{"status":401}}"#,
        ),
    ];
    for (protocol, packet, words) in cases {
        let server = Server::start().await;
        let error = server
            .refuse(protocol, async |mut peer| {
                peer.send(packet).await;
                assert!(peer.until_closed().await, "the client closes the WebSocket");
            })
            .await;
        assert_eq!(error.class(), FailureClass::Auth);
        let ConnectError::Refused(refusal) = error else { panic!("{error:?}") };
        assert_eq!(refusal.by, RefusedBy::Namespace);
        assert_eq!(refusal.payload.expect("the server's words").get(), words);
    }
}

#[tokio::test]
async fn a_root_namespace_that_refuses_is_reported_although_chat_never_answers() {
    let server = Server::start().await;
    let error = server
        .refuse(Protocol::EngineIo3, async |mut peer| {
            peer.send(r#"44"root refused""#).await;
            peer.until_closed().await;
        })
        .await;
    let ConnectError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!(refusal.by, RefusedBy::Root);
    assert_eq!(refusal.payload.expect("the server's words").get(), r#""root refused""#);
}

#[tokio::test]
async fn a_token_that_the_server_repeats_is_masked() {
    let server = Server::start().await;
    let error = server
        .refuse(Protocol::EngineIo3, async |mut peer| {
            peer.send(&format!(r#"44/chat,{{"error":"bad token {TOKEN} of type jwt"}}"#)).await;
            peer.until_closed().await;
        })
        .await;
    assert!(!format!("{error:?} {error}").contains(TOKEN));
    let ConnectError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!(refusal.payload.expect("words").get(), r#"{"error":"bad token *** of type jwt"}"#);
}

#[tokio::test]
async fn an_unknown_namespace_is_a_matter_of_configuration() {
    let cases = [
        (Protocol::EngineIo3, r#"44/chat,"Invalid namespace""#),
        (Protocol::EngineIo4, r#"44/chat,{"message":"Invalid namespace"}"#),
    ];
    for (protocol, packet) in cases {
        let server = Server::start().await;
        let error = server
            .refuse(protocol, async |mut peer| {
                peer.send(packet).await;
                peer.until_closed().await;
            })
            .await;
        assert!(matches!(error, ConnectError::InvalidNamespace), "{error:?}");
        assert_eq!(error.class(), FailureClass::Config);
    }
}

/// Lets a client meet this HTTP answer.
async fn http(answer: &str) -> ConnectError {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3);
    let (result, ()) = soon(async { tokio::join!(connect(&options), server.answer_raw(answer)) }).await;
    result.expect_err("no connection")
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn http_refusals_of_the_credentials_are_authentication_failures() {
    for (status, body, payload) in [
        ("400 Bad Request", "Forbidden", Some(r#""Forbidden""#)),
        ("400 Bad Request", r#"{"code":4,"message":"Forbidden"}"#, Some(r#"{"code":4,"message":"Forbidden"}"#)),
        ("401 Unauthorized", "", None),
        ("403 Forbidden", &format!("not with {TOKEN}"), Some(r#""not with ***""#)),
    ] {
        let error = http(&answer(status, "", body)).await;
        assert_eq!(error.class(), FailureClass::Auth, "{status}");
        let ConnectError::Refused(refusal) = error else { panic!("{error:?}") };
        assert!(matches!(refusal.by, RefusedBy::Http { .. }));
        assert_eq!(refusal.payload.as_deref().map(serde_json::value::RawValue::get), payload);
    }
}

#[tokio::test]
async fn http_answers_of_something_else_are_matters_of_configuration() {
    for (status, body) in [
        ("400 Bad Request", "Transport unknown"),
        ("400 Bad Request", "Session ID unknown"),
        ("400 Bad Request", ""),
        ("404 Not Found", "Forbidden"),
        ("301 Moved Permanently", ""),
        ("200 OK", "hello"),
    ] {
        let error = http(&answer(status, "", body)).await;
        assert!(matches!(error, ConnectError::Misconfigured { status: Some(_) }), "{status}: {error:?}");
        assert_eq!(error.class(), FailureClass::Config);
    }
}

#[tokio::test]
async fn a_connection_closed_without_an_http_answer_is_a_wrong_path() {
    let error = http("").await;
    assert!(matches!(error, ConnectError::Misconfigured { status: None }), "{error:?}");
}

#[tokio::test]
async fn servers_that_cannot_serve_now_say_when_to_come_back() {
    for (status, headers, wait) in [
        ("503 Service Unavailable", "Retry-After: 7\r\n", Some(Duration::from_secs(7))),
        ("429 Too Many Requests", "retry-after: 60\r\n", Some(Duration::from_mins(1))),
        ("500 Internal Server Error", "", None),
        ("502 Bad Gateway", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", None),
    ] {
        let error = http(&answer(status, headers, "busy")).await;
        assert_eq!(error.class(), FailureClass::Unavailable);
        assert!(matches!(error, ConnectError::Unavailable { status: Some(_), .. }), "{error:?}");
        assert_eq!(error.retry_after(), wait);
    }
}

#[tokio::test]
async fn garbage_in_place_of_http_breaks_the_protocol() {
    let error = http("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    assert!(matches!(error, ConnectError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unavailable() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3);
    drop(server);
    let error = soon(connect(&options)).await.expect_err("no connection");
    assert!(matches!(error, ConnectError::Unavailable { status: None, source: Some(_), .. }), "{error:?}");
}

#[tokio::test]
async fn a_tls_handshake_with_a_plain_server_fails_as_unavailable() {
    let server = Server::start().await;
    let url = base_url(&server.options(Protocol::EngineIo3)).replace("http:", "https:");
    let roots = rustls::RootCertStore::empty();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let options = ConnectOptions::new(&url).expect("a URL").tls(std::sync::Arc::new(tls));
    let serve = async {
        let mut stream = server.accept_tcp().await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("to write");
        stream
    };
    let (result, _stream) = soon(async { tokio::join!(connect(&options), serve) }).await;
    let error = result.expect_err("no connection");
    assert!(matches!(error, ConnectError::Unavailable { status: None, source: Some(_), .. }), "{error:?}");
}

#[tokio::test]
async fn leaving_before_joining_is_told_apart_by_how_it_happens() {
    let server = Server::start().await;
    let error = server
        .refuse(Protocol::EngineIo3, async |mut peer| {
            let frame = CloseFrame { code: CloseCode::Policy, reason: format!("bad {TOKEN}").into() };
            peer.send_message(Message::Close(Some(frame))).await;
            peer.until_closed().await;
        })
        .await;
    let ConnectError::Closed { code: Some(1008), reason } = error else { panic!("{error:?}") };
    assert_eq!(reason, "bad ***");

    let error = server.refuse(Protocol::EngineIo3, async |peer| drop(peer)).await;
    assert!(matches!(error, ConnectError::Closed { code: None, .. }), "{error:?}");

    let error = server
        .refuse(Protocol::EngineIo3, async |mut peer| {
            peer.send("1").await;
            peer.until_closed().await;
        })
        .await;
    assert!(matches!(error, ConnectError::Closed { code: None, .. }), "{error:?}");

    let error = server
        .refuse(Protocol::EngineIo3, async |mut peer| {
            peer.send_together(&["41", "41/chat,"]).await;
            peer.until_closed().await;
        })
        .await;
    assert!(matches!(error, ConnectError::Kicked), "{error:?}");
    assert_eq!(error.class(), FailureClass::Unavailable);
}

#[tokio::test]
async fn an_engine_io_4_client_recognises_an_engine_io_3_server() {
    for packet in ["40/chat,", "40"] {
        let server = Server::start().await;
        let error = server
            .refuse(Protocol::EngineIo4, async |mut peer| {
                peer.send(packet).await;
                peer.until_closed().await;
            })
            .await;
        assert!(matches!(error, ConnectError::ProtocolMismatch), "{error:?}");
        assert_eq!(error.class(), FailureClass::Config);
    }
}

#[tokio::test]
async fn an_engine_io_3_client_recognises_an_engine_io_4_server() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3);
    let serve = async {
        let mut stream = server.accept().await.into_stream();
        let answer = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nUnsupported protocol version";
        stream.write_all(answer.as_bytes()).await.expect("to write");
        stream
    };
    let (result, _stream) = soon(async { tokio::join!(connect(&options), serve) }).await;
    assert!(matches!(result, Err(ConnectError::ProtocolMismatch)), "{result:?}");

    let error = http(&answer("400 Bad Request", "", r#"{"code":5,"message":"Unsupported protocol version"}"#)).await;
    assert!(matches!(error, ConnectError::ProtocolMismatch), "{error:?}");
}

#[tokio::test]
async fn what_must_not_come_while_joining_breaks_the_protocol() {
    let packets = ["x", "", "47", "42/chat,[", r#"0{"sid":"x","pingInterval":1,"pingTimeout":1}"#, "40/chat,{"];
    for packet in packets {
        let server = Server::start().await;
        let error = server
            .refuse(Protocol::EngineIo3, async |mut peer| {
                peer.send(packet).await;
                peer.until_closed().await;
            })
            .await;
        assert!(matches!(error, ConnectError::Protocol(_)), "{packet}: {error:?}");
        assert_eq!(error.class(), FailureClass::Protocol);
    }
}

#[tokio::test]
async fn the_first_message_must_be_the_open_packet() {
    for packet in ["40", "2", "0", "0{}", "hello"] {
        let server = Server::start().await;
        let options = server.options(Protocol::EngineIo3);
        let serve = async {
            let mut peer = server.accept().await;
            peer.send(packet).await;
            peer.until_closed().await;
        };
        let (result, ()) = soon(async { tokio::join!(connect(&options), serve) }).await;
        assert!(matches!(result, Err(ConnectError::Protocol(_))), "{packet}: {result:?}");
    }
}

#[tokio::test]
async fn dropping_the_attempt_closes_its_connection() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3);
    let attempt = tokio::spawn(async move { connect(&options).await.map(drop) });
    let (mut peer, _) = server.accept_opened(25_000, 60_000).await;
    attempt.abort();
    peer.until_closed().await;
}

#[tokio::test]
async fn the_request_is_plain_http_without_extras() {
    let server = Server::start().await;
    let options = server.options(Protocol::EngineIo3);
    let serve = async {
        let mut stream = server.accept_tcp().await;
        read_head(&mut stream).await
    };
    let head = tokio::select! {
        head = serve => head,
        result = connect(&options) => panic!("an end without an answer: {result:?}"),
    };
    assert!(head.starts_with("GET /socket.io/?token="), "{head}");
    assert!(!head.to_ascii_lowercase().contains("extensions"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("origin"), "{head}");
}
