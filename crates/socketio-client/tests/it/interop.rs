//! Against real servers: Socket.IO 2.0.4, 2.5 and 4, the last one with and without its Engine.IO 3 side.
//!
//! They need Node.js and `npm ci` in `tests/servers`. Where that is missing each test says so and passes, unless
//! `REQUIRE_NODE=1` makes it a failure.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use socketio_client::{
    Backoff, ConnectError, ConnectOptions, ConnectPhase, Connection, Disconnect, FailureClass, Incoming, Protocol, RefusedBy,
    connect,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::{TOKEN, end_of, next_event, soon};

/// Server version and the protocol to speak with it.
const PAIRS: [(&str, Protocol); 4] =
    [("2.0", Protocol::EngineIo3), ("2.5", Protocol::EngineIo3), ("4", Protocol::EngineIo3), ("4", Protocol::EngineIo4)];

/// A running server; it ends when this is dropped.
struct NodeServer {
    port: u16,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl NodeServer {
    /// Starts a server, or explains why there is none.
    async fn start(version: &str, options: Value) -> Option<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers");
        if !directory.join("node_modules").is_dir() {
            return Self::skip("run `npm ci` in tests/servers first");
        }
        let mut options = options;
        options["allowEIO3"] = options.get("allowEIO3").cloned().unwrap_or(json!(true));
        let spawned = Command::new("node")
            .arg(directory.join("server.js"))
            .args([version, &options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let Ok(mut child) = spawned else {
            return Self::skip("Node.js is not installed");
        };
        let stdin = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut server = Self { port: 0, stdin, lines, child };
        let started = server.line().await;
        server.port = started["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        Some(server)
    }

    fn skip(reason: &str) -> Option<Self> {
        assert!(std::env::var_os("REQUIRE_NODE").is_none_or(|value| value != "1"), "{reason}");
        // Not by `eprintln!`, which the test harness keeps to itself when a test passes.
        std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes()).expect("standard error takes a line");
        None
    }

    /// Reads the next line that the server prints.
    async fn line(&mut self) -> Value {
        let line = soon(self.lines.next_line()).await.expect("to read").expect("a server that lives");
        serde_json::from_str(&line).expect("JSON")
    }

    fn options(&self, protocol: Protocol) -> ConnectOptions {
        ConnectOptions::new(&format!("http://127.0.0.1:{}", self.port))
            .expect("a valid URL")
            .namespace("/chat")
            .expect("a valid namespace")
            .protocol(protocol)
            .query("token", TOKEN)
            .public_query("tokenType", "jwt")
    }

    async fn connect(&self, protocol: Protocol) -> Connection {
        soon(connect(&self.options(protocol))).await.expect("to join")
    }

    /// Kills the process, as a crash does.
    async fn kill(mut self) -> u16 {
        self.child.kill().await.expect("to kill the server");
        self.port
    }
}

#[tokio::test]
async fn every_version_gets_the_token_where_it_looks_for_it() {
    for (version, protocol) in PAIRS {
        let Some(mut server) = NodeServer::start(version, json!({ "token": TOKEN })).await else {
            return;
        };
        let connection = server.connect(protocol).await;
        let connected = server.line().await;
        assert_eq!(connected["urlToken"], TOKEN, "{version} {protocol:?}");
        if version == "4" {
            assert_eq!(connected["authToken"], TOKEN, "{protocol:?}");
        }
        soon(connection.close()).await;
        assert_eq!(server.line().await["reason"], "client namespace disconnect");
    }
}

#[tokio::test]
async fn every_packet_form_is_understood_by_every_version() {
    for (version, protocol) in PAIRS {
        let Some(server) = NodeServer::start(version, json!({})).await else {
            return;
        };
        let mut connection = server.connect(protocol).await;

        connection.emit_args("echo", &["1", r#""two""#, "{\"three\":\"\u{2028}\u{1F680}\"}"]).expect("room");
        let echo = next_event(&mut connection).await;
        let args: Vec<_> = echo.args().iter().collect();
        assert_eq!(args, ["1", r#""two""#, "{\"three\":\"\u{2028}\u{1F680}\"}"], "{version} {protocol:?}");

        connection.emit_args("echo", &[]).expect("room");
        assert!(next_event(&mut connection).await.args().is_empty());

        let id = connection.emit_with_ack("echo", "[1]").expect("room");
        let Ok(Incoming::Ack(ack)) = soon(connection.next()).await else { panic!("an ack") };
        assert_eq!((ack.id(), ack.arg(0)), (id, Some("[1]")));

        connection.emit("ask", r#""why""#).expect("room");
        let question = next_event(&mut connection).await;
        connection.ack(question.ack_id().expect("an id"), &[r#""because""#, "42"]).expect("room");
        let answered = next_event(&mut connection).await;
        assert_eq!(answered.args().iter().collect::<Vec<_>>(), [r#""because""#, "42"]);

        connection.emit_args("binary", &[]).expect("room");
        let Ok(Incoming::BinarySkipped(skipped)) = soon(connection.next()).await else { panic!("a binary event") };
        assert_eq!((skipped.event.as_deref(), skipped.attachments), (Some("binary"), 2));
        connection.emit_args_with_ack("binary-ack", &[]).expect("room");
        let Ok(Incoming::BinarySkipped(skipped)) = soon(connection.next()).await else { panic!("a binary ack") };
        assert_eq!((skipped.event, skipped.attachments), (None, 1));

        connection.emit("burst", "1000").expect("room");
        for index in 0..1000 {
            assert_eq!(next_event(&mut connection).await.args().parse::<u32>(0).expect("a number"), index);
        }

        let large = Value::from("x".repeat(900_000)).to_string();
        connection.emit("echo", &large).expect("room");
        assert_eq!(next_event(&mut connection).await.arg(0).map(str::len), Some(900_002));
    }
}

#[tokio::test]
async fn messages_are_confirmed_to_their_sender_and_shown_to_the_others() {
    for (version, protocol) in PAIRS {
        let Some(server) = NodeServer::start(version, json!({ "spaces": ["room1"] })).await else {
            return;
        };
        let mut alice = server.connect(protocol).await;
        let mut bob = server.connect(protocol).await;
        for connection in [&mut alice, &mut bob] {
            connection.emit("SUBSCRIBE_CHANNEL", r#"{"channel":{"_id":"room1","type":"topic"}}"#).expect("room");
            let subscribed = next_event(connection).await;
            assert_eq!(subscribed.name(), "CHANNEL_SUBSCRIBED");
        }
        alice.emit("SUBSCRIBE_CHANNEL", r#"{"channel":{"_id":"room2","type":"topic"}}"#).expect("room");
        assert_eq!(next_event(&mut alice).await.name(), "SUBSCRIBE_CHANNEL_FAILED");

        let message = r#"{"category":"chat","topicId":"room1","content":{"bodyText":"hi"},"loopbackMetadata":"lb"}"#;
        alice.emit("SEND_MESSAGE", message).expect("room");
        let (own, other) = tokio::join!(next_event(&mut alice), next_event(&mut bob));
        let own: Value = own.args().parse(0).expect("an object");
        let other: Value = other.args().parse(0).expect("an object");
        assert_eq!((&own["loopbackMetadata"], &other["loopbackMetadata"]), (&json!("lb"), &Value::Null));
        assert_eq!(own["_id"], other["_id"]);
        assert_eq!(own["sender"]["type"], "user");
    }
}

#[tokio::test]
async fn each_refusal_of_each_version_is_recognised() {
    let refusals: [(&str, RefusedBy); 4] = [
        ("string", RefusedBy::Namespace),
        ("object", RefusedBy::Namespace),
        ("root", RefusedBy::Root),
        ("http", RefusedBy::Http { status: 400 }),
    ];
    for (version, protocol) in PAIRS {
        for (refuse, by) in refusals {
            // A root middleware of Socket.IO 4 does not stop other namespaces.
            if refuse == "root" && version == "4" {
                continue;
            }
            let options = json!({ "token": "another", "refuse": refuse });
            let Some(server) = NodeServer::start(version, options).await else {
                return;
            };
            let error = soon(connect(&server.options(protocol))).await.expect_err("a refusal");
            assert_eq!(error.class(), FailureClass::Auth, "{version} {protocol:?} {refuse}: {error:?}");
            let ConnectError::Refused(refusal) = error else { panic!("{error:?}") };
            match by {
                RefusedBy::Http { .. } => {
                    assert!(matches!(refusal.by, RefusedBy::Http { .. }), "{refusal:?}");
                }
                by => assert_eq!(refusal.by, by, "{version} {protocol:?} {refuse}"),
            }
        }
    }
}

#[tokio::test]
async fn silence_and_unknown_namespaces_are_recognised() {
    for (version, protocol) in PAIRS {
        let options = json!({ "token": "another", "refuse": "silence" });
        let Some(server) = NodeServer::start(version, options).await else {
            return;
        };
        let patient = server.options(protocol).connect_timeout(Duration::from_secs(1));
        let error = soon(connect(&patient)).await.expect_err("silence");
        assert!(matches!(error, ConnectError::Timeout { phase: ConnectPhase::Join }), "{version}: {error:?}");

        let elsewhere = server.options(protocol).namespace("/elsewhere").expect("a valid namespace");
        let error = soon(connect(&elsewhere)).await.expect_err("no such namespace");
        assert!(matches!(error, ConnectError::InvalidNamespace), "{version} {protocol:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_slow_root_namespace_delays_nothing() {
    for (version, protocol) in PAIRS {
        let Some(server) = NodeServer::start(version, json!({ "rootMiddleware": 200 })).await else {
            return;
        };
        let mut connection = server.connect(protocol).await;
        connection.emit("echo", "1").expect("room");
        assert_eq!(next_event(&mut connection).await.name(), "echo", "{version} {protocol:?}");
    }
}

#[tokio::test]
async fn the_wrong_version_is_recognised() {
    let Some(server) = NodeServer::start("4", json!({ "allowEIO3": false })).await else {
        return;
    };
    let error = soon(connect(&server.options(Protocol::EngineIo3))).await.expect_err("a mismatch");
    assert!(matches!(error, ConnectError::ProtocolMismatch), "{error:?}");

    let Some(server) = NodeServer::start("2.5", json!({})).await else {
        return;
    };
    let error = soon(connect(&server.options(Protocol::EngineIo4))).await.expect_err("a mismatch");
    assert!(matches!(error, ConnectError::ProtocolMismatch), "{error:?}");

    // 2.0.4 drops the CONNECT packet of the other version, but joins everyone to the root.
    let Some(server) = NodeServer::start("2.0", json!({})).await else {
        return;
    };
    let hasty = server.options(Protocol::EngineIo4).connect_timeout(Duration::from_secs(1));
    let error = soon(connect(&hasty)).await.expect_err("a mismatch");
    assert!(matches!(error, ConnectError::ProtocolMismatch | ConnectError::Timeout { phase: ConnectPhase::Join }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_path_is_a_matter_of_configuration() {
    for (version, protocol) in PAIRS {
        let Some(server) = NodeServer::start(version, json!({})).await else {
            return;
        };
        let wrong = ConnectOptions::new(&format!("http://127.0.0.1:{}/wrong", server.port)).expect("a valid URL");
        let error = soon(connect(&wrong.protocol(protocol))).await.expect_err("nothing there");
        assert!(matches!(error, ConnectError::Misconfigured { .. }), "{version}: {error:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_many_heartbeats_and_a_blocked_owner() {
    for (version, protocol) in PAIRS {
        let timing = json!({ "pingInterval": 300, "pingTimeout": 300 });
        let Some(server) = NodeServer::start(version, timing).await else {
            return;
        };
        let mut connection = server.connect(protocol).await;
        let idle = tokio::time::timeout(Duration::from_secs(2), connection.next()).await;
        assert!(idle.is_err(), "{version} {protocol:?}: {idle:?}");
        connection.pause_reading(true);
        let paused = tokio::time::timeout(Duration::from_secs(2), connection.next()).await;
        assert!(paused.is_err(), "{version} {protocol:?}: {paused:?}");
        connection.pause_reading(false);
        connection.emit("echo", "1").expect("room");
        assert_eq!(next_event(&mut connection).await.name(), "echo", "{version} {protocol:?}");
    }
}

#[tokio::test]
async fn each_way_to_end_is_recognised() {
    for (version, protocol) in PAIRS {
        let timing = json!({ "pingInterval": 200, "pingTimeout": 200, "maxBytes": 10_000 });
        let Some(server) = NodeServer::start(version, timing).await else {
            return;
        };

        let mut connection = server.connect(protocol).await;
        connection.emit("kick", "false").expect("room");
        let end = end_of(&mut connection).await;
        assert!(matches!(end, Disconnect::Kicked { whole: false }), "{version} {protocol:?}: {end:?}");

        let mut connection = server.connect(protocol).await;
        connection.emit("kick", "true").expect("room");
        let end = end_of(&mut connection).await;
        assert!(matches!(end, Disconnect::Kicked { whole: true }), "{version} {protocol:?}: {end:?}");

        let mut connection = server.connect(protocol).await;
        connection.emit_args("cut", &[]).expect("room");
        let end = end_of(&mut connection).await;
        assert!(matches!(end, Disconnect::Lost(_)), "{version} {protocol:?}: {end:?}");

        let mut connection = server.connect(protocol).await;
        connection.emit_args("freeze", &[]).expect("room");
        let end = end_of(&mut connection).await;
        assert!(matches!(end, Disconnect::HeartbeatTimeout | Disconnect::Lost(_)), "{version} {protocol:?}: {end:?}");

        // 2.0.4 hands the limit to nobody.
        if version != "2.0" && protocol == Protocol::EngineIo3 {
            let mut connection = server.connect(protocol).await;
            let limit = connection.max_message_bytes();
            let oversized = Value::from("x".repeat(20_000)).to_string();
            if limit > oversized.len() {
                connection.emit("echo", &oversized).expect("room");
                let end = end_of(&mut connection).await;
                assert!(matches!(end, Disconnect::ServerClosed { .. } | Disconnect::Lost(_)), "{version} {protocol:?}: {end:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_shutdown_of_the_server_ends_the_connection() {
    for (version, protocol) in PAIRS {
        let Some(mut server) = NodeServer::start(version, json!({})).await else {
            return;
        };
        let mut connection = server.connect(protocol).await;
        server.stdin.write_all(b"close\n").await.expect("to command the server");
        let end = end_of(&mut connection).await;
        let kick_or_close = matches!(end, Disconnect::ServerClosed { .. } | Disconnect::Kicked { whole: true });
        assert!(kick_or_close, "{version} {protocol:?}: {end:?}");
    }
}

#[tokio::test]
async fn an_owner_comes_back_after_the_server_was_killed() {
    for (version, protocol) in PAIRS {
        let Some(server) = NodeServer::start(version, json!({})).await else {
            return;
        };
        let mut connection = server.connect(protocol).await;
        let options = server.options(protocol);
        let port = server.kill().await;
        let end = end_of(&mut connection).await;
        assert!(matches!(end, Disconnect::Lost(_) | Disconnect::ServerClosed { .. }), "{version}: {end:?}");

        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(30));
        let error = soon(connect(&options)).await.expect_err("nobody there");
        assert_eq!(error.class(), FailureClass::Unavailable);
        let restart = NodeServer::start(version, json!({ "port": port }));
        let rejoin = async {
            loop {
                tokio::time::sleep(backoff.next_delay(0.5)).await;
                if let Ok(connection) = connect(&options).await {
                    return connection;
                }
            }
        };
        let (_server, mut connection) = soon(async { tokio::join!(restart, rejoin) }).await;
        connection.emit("echo", "1").expect("room");
        assert_eq!(next_event(&mut connection).await.name(), "echo", "{version} {protocol:?}");
    }
}
