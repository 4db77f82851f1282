//! Measures the crate's own WebSocket framing against tungstenite's in one run; prints a table of ratios.
//!
//! `cargo run --release --bin framing` in `crates/socketio-client/peer`. Text frames are encoded into memory and decoded
//! from it, one frame a read, as they come from a socket that is not overrun; tungstenite gets its text as shared bytes,
//! so that it need not copy more than it wants. Then idle connections, each a task that waits for messages, in a fresh
//! process for each kind; the crate's also keep the state of Socket.IO.

// The framing is no part of the crate's interface, so its files are compiled into this program.
#[expect(dead_code, reason = "the benchmark needs only a part")]
#[path = "../../../src/websocket/frame.rs"]
mod frame;
#[expect(dead_code, reason = "the benchmark needs only a part")]
#[path = "../../../src/websocket/mask.rs"]
mod mask;

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Cursor, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use frame::{Decoder, Message, Opcode, encode};
use futures_util::{SinkExt as _, StreamExt as _};
use mask::MaskSource;
use socketio_client::{ConnectOptions, Protocol, connect};
use socketio_client_peer::process::resident_bytes;
use socketio_client_peer::server::Server;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message as TheirMessage, Utf8Bytes};

const ROUNDS: usize = 5;
const FRAMES: usize = 1_000_000;
const SIZES: [usize; 2] = [200, 4096];
const IDLE: usize = 1_000;
const LIMIT: usize = 1 << 20;
/// What a read of the crate's takes at most, and the buffers that tungstenite gets to be as fast.
const READ_CHUNK: usize = 16 * 1024;
/// The small buffers that tungstenite's users are told to take for many connections.
const SMALL_BUFFER: usize = 4 * 1024;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => tokio::task::block_in_place(compare),
        ["server"] => {
            println!("{}", Server::start(None).await.port);
            std::future::pending::<()>().await;
        }
        [who, port] => measure_idle(who, port).await,
        _ => panic!("no arguments, please"),
    }
}

fn compare() {
    println!("| measured | socketio-client | tungstenite | ratio |\n|---|---|---|---|");
    for size in SIZES {
        let text = "x".repeat(size);
        let row = |what: &str, ours: fn(&str) -> Duration, theirs: fn(&str) -> Duration| {
            let (mut mine, mut others) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                mine.push(nanoseconds(ours(&text)));
                others.push(nanoseconds(theirs(&text)));
            }
            let (mine, others) = (median(mine), median(others));
            println!("| {what} a text frame of {size} B | {mine:.0} ns | {others:.0} ns | {:.2} |", mine / others);
        };
        row("encode", encode_ours, encode_theirs);
        row("decode", decode_ours, decode_theirs);
    }
    let mut server = spawn(&["server"]);
    let port = first_line(&mut server);
    let idle = |who: &str| {
        let rounds = (0..ROUNDS).map(|_| {
            let mut child = spawn(&[who, &port]);
            let kibibytes = first_line(&mut child).parse().expect("a number");
            child.wait().expect("an end");
            kibibytes
        });
        median(rounds.collect())
    };
    let ours = idle("ours");
    for (who, name) in [("small", "buffers of 4 KiB"), ("default", "default buffers")] {
        let theirs = idle(who);
        println!(
            "| memory of an idle connection, tungstenite with {name} | {ours:.1} KiB | {theirs:.1} KiB | {:.2} |",
            ours / theirs
        );
    }
    server.kill().expect("to end the server");
    server.wait().expect("the server's end");
}

fn nanoseconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e9 / FRAMES as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn encode_ours(text: &str) -> Duration {
    let (mut mask, mut out) = (MaskSource::new(), Vec::new());
    let start = Instant::now();
    for _ in 0..FRAMES {
        out.clear();
        encode(&mut out, Opcode::Text, mask.next_key(), &[text.as_bytes()]);
        black_box(&out);
    }
    start.elapsed()
}

fn encode_theirs(text: &str) -> Duration {
    let text = Utf8Bytes::from(text);
    let mut socket = WebSocket::from_raw_socket(Memory::default(), Role::Client, Some(buffers(READ_CHUNK)));
    let start = Instant::now();
    for _ in 0..FRAMES {
        socket.send(TheirMessage::Text(text.clone())).expect("memory takes everything");
    }
    start.elapsed()
}

fn decode_ours(text: &str) -> Duration {
    let bytes = server_frame(text);
    let mut decoder = Decoder::new(LIMIT);
    let start = Instant::now();
    for _ in 0..FRAMES {
        decoder.extend(&bytes);
        let Ok(Some(Message::Text(text))) = decoder.next() else { panic!("a text") };
        black_box(text);
    }
    start.elapsed()
}

fn decode_theirs(text: &str) -> Duration {
    let memory = Memory { frame: server_frame(text), taken: 0 };
    let mut socket = WebSocket::from_raw_socket(memory, Role::Client, Some(buffers(READ_CHUNK)));
    let start = Instant::now();
    for _ in 0..FRAMES {
        let Ok(TheirMessage::Text(text)) = socket.read() else { panic!("a text") };
        black_box(text);
    }
    start.elapsed()
}

fn buffers(size: usize) -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(size).write_buffer_size(size)
}

fn server_frame(text: &str) -> Vec<u8> {
    let mut socket = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Role::Server, None);
    socket.send(TheirMessage::text(text)).expect("memory takes everything");
    std::mem::take(socket.get_mut().get_mut())
}

/// A stream that takes every write, and from which every read gets the same frame.
#[derive(Default)]
struct Memory {
    frame: Vec<u8>,
    /// How much of it the reads since its beginning have taken.
    taken: usize,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.frame[self.taken..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.taken = (self.taken + length) % self.frame.len();
        Ok(length)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn spawn(args: &[&str]) -> Child {
    let program = std::env::current_exe().expect("a path");
    Command::new(program).args(args).stdout(Stdio::piped()).spawn().expect("a process")
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

/// Prints the memory of one idle connection in KiB.
async fn measure_idle(who: &str, port: &str) {
    let before = resident_bytes();
    for _ in 0..IDLE {
        match who {
            "ours" => hold_ours(port).await,
            "small" => hold_theirs(port, buffers(SMALL_BUFFER)).await,
            _ => hold_theirs(port, WebSocketConfig::default()).await,
        }
    }
    // Let what is left of connecting be given back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{}", (resident_bytes() - before) as f64 / 1024.0 / IDLE as f64);
    std::process::exit(0);
}

async fn hold_ours(port: &str) {
    let options = ConnectOptions::new(&format!("http://127.0.0.1:{port}")).expect("a URL");
    let mut connection = connect(&options.protocol(Protocol::EngineIo4)).await.expect("to join");
    tokio::spawn(async move { while connection.next().await.is_ok() {} });
}

async fn hold_theirs(port: &str, config: WebSocketConfig) {
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("to connect");
    let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
    let (mut socket, _) = client_async_with_config(url, stream, Some(config)).await.expect("to open a WebSocket");
    // The open packet, and joining, as a Socket.IO client would.
    socket.next().await.expect("an open connection").expect("the open packet");
    socket.send(TheirMessage::text("40")).await.expect("to join");
    socket.next().await.expect("an open connection").expect("the confirmation");
    tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
}
