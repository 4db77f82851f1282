//! Tests of everything that depends on time, over a stream in memory and on a paused clock: times are exact, and none is waited for.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::codec::Protocol;
use crate::connection::{Connection, connect_over};
use crate::error::{ConnectError, ConnectPhase, Disconnect};
use crate::event::Incoming;
use crate::options::ConnectOptions;
use crate::transport::Transport;
use crate::{Client, Received};

const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_mins(1);
/// What fits into the stream unread.
const STREAM: usize = 64 * 1024;
const BOTH: [Protocol; 2] = [Protocol::EngineIo3, Protocol::EngineIo4];

/// The server's side of a stream in memory.
struct Peer(WebSocketStream<DuplexStream>);

impl Peer {
    async fn accept(stream: DuplexStream) -> Self {
        Self(accept_async(stream).await.expect("a valid handshake"))
    }

    async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("to send");
    }

    async fn open(&mut self) {
        let (interval, timeout) = (INTERVAL.as_millis(), TIMEOUT.as_millis());
        self.send(&format!(r#"0{{"sid":"abc","upgrades":[],"pingInterval":{interval},"pingTimeout":{timeout}}}"#)).await;
        assert!(self.text().await.starts_with("40/chat"));
    }

    /// The next message, which is text.
    async fn text(&mut self) -> String {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("no text message: {other:?}"),
        }
    }
}

fn options(protocol: Protocol) -> ConnectOptions {
    ConnectOptions::new("http://localhost").expect("a URL").namespace("/chat").expect("valid").protocol(protocol)
}

