//! Engine.IO packets: what a WebSocket text message is.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::DecodeError;

/// One Engine.IO packet in its text form: a type digit and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnginePacket<'a> {
    /// `0`: the server opens the session; the text is the JSON of a [`Handshake`].
    Open(&'a str),
    /// `1`: the sender ends the session.
    Close,
    /// `2`: heartbeat question; the text is empty except while a transport is probed.
    Ping(&'a str),
    /// `3`: heartbeat answer, with the text of the question.
    Pong(&'a str),
    /// `4`: a Socket.IO packet.
    Message(&'a str),
    /// `5`: the end of a transport upgrade; does not occur without polling.
    Upgrade,
    /// `6`: nothing; receivers ignore it.
    Noop,
}

impl<'a> EnginePacket<'a> {
    /// Reads the packet that a whole WebSocket text message holds.
    pub fn decode(text: &'a str) -> Result<Self, DecodeError> {
        let kind = *text.as_bytes().first().ok_or(DecodeError::Empty)?;
        // A type is one ASCII byte, so the rest begins at a character boundary.
        let rest = text.get(1..).ok_or(DecodeError::UnknownEngineType)?;
        match kind {
            b'0' => Ok(Self::Open(rest)),
            b'1' => Ok(Self::Close),
            b'2' => Ok(Self::Ping(rest)),
            b'3' => Ok(Self::Pong(rest)),
            b'4' => Ok(Self::Message(rest)),
            b'5' => Ok(Self::Upgrade),
            b'6' => Ok(Self::Noop),
            _ => Err(DecodeError::UnknownEngineType),
        }
    }

    /// Writes the packet as a whole WebSocket text message.
    pub fn encode(&self) -> String {
        let (kind, rest) = match self {
            Self::Open(rest) => ('0', *rest),
            Self::Close => ('1', ""),
            Self::Ping(rest) => ('2', *rest),
            Self::Pong(rest) => ('3', *rest),
            Self::Message(rest) => ('4', *rest),
            Self::Upgrade => ('5', ""),
            Self::Noop => ('6', ""),
        };
        let mut text = String::with_capacity(rest.len() + 1);
        text.push(kind);
        text.push_str(rest);
        text
    }
}

/// What the server says when it opens a session: the JSON of [`EnginePacket::Open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Name of the session; of no fixed length or alphabet.
    pub sid: String,
    /// Transports that the server would upgrade to; empty on a WebSocket.
    pub upgrades: Vec<String>,
    /// Time between two pings.
    pub ping_interval: Duration,
    /// Time to wait for the answer to a ping.
    pub ping_timeout: Duration,
    /// Largest message that the server takes, in bytes; only servers from 4.x on say it.
    pub max_payload: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHandshake {
    sid: String,
    #[serde(default)]
    upgrades: Vec<String>,
    ping_interval: u64,
    ping_timeout: u64,
    #[serde(default)]
    max_payload: Option<u64>,
}

impl Handshake {
    /// Reads the JSON of an open packet; members that it does not know are ignored.
    pub fn decode(json: &str) -> Result<Self, DecodeError> {
        let wire: WireHandshake = serde_json::from_str(json).map_err(|_| DecodeError::InvalidHandshake)?;
        Ok(Self {
            sid: wire.sid,
            upgrades: wire.upgrades,
            ping_interval: Duration::from_millis(wire.ping_interval),
            ping_timeout: Duration::from_millis(wire.ping_timeout),
            max_payload: wire.max_payload,
        })
    }

    /// Writes the JSON of an open packet.
    pub fn encode(&self) -> String {
        let max_payload = self.max_payload.map_or_else(String::new, |bytes| format!(r#","maxPayload":{bytes}"#));
        format!(
            r#"{{"sid":{},"upgrades":{},"pingInterval":{},"pingTimeout":{}{max_payload}}}"#,
            Value::from(self.sid.as_str()),
            Value::from(self.upgrades.as_slice()),
            self.ping_interval.as_millis(),
            self.ping_timeout.as_millis(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_packet_of_each_server_generation_is_read() {
        let old = r#"{"sid":"5iyTDXH5X11Qpg5_AAAA","upgrades":[],"pingInterval":25000,"pingTimeout":60000}"#;
        let handshake = Handshake::decode(old).expect("2.0.4's open packet");
        assert_eq!(handshake.ping_interval, Duration::from_secs(25));
        assert_eq!(handshake.ping_timeout, Duration::from_mins(1));
        assert_eq!(handshake.max_payload, None);
        assert_eq!(handshake.encode(), old);

        let new = r#"{"sid":"x","pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000,"future":{"a":[]}}"#;
        assert_eq!(Handshake::decode(new).expect("4.x's open packet").max_payload, Some(1_000_000));
    }

    #[test]
    fn an_open_packet_without_a_required_member_is_refused() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"pingInterval":1,"pingTimeout":1}"#,
            r#"{"sid":"x","pingTimeout":1}"#,
            r#"{"sid":"x","pingInterval":1}"#,
            r#"{"sid":"x","pingInterval":-1,"pingTimeout":1}"#,
        ] {
            assert_eq!(Handshake::decode(json), Err(DecodeError::InvalidHandshake), "{json}");
        }
    }

    #[test]
    fn every_engine_packet_form_is_read_and_written() {
        let forms = [
            ("0{}", EnginePacket::Open("{}")),
            ("1", EnginePacket::Close),
            ("2", EnginePacket::Ping("")),
            ("2probe", EnginePacket::Ping("probe")),
            ("3", EnginePacket::Pong("")),
            ("42[\"a\"]", EnginePacket::Message("2[\"a\"]")),
            ("5", EnginePacket::Upgrade),
            ("6", EnginePacket::Noop),
        ];
        for (text, packet) in forms {
            assert_eq!(EnginePacket::decode(text), Ok(packet));
            assert_eq!(packet.encode(), text);
        }
        assert_eq!(EnginePacket::decode(""), Err(DecodeError::Empty));
        for text in ["7", "x", " ", "é", "HTTP/1.1 400 Bad Request"] {
            assert_eq!(EnginePacket::decode(text), Err(DecodeError::UnknownEngineType), "{text}");
        }
    }
}
