//! Any message is a packet or an error, and what decodes encodes to something that decodes to the same.
//!
//! Run with `cargo +nightly fuzz run codec` in `crates/socketio-client`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use socketio_client::Protocol;
use socketio_client::codec::{EnginePacket, Handshake, Packet, decode_attachment, decode_query};

fuzz_target!(|message: &[u8]| {
    for protocol in [Protocol::EngineIo3, Protocol::EngineIo4] {
        let _ = decode_attachment(protocol, message);
    }
    let Ok(text) = std::str::from_utf8(message) else {
        return;
    };
    let _ = decode_query(text);
    match EnginePacket::decode(text) {
        Ok(EnginePacket::Open(json)) => {
            if let Ok(handshake) = Handshake::decode(json) {
                assert_eq!(Handshake::decode(&handshake.encode()), Ok(handshake));
            }
        }
        Ok(EnginePacket::Message(text)) => {
            if let Ok(packet) = Packet::decode(text) {
                let frame = packet.encode_frame();
                assert_eq!(Packet::decode(&frame[1..]), Ok(packet));
            }
        }
        Ok(_) | Err(_) => {}
    }
});
