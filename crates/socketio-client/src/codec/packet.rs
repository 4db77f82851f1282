//! Socket.IO packets: what an Engine.IO message carries.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::DecodeError;

/// One Socket.IO packet: `TYPE [ATTACHMENTS "-"] [NAMESPACE ","] [ACKID] [JSON]`.
///
/// All text is borrowed from the decoded message. Payloads and arguments are valid JSON text after decoding;
/// whoever encodes vouches for them (see [`is_valid_json`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The namespace, `/` for the root; without a query.
    pub namespace: &'a str,
    /// What the packet says.
    pub body: PacketBody<'a>,
}

/// What a [`Packet`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PacketBody<'a> {
    /// `0`: a client asks to join the namespace, a server confirms it.
    Connect {
        /// Engine.IO 3, client to server: the percent-encoded query after the namespace.
        query: Option<&'a str>,
        /// Engine.IO 4: the auth object of the client, or the `sid` object of the server.
        payload: Option<&'a str>,
    },
    /// `1`: the sender leaves, or ends, the namespace.
    Disconnect,
    /// `2`: an event.
    Event {
        /// Name of the event.
        name: Cow<'a, str>,
        /// The arguments, each as JSON text.
        args: Vec<&'a str>,
        /// Set if the sender wants an acknowledgement.
        ack: Option<u64>,
    },
    /// `3`: the acknowledgement of an event.
    Ack {
        /// The id that the event carried.
        id: u64,
        /// The arguments, each as JSON text.
        args: Vec<&'a str>,
    },
    /// `4`: the server refuses the namespace (`ERROR`, in protocol 5 `CONNECT_ERROR`).
    Error {
        /// Any JSON; a string or the error's data in protocol 4, an object with `message` in protocol 5.
        payload: Option<&'a str>,
    },
    /// `5`: an event whose attachments follow as binary messages.
    BinaryEvent {
        /// Number of binary messages that follow.
        attachments: u32,
        /// Name of the event.
        name: Cow<'a, str>,
        /// The arguments, each as JSON text, with placeholders for the attachments.
        args: Vec<&'a str>,
        /// Set if the sender wants an acknowledgement.
        ack: Option<u64>,
    },
    /// `6`: an acknowledgement whose attachments follow as binary messages.
    BinaryAck {
        /// Number of binary messages that follow.
        attachments: u32,
        /// The id that the event carried.
        id: u64,
        /// The arguments, each as JSON text, with placeholders for the attachments.
        args: Vec<&'a str>,
    },
}

impl<'a> Packet<'a> {
    /// Reads the packet that an Engine.IO message carries.
    pub fn decode(text: &'a str) -> Result<Self, DecodeError> {
        let kind = *text.as_bytes().first().ok_or(DecodeError::Empty)?;
        let rest = text.get(1..).ok_or(DecodeError::UnknownPacketType)?;
        match kind {
            b'0' => {
                let (namespace, query, payload) = split_namespace(rest);
                let body = PacketBody::Connect { query, payload: optional_json(payload)? };
                Ok(Self { namespace, body })
            }
            b'1' => {
                let (namespace, _, _) = split_namespace(rest);
                Ok(Self { namespace, body: PacketBody::Disconnect })
            }
            b'2' => {
                let (namespace, _, rest) = split_namespace(rest);
                let (ack, json) = split_ack_id(rest)?;
                let EventArray { name, args } = array(json)?;
                Ok(Self { namespace, body: PacketBody::Event { name, args, ack } })
            }
            b'3' => {
                let (namespace, _, rest) = split_namespace(rest);
                let (id, json) = split_ack_id(rest)?;
                let id = id.ok_or(DecodeError::MissingAckId)?;
                let ArgArray(args) = array(json)?;
                Ok(Self { namespace, body: PacketBody::Ack { id, args } })
            }
            b'4' => {
                let (namespace, _, payload) = split_namespace(rest);
                let body = PacketBody::Error { payload: optional_json(payload)? };
                Ok(Self { namespace, body })
            }
            b'5' => {
                let (attachments, rest) = split_attachments(rest)?;
                let (namespace, _, rest) = split_namespace(rest);
                let (ack, json) = split_ack_id(rest)?;
                let EventArray { name, args } = array(json)?;
                Ok(Self { namespace, body: PacketBody::BinaryEvent { attachments, name, args, ack } })
            }
            b'6' => {
                let (attachments, rest) = split_attachments(rest)?;
                let (namespace, _, rest) = split_namespace(rest);
                let (id, json) = split_ack_id(rest)?;
                let id = id.ok_or(DecodeError::MissingAckId)?;
                let ArgArray(args) = array(json)?;
                Ok(Self { namespace, body: PacketBody::BinaryAck { attachments, id, args } })
            }
            _ => Err(DecodeError::UnknownPacketType),
        }
    }

    /// Writes the packet as a whole WebSocket text message, the Engine.IO type included.
    pub fn encode_frame(&self) -> String {
        let mut text = String::with_capacity(self.size_hint());
        text.push('4');
        self.encode_into(&mut text);
        text
    }

