//! A fast Engine.IO 4 server on the crate's codec, so that the server is not what a benchmark measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use socketio_client::codec::{EnginePacket, Packet, PacketBody};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

const OPEN: &str = r#"0{"sid":"bench","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub port: u16,
    /// Connections that are open now.
    pub open: Arc<AtomicUsize>,
}

impl Server {
    /// Starts a server on a free port; with an acceptor it speaks TLS.
    pub async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound listener").port();
        let open = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, counter) = (tls.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    stream.set_nodelay(true).expect("a socket option");
                    counter.fetch_add(1, Ordering::Relaxed);
                    // How a connection ends is the client's business.
                    let _ = match tls {
                        None => serve(stream).await,
                        Some(tls) => serve(tls.accept(stream).await.expect("a TLS client")).await,
                    };
                    counter.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { port, open }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Result<(), Error> {
    let config = WebSocketConfig::default().read_buffer_size(16 * 1024).write_buffer_size(16 * 1024);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    socket.send(Message::text(OPEN)).await?;
    let mut ping = tokio::time::interval(PING_INTERVAL);
    ping.tick().await;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => answer_all(&mut socket, message?).await?,
                None => return Ok(()),
            },
            _ = ping.tick() => socket.send(Message::text("2")).await?,
        }
    }
}

/// Answers a message and all that have come with it, and flushes once.
async fn answer_all<S>(socket: &mut WebSocketStream<S>, first: Message) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut message = first;
    loop {
        if let Message::Text(text) = &message
            && let Some(answer) = answer(text)
        {
            socket.feed(Message::text(answer)).await?;
        }
        match socket.next().now_or_never().flatten() {
            Some(next) => message = next?,
            None => return socket.flush().await,
        }
    }
}

/// Confirms joining, acknowledges what asks for it with the event's own arguments, and answers `done` with `done`.
fn answer(text: &str) -> Option<String> {
    let EnginePacket::Message(text) = EnginePacket::decode(text).ok()? else {
        return None;
    };
    let Packet { namespace, body } = Packet::decode(text).ok()?;
    let body = match body {
        PacketBody::Connect { .. } => PacketBody::Connect { query: None, payload: Some(r#"{"sid":"joined"}"#) },
        PacketBody::Event { ack: Some(id), args, .. } => PacketBody::Ack { id, args },
        PacketBody::Event { ref name, .. } if name == "done" => body,
        _ => return None,
    };
    Some(Packet { namespace, body }.encode_frame())
}
