//! The Socket.IO side of Spaces: namespace `/chat`, its events by their meaning.
//!
//! Source: <https://spaces.avayacloud.com/developers/docs/guides/socketio/>.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use socketio_client::{ConnectError, ConnectOptions, Connection, Disconnect, EmitError, Incoming, Protocol};
use url::Url;

use super::activity::ActivityKind;
use super::message::{ReceivedLoopback, lenient, lenient_text};
use crate::domain::{Credential, SpaceId, TokenKind};

/// Where the socket server is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// The base address.
    pub url: Url,
    /// The protocol version; Spaces documents Socket.IO 2.0.4, which is Engine.IO 3.
    pub protocol: Protocol,
    /// The namespace that carries the application's events.
    pub namespace: String,
    /// The `tokenType` of a service application's token, which Avaya does not document.
    pub service_app_token_type: String,
    /// Most time from the first packet to the joined namespace.
    pub connect_timeout: Duration,
    /// The TLS configuration, shared by all connections.
    pub tls: Arc<rustls::ClientConfig>,
}

/// Connects sessions to the socket server.
#[derive(Debug)]
pub struct Connector {
    settings: SocketSettings,
    base: ConnectOptions,
}

impl Connector {
    /// A connector for the server of `settings`.
    pub fn new(settings: SocketSettings) -> Result<Self, socketio_client::OptionsError> {
        let base = ConnectOptions::new(settings.url.as_str())?
            .namespace(&settings.namespace)?
            .protocol(settings.protocol)
            .tls(Arc::clone(&settings.tls))
            .connect_timeout(settings.connect_timeout);
        Ok(Self { settings, base })
    }

    /// Opens a connection with a token and joins the namespace.
    pub async fn connect(&self, credential: &Credential) -> Result<Socket, ConnectError> {
        let token_type = match credential.kind {
            TokenKind::Oauth => "oauth",
            TokenKind::Jwt => "jwt",
            TokenKind::ServiceApp => &self.settings.service_app_token_type,
        };
        let options = self.base.clone().query("token", credential.token.expose()).query("tokenType", token_type);
        socketio_client::connect(&options).await.map(|connection| Socket { connection })
    }
}

/// A joined connection.
#[derive(Debug)]
pub struct Socket {
    connection: Connection,
}

/// What arrives, by its meaning.
#[derive(Debug)]
pub enum SocketEvent {
    /// A message, or a change of a message or space: `MESSAGE_SENT`.
    Message(Box<RawValue>),
    /// A message was refused: `SEND_MESSAGE_FAILED`.
    SendFailed(Box<RawValue>),
    /// A subscription is confirmed: `CHANNEL_SUBSCRIBED`.
    Subscribed(SpaceId),
    /// A subscription is refused: `SUBSCRIBE_CHANNEL_FAILED`.
    SubscribeFailed {
        /// Which, if the answer says so.
        space: Option<SpaceId>,
        /// Why.
        refusal: Refusal,
    },
    /// What people do beside writing: `PRESENCE_EVENT_RESPONSE`, `MEDIA_SESSION_RESPONSE`.
    Activity(ActivityKind, Box<RawValue>),
    /// Anything else. Ignored, as the documentation asks.
    Other,
}

/// Why the upstream refused something over the socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Its code, if it gave one.
    pub code: Option<String>,
    /// Its words, if it gave any.
    pub message: Option<String>,
}

/// The code of a message refused because its space is not subscribed (any more).
pub const SUBSCRIPTION_REQUIRED: &str = "app.event.channel.subscription.required";

#[derive(Serialize)]
struct ChannelRequest<'a> {
    channel: ChannelName<'a>,
}

#[derive(Serialize)]
struct ChannelName<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "_id")]
    id: &'a SpaceId,
}

impl Socket {
    /// Asks for the events of `space`.
    pub fn subscribe(&mut self, space: &SpaceId) -> Result<(), EmitError> {
        self.emit_channel("SUBSCRIBE_CHANNEL", space)
    }

    /// Asks for no more events of `space`.
    pub fn unsubscribe(&mut self, space: &SpaceId) -> Result<(), EmitError> {
        self.emit_channel("UNSUBSCRIBE_CHANNEL", space)
    }

    /// Asks for a sign of life: a subscription without a channel, which is documented to be refused with `invalid.parameters` and
    /// touches no space (<https://spaces.avayacloud.com/developers/docs/api/socket/subscribe_channel_failed>).
    pub fn probe(&mut self) -> Result<(), EmitError> {
        self.connection.emit("SUBSCRIBE_CHANNEL", "{}")
    }

    /// Sends a message; `payload` is the whole argument.
    pub fn send_message(&mut self, payload: &str) -> Result<(), EmitError> {
        self.connection.emit("SEND_MESSAGE", payload)
    }

    /// Tells what the user does beside writing; `payload` is the whole argument.
    pub fn send_presence(&mut self, payload: &str) -> Result<(), EmitError> {
        self.connection.emit("SEND_PRESENCE_EVENT", payload)
    }

    /// Stops or goes on reading; heartbeats go on meanwhile.
    pub fn pause_reading(&mut self, pause: bool) {
        self.connection.pause_reading(pause);
    }

    /// The next event. Safe to cancel; drives everything that the connection has to do.
    pub async fn next(&mut self) -> Result<SocketEvent, Disconnect> {
        loop {
            if let Incoming::Event(event) = self.connection.next().await? {
                return Ok(interpret(&event));
            }
        }
    }