    /// Appends the packet, as it stands in an Engine.IO message.
    ///
    /// The comma after a namespace is always written; for the root namespace nothing is.
    pub fn encode_into(&self, out: &mut String) {
        let namespace = self.namespace;
        match &self.body {
            PacketBody::Connect { query, payload } => {
                out.push('0');
                match query {
                    // The root needs to be spelt out to carry a query.
                    Some(query) => out.extend([namespace, "?", query, ","]),
                    None => push_namespace(out, namespace),
                }
                out.push_str(payload.unwrap_or_default());
            }
            PacketBody::Disconnect => {
                out.push('1');
                push_namespace(out, namespace);
            }
            PacketBody::Event { name, args, ack } => {
                out.push('2');
                push_namespace(out, namespace);
                push_ack_id(out, *ack);
                push_array(out, Some(name), args);
            }
            PacketBody::Ack { id, args } => {
                out.push('3');
                push_namespace(out, namespace);
                push_ack_id(out, Some(*id));
                push_array(out, None, args);
            }
            PacketBody::Error { payload } => {
                out.push('4');
                push_namespace(out, namespace);
                out.push_str(payload.unwrap_or_default());
            }
            PacketBody::BinaryEvent { attachments, name, args, ack } => {
                out.push('5');
                push_attachments(out, *attachments);
                push_namespace(out, namespace);
                push_ack_id(out, *ack);
                push_array(out, Some(name), args);
            }
            PacketBody::BinaryAck { attachments, id, args } => {
                out.push('6');
                push_attachments(out, *attachments);
                push_namespace(out, namespace);
                push_ack_id(out, Some(*id));
                push_array(out, None, args);
            }
        }
    }

    /// Returns about how long the encoded packet is, so that the common event is written into one allocation.
    fn size_hint(&self) -> usize {
        /// Type digits, commas, brackets, quotes and an ack id.
        const PUNCTUATION: usize = 24;
        let payload = match &self.body {
            PacketBody::Connect { query, payload } => query.map_or(0, str::len) + payload.map_or(0, str::len),
            PacketBody::Error { payload } => payload.map_or(0, str::len),
            PacketBody::Disconnect => 0,
            PacketBody::Event { name, args, .. } | PacketBody::BinaryEvent { name, args, .. } => name.len() + args_len(args),
            PacketBody::Ack { args, .. } | PacketBody::BinaryAck { args, .. } => args_len(args),
        };
        PUNCTUATION + self.namespace.len() + payload
    }
}

/// Tells whether the text is one JSON value, surrounded by white space at most.
pub fn is_valid_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Splits `[NAMESPACE [?QUERY] ","] REST`.
fn split_namespace(text: &str) -> (&str, Option<&str>, &str) {
    if !text.starts_with('/') {
        return ("/", None, text);
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    match namespace.split_once('?') {
        Some((namespace, query)) => (namespace, Some(query), rest),
        None => (namespace, None, rest),
    }
}

/// Splits the decimal digits off that stand before the payload.
fn split_ack_id(text: &str) -> Result<(Option<u64>, &str), DecodeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok((None, text));
    }
    let (id, rest) = text.split_at(digits);
    let id = id.parse().map_err(|_| DecodeError::AckIdOutOfRange)?;
    Ok((Some(id), rest))
}

fn split_attachments(text: &str) -> Result<(u32, &str), DecodeError> {
    let (count, rest) = text.split_once('-').ok_or(DecodeError::InvalidAttachmentCount)?;
    if !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DecodeError::InvalidAttachmentCount);
    }
    let count = count.parse().map_err(|_| DecodeError::InvalidAttachmentCount)?;
    Ok((count, rest))
}

fn optional_json(text: &str) -> Result<Option<&str>, DecodeError> {
    match text {
        "" => Ok(None),
        json if is_valid_json(json) => Ok(Some(json)),
        _ => Err(DecodeError::InvalidPayload),
    }
}

fn array<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, DecodeError> {
    serde_json::from_str(json).map_err(|_| DecodeError::InvalidPayload)
}

/// `["name", arg, …]`, the arguments unparsed.
struct EventArray<'a> {
    name: Cow<'a, str>,
    args: Vec<&'a str>,
}

impl<'de> Deserialize<'de> for EventArray<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventVisitor;
        impl<'de> Visitor<'de> for EventVisitor {
            type Value = EventArray<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array that begins with the event name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let name = seq.next_element::<EventName<'de>>()?.ok_or_else(|| A::Error::custom("no event name"))?.0;
                let args = remaining_args(seq)?;
                Ok(EventArray { name, args })
            }
        }
        deserializer.deserialize_seq(EventVisitor)
    }
}

/// Borrowed unless the name is written with escapes.
#[derive(Deserialize)]
struct EventName<'a>(#[serde(borrow)] Cow<'a, str>);

/// `[arg, …]`, the arguments unparsed.
struct ArgArray<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for ArgArray<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArgVisitor;
        impl<'de> Visitor<'de> for ArgVisitor {
            type Value = ArgArray<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                remaining_args(seq).map(ArgArray)
            }
        }
        deserializer.deserialize_seq(ArgVisitor)
    }
}

fn remaining_args<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<&'de str>, A::Error> {
    let mut args = Vec::new();
    while let Some(arg) = seq.next_element::<&'de RawValue>()? {
        args.push(arg.get());
    }
    Ok(args)
}

fn push_namespace(out: &mut String, namespace: &str) {
    if namespace != "/" {
        out.extend([namespace, ","]);
    }
}

fn push_attachments(out: &mut String, attachments: u32) {
    out.push_str(&attachments.to_string());
    out.push('-');
}

fn push_ack_id(out: &mut String, id: Option<u64>) {
    if let Some(id) = id {
        out.push_str(&id.to_string());
    }
}

fn push_array(out: &mut String, name: Option<&str>, args: &[&str]) {
    out.push('[');
    if let Some(name) = name {
        push_json_string(out, name);
    }
    for (index, arg) in args.iter().enumerate() {
        if index > 0 || name.is_some() {
            out.push(',');
        }
        out.push_str(arg);
    }
    out.push(']');
}

fn push_json_string(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.extend(["\"", text, "\""]);
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn args_len(args: &[&str]) -> usize {
    args.iter().map(|arg| arg.len() + 1).sum()
}
