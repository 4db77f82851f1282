//! The opening handshake (RFC 6455 section 4): an HTTP request and the judgement of its answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};
use thiserror::Error;

use super::MaskSource;

/// What every server appends to the key before hashing it (RFC 6455 section 1.3).
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// An answer whose head is longer is no answer of a WebSocket server.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// One opening handshake.
#[derive(Debug)]
pub(crate) struct Upgrade {
    key: String,
}

/// The server's answer to the handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UpgradeAnswer {
    /// The connection now speaks WebSocket; the frames begin at `head` bytes into the input.
    Accepted { head: usize },
    /// The server answered with another status; the body begins at `head` bytes into the input.
    Refused { status: u16, retry_after: Option<String>, content_length: Option<usize>, head: usize },
}

/// Why an answer is no answer to this handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum UpgradeError {
    #[error("answer to the WebSocket handshake is not HTTP")]
    NotHttp,
    #[error("answer to the WebSocket handshake lacks the upgrade headers")]
    MissingHeaders,
    #[error("answer to the WebSocket handshake was made for another request")]
    WrongKey,
    #[error("server chose a WebSocket extension that was not offered")]
    UnofferedExtension,
}

impl Upgrade {
    pub(crate) fn new(mask: &mut MaskSource) -> Self {
        Self { key: BASE64.encode(mask.next_nonce()) }
    }

    /// Returns the request; it offers no extension, so that no server compresses.
    pub(crate) fn request(&self, host: &str, path_and_query: &str) -> String {
        format!(
            "GET {path_and_query} HTTP/1.1\r\n\
             Host: {host}\r\n\
             Connection: Upgrade\r\n\
             Upgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {}\r\n\
             \r\n",
            self.key
        )
    }

    /// Judges what has arrived so far; `None` while the head is incomplete.
    pub(crate) fn judge(&self, input: &[u8]) -> Result<Option<UpgradeAnswer>, UpgradeError> {
        const SWITCHING_PROTOCOLS: u16 = 101;

        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let head = match response.parse(input) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(UpgradeError::NotHttp),
        };
        let header = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok()
        };
        let status = response.code.ok_or(UpgradeError::NotHttp)?;
        if status != SWITCHING_PROTOCOLS {
            return Ok(Some(UpgradeAnswer::Refused {
                status,
                retry_after: header("retry-after").map(str::to_owned),
                content_length: header("content-length").and_then(|length| length.trim().parse().ok()),
                head,
            }));
        }
        let upgrades = header("upgrade").is_some_and(|value| value.trim().eq_ignore_ascii_case("websocket"));
        let connection =
            header("connection").is_some_and(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")));
        if !upgrades || !connection {
            return Err(UpgradeError::MissingHeaders);
        }
        if header("sec-websocket-accept").map(str::trim) != Some(accept(&self.key).as_str()) {
            return Err(UpgradeError::WrongKey);
        }
        if header("sec-websocket-extensions").is_some_and(|value| !value.trim().is_empty()) {
            return Err(UpgradeError::UnofferedExtension);
        }
        Ok(Some(UpgradeAnswer::Accepted { head }))
    }
}

/// Returns the `Sec-WebSocket-Accept` that belongs to a key.
fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(ACCEPT_GUID.as_bytes());
    BASE64.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade() -> Upgrade {
        Upgrade { key: "dGhlIHNhbXBsZSBub25jZQ==".to_owned() }
    }

    /// The answer to the sample key of RFC 6455 section 1.3.
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn the_answer_of_the_rfc_is_accepted_and_the_rest_left() {
        let input = format!("{ANSWER}rest");
        assert_eq!(upgrade().judge(input.as_bytes()), Ok(Some(UpgradeAnswer::Accepted { head: ANSWER.len() })));
        for cut in 0..ANSWER.len() {
            assert_eq!(upgrade().judge(&ANSWER.as_bytes()[..cut]), Ok(None));
        }
    }

    #[test]
    fn an_answer_that_does_not_belong_to_the_request_is_an_error() {
        let cases = [
            ("garbage\r\n\r\n".to_owned(), UpgradeError::NotHttp),
            ("x".repeat(MAX_HEAD), UpgradeError::NotHttp),
            (format!("HTTP/1.1 101 x\r\nA: {}", "x".repeat(MAX_HEAD)), UpgradeError::NotHttp),
            (ANSWER.replace("Upgrade: websocket", "Upgrade: h2c"), UpgradeError::MissingHeaders),
            (ANSWER.replace("keep-alive, Upgrade", "close"), UpgradeError::MissingHeaders),
            (ANSWER.replace("s3pP", "XXXX"), UpgradeError::WrongKey),
            (
                ANSWER.replace("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Extensions: x"),
                UpgradeError::UnofferedExtension,
            ),
        ];
        for (input, error) in cases {
            assert_eq!(upgrade().judge(input.as_bytes()), Err(error), "{input}");
        }
    }

    #[test]
    fn a_refusal_tells_status_retry_after_and_where_the_body_is() {
        let head = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(
            upgrade().judge(format!("{head}body").as_bytes()),
            Ok(Some(UpgradeAnswer::Refused {
                status: 503,
                retry_after: Some("7".to_owned()),
                content_length: Some(4),
                head: head.len(),
            }))
        );
    }
}