async fn joined(protocol: Protocol) -> (Connection, Peer) {
    let (stream, server) = tokio::io::duplex(STREAM);
    let options = options(protocol);
    let serve = async {
        let mut peer = Peer::accept(server).await;
        peer.open().await;
        peer.send(r#"40/chat,{"sid":"joined"}"#).await;
        peer
    };
    let (connection, peer) = tokio::join!(connect_over(async || Ok(Transport::Memory(stream)), &options), serve);
    (connection.expect("to join"), peer)
}

/// Drives the connection, which has nothing to say, until the other future is done.
async fn driving<F: Future>(connection: &mut Connection, future: F) -> F::Output {
    tokio::select! {
        output = future => output,
        said = connection.next() => panic!("something to say: {said:?}"),
    }
}

async fn name_of_next(connection: &mut Connection) -> String {
    match connection.next().await {
        Ok(Incoming::Event(event)) => event.name().to_owned(),
        other => panic!("no event: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_of_engine_io_3_pings_on_schedule_whatever_else_it_sends() {
    let (mut connection, mut peer) = joined(Protocol::EngineIo3).await;
    let start = Instant::now();
    for ping in 1..=4 {
        connection.emit("traffic", "1").expect("room");
        driving(&mut connection, async {
            assert_eq!(peer.text().await, r#"42/chat,["traffic",1]"#);
            assert_eq!(peer.text().await, "2");
        })
        .await;
        assert_eq!(start.elapsed().as_secs(), ping * INTERVAL.as_secs());
        peer.send("3").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_dead_after_interval_and_timeout() {
    for protocol in BOTH {
        let (mut connection, _peer) = joined(protocol).await;
        let start = Instant::now();
        assert!(matches!(connection.next().await, Err(Disconnect::HeartbeatTimeout)));
        assert_eq!(start.elapsed().as_secs(), (INTERVAL + TIMEOUT).as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_alone_does_not_keep_an_engine_io_4_connection() {
    let (mut connection, mut peer) = joined(Protocol::EngineIo4).await;
    let start = Instant::now();
    let chatter = async {
        loop {
            peer.send(r#"42/chat,["chatter"]"#).await;
            sleep(Duration::from_secs(1)).await;
        }
    };
    let end = async {
        loop {
            if let Err(end) = connection.next().await {
                return end;
            }
        }
    };
    let end = tokio::select! {
        () = chatter => unreachable!("it never ends"),
        end = end => end,
    };
    assert!(matches!(end, Disconnect::HeartbeatTimeout), "{end:?}");
    assert_eq!(start.elapsed().as_secs(), (INTERVAL + TIMEOUT).as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_pauses_keeps_its_connection_and_misses_nothing() {
    let (mut connection, mut peer) = joined(Protocol::EngineIo3).await;
    peer.send(r#"42/chat,["held back"]"#).await;
    connection.pause_reading(true);
    connection.emit("written", "1").expect("room");
    driving(&mut connection, async {
        assert_eq!(peer.text().await, r#"42/chat,["written",1]"#);
        for _ in 0..6 {
            assert_eq!(peer.text().await, "2", "pings go on, though no answer is read");
        }
    })
    .await;
    connection.pause_reading(false);
    assert_eq!(name_of_next(&mut connection).await, "held back");
}

#[tokio::test(start_paused = true)]
async fn a_paused_engine_io_4_connection_answers_pings_and_keeps_events_for_later() {
    let (mut connection, mut peer) = joined(Protocol::EngineIo4).await;
    connection.pause_reading(true);
    driving(&mut connection, async {
        for _ in 0..6 {
            sleep(INTERVAL).await;
            peer.send(r#"42/chat,["kept"]"#).await;
            peer.send("2").await;
            assert_eq!(peer.text().await, "3");
        }
    })
    .await;
    // The end is not handed out before what came first.
    drop(peer);
    let paused = timeout(Duration::from_hours(1), connection.next()).await;
    assert!(paused.is_err(), "nothing is handed out while paused: {paused:?}");
    connection.pause_reading(false);
    for _ in 0..6 {
        assert_eq!(name_of_next(&mut connection).await, "kept");
    }
    assert!(matches!(connection.next().await, Err(Disconnect::Lost(_))));
}

#[tokio::test(start_paused = true)]
async fn a_paused_engine_io_4_connection_keeps_no_more_than_its_bound() {
    let (mut connection, mut peer) = joined(Protocol::EngineIo4).await;
    connection.pause_reading(true);
    let event = format!(r#"42/chat,["big","{}"]"#, "x".repeat(100_000));
    let flood = async {
        for _ in 0..400 {
            peer.send(&event).await;
        }
    };
    // Time goes on only when neither side can.
    let flooded = driving(&mut connection, timeout(Duration::from_secs(1), flood)).await;
    assert!(flooded.is_err(), "the server is held up once the bound is reached");
    let taken = connection.counters().frames_in;
    assert!((10..40).contains(&taken), "{taken}");
    connection.pause_reading(false);
    assert_eq!(name_of_next(&mut connection).await, "big");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_blocks_costs_no_heartbeat_and_no_event() {
    const EVENTS: usize = 20;
    let (connection, mut peer) = joined(Protocol::EngineIo3).await;
    let (client, mut events) = Client::spawn(connection, 1);
    for index in 0..EVENTS {
        peer.send(&format!(r#"42/chat,["n",{index}]"#)).await;
    }
    let start = Instant::now();
    for _ in 0..6 {
        assert_eq!(peer.text().await, "2");
    }
    assert_eq!(start.elapsed().as_secs(), 6 * INTERVAL.as_secs(), "longer than silence is borne");
    client.emit("still", "1").await.expect("to send");
    assert_eq!(peer.text().await, r#"42/chat,["still",1]"#);
    for index in 0..EVENTS {
        let Ok(Received::Event(event)) = events.next().await else { panic!("event {index}") };
        assert_eq!(event.arg(0), Some(index.to_string().as_str()));
    }
    drop(client);
    assert_eq!(peer.text().await, "41/chat,", "the last handle says goodbye");
    assert!(matches!(events.next().await, Err(Disconnect::Closed)));
}

#[tokio::test(start_paused = true)]
async fn silence_before_joining_is_told_apart_by_when_it_sets_in() {
    let patience = Duration::from_secs(7);
    for phase in [ConnectPhase::Handshake, ConnectPhase::Open, ConnectPhase::Join] {
        let (stream, server) = tokio::io::duplex(STREAM);
        let options = options(Protocol::EngineIo3).connect_timeout(patience);
        let serve = async {
            if phase == ConnectPhase::Handshake {
                return (None, Some(server));
            }
            let mut peer = Peer::accept(server).await;
            if phase == ConnectPhase::Join {
                peer.open().await;
            }
            (Some(peer), None)
        };
        let start = Instant::now();
        let (result, _held) = tokio::join!(connect_over(async || Ok(Transport::Memory(stream)), &options), serve);
        assert!(matches!(result, Err(ConnectError::Timeout { phase: seen }) if seen == phase), "{phase:?}: {result:?}");
        assert_eq!(start.elapsed().as_secs(), patience.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_is_not_returned_is_waited_for_two_seconds() {
    let (connection, _silent) = joined(Protocol::EngineIo3).await;
    let start = Instant::now();
    connection.close().await;
    assert_eq!(start.elapsed().as_secs(), 2);
}
