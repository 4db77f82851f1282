//! Frames: encoding for the client's side, incremental decoding of the server's.

use thiserror::Error;

use super::mask;

/// The longest header of a masked frame: two bytes, an eight byte length and the key.
const MAX_HEADER: usize = 14;
/// The longest payload of a close, ping or pong frame (RFC 6455 section 5.5).
const MAX_CONTROL_PAYLOAD: usize = 125;
/// Stands in the place of a length that follows in two bytes.
const MEDIUM: u8 = 0x7E;
/// Stands in the place of a length that follows in eight bytes.
const LONG: u8 = 0x7F;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A whole message from the server, its fragments put together; borrows the decoder's buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    Close { code: Option<u16>, reason: &'a str },
}

/// Why bytes from the server are no WebSocket frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("reserved bits or an unknown opcode in a frame")]
    Reserved,
    #[error("masked frame from the server")]
    Masked,
    #[error("control frame that is fragmented or too long")]
    Control,
    #[error("fragments out of order")]
    Fragments,
    #[error("text that is not UTF-8")]
    Utf8,
    #[error("message larger than the limit of {limit} bytes")]
    TooLarge { limit: usize },
}

/// Appends one unfragmented, masked frame whose payload is `parts` put together.
pub(crate) fn encode(out: &mut Vec<u8>, opcode: Opcode, key: [u8; 4], parts: &[&[u8]]) {
    const FINAL: u8 = 0x80;
    const MASKED: u8 = 0x80;

    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(MAX_HEADER + length);
    out.push(FINAL | opcode as u8);
    if let Ok(short) = u8::try_from(length)
        && length <= MAX_CONTROL_PAYLOAD
    {
        out.push(MASKED | short);
    } else if let Ok(medium) = u16::try_from(length) {
        out.push(MASKED | MEDIUM);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(MASKED | LONG);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
    out.extend_from_slice(&key);
    let payload = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    mask::apply(key, &mut out[payload..]);
}

/// Turns the bytes of a server, as they come, into messages.
///
/// Holds no buffer while nothing is half received (after [`Decoder::release`]).
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// Where the next frame begins in `buffer`.
    start: usize,
    fragments: Option<(Opcode, Vec<u8>)>,
    /// The last message that was put together from fragments; kept only until the next call.
    assembled: Vec<u8>,
    limit: usize,
}

/// Where a frame lies in the buffer.
struct Frame {
    opcode: Opcode,
    is_final: bool,
    payload: std::ops::Range<usize>,
}

