//! Frames that wait to be written, as the bytes that they will be.

use std::collections::VecDeque;

use crate::websocket::{MaskSource, Opcode, encode};

/// Bytes already written are cut off the buffer's front from this number on.
const COMPACT_FROM: usize = 64 * 1024;

/// The outbound frames of a connection: one buffer, so that whatever is queued leaves in one write.
#[derive(Debug)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that are written.
    written: usize,
    /// Where the first frame begins that is not wholly written.
    boundary: usize,
    /// The frames that are not wholly written, in order.
    frames: VecDeque<Queued>,
    /// How many of them are the application's.
    application: usize,
    mask: MaskSource,
    sent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    end: usize,
    application: bool,
}

impl Outbox {
    pub(crate) fn new(mask: MaskSource) -> Self {
        Self { buffer: Vec::new(), written: 0, boundary: 0, frames: VecDeque::new(), application: 0, mask, sent: 0 }
    }

    /// Queues a message of the application behind all others.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        encode(&mut self.buffer, Opcode::Text, self.mask.next_key(), parts);
        self.frames.push_back(Queued { end: self.buffer.len(), application: true });
        self.application += 1;
    }

    /// Queues a frame of the protocol behind all others.
    pub(crate) fn push_control(&mut self, opcode: Opcode, payload: &[u8]) {
        encode(&mut self.buffer, opcode, self.mask.next_key(), &[payload]);
        self.frames.push_back(Queued { end: self.buffer.len(), application: false });
    }

    /// Queues a frame of the protocol ahead of all others; only one that is partly written goes first.
    pub(crate) fn push_urgent(&mut self, opcode: Opcode, payload: &[u8]) {
        let begun = self.frames.front().filter(|_| self.written > self.boundary);
        let (index, position) = begun.map_or((0, self.boundary), |front| (1, front.end));
        let mut frame = Vec::new();
        encode(&mut frame, opcode, self.mask.next_key(), &[payload]);
        let length = frame.len();
        self.buffer.splice(position..position, frame);
        for later in self.frames.iter_mut().skip(index) {
            later.end += length;
        }
        self.frames.insert(index, Queued { end: position + length, application: false });
    }

    /// Returns what is to be written next.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    /// Notes that this many of the [`unwritten`](Self::unwritten) bytes were written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        while let Some(front) = self.frames.front().copied()
            && front.end <= self.written
        {
            self.boundary = front.end;
            self.application -= usize::from(front.application);
            self.sent += 1;
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            self.cut(self.buffer.len());
        } else if self.boundary >= COMPACT_FROM {
            self.cut(self.boundary);
        }
    }

    /// Cuts written frames off the front.
    fn cut(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.written -= bytes;
        self.boundary -= bytes;
        for frame in &mut self.frames {
            frame.end -= bytes;
        }
    }

    /// Returns how many of the application's messages are not wholly written.
    pub(crate) fn queued_frames(&self) -> usize {
        self.application
    }

    /// Returns how many bytes are not written.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Returns how many frames were wholly written.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Gives memory back while nothing waits.
    pub(crate) fn release(&mut self) {
        if self.frames.is_empty() {
            self.buffer = Vec::new();
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(payloads: &[&[u8]]) -> Outbox {
        let mut outbox = Outbox::new(MaskSource::new());
        for payload in payloads {
            outbox.push(&[payload]);
        }
        outbox
    }

    /// Reads the opcodes and payload lengths of short frames.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, u8)> {
        let mut frames = Vec::new();
        while let [first, second, ..] = *bytes {
            let length = second & 0x7F;
            frames.push((first & 0x0F, length));
            bytes = &bytes[6 + usize::from(length)..];
        }
        frames
    }

    #[test]
    fn an_urgent_frame_passes_all_that_is_not_begun() {
        let mut outbox = outbox(&[b"a", b"bb", b"ccc"]);
        outbox.push_urgent(Opcode::Text, b"3");
        assert_eq!(frames(outbox.unwritten()), [(1, 1), (1, 1), (1, 2), (1, 3)]);
        outbox.advance(7 + 3);
        assert_eq!(outbox.queued_frames(), 3, "the second frame is begun");
        outbox.push_urgent(Opcode::Pong, b"pong");
        outbox.advance(4);
        assert_eq!(frames(outbox.unwritten()), [(10, 4), (1, 2), (1, 3)]);
        assert_eq!(outbox.queued_frames(), 2);
        outbox.advance(10);
        outbox.push_urgent(Opcode::Pong, b"");
        assert_eq!(frames(outbox.unwritten()), [(10, 0), (1, 2), (1, 3)]);
        outbox.advance(outbox.unwritten().len());
        assert_eq!((outbox.queued_frames(), outbox.queued_bytes(), outbox.sent()), (0, 0, 6));
        outbox.push_urgent(Opcode::Pong, b"");
        assert_eq!(frames(outbox.unwritten()), [(10, 0)]);
    }

    #[test]
    fn a_queue_that_never_empties_does_not_grow() {
        let payload = [b'x'; 1000];
        let mut outbox = outbox(&[&payload]);
        for _ in 0..1000 {
            outbox.push(&[&payload]);
            outbox.advance(1008);
        }
        assert_eq!((outbox.queued_frames(), outbox.queued_bytes()), (1, 1008));
        assert!(outbox.buffer.len() < COMPACT_FROM + 4 * 1008);
    }
}
