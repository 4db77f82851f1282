//! A scripted server: a raw WebSocket whose every frame the test decides.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use socketio_client::{ConnectError, ConnectOptions, Connection, Disconnect, Event, Incoming, Protocol, connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Nothing in a test takes longer unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
pub(crate) const TOKEN: &str = "tok,en/s3cret";
pub(crate) const ENCODED_TOKEN: &str = "tok%2Cen%2Fs3cret";

/// Fails the test when something does not happen.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("this to happen before the deadline")
}

pub(crate) struct Server {
    listener: TcpListener,
}

/// One accepted connection.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    pub(crate) path_and_query: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port") }
    }

    pub(crate) fn options(&self, protocol: Protocol) -> ConnectOptions {
        let address = self.listener.local_addr().expect("a bound listener");
        ConnectOptions::new(&format!("ws://{address}"))
            .expect("a valid URL")
            .namespace("/chat")
            .expect("a valid namespace")
            .protocol(protocol)
            .query("token", TOKEN)
            .public_query("tokenType", "jwt")
    }

    pub(crate) async fn accept_tcp(&self) -> TcpStream {
        soon(self.listener.accept()).await.expect("a connection").0
    }

    /// Accepts a WebSocket.
    pub(crate) async fn accept(&self) -> Peer {
        let stream = self.accept_tcp().await;
        let mut path_and_query = String::new();
        let mut headers = Vec::new();
        #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
        let record = |request: &Request, response: Response| {
            path_and_query = request.uri().to_string();
            headers = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").to_owned()))
                .collect();
            Ok(response)
        };
        let socket = soon(Box::pin(accept_hdr_async(stream, record))).await.expect("a valid handshake");
        Peer { socket, path_and_query, headers }
    }

    /// Accepts a WebSocket, sends an open packet and reads the CONNECT packet.
    pub(crate) async fn accept_opened(&self, ping_interval: u64, ping_timeout: u64) -> (Peer, String) {
        let mut peer = self.accept().await;
        peer.send(&open(ping_interval, ping_timeout)).await;
        let connect = peer.text().await;
        (peer, connect)
    }

    /// Joins a client and returns both ends.
    pub(crate) async fn join(&self, protocol: Protocol, ping_interval: u64, ping_timeout: u64) -> (Connection, Peer) {
        let options = self.options(protocol);
        let serve = async {
            let (mut peer, _) = self.accept_opened(ping_interval, ping_timeout).await;
            peer.send(joined(protocol)).await;
            peer
        };
        let (connection, peer) = soon(async { tokio::join!(connect(&options), serve) }).await;
        (connection.expect("to join"), peer)
    }

    /// Answers the HTTP request with these bytes and closes.
    pub(crate) async fn answer_raw(&self, answer: &str) {
        let mut stream = self.accept_tcp().await;
        read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.expect("to write");
        stream.shutdown().await.expect("to close");
        // The client may close first; its bytes are of no interest.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }

    /// Lets a client connect to a script, and returns how connecting failed.
    pub(crate) async fn refuse<F>(&self, protocol: Protocol, script: impl FnOnce(Peer) -> F) -> ConnectError
    where
        F: Future<Output = ()>,
    {
        let options = self.options(protocol);
        let serve = async {
            let (peer, _) = self.accept_opened(25_000, 20_000).await;
            script(peer).await;
        };
        let (result, ()) = soon(async { tokio::join!(connect(&options), serve) }).await;
        result.expect_err("no connection")
    }
}

impl Peer {
    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("to send");
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.expect("to send");
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        self.socket.send(message).await.expect("to send");
    }

    /// Sends messages in one write.
    pub(crate) async fn send_together(&mut self, texts: &[&str]) {
        for text in texts {
            self.socket.feed(Message::text(*text)).await.expect("to send");
        }
        self.socket.flush().await.expect("to send");
    }

    pub(crate) async fn message(&mut self) -> Option<Message> {
        soon(self.socket.next()).await.and_then(Result::ok)
    }

    /// Reads the next message, which is text.
    pub(crate) async fn text(&mut self) -> String {
        match self.message().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("no text message: {other:?}"),
        }
    }

    /// Reads on until the client has closed, whatever comes before.
    pub(crate) async fn until_closed(&mut self) -> bool {
        let mut close_frame = false;
        while let Some(message) = self.message().await {
            close_frame |= message.is_close();
        }
        close_frame
    }

    /// Gives the bare stream back, for what is no WebSocket frame.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.socket.into_inner()
    }
}

pub(crate) fn open(ping_interval: u64, ping_timeout: u64) -> String {
    format!(r#"0{{"sid":"abc","upgrades":[],"pingInterval":{ping_interval},"pingTimeout":{ping_timeout}}}"#)
}

pub(crate) fn joined(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::EngineIo3 => "40/chat,",
        Protocol::EngineIo4 => r#"40/chat,{"sid":"voJhhZHFeBhZ6MP_AAAA"}"#,
    }
}

/// Reads an HTTP request's head.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if soon(stream.read(&mut byte)).await.expect("to read") == 0 {
            break;
        }
        head.extend(byte);
    }
    String::from_utf8(head).expect("an ASCII head")
}

/// Waits for an event.
pub(crate) async fn next_event(connection: &mut Connection) -> Event {
    match soon(connection.next()).await {
        Ok(Incoming::Event(event)) => event,
        other => panic!("no event: {other:?}"),
    }
}

/// Waits for the end of a connection that has nothing else to say.
pub(crate) async fn end_of(connection: &mut Connection) -> Disconnect {
    soon(connection.next()).await.expect_err("the end")
}
