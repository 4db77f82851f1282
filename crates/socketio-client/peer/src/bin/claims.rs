//! Shows what the decision record says of `rust_socketio` 0.6, claim by claim.
//!
//! `cargo run --bin claims` in `crates/socketio-client/peer`, after `npm ci` in `tests/servers` (for the claims about
//! Socket.IO 2.0.4). That `rust_socketio` has no TLS but native-tls stands in its `Cargo.toml`.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rust_socketio::asynchronous::{Client, ClientBuilder};
use rust_socketio::{Payload, TransportType};
use serde_json::{Value, json};
use socketio_client_peer::server::Server;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() {
    cuts_its_own_connection_to_socket_io_2().await;
    reports_success_for_a_refused_token().await;
    keeps_the_socket_of_a_dropped_client().await;
    confuses_answers().await;
    lets_callbacks_block_the_heartbeat().await;
    waits_for_delayed_acknowledgements().await;
}

/// Starts a real server; its lines say who comes and goes.
async fn node(version: &str, options: Value) -> (Child, u16, mpsc::UnboundedReceiver<Value>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/servers");
    let mut child = Command::new("node")
        .arg(directory.join("server.js"))
        .args([version, &options.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("Node.js");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = sender.send(serde_json::from_str::<Value>(&line).expect("JSON"));
        }
    });
    let started = receiver.recv().await.expect("a started server; was `npm ci` run in tests/servers?");
    let port = started["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    (child, port, receiver)
}

fn builder(port: u16, namespace: &str) -> ClientBuilder {
    ClientBuilder::new(format!("http://127.0.0.1:{port}/?token=wrong"))
        .namespace(namespace)
        .transport_type(TransportType::Websocket)
}

/// Engine.IO 4 is a constant, and an Engine.IO 3 server never pings.
async fn cuts_its_own_connection_to_socket_io_2() {
    let (_server, port, mut lines) = node("2.0", json!({ "pingInterval": 1000, "pingTimeout": 1000 })).await;
    let client = builder(port, "/chat").reconnect(true).reconnect_delay(100, 200).connect().await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    let mut counts = (0, 0);
    while let Ok(line) = lines.try_recv() {
        match line["event"].as_str() {
            Some("connect") => counts.0 += 1,
            Some("disconnect") => counts.1 += 1,
            _ => {}
        }
    }
    println!("socket.io 2.0.4, pingInterval + pingTimeout = 2 s, idle for 9 s: {} joins, {} losses", counts.0, counts.1);
    drop(client);
}

async fn reports_success_for_a_refused_token() {
    let (_server, port, _lines) = node("4", json!({ "token": "right", "refuse": "string" })).await;
    let result = builder(port, "/chat").reconnect(false).connect().await;
    println!("refused token: connect() returned {}", if result.is_ok() { "Ok" } else { "Err" });
}

async fn keeps_the_socket_of_a_dropped_client() {
    let server = Server::start(None).await;
    for _ in 0..10 {
        drop(builder(server.port, "/").reconnect(false).connect().await.expect("to connect"));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("10 clients dropped, 3 s later: {} sockets open", server.open.load(Ordering::Relaxed));
}

/// Ack ids are drawn at random from 0 to 998.
async fn confuses_answers() {
    const EVENTS: usize = 500;
    let server = Server::start(None).await;
    let client = builder(server.port, "/").reconnect(false).connect().await.expect("to connect");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (answers, wrong) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for index in 0..EVENTS {
        let (answers, wrong) = (Arc::clone(&answers), Arc::clone(&wrong));
        let callback = move |payload: Payload, _: Client| {
            answers.fetch_add(1, Ordering::Relaxed);
            let right = matches!(&payload, Payload::Text(values) if holds(values, index));
            wrong.fetch_add(usize::from(!right), Ordering::Relaxed);
            async {}.boxed()
        };
        client.emit_with_ack("ask", json!(index), Duration::from_secs(30), callback).await.expect("to emit");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!(
        "{EVENTS} acks in flight: {} callbacks, {} of them with the answer to another event",
        answers.load(Ordering::Relaxed),
        wrong.load(Ordering::Relaxed)
    );
}

/// Looks for the number, in an array or not.
fn holds(values: &[Value], index: usize) -> bool {
    values.iter().any(|value| *value == json!(index) || value.as_array().is_some_and(|values| holds(values, index)))
}

async fn lets_callbacks_block_the_heartbeat() {
    let (_server, port, mut lines) = node("4", json!({ "pingInterval": 300, "pingTimeout": 300 })).await;
    let client = builder(port, "/chat")
        .reconnect(false)
        .on("echo", |_: Payload, _: Client| async { tokio::time::sleep(Duration::from_secs(3)).await }.boxed())
        .connect()
        .await
        .expect("to connect");
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.emit("echo", json!(1)).await.expect("to emit");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut reason = "none".to_owned();
    while let Ok(line) = lines.try_recv() {
        if line["event"] == "disconnect" {
            reason = line["reason"].to_string();
        }
    }
    println!("a callback that takes 3 s, pingInterval + pingTimeout = 0.6 s: disconnected for {reason}");
}

/// Without `TCP_NODELAY` the second of two small writes waits until the first is acknowledged.
async fn waits_for_delayed_acknowledgements() {
    const ROUNDS: u32 = 50;
    let server = Server::start(None).await;
    let client = builder(server.port, "/").reconnect(false).connect().await.expect("to connect");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (sender, mut answers) = mpsc::unbounded_channel();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        let sender = sender.clone();
        client.emit("sink", json!(1)).await.expect("to emit");
        let callback = move |_: Payload, _: Client| {
            let _ = sender.send(());
            async {}.boxed()
        };
        client.emit_with_ack("ask", json!(1), Duration::from_secs(5), callback).await.expect("to emit");
        answers.recv().await.expect("an answer");
    }
    println!("an event and a confirmed one right behind it: {:.1?} until the answer", start.elapsed() / ROUNDS);
}
