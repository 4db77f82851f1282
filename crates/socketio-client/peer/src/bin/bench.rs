//! Measures `socketio-client` against `rust_socketio` in one run; prints a table of ratios.
//!
//! `cargo run --release --bin bench` in `crates/socketio-client/peer`. Engine.IO 4 throughout, which is all that
//! `rust_socketio` speaks. The server is a process of its own, and each measurement runs in a fresh one, so that
//! processor time and memory are the client's alone. Each is taken five times, in turns; the median counts.

use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rust_socketio::asynchronous::{Client as Theirs, ClientBuilder};
use rust_socketio::{Payload, TransportType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use socketio_client::{ConnectOptions, Connection, Protocol, connect};
use socketio_client_peer::process::{cpu_time, resident_bytes};
use socketio_client_peer::server::Server;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const ROUNDS: usize = 5;
const ONE_WAY: usize = 100_000;
const CONFIRMED: usize = 50_000;
const IN_FLIGHT: usize = 64;
const SESSIONS: usize = 500;
const PER_SESSION: usize = 100;
/// Of the measurement in which reads and writes can carry several events.
const SEVERAL_IN_FLIGHT: usize = 8;
const SEVERAL_PER_SESSION: usize = 400;
const IDLE: usize = 1_000;
/// Each of its TLS connections loads the system's certificates anew; a thousand would take minutes.
const IDLE_THEIRS_TLS: usize = 100;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => tokio::task::block_in_place(compare),
        ["server", certificates] => serve(certificates).await,
        [who, what, port, certificate] => measure(who, what, port, certificate).await,
        _ => panic!("no arguments, please"),
    }
}

/// Events of each of the [`SESSIONS`], and how many of them are in flight.
fn load(what: &str) -> (usize, usize) {
    if what == "sessions" { (PER_SESSION, 1) } else { (SEVERAL_PER_SESSION, SEVERAL_IN_FLIGHT) }
}

/// The result of one process.
struct Figures {
    rate: f64,
    cpu: f64,
    memory: f64,
}