    /// Leaves the namespace and closes the connection.
    pub async fn close(self) {
        self.connection.close().await;
    }

    fn emit_channel(&mut self, event: &str, space: &SpaceId) -> Result<(), EmitError> {
        let request = ChannelRequest { channel: ChannelName { kind: "topic", id: space } };
        let payload = serde_json::to_string(&request).expect("a request of texts serialises");
        self.connection.emit(event, &payload)
    }
}

fn interpret(event: &socketio_client::Event) -> SocketEvent {
    let Some(argument) = event.args().raw(0) else { return SocketEvent::Other };
    match event.name() {
        "MESSAGE_SENT" => SocketEvent::Message(argument.to_owned()),
        "PRESENCE_EVENT_RESPONSE" => SocketEvent::Activity(ActivityKind::Presence, argument.to_owned()),
        "MEDIA_SESSION_RESPONSE" => SocketEvent::Activity(ActivityKind::Media, argument.to_owned()),
        "SEND_MESSAGE_FAILED" => SocketEvent::SendFailed(argument.to_owned()),
        "CHANNEL_SUBSCRIBED" => match channel_of(argument) {
            Some(space) => SocketEvent::Subscribed(space),
            None => SocketEvent::Other,
        },
        "SUBSCRIBE_CHANNEL_FAILED" => {
            SocketEvent::SubscribeFailed { space: channel_of(argument), refusal: Refusal::read(argument) }
        }
        _ => SocketEvent::Other,
    }
}

fn channel_of(argument: &RawValue) -> Option<SpaceId> {
    #[derive(Deserialize)]
    struct Answer {
        channel: Channel,
    }
    #[derive(Deserialize)]
    struct Channel {
        #[serde(rename = "_id")]
        id: SpaceId,
    }
    serde_json::from_str::<Answer>(argument.get()).ok().map(|answer| answer.channel.id)
}

/// Longest piece of an upstream's refusal that is passed on.
const MAX_REFUSAL: usize = 300;

impl Refusal {
    /// Reads every known shape: `error` as text or object, or the code in `code`, `type` or `category`.
    pub fn read(argument: &RawValue) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Shape {
            error: Option<serde_json::Value>,
            code: Option<serde_json::Value>,
            #[serde(rename = "type")]
            kind: Option<serde_json::Value>,
            category: Option<serde_json::Value>,
            message: Option<serde_json::Value>,
        }
        let shape: Shape = serde_json::from_str(argument.get()).unwrap_or_default();
        let text = |value: Option<&serde_json::Value>| {
            value.and_then(serde_json::Value::as_str).map(|text| text.chars().take(MAX_REFUSAL).collect::<String>())
        };
        let required = [&shape.category, &shape.kind, &shape.code]
            .into_iter()
            .find(|value| value.as_ref().and_then(serde_json::Value::as_str) == Some(SUBSCRIPTION_REQUIRED));
        let error = shape.error.as_ref();
        let code = text(error)
            .or_else(|| text(error.and_then(|error| error.get("code"))))
            .or_else(|| text(required.and_then(Option::as_ref)))
            .or_else(|| text(shape.code.as_ref()));
        let message = text(error.and_then(|error| error.get("message"))).or_else(|| text(shape.message.as_ref()));
        Self { code, message }
    }

    /// Whether the upstream wants a subscription first.
    pub fn wants_subscription(&self) -> bool {
        self.code.as_deref() == Some(SUBSCRIPTION_REQUIRED) || self.message.as_deref() == Some(SUBSCRIPTION_REQUIRED)
    }
}

/// A refused message as far as it tells which one it was.
#[derive(Debug, Deserialize)]
pub struct RefusedMessage<'a> {
    /// The space.
    #[serde(rename = "topicId", borrow, default, deserialize_with = "lenient_text")]
    pub topic_id: Option<std::borrow::Cow<'a, str>>,
    /// What was said.
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub content: Option<super::Content<'a>>,
    /// What the sender attached, if it came back.
    #[serde(rename = "loopbackMetadata", borrow, default, deserialize_with = "lenient")]
    pub loopback: Option<ReceivedLoopback<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_a_refusal_is_read() {
        for (text, code, message) in [
            (r#"{"error":"not.authorized.by.topic.policy"}"#, Some("not.authorized.by.topic.policy"), None),
            (r#"{"error":{"code":"a","message":"b"}}"#, Some("a"), Some("b")),
            (r#"{"category":"chat","topicId":"x"}"#, None, None),
            (r#"{"category":"app.event.channel.subscription.required"}"#, Some(SUBSCRIPTION_REQUIRED), None),
            (r#"{"type":"app.event.channel.subscription.required","category":"chat"}"#, Some(SUBSCRIPTION_REQUIRED), None),
            (r#"{"code":"app.event.channel.subscription.required"}"#, Some(SUBSCRIPTION_REQUIRED), None),
            (r#"{"error":{"code":"app.event.channel.subscription.required"}}"#, Some(SUBSCRIPTION_REQUIRED), None),
            ("[]", None, None),
            (r#"{"error":7}"#, None, None),
        ] {
            let raw = RawValue::from_string(text.to_owned()).expect("JSON");
            let refusal = Refusal::read(&raw);
            assert_eq!((refusal.code.as_deref(), refusal.message.as_deref()), (code, message), "{text}");
            assert_eq!(refusal.wants_subscription(), code == Some(SUBSCRIPTION_REQUIRED));
        }
    }
}
