//! What several subjects need: fakes that stand at the network, and waiting with a deadline.

pub(crate) mod bridge;
pub(crate) mod cli;
pub(crate) mod clock;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod suite_log;
pub(crate) mod tools;
pub(crate) mod wait;
pub(crate) mod watched_engine;

/// `bytes` in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
