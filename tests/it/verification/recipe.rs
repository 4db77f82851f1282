//! The recipe for Rust of `docs/verify.md`, word for word below this line; a test compares them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

pub fn verify(key: &str, id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    if timestamp.parse::<u64>().map_or(true, |time| now.abs_diff(time) > 300) {
        return false;
    }
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let fits = |entry: &str| match (key.split_once('_')?, entry.split_once(',')?) {
        (("whsec", key), ("v1", signature)) => {
            let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(key).ok()?).ok()?;
            mac.update(&signed);
            mac.verify_slice(&STANDARD.decode(signature).ok()?).ok()
        }
        (("whpk", key), ("v1a", signature)) => {
            let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, STANDARD.decode(key).ok()?);
            key.verify(&signed, &STANDARD.decode(signature).ok()?).ok()
        }
        _ => None,
    };
    signatures.split(' ').any(|entry| fits(entry).is_some())
}
