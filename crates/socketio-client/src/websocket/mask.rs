//! Masking keys, and the nonce of the opening handshake.

use std::hash::{BuildHasher, RandomState};

/// A source of keys that a peer cannot foresee: `SipHash` of a counter under a random key.
///
/// RFC 6455 section 10.3 wants keys of strong entropy but no more than that; a system call for every frame would be
/// dearer than the frame.
#[derive(Debug)]
pub(crate) struct MaskSource {
    keyed: RandomState,
    counter: u64,
}

impl MaskSource {
    pub(crate) fn new() -> Self {
        Self { keyed: RandomState::new(), counter: 0 }
    }

    fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        self.keyed.hash_one(self.counter)
    }

    /// Returns the masking key of one frame.
    pub(crate) fn next_key(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.next_u64().to_ne_bytes();
        [a, b, c, d]
    }

    /// Returns the sixteen bytes of one `Sec-WebSocket-Key`.
    pub(crate) fn next_nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        let (first, second) = nonce.split_at_mut(8);
        first.copy_from_slice(&self.next_u64().to_ne_bytes());
        second.copy_from_slice(&self.next_u64().to_ne_bytes());
        nonce
    }
}

/// Applies a masking key; applied twice it changes nothing.
pub(super) fn apply(key: [u8; 4], payload: &mut [u8]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip([a, b, c, d].into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_is_the_xor_of_the_rfc() {
        // The masked "Hello" of RFC 6455 section 5.7.
        let mut payload = *b"Hello";
        apply([0x37, 0xfa, 0x21, 0x3d], &mut payload);
        assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);

        let long: Vec<u8> = (0..=255).collect();
        for length in 0..long.len() {
            let mut masked = long[..length].to_vec();
            apply([1, 2, 3, 4], &mut masked);
            for (index, (masked, plain)) in masked.iter().zip(&long).enumerate() {
                assert_eq!(masked ^ plain, [1, 2, 3, 4][index % 4]);
            }
        }
    }

    #[test]
    fn keys_differ_between_frames_and_sources() {
        let (mut one, mut other) = (MaskSource::new(), MaskSource::new());
        let keys: std::collections::HashSet<_> = (0..64).flat_map(|_| [one.next_nonce(), other.next_nonce()]).collect();
        assert_eq!(keys.len(), 128);
    }
}