impl Decoder {
    /// Makes a decoder that refuses messages above `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, fragments: None, assembled: Vec::new(), limit }
    }

    /// Takes in bytes that were read.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the bytes that no message has used yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Gives memory back where nothing is half received.
    pub(crate) fn release(&mut self) {
        self.assembled = Vec::new();
        if self.pending().is_empty() {
            self.buffer = Vec::new();
            self.start = 0;
        }
    }

    /// Returns the next whole message, or `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Message<'_>>, FrameError> {
        while let Some(frame) = self.next_frame()? {
            let payload = frame.payload;
            match frame.opcode {
                Opcode::Text if frame.is_final => {
                    self.expect_no_fragments()?;
                    let text = std::str::from_utf8(&self.buffer[payload]).map_err(|_| FrameError::Utf8)?;
                    return Ok(Some(Message::Text(text)));
                }
                Opcode::Binary if frame.is_final => {
                    self.expect_no_fragments()?;
                    return Ok(Some(Message::Binary(&self.buffer[payload])));
                }
                Opcode::Text | Opcode::Binary => {
                    self.expect_no_fragments()?;
                    self.fragments = Some((frame.opcode, self.buffer[payload].to_vec()));
                }
                Opcode::Continuation => {
                    let (_, whole) = self.fragments.as_mut().ok_or(FrameError::Fragments)?;
                    if whole.len() + payload.len() > self.limit {
                        return Err(FrameError::TooLarge { limit: self.limit });
                    }
                    whole.extend_from_slice(&self.buffer[payload]);
                    if frame.is_final {
                        return self.assemble().map(Some);
                    }
                }
                Opcode::Ping => return Ok(Some(Message::Ping(&self.buffer[payload]))),
                Opcode::Pong => return Ok(Some(Message::Pong)),
                Opcode::Close => return close_message(&self.buffer[payload]).map(Some),
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        const FINAL: u8 = 0x80;
        const RESERVED: u8 = 0x70;
        const OPCODE: u8 = 0x0F;
        const MASKED: u8 = 0x80;
        const LENGTH: u8 = 0x7F;

        let bytes = &self.buffer[self.start..];
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & RESERVED != 0 {
            return Err(FrameError::Reserved);
        }
        let opcode = Opcode::from_bits(first & OPCODE).ok_or(FrameError::Reserved)?;
        if second & MASKED != 0 {
            return Err(FrameError::Masked);
        }
        let (length, header) = match second & LENGTH {
            MEDIUM => match rest.first_chunk() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            LONG => match rest.first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), 10),
                None => return Ok(None),
            },
            length => (u64::from(length), 2),
        };
        let is_final = first & FINAL != 0;
        if opcode.is_control() && (!is_final || length > MAX_CONTROL_PAYLOAD as u64) {
            return Err(FrameError::Control);
        }
        // The length is judged before its bytes arrive, so that nobody can make the buffer grow beyond the limit.
        let length = usize::try_from(length)
            .ok()
            .filter(|length| opcode.is_control() || *length <= self.limit)
            .ok_or(FrameError::TooLarge { limit: self.limit })?;
        if bytes.len() - header < length {
            return Ok(None);
        }
        let payload = self.start + header..self.start + header + length;
        self.start = payload.end;
        Ok(Some(Frame { opcode, is_final, payload }))
    }

    fn expect_no_fragments(&self) -> Result<(), FrameError> {
        if self.fragments.is_some() { Err(FrameError::Fragments) } else { Ok(()) }
    }

    fn assemble(&mut self) -> Result<Message<'_>, FrameError> {
        let (opcode, whole) = self.fragments.take().ok_or(FrameError::Fragments)?;
        self.assembled = whole;
        if opcode == Opcode::Text {
            std::str::from_utf8(&self.assembled).map(Message::Text).map_err(|_| FrameError::Utf8)
        } else {
            Ok(Message::Binary(&self.assembled))
        }
    }
}

