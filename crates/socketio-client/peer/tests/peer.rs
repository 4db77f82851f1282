//! `rust_socketio` as an independent client of the same servers: what it sees, `socketio-client` sees.

use std::future::Future;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt as _;
use rust_socketio::asynchronous::{Client, ClientBuilder};
use rust_socketio::{Event, Payload, TransportType};
use serde_json::json;
use socketio_client::{ConnectOptions, Incoming, Protocol, connect};
use socketio_client_peer::server::Server;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

#[tokio::test]
async fn both_clients_get_the_same_answers_from_a_server_on_our_codec() {
    let server = Server::start(None).await;
    let url = format!("http://127.0.0.1:{}", server.port);

    let (sender, mut answers) = mpsc::unbounded_channel();
    let theirs = ClientBuilder::new(&url)
        .transport_type(TransportType::Websocket)
        .reconnect(false)
        .on("done", move |payload: Payload, _: Client| {
            sender.send(format!("{payload:?}")).expect("a listener");
            async {}.boxed()
        })
        .connect()
        .await
        .expect("to connect");
    theirs.emit("done", json!({ "a": 1 })).await.expect("to emit");
    let answer = tokio::time::timeout(Duration::from_secs(10), answers.recv()).await.expect("in time");
    assert!(answer.expect("an answer").contains("\"a\": Number(1)"));

    let options = ConnectOptions::new(&url).expect("a URL").protocol(Protocol::EngineIo4);
    let mut ours = connect(&options).await.expect("to join");
    ours.emit("done", r#"{"a":1}"#).expect("room");
    let answer = tokio::time::timeout(Duration::from_secs(10), ours.next()).await.expect("in time");
    let Ok(Incoming::Event(event)) = answer else { panic!("{answer:?}") };
    assert_eq!((event.name(), event.arg(0)), ("done", Some(r#"{"a":1}"#)));
}

/// A real socket.io 4 server, or nothing where there is no Node.js.
struct RealServer {
    port: u64,
    /// The server ends when its standard input does, and cannot write to a pipe that nobody holds.
    _process: Child,
    _lines: Lines<BufReader<ChildStdout>>,
}

impl RealServer {
    async fn start() -> Option<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/servers");
        if !directory.join("node_modules").exists() {
            return Self::skip("`npm ci` has not been run in tests/servers");
        }
        let spawned = Command::new("node")
            .arg(directory.join("server.js"))
            .args(["4", "{}"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let Ok(mut process) = spawned else {
            return Self::skip("Node.js is not installed");
        };
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let line = soon(lines.next_line()).await.expect("to read").expect("a line");
        let started: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        Some(Self { port: started["port"].as_u64().expect("a port"), _process: process, _lines: lines })
    }

    fn skip(reason: &str) -> Option<Self> {
        assert!(std::env::var_os("REQUIRE_NODE").is_none_or(|value| value != "1"), "{reason}");
        // Not by `eprintln!`, which the test harness keeps to itself when a test passes.
        std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes()).expect("standard error takes a line");
        None
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
}

#[tokio::test]
async fn both_clients_get_each_message_of_a_real_socket_io_4_server() {
    let Some(server) = RealServer::start().await else {
        return;
    };
    let url = format!("http://127.0.0.1:{}", server.port);
    let channel = json!({ "channel": { "type": "topic", "_id": "room1" } });

    let (sender, mut theirs_got) = mpsc::unbounded_channel();
    let (joined, subscribed) = (sender.clone(), sender.clone());
    let theirs = ClientBuilder::new(&url)
        .namespace("/chat")
        .auth(json!({ "token": "tok", "tokenType": "jwt" }))
        .transport_type(TransportType::Websocket)
        .reconnect(false)
        // Its `connect` returns before the namespace is joined, and an early event costs the connection.
        .on(Event::Connect, move |_: Payload, _: Client| {
            joined.send("joined".to_owned()).expect("a listener");
            async {}.boxed()
        })
        .on("CHANNEL_SUBSCRIBED", move |_: Payload, _: Client| {
            subscribed.send("subscribed".to_owned()).expect("a listener");
            async {}.boxed()
        })
        .on("MESSAGE_SENT", move |payload: Payload, _: Client| {
            sender.send(format!("{payload:?}")).expect("a listener");
            async {}.boxed()
        })
        .connect()
        .await
        .expect("to connect");
    assert_eq!(soon(theirs_got.recv()).await.as_deref(), Some("joined"));
    theirs.emit("SUBSCRIBE_CHANNEL", channel.clone()).await.expect("to emit");
    assert_eq!(soon(theirs_got.recv()).await.as_deref(), Some("subscribed"));

    let options = ConnectOptions::new(&url)
        .and_then(|options| options.namespace("/chat"))
        .expect("options")
        .protocol(Protocol::EngineIo4)
        .query("token", "tok");
    let mut ours = connect(&options).await.expect("to join");
    ours.emit("SUBSCRIBE_CHANNEL", &channel.to_string()).expect("room");
    let Ok(Incoming::Event(event)) = soon(ours.next()).await else { panic!("an event") };
    assert_eq!(event.name(), "CHANNEL_SUBSCRIBED");

    let message = r#"{"category":"chat","topicId":"room1","content":{"bodyText":"to both"}}"#;
    ours.emit("SEND_MESSAGE", message).expect("room");
    let Ok(Incoming::Event(event)) = soon(ours.next()).await else { panic!("an event") };
    assert_eq!(event.name(), "MESSAGE_SENT");
    assert!(event.arg(0).is_some_and(|payload| payload.contains("to both")));
    assert!(soon(theirs_got.recv()).await.is_some_and(|payload| payload.contains("to both")));
}
