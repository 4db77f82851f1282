use fake_upstream::{FakeUpstream, Token};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{DEADLINE, QUIET};

/// One WebSocket; every method fails the test when its answer does not come in time.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

/// How an upgrade was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Http { status: u16, body: String, retry_after: Option<String> },
    Hangup,
}

pub(crate) fn query(token: &Token) -> String {
    format!("token={}&tokenType={}", token.value, token.kind.socket_type())
}

/// Tries to open a WebSocket with the given path and query.
pub(crate) async fn connect_url(upstream: &FakeUpstream, path: &str) -> Result<Client, Refused> {
    let stream = TcpStream::connect(upstream.address()).await.expect("the upstream listens");
    let url = format!("ws://{}{path}", upstream.address());
    match timeout(DEADLINE, client_async(url, stream)).await.expect("an answer in time") {
        Ok((socket, _)) => Ok(Client { socket }),
        Err(Error::Http(response)) => Err(Refused::Http {
            status: response.status().as_u16(),
            body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
            retry_after: response.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned()),
        }),
        Err(_) => Err(Refused::Hangup),
    }
}

impl Client {
    /// Opens a WebSocket; nothing is read yet.
    pub(crate) async fn open(upstream: &FakeUpstream, token: &Token) -> Self {
        Self::try_open(upstream, token).await.expect("the upgrade is accepted")
    }

    pub(crate) async fn try_open(upstream: &FakeUpstream, token: &Token) -> Result<Self, Refused> {
        connect_url(upstream, &format!("/socket.io/?{}&EIO=3&transport=websocket", query(token))).await
    }

    /// Sends the join packet.
    pub(crate) async fn ask_to_join(&mut self, token: &Token) {
        self.send(&format!("40/chat?{},", query(token))).await;
    }

    /// Reads the open frames, joins, and reads the acknowledgement.
    pub(crate) async fn join(&mut self, token: &Token) {
        assert!(self.frame().await.starts_with("0{"));
        self.ask_to_join(token).await;
        while !self.frame().await.starts_with("40/chat") {}
    }

    pub(crate) async fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.expect("the socket is open");
    }

    /// Sends a frame; answers whether the socket still took it.
    pub(crate) async fn try_send(&mut self, frame: &str) -> bool {
        self.socket.send(Message::text(frame)).await.is_ok()
    }

    pub(crate) async fn emit(&mut self, event: &str, payload: &Value) {
        self.send(&format!("42/chat,{}", json!([event, payload]))).await;
    }

    pub(crate) async fn ask_to_subscribe(&mut self, space_id: &str) {
        self.emit("SUBSCRIBE_CHANNEL", &json!({"channel": {"type": "topic", "_id": space_id}})).await;
    }

    pub(crate) async fn subscribe(&mut self, space_id: &str) {
        self.ask_to_subscribe(space_id).await;
        let answer = self.event("CHANNEL_SUBSCRIBED").await;
        assert_eq!(answer["channel"]["_id"], space_id);
    }

    /// Sends a chat message with its text also as the loopback.
    pub(crate) async fn chat(&mut self, space_id: &str, text: &str) {
        let payload =
            json!({"category": "chat", "topicId": space_id, "content": {"bodyText": text}, "loopbackMetadata": {"ref": text}});
        self.emit("SEND_MESSAGE", &payload).await;
    }

    async fn message(&mut self) -> Option<Message> {
        let message = timeout(DEADLINE, self.socket.next()).await.expect("a message in time");
        message.and_then(Result::ok)
    }

    /// The next text frame.
    pub(crate) async fn frame(&mut self) -> String {
        match self.message().await {
            Some(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("expected a text frame, got {other:?}"),
        }
    }

    /// The payload of the next frame, which must be this event.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        let frame = self.frame().await;
        let array = frame.strip_prefix("42/chat,").unwrap_or_else(|| panic!("expected {name}, got {frame}"));
        let mut array: Vec<Value> = serde_json::from_str(array).expect("a JSON array");
        assert_eq!(array[0], name, "in {frame}");
        assert_eq!(array.len(), 2, "in {frame}");
        array.remove(1)
    }

    /// The texts of the next `MESSAGE_SENT` events.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            let message = self.event("MESSAGE_SENT").await;
            texts.push(message["content"]["bodyText"].as_str().expect("a text").to_owned());
        }
        texts
    }

    /// A ping is answered next, so nothing else was waiting.
    pub(crate) async fn nothing_came(&mut self) {
        self.send("2").await;
        assert_eq!(self.frame().await, "3");
    }

    /// Nothing at all comes for a while, not even the answer to a ping.
    pub(crate) async fn is_frozen(&mut self) {
        self.send("2").await;
        let heard = timeout(QUIET, self.socket.next()).await;
        assert!(heard.is_err(), "expected silence, got {heard:?}");
    }

    /// The next thing is an orderly close; answers its code.
    pub(crate) async fn close_frame(&mut self) -> Option<u16> {
        match self.message().await {
            Some(Message::Close(frame)) => {
                // Lets the answer out; the server may be gone already.
                let _ = self.socket.flush().await;
                frame.map(|frame| frame.code.into())
            }
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    /// The connection ends without a close frame; answers whether by a reset.
    pub(crate) async fn abrupt_end(&mut self) -> bool {
        match timeout(DEADLINE, self.socket.next()).await.expect("an end in time") {
            Some(Err(Error::Io(error))) => error.kind() == std::io::ErrorKind::ConnectionReset,
            None | Some(Err(_)) => false,
            Some(Ok(message)) => panic!("expected an abrupt end, got {message:?}"),
        }
    }

    pub(crate) async fn close(mut self) {
        self.socket.close(None).await.expect("the socket is open");
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        match self.message().await {
            Some(Message::Binary(bytes)) => bytes.to_vec(),
            other => panic!("expected a binary frame, got {other:?}"),
        }
    }
}