/// Reads a close payload: nothing, or a code and a reason.
fn close_message(payload: &[u8]) -> Result<Message<'_>, FrameError> {
    match payload {
        [] => Ok(Message::Close { code: None, reason: "" }),
        [_] => Err(FrameError::Control),
        &[high, low, ref reason @ ..] => Ok(Message::Close {
            code: Some(u16::from_be_bytes([high, low])),
            reason: std::str::from_utf8(reason).map_err(|_| FrameError::Utf8)?,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encodes a frame as a server does, unmasked.
    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..=125 => frame.push(u8::try_from(length).expect("checked")),
            length @ 126..=65535 => {
                frame.push(126);
                frame.extend(u16::try_from(length).expect("checked").to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    fn decoder(bytes: &[u8]) -> Decoder {
        let mut decoder = Decoder::new(1 << 20);
        decoder.extend(bytes);
        decoder
    }

    #[test]
    fn messages_come_out_whatever_the_pieces_they_arrive_in() {
        let text = "é".repeat(40_000);
        let bytes = [
            server_frame(0x81, b"2"),
            server_frame(0x81, text.as_bytes()),
            server_frame(0x82, &[7; 200]),
            server_frame(0x89, b"ping"),
        ]
        .concat();
        for size in [1, 2, 3, 7, 1000, bytes.len()] {
            let mut decoder = Decoder::new(1 << 20);
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.extend(piece);
                while let Some(message) = decoder.next().expect("valid frames") {
                    seen.push(format!("{message:?}"));
                }
            }
            let expected = [
                format!("{:?}", Message::Text("2")),
                format!("{:?}", Message::Text(&text)),
                format!("{:?}", Message::Binary(&[7; 200])),
                format!("{:?}", Message::Ping(b"ping")),
            ];
            assert_eq!(seen, expected);
            decoder.release();
            assert_eq!(decoder.buffer.capacity(), 0);
        }
    }

    #[test]
    fn fragments_are_put_together_around_control_frames() {
        let mut decoder = decoder(
            &[
                server_frame(0x01, &"é".as_bytes()[..1]),
                server_frame(0x89, b""),
                server_frame(0x00, &"é".as_bytes()[1..]),
                server_frame(0x80, b"!"),
                server_frame(0x02, b"a"),
                server_frame(0x80, b"b"),
            ]
            .concat(),
        );
        assert_eq!(decoder.next(), Ok(Some(Message::Ping(b""))));
        assert_eq!(decoder.next(), Ok(Some(Message::Text("é!"))));
        assert_eq!(decoder.next(), Ok(Some(Message::Binary(b"ab"))));
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        let too_large = FrameError::TooLarge { limit: 1 << 20 };
        let cases: [(Vec<u8>, FrameError); 12] = [
            (b"HTTP/1.1 400 Bad Request".to_vec(), FrameError::Reserved),
            (server_frame(0xC1, b"a"), FrameError::Reserved),
            (server_frame(0x83, b"a"), FrameError::Reserved),
            (vec![0x81, 0x81, 0, 0, 0, 0, b'a'], FrameError::Masked),
            (server_frame(0x09, b""), FrameError::Control),
            (server_frame(0x89, &[0; 126]), FrameError::Control),
            (server_frame(0x88, &[1]), FrameError::Control),
            (server_frame(0x80, b"a"), FrameError::Fragments),
            ([server_frame(0x01, b"a"), server_frame(0x81, b"b")].concat(), FrameError::Fragments),
            (server_frame(0x81, &[0xFF]), FrameError::Utf8),
            (vec![0x81, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], too_large),
            ([server_frame(0x01, &vec![b'a'; 1 << 20]), server_frame(0x80, b"b")].concat(), too_large),
        ];
        for (bytes, error) in cases {
            assert_eq!(decoder(&bytes).next(), Err(error));
        }
    }

    #[test]
    fn close_frames_may_be_empty_or_carry_code_and_reason() {
        assert_eq!(decoder(&server_frame(0x88, b"")).next(), Ok(Some(Message::Close { code: None, reason: "" })));
        let full = server_frame(0x88, &[&1009_u16.to_be_bytes(), "zu groß".as_bytes()].concat());
        assert_eq!(decoder(&full).next(), Ok(Some(Message::Close { code: Some(1009), reason: "zu groß" })));
    }

    #[test]
    fn a_client_frame_is_masked_and_takes_the_shortest_length() {
        for (length, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let payload = vec![b'x'; length];
            let (left, right) = payload.split_at(length / 3);
            let mut frame = Vec::new();
            encode(&mut frame, Opcode::Text, [1, 2, 3, 4], &[left, right]);
            assert_eq!(frame.len(), header + length);
            let mut unmasked = frame.split_off(header);
            mask::apply([1, 2, 3, 4], &mut unmasked);
            assert_eq!(unmasked, payload);
            assert_eq!(frame[0], 0x81);
            assert_eq!(frame[1] & 0x80, 0x80);
            assert_eq!(frame[header - 4..], [1, 2, 3, 4]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_messages_or_an_error(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut decoder = Decoder::new(64);
            for piece in pieces {
                decoder.extend(&piece);
                while let Ok(Some(_)) = decoder.next() {}
            }
        }
    }
}
