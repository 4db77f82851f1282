//! Binary attachments: what a WebSocket binary message is.

use super::{DecodeError, Protocol};

/// The type byte that Engine.IO 3 puts before the bytes of a message.
const ENGINE_IO_3_MESSAGE: u8 = 4;

/// Takes the attachment out of a WebSocket binary message.
///
/// Engine.IO 3 prefixes the bytes with the packet type, Engine.IO 4 does not.
pub fn decode_attachment(protocol: Protocol, message: &[u8]) -> Result<&[u8], DecodeError> {
    match protocol {
        Protocol::EngineIo3 => message.strip_prefix(&[ENGINE_IO_3_MESSAGE]).ok_or(DecodeError::InvalidAttachment),
        Protocol::EngineIo4 => Ok(message),
    }
}

/// Makes the WebSocket binary message that carries an attachment.
pub fn encode_attachment(protocol: Protocol, attachment: &[u8]) -> Vec<u8> {
    match protocol {
        Protocol::EngineIo3 => [&[ENGINE_IO_3_MESSAGE], attachment].concat(),
        Protocol::EngineIo4 => attachment.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_engine_io_3_prefixes_attachments() {
        assert_eq!(encode_attachment(Protocol::EngineIo3, &[1, 2, 3]), [4, 1, 2, 3]);
        assert_eq!(encode_attachment(Protocol::EngineIo4, &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(decode_attachment(Protocol::EngineIo3, &[4, 1, 2, 3]), Ok([1, 2, 3].as_slice()));
        assert_eq!(decode_attachment(Protocol::EngineIo4, &[1, 2, 3]), Ok([1, 2, 3].as_slice()));
        assert_eq!(decode_attachment(Protocol::EngineIo3, &[1]), Err(DecodeError::InvalidAttachment));
        assert_eq!(decode_attachment(Protocol::EngineIo3, &[]), Err(DecodeError::InvalidAttachment));
    }
}