fn compare() {
    let directory = std::env::temp_dir().join(format!("socketio-client-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    let names = ["server".to_owned(), directory.to_str().expect("a UTF-8 path").to_owned()];
    let mut server = spawn(&names);
    let ports: Value = serde_json::from_str(&first_line(&mut server)).expect("JSON");
    let certificate = directory.join("certificate.der");
    println!("| measured | socketio-client | rust_socketio 0.6 | ratio |\n|---|---|---|---|");
    for what in ["one-way", "confirmed", "sessions", "sessions-several", "idle", "idle-tls"] {
        let port = if what == "idle-tls" { &ports["tls"] } else { &ports["plain"] };
        let mut results = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (who, results) in ["ours", "theirs"].iter().zip(&mut results) {
                let path = certificate.to_str().expect("a UTF-8 path").to_owned();
                let mut child = spawn(&[(*who).to_owned(), what.to_owned(), port.to_string(), path]);
                let figures: Value = serde_json::from_str(&first_line(&mut child)).expect("JSON");
                child.wait().expect("an end");
                let number = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
                results.push(Figures { rate: number("rate"), cpu: number("cpu"), memory: number("memory") });
            }
        }
        print_row(what, &results);
    }
    server.kill().expect("to end the server");
    server.wait().expect("the server's end");
    std::fs::remove_dir_all(&directory).expect("to clean up");
}

fn print_row(what: &str, [ours, theirs]: &[Vec<Figures>; 2]) {
    let median = |figures: &[Figures], pick: fn(&Figures) -> f64| {
        let mut values: Vec<_> = figures.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let row = |name: &str, unit: &str, pick: fn(&Figures) -> f64| {
        let (ours, theirs) = (median(ours, pick), median(theirs, pick));
        println!("| {name} | {ours:.1} {unit} | {theirs:.1} {unit} | {:.2} |", ours / theirs);
    };
    if what.starts_with("idle") {
        row(&format!("{what}: memory a session"), "KiB", |figures| figures.memory);
    } else {
        row(&format!("{what}: rate"), "/s", |figures| figures.rate);
        row(&format!("{what}: processor time an event"), "µs", |figures| figures.cpu);
    }
}

fn spawn(args: &[String]) -> Child {
    let program = std::env::current_exe().expect("a path");
    Command::new(program).args(args).stdout(Stdio::piped()).spawn().expect("a process")
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    line
}

async fn serve(directory: &str) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(format!("{directory}/certificate.der"), made.cert.der()).expect("to write");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("default versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a usable certificate");
    let plain = Server::start(None).await;
    let tls = Server::start(Some(TlsAcceptor::from(Arc::new(config)))).await;
    println!("{}", json!({ "plain": plain.port, "tls": tls.port }));
    std::future::pending::<()>().await;
}

async fn measure(who: &str, what: &str, port: &str, certificate: &str) {
    let certificate = std::fs::read(certificate).expect("the server's certificate");
    let url = if what == "idle-tls" { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
    if what.starts_with("idle") {
        let sessions = if (who, what) == ("theirs", "idle-tls") { IDLE_THEIRS_TLS } else { IDLE };
        let before = resident_bytes();
        let held = match who {
            "ours" => hold_ours(&url, certificate, sessions).await,
            _ => hold_theirs(&url, &certificate, sessions).await,
        };
        // Let what is left of connecting be given back.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let bytes = resident_bytes() - before;
        println!("{}", json!({ "memory": bytes as f64 / 1024.0 / sessions as f64 }));
        drop(held);
        std::process::exit(0);
    }
    let sessions = if what.starts_with("sessions") { SESSIONS } else { 1 };
    let payload = json!({ "topicId": "64f0a1b2c3d4e5f601020304", "content": { "bodyText": "x".repeat(120) } });
    let (elapsed, cpu, events) = match who {
        "ours" => run_ours(what, &url, sessions, payload).await,
        _ => run_theirs(what, &url, sessions, payload).await,
    };
    let events = events as f64;
    let figures = json!({ "rate": events / elapsed.as_secs_f64(), "cpu": cpu.as_secs_f64() * 1e6 / events });
    println!("{figures}");
    std::process::exit(0);
}

fn options(url: &str) -> ConnectOptions {
    ConnectOptions::new(url).expect("a URL").protocol(Protocol::EngineIo4)
}

async fn run_ours(what: &str, url: &str, sessions: usize, payload: Value) -> (Duration, Duration, usize) {
    let options = options(url);
    let mut connections = Vec::new();
    for _ in 0..sessions {
        connections.push(connect(&options).await.expect("to join"));
    }
    let (start, cpu) = (Instant::now(), cpu_time());
    let events = match what {
        "one-way" => {
            let connection = &mut connections[0];
            for _ in 0..ONE_WAY {
                if !connection.has_room() {
                    connection.flush().await;
                }
                connection.emit("sink", &payload.to_string()).expect("room");
            }
            connection.flush().await;
            connection.emit("done", "1").expect("room");
            connection.next().await.expect("an event");
            ONE_WAY
        }
        "confirmed" => {
            confirm_ours(connections.remove(0), &payload, CONFIRMED, IN_FLIGHT).await;
            CONFIRMED
        }
        _ => {
            let (count, in_flight) = load(what);
            let tasks = connections.into_iter().map(|connection| {
                let payload = payload.clone();
                tokio::spawn(async move { confirm_ours(connection, &payload, count, in_flight).await })
            });
            for done in join_all(tasks).await {
                done.expect("no panic");
            }
            sessions * count
        }
    };
    (start.elapsed(), cpu_time() - cpu, events)
}

/// Sends events that the server sends back, so many at a time.
async fn confirm_ours(mut connection: Connection, payload: &Value, count: usize, in_flight: usize) {
    let mut sent = 0;
    for _ in 0..in_flight {
        connection.emit("done", &payload.to_string()).expect("room");
        sent += 1;
    }
    for _ in 0..count {
        connection.next().await.expect("an event");
        if sent < count {
            connection.emit("done", &payload.to_string()).expect("room");
            sent += 1;
        }
    }
}

async fn theirs(url: &str, certificate: Option<&[u8]>, done: Option<mpsc::UnboundedSender<()>>) -> Theirs {
    let mut builder = ClientBuilder::new(url).transport_type(TransportType::Websocket).reconnect(false).on(
        "done",
        move |_: Payload, _: Theirs| {
            if let Some(done) = &done {
                let _ = done.send(());
            }
            async {}.boxed()
        },
    );
    if let Some(certificate) = certificate {
        let root = native_tls::Certificate::from_der(certificate).expect("a certificate");
        let tls = native_tls::TlsConnector::builder().add_root_certificate(root).build().expect("TLS");
        builder = builder.tls_config(tls);
    }
    builder.connect().await.expect("to connect")
}

async fn run_theirs(what: &str, url: &str, sessions: usize, payload: Value) -> (Duration, Duration, usize) {
    let mut clients = Vec::new();
    for _ in 0..sessions {
        let (done, is_done) = mpsc::unbounded_channel();
        clients.push((theirs(url, None, Some(done)).await, is_done));
    }
    // Connecting returns before the namespace is joined.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (start, cpu) = (Instant::now(), cpu_time());
    let events = match what {
        "one-way" => {
            let (client, is_done) = &mut clients[0];
            for _ in 0..ONE_WAY {
                client.emit("sink", payload.clone()).await.expect("to emit");
            }
            client.emit("done", json!(1)).await.expect("to emit");
            is_done.recv().await.expect("an event");
            ONE_WAY
        }
        "confirmed" => {
            let (client, is_done) = &mut clients[0];
            confirm_theirs(client, is_done, &payload, CONFIRMED, IN_FLIGHT).await;
            CONFIRMED
        }
        _ => {
            let (count, in_flight) = load(what);
            let tasks = clients.into_iter().map(|(client, mut is_done)| {
                let payload = payload.clone();
                tokio::spawn(async move { confirm_theirs(&client, &mut is_done, &payload, count, in_flight).await })
            });
            for done in join_all(tasks).await {
                done.expect("no panic");
            }
            sessions * count
        }
    };
    (start.elapsed(), cpu_time() - cpu, events)
}

/// As [`confirm_ours`]. Not by acknowledgements: two with the same id in flight end its task with a panic.
async fn confirm_theirs(
    client: &Theirs,
    is_done: &mut mpsc::UnboundedReceiver<()>,
    payload: &Value,
    count: usize,
    in_flight: usize,
) {
    let mut sent = 0;
    for _ in 0..in_flight {
        client.emit("done", payload.clone()).await.expect("to emit");
        sent += 1;
    }
    for _ in 0..count {
        is_done.recv().await.expect("an event");
        if sent < count {
            client.emit("done", payload.clone()).await.expect("to emit");
            sent += 1;
        }
    }
}

async fn hold_ours(url: &str, certificate: Vec<u8>, sessions: usize) -> Vec<Box<dyn std::any::Any>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let options = options(url).tls(Arc::new(tls));
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    for _ in 0..sessions {
        let connection = connect(&options).await.expect("to join");
        held.push(Box::new(tokio::spawn(idle(connection))));
    }
    held
}

async fn idle(mut connection: Connection) {
    while connection.next().await.is_ok() {}
}

async fn hold_theirs(url: &str, certificate: &[u8], sessions: usize) -> Vec<Box<dyn std::any::Any>> {
    let certificate = url.starts_with("https").then_some(certificate);
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    for _ in 0..sessions {
        held.push(Box::new(theirs(url, certificate, None).await));
    }
    held
}
