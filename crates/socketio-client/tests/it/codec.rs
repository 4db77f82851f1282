//! The codec against the forms that real servers send, and against anything at all.

use std::borrow::Cow;

use proptest::prelude::*;
use socketio_client::Protocol;
use socketio_client::codec::{
    DecodeError, EnginePacket, Handshake, Packet, PacketBody, decode_attachment, decode_query, encode_attachment, encode_query,
    is_valid_json,
};

/// Decodes a whole frame; the codec's two steps in one.
fn decode(frame: &str) -> Result<Packet<'_>, DecodeError> {
    match EnginePacket::decode(frame)? {
        EnginePacket::Message(text) => Packet::decode(text),
        other => panic!("`{frame}` is no message but {other:?}"),
    }
}

fn packet<'a>(namespace: &'a str, body: PacketBody<'a>) -> Packet<'a> {
    Packet { namespace, body }
}

fn event<'a>(name: &'a str, args: &[&'a str], ack: Option<u64>) -> PacketBody<'a> {
    PacketBody::Event { name: Cow::Borrowed(name), args: args.to_vec(), ack }
}

#[test]
fn every_packet_form_of_the_protocol_is_read_and_written() {
    let forms = [
        ("40", packet("/", PacketBody::Connect { query: None, payload: None })),
        ("40/chat,", packet("/chat", PacketBody::Connect { query: None, payload: None })),
        (
            "40/chat?token=TOKEN&tokenType=jwt,",
            packet("/chat", PacketBody::Connect { query: Some("token=TOKEN&tokenType=jwt"), payload: None }),
        ),
        (
            r#"40/chat,{"token":"TOKEN"}"#,
            packet("/chat", PacketBody::Connect { query: None, payload: Some(r#"{"token":"TOKEN"}"#) }),
        ),
        (r#"40{"sid":"x"}"#, packet("/", PacketBody::Connect { query: None, payload: Some(r#"{"sid":"x"}"#) })),
        ("41", packet("/", PacketBody::Disconnect)),
        ("41/chat,", packet("/chat", PacketBody::Disconnect)),
        (
            r#"42/chat,["CHANNEL_SUBSCRIBED",{"channel":{"_id":"room1"}}]"#,
            packet("/chat", event("CHANNEL_SUBSCRIBED", &[r#"{"channel":{"_id":"room1"}}"#], None)),
        ),
        (r#"42["root",1]"#, packet("/", event("root", &["1"], None))),
        (r#"42/chat,0["SEND",{}]"#, packet("/chat", event("SEND", &["{}"], Some(0)))),
        (r#"42/chat,4294967296["SEND"]"#, packet("/chat", event("SEND", &[], Some(4_294_967_296)))),
        (r#"42/chat,["NOARGS"]"#, packet("/chat", event("NOARGS", &[], None))),
        (r#"42/chat,["MULTI",1,"two",{"three":3}]"#, packet("/chat", event("MULTI", &["1", r#""two""#, r#"{"three":3}"#], None))),
        ("42/chat,[\"TEXT\",\"\u{2028} \u{1F680} é\"]", packet("/chat", event("TEXT", &["\"\u{2028} \u{1F680} é\""], None))),
        (r#"43/chat,1["pong",{"x":1}]"#, packet("/chat", PacketBody::Ack { id: 1, args: vec![r#""pong""#, r#"{"x":1}"#] })),
        ("43/chat,1[]", packet("/chat", PacketBody::Ack { id: 1, args: vec![] })),
        (r#"44/chat,"Not authorized""#, packet("/chat", PacketBody::Error { payload: Some(r#""Not authorized""#) })),
        (r#"44"root refused""#, packet("/", PacketBody::Error { payload: Some(r#""root refused""#) })),
        ("44/chat,401", packet("/chat", PacketBody::Error { payload: Some("401") })),
        (
            r#"451-/chat,["bin",{"_placeholder":true,"num":0}]"#,
            packet(
                "/chat",
                PacketBody::BinaryEvent {
                    attachments: 1,
                    name: Cow::Borrowed("bin"),
                    args: vec![r#"{"_placeholder":true,"num":0}"#],
                    ack: None,
                },
            ),
        ),
        (
            r#"461-/chat,7[{"_placeholder":true,"num":0},{"a":1}]"#,
            packet(
                "/chat",
                PacketBody::BinaryAck { attachments: 1, id: 7, args: vec![r#"{"_placeholder":true,"num":0}"#, r#"{"a":1}"#] },
            ),
        ),
    ];
    for (frame, expected) in forms {
        assert_eq!(decode(frame).as_ref(), Ok(&expected), "{frame}");
        assert_eq!(expected.encode_frame(), frame);
    }
}

#[test]
fn spellings_that_are_never_written_are_read_all_the_same() {
    let spellings = [
        ("40/chat", packet("/chat", PacketBody::Connect { query: None, payload: None })),
        ("41/chat", packet("/chat", PacketBody::Disconnect)),
        ("40/", packet("/", PacketBody::Connect { query: None, payload: None })),
        (r#"42/chat?token=x,["a"]"#, packet("/chat", event("a", &[], None))),
        (r#"42/chat, [ "a" , 1 ] "#, packet("/chat", event("a", &["1"], None))),
        (r#"42/chat,["a\u0062c"]"#, packet("/chat", event("abc", &[], None))),
    ];
    for (frame, expected) in spellings {
        assert_eq!(decode(frame), Ok(expected), "{frame}");
    }
}

#[test]
fn malformed_packets_are_errors() {
    let cases = [
        ("4", DecodeError::Empty),
        ("47", DecodeError::UnknownPacketType),
        ("4é", DecodeError::UnknownPacketType),
        ("42/chat", DecodeError::InvalidPayload),
        ("42/chat,", DecodeError::InvalidPayload),
        ("42/chat,[]", DecodeError::InvalidPayload),
        ("42/chat,[1]", DecodeError::InvalidPayload),
        (r#"42/chat,{"a":1}"#, DecodeError::InvalidPayload),
        (r#"42/chat,["a",]"#, DecodeError::InvalidPayload),
        (r#"42/chat,["a"]x"#, DecodeError::InvalidPayload),
        (r#"42/chat,["a""#, DecodeError::InvalidPayload),
        (r#"42/chat,99999999999999999999["a"]"#, DecodeError::AckIdOutOfRange),
        ("43/chat,[]", DecodeError::MissingAckId),
        ("43/chat,1", DecodeError::InvalidPayload),
        ("43/chat,1{}", DecodeError::InvalidPayload),
        ("44/chat,{", DecodeError::InvalidPayload),
        ("40/chat,{", DecodeError::InvalidPayload),
        (r#"45/chat,["a"]"#, DecodeError::InvalidAttachmentCount),
        (r#"45-/chat,["a"]"#, DecodeError::InvalidAttachmentCount),
        (r#"45+1-["a"]"#, DecodeError::InvalidAttachmentCount),
        (r#"4599999999999-["a"]"#, DecodeError::InvalidAttachmentCount),
        ("461-[]", DecodeError::MissingAckId),
    ];
    for (frame, expected) in cases {
        assert_eq!(decode(frame), Err(expected), "{frame}");
    }
}

#[test]
fn deep_nesting_neither_overflows_nor_fails() {
    let depth = 100_000;
    let frame = format!(r#"42["deep",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
    assert!(decode(&frame).is_ok());
    let unclosed = format!(r#"42["deep",{}"#, "[".repeat(depth));
    assert_eq!(decode(&unclosed), Err(DecodeError::InvalidPayload));
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
    .prop_map(|value| value.to_string())
}

fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "/[^,?]{1,12}"]
}

/// The owned parts of a packet; a [`Packet`] borrows from it.
#[derive(Debug)]
struct Parts {
    namespace: String,
    kind: u8,
    name: String,
    args: Vec<String>,
    id: u64,
    wants_ack: bool,
    attachments: u32,
    payload: Option<String>,
    query: Option<String>,
}

prop_compose! {
    fn parts()(
        namespace in namespace(),
        kind in 0..7_u8,
        name in any::<String>(),
        args in prop::collection::vec(json(), 0..4),
        id in any::<u64>(),
        wants_ack in any::<bool>(),
        attachments in any::<u32>(),
        payload in prop::option::of(json()),
        query in prop::option::of("[^,]{0,12}"),
    ) -> Parts {
        Parts { namespace, kind, name, args, id, wants_ack, attachments, payload, query }
    }
}

impl Parts {
    fn packet(&self) -> Packet<'_> {
        let name = Cow::Borrowed(self.name.as_str());
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let ack = self.wants_ack.then_some(self.id);
        let payload = self.payload.as_deref();
        let body = match self.kind {
            0 => PacketBody::Connect { query: self.query.as_deref(), payload },
            1 => PacketBody::Disconnect,
            2 => PacketBody::Event { name, args, ack },
            3 => PacketBody::Ack { id: self.id, args },
            4 => PacketBody::Error { payload },
            5 => PacketBody::BinaryEvent { attachments: self.attachments, name, args, ack },
            _ => PacketBody::BinaryAck { attachments: self.attachments, id: self.id, args },
        };
        packet(&self.namespace, body)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_to_the_same(parts in parts()) {
        let packet = parts.packet();
        let frame = packet.encode_frame();
        prop_assert_eq!(decode(&frame), Ok(packet));
    }

    #[test]
    fn any_text_is_a_packet_or_an_error(text in any::<String>()) {
        let _ = EnginePacket::decode(&text);
        let _ = Packet::decode(&text);
        let _ = Handshake::decode(&text);
        let _ = decode_query(&text);
    }

    #[test]
    fn text_that_almost_is_a_packet_is_a_packet_or_an_error(
        text in r#"[0-7][0-9]{0,3}-?(/[a-z?]{0,4},?)?[0-9]{0,3}[\[{"a,:1\]} ]{0,12}"#,
    ) {
        if let Ok(packet) = Packet::decode(&text) {
            let again = packet.encode_frame();
            prop_assert_eq!(decode(&again), Ok(packet.clone()));
        }
    }

    #[test]
    fn every_payload_of_a_decoded_packet_is_json(parts in parts()) {
        let frame = parts.packet().encode_frame();
        if let Ok(Packet { body: PacketBody::Event { args, .. } | PacketBody::Ack { args, .. }, .. }) = decode(&frame) {
            prop_assert!(args.into_iter().all(is_valid_json));
        }
    }

    #[test]
    fn attachments_and_queries_come_back(
        bytes in any::<Vec<u8>>(),
        pairs in prop::collection::vec((any::<String>(), any::<String>()), 0..4),
    ) {
        for protocol in [Protocol::EngineIo3, Protocol::EngineIo4] {
            let message = encode_attachment(protocol, &bytes);
            prop_assert_eq!(decode_attachment(protocol, &message), Ok(bytes.as_slice()));
            let _ = decode_attachment(protocol, &bytes);
        }
        let query = encode_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        prop_assert!(!query.contains(',') && !query.contains('?'));
        prop_assert_eq!(decode_query(&query), pairs);
    }
}
