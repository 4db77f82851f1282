//! Ids and tokens that look like the real ones and are the same in every run with the same seed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The source of every id, token and key of one world.
#[derive(Debug)]
pub(crate) struct Ids {
    seed: u64,
    next: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    /// A 24-hex id for a user or a space.
    pub(crate) fn object(&mut self) -> String {
        let number = self.number();
        format!("64f0a1b2{:04x}{number:012x}", self.seed & 0xffff)
    }

    /// A 24-hex id for a message; as with the real store, its first eight digits are the time in seconds.
    pub(crate) fn message(&mut self, created_ms: i64) -> String {
        let number = self.number();
        let seconds = created_ms.div_euclid(1000) & 0xffff_ffff;
        format!("{seconds:08x}{:04x}{number:012x}", self.seed & 0xffff)
    }

    /// An opaque token of 40 hex digits, as OAuth access and refresh tokens are.
    pub(crate) fn opaque(&mut self) -> String {
        format!("{:016x}{:016x}{:08x}", self.random(), self.random(), self.random() >> 32)
    }

    /// An id in UUID form, for file keys and socket session ids.
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.random(), self.random());
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        )
    }

    /// The number of a device in a space, as `CHANNEL_SUBSCRIBED` carries it.
    pub(crate) fn device_session(&mut self) -> String {
        self.number().to_string()
    }

    /// An Engine.IO session id of 20 characters.
    pub(crate) fn sid(&mut self) -> String {
        let bytes: Vec<u8> = [self.random(), self.random()].iter().flat_map(|part| part.to_be_bytes()).collect();
        URL_SAFE_NO_PAD.encode(&bytes[..15])
    }

    /// A JWT of the given algorithm name; only its claims mean anything, the signature is noise.
    pub(crate) fn jwt(&mut self, algorithm: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "typ": "JWT"});
        let signature: Vec<u8> = (0..4).flat_map(|_| self.random().to_be_bytes()).collect();
        [header.to_string().into_bytes(), claims.to_string().into_bytes(), signature]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".")
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Splitmix64 over the running number: noise that repeats with the seed.
    fn random(&mut self) -> u64 {
        let number = self.number();
        let mut mixed = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_forms_of_the_real_ones() {
        let mut ids = Ids::new(7);
        assert_eq!(ids.object().len(), 24);
        assert!(ids.message(1_700_000_000_000).starts_with("6553f100"));
        assert_eq!(ids.opaque().len(), 40);
        assert_eq!(ids.uuid().len(), 36);
        assert_eq!(ids.sid().len(), 20);
        assert_eq!(ids.jwt("HS256", &json!({"exp": 1})).split('.').count(), 3);
    }

    #[test]
    fn the_same_seed_gives_the_same_ids_and_another_seed_gives_others() {
        assert_eq!(Ids::new(1).opaque(), Ids::new(1).opaque());
        assert_ne!(Ids::new(1).opaque(), Ids::new(2).opaque());
        assert_ne!(Ids::new(1).object(), Ids::new(2).object());
    }
}
