//! The text of a key, and the two ways in which it is written in a header.

use std::fmt;

/// Longest key, in characters.
const MAX_KEY: usize = 255;

/// What a caller calls a request by, so that the same request made again is known to be the same.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// A value of the header that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an `Idempotency-Key` has 1 to {MAX_KEY} visible ASCII characters, as they are or as a quoted string")]
pub struct InvalidKey;

impl IdempotencyKey {
    /// Reads the header's value: the key as it is, or as a string in quotes, with `\"` and `\\` for a quote and a backslash and with
    /// spaces allowed. The same key in both forms is the same key.
    pub fn read(value: &[u8]) -> Result<Self, InvalidKey> {
        let value = value.trim_ascii();
        let text = match value.strip_prefix(b"\"") {
            Some(quoted) => unquoted(quoted)?,
            None if value.iter().all(u8::is_ascii_graphic) => value.to_vec(),
            None => return Err(InvalidKey),
        };
        match String::from_utf8(text) {
            Ok(text) if (1..=MAX_KEY).contains(&text.len()) => Ok(Self(text)),
            _ => Err(InvalidKey),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Callers choose keys, and some put into them what is nobody else's business.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[a key of {} characters]", self.0.len())
    }
}

/// The string that `quoted` ends, which began behind a quote.
fn unquoted(quoted: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    loop {
        match bytes.next().ok_or(InvalidKey)? {
            b'"' => return if bytes.next().is_none() { Ok(text) } else { Err(InvalidKey) },
            b'\\' => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => text.push(escaped),
                _ => return Err(InvalidKey),
            },
            byte @ b' '..=b'~' => text.push(byte),
            _ => return Err(InvalidKey),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_or_in_quotes() {
        let long = "k".repeat(255);
        for (value, expected) in [
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("a", "a"),
            (" a ", "a"),
            ("order/41:retry=1", "order/41:retry=1"),
            ("a\"b", "a\"b"),
            ("a\\b", "a\\b"),
            ("\"a\\\"b\\\\c d\"", "a\"b\\c d"),
            (long.as_str(), long.as_str()),
        ] {
            assert_eq!(IdempotencyKey::read(value.as_bytes()).as_ref().map(IdempotencyKey::as_str), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "k".repeat(256);
        for value in [
            "",
            " ",
            "a b",
            "ä",
            "\"",
            "\"\"",
            "\"a",
            "\"a\"b",
            "\"a\";x=1",
            "\"a\\n\"",
            "\"a\\",
            "\"ä\"",
            "a\tb",
            "\"a\tb\"",
            &long,
        ] {
            assert_eq!(IdempotencyKey::read(value.as_bytes()), Err(InvalidKey), "{value:?}");
        }
        assert_eq!(IdempotencyKey::read(b"a\xff"), Err(InvalidKey));
    }

    proptest! {
        #[test]
        fn every_printable_text_has_a_quoted_form(text in "[ -~]{1,255}") {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let key = IdempotencyKey::read(quoted.as_bytes()).expect("a key");
            prop_assert_eq!(key.as_str(), text);
        }

        #[test]
        fn nothing_makes_the_reader_panic(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(key) = IdempotencyKey::read(&value) {
                prop_assert!((1..=MAX_KEY).contains(&key.as_str().len()));
            }
        }
    }
}
