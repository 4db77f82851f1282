//! What a webhook's requests look like: the format of the body, and what the owner adds to the headers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::super::{Sealed, Secret};

/// Most headers that an owner may add.
pub const MAX_HEADERS: usize = 20;

/// Longest name of an added header, in bytes.
const MAX_HEADER_NAME: usize = 100;

/// Longest value of an added header, in bytes.
const MAX_HEADER_VALUE: usize = 2048;

/// Most bytes of all added headers together, names and values. Receivers commonly take 8 KiB of headers in all.
pub const MAX_HEADER_BYTES: usize = 6 * 1024;

/// Longest user name or password towards a receiver, in bytes.
const MAX_BASIC_PART: usize = 512;

/// Longest bearer token towards a receiver, in bytes.
const MAX_BEARER: usize = 4096;

/// How the requests of a webhook look. Values that only the receiver should know are sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestOptions {
    /// The format of the body.
    pub format: Format,
    /// Whether the receiver is asked for its permission first (`CloudEvents`, "Abuse protection").
    pub handshake: bool,
    /// Headers that the owner added, in the order of their names.
    pub headers: Vec<SealedHeader>,
    /// How the bridge proves itself to the receiver, beyond the signature.
    pub authorization: Option<SealedAuthorization>,
}

/// The format of a delivery's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The envelope that Standard Webhooks recommends.
    #[default]
    Standard,
    /// A `CloudEvents` 1.0 event in structured JSON.
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// The upstream's object as it was received.
    Raw,
}

/// An added header with its value sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedHeader {
    /// Its name, in lower case.
    pub name: AddedHeaderName,
    /// Its value, sealed.
    pub value: Sealed,
}

/// The value of `Authorization`, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedAuthorization {
    /// What kind it is.
    pub kind: AuthorizationKind,
    /// The header's whole value, sealed.
    pub value: Sealed,
}

/// How the bridge proves itself to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorizationKind {
    /// A user name and a password.
    Basic,
    /// A token.
    Bearer,
}

/// The name of a header that an owner may add: one that neither the bridge nor HTTP itself needs. Kept in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddedHeaderName(String);

/// Why a header cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// The name is no header name.
    #[error("a header's name is 1 to {MAX_HEADER_NAME} letters, digits and any of !#$%&'*+-.^_`|~")]
    Name,
    /// The header belongs to the bridge or to HTTP.
    #[error("this header is set by the bridge or belongs to the connection")]
    Reserved,
    /// It is set by `authorization`.
    #[error("use `authorization` for this header")]
    Authorization,
    /// The value has characters that no header may have, or is too long.
    #[error("a header's value is up to {MAX_HEADER_VALUE} visible ASCII characters, with spaces and tabs between them only")]
    Value,
}

/// Families of headers that the bridge itself sets.
const RESERVED_PREFIXES: [&str; 4] = ["webhook-", "content-", "proxy-", "sec-"];

/// Headers of the connection (RFC 9110, 7.6.1) and those that the bridge or its HTTP client sets.
const RESERVED: [&str; 16] = [
    "accept-encoding",
    "connection",
    "date",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "priority",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];

impl AddedHeaderName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for AddedHeaderName {
    type Err = InvalidHeader;

    fn from_str(text: &str) -> Result<Self, InvalidHeader> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || text.len() > MAX_HEADER_NAME || !text.bytes().all(is_token) {
            return Err(InvalidHeader::Name);
        }
        let name = text.to_ascii_lowercase();
        if name == "authorization" {
            return Err(InvalidHeader::Authorization);
        }
        let reserved = RESERVED.contains(&name.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if reserved { Err(InvalidHeader::Reserved) } else { Ok(Self(name)) }
    }
}

impl TryFrom<String> for AddedHeaderName {
    type Error = InvalidHeader;

    fn try_from(text: String) -> Result<Self, InvalidHeader> {
        text.parse()
    }
}

impl From<AddedHeaderName> for String {
    fn from(name: AddedHeaderName) -> Self {
        name.0
    }
}

impl fmt::Debug for AddedHeaderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A header that an owner adds, its value in the open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedHeader {
    /// Its name.
    pub name: AddedHeaderName,
    /// Its value.
    pub value: Secret,
}

impl AddedHeader {
    /// A header of this name and value.
    pub fn new(name: &str, value: Secret) -> Result<Self, InvalidHeader> {
        let name = name.parse()?;
        let text = value.expose();
        let visible = |byte: u8| matches!(byte, b' ' | b'\t' | b'!'..=b'~');
        let trimmed = text.trim_matches([' ', '\t']).len() == text.len();
        if text.len() > MAX_HEADER_VALUE || !trimmed || !text.bytes().all(visible) {
            return Err(InvalidHeader::Value);
        }
        Ok(Self { name, value })
    }

    /// Bytes that it takes in a request, but for the separators.
    pub fn bytes(&self) -> usize {
        self.name.0.len() + self.value.expose().len()
    }
}

/// What an `Authorization` header towards a receiver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// What kind it is.
    pub kind: AuthorizationKind,
    /// The header's whole value.
    pub value: Secret,
}

/// Why an authorization cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuthorization {
    /// The user name will not do.
    #[error("a user name is 1 to {MAX_BASIC_PART} bytes without colons and control characters")]
    Username,
    /// The password will not do.
    #[error("a password is up to {MAX_BASIC_PART} bytes without control characters")]
    Password,
    /// The token will not do.
    #[error("a bearer token is 1 to {MAX_BEARER} letters, digits and any of -._~+/, with `=` at its end only")]
    Bearer,
}

impl Authorization {
    /// A user name and a password (RFC 7617), in UTF-8.
    pub fn basic(username: &Secret, password: &Secret) -> Result<Self, InvalidAuthorization> {
        let (username, password) = (username.expose(), password.expose());
        let fits = |text: &str| text.len() <= MAX_BASIC_PART && !text.chars().any(char::is_control);
        if username.is_empty() || username.contains(':') || !fits(username) {
            return Err(InvalidAuthorization::Username);
        }
        if !fits(password) {
            return Err(InvalidAuthorization::Password);
        }
        let pair = zeroize::Zeroizing::new(format!("{username}:{password}"));
        let value = Secret::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        Ok(Self { kind: AuthorizationKind::Basic, value })
    }

    /// A token (RFC 6750).
    pub fn bearer(token: &Secret) -> Result<Self, InvalidAuthorization> {
        let token = token.expose();
        let core = token.trim_end_matches('=');
        let is_core = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        if core.is_empty() || token.len() > MAX_BEARER || !core.bytes().all(is_core) {
            return Err(InvalidAuthorization::Bearer);
        }
        Ok(Self { kind: AuthorizationKind::Bearer, value: Secret::new(format!("Bearer {token}")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Result<AddedHeader, InvalidHeader> {
        AddedHeader::new(name, Secret::new(value))
    }

    #[test]
    fn a_header_of_the_owners_own_may_be_added() {
        for (name, value) in [
            ("X-Tenant", "a"),
            ("x-empty", ""),
            ("Cookie", "a=b; c=d"),
            ("api_key", "~!@#$%^&*()\"\\"),
            ("accept", "*/*"),
            ("webhooks", "no dash, so not one of the bridge's"),
        ] {
            let added = header(name, value).expect(name);
            assert_eq!((added.name.as_str(), added.value.expose()), (name.to_ascii_lowercase().as_str(), value));
        }
    }

    #[test]
    fn reserved_headers_and_what_is_none_are_refused_with_the_reason() {
        for name in [
            "webhook-id",
            "Webhook-Timestamp",
            "WEBHOOK-SIGNATURE",
            "WebHook-Request-Origin",
            "webhook-delivery",
            "webhook-anything",
            "Content-Type",
            "content-length",
            "Content-Encoding",
            "Host",
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "User-Agent",
            "Expect",
            "Date",
            "Via",
            "Sec-WebSocket-Key",
        ] {
            assert_eq!(header(name, "x"), Err(InvalidHeader::Reserved), "{name}");
        }
        assert_eq!(header("Authorization", "x"), Err(InvalidHeader::Authorization));
        let long = "x".repeat(MAX_HEADER_NAME + 1);
        for name in ["", " ", "a b", "a:", "a\r\nb", "ü", "(a)", "a/b", ":authority", long.as_str()] {
            assert_eq!(header(name, "x"), Err(InvalidHeader::Name), "{name:?}");
        }
        let long = "x".repeat(MAX_HEADER_VALUE + 1);
        for value in [" a", "a ", "\ta", "a\r\nb: c", "a\nb", "a\0", "ü", "\u{7f}", long.as_str()] {
            assert_eq!(header("x-a", value), Err(InvalidHeader::Value), "{value:?}");
        }
    }

    #[test]
    fn an_authorization_is_written_as_its_rfc_says() {
        let basic = |username: &str, password: &str| Authorization::basic(&Secret::new(username), &Secret::new(password));
        // The example of RFC 7617.
        let example = basic("Aladdin", "open sesame").expect("an authorization");
        assert_eq!((example.kind, example.value.expose()), (AuthorizationKind::Basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(basic("test", "123£").expect("UTF-8").value.expose(), "Basic dGVzdDoxMjPCow==");
        assert_eq!(basic("a", "").expect("an empty password").value.expose(), "Basic YTo=");
        let long = "x".repeat(MAX_BASIC_PART + 1);
        for username in ["", "a:b", "a\n", long.as_str()] {
            assert_eq!(basic(username, "p"), Err(InvalidAuthorization::Username), "{username:?}");
        }
        for password in ["p\r\n", "\0", long.as_str()] {
            assert_eq!(basic("a", password), Err(InvalidAuthorization::Password), "{password:?}");
        }
        let bearer = |token: &str| Authorization::bearer(&Secret::new(token));
        assert_eq!(bearer("abc.DEF-1_2~+/==").expect("a token").value.expose(), "Bearer abc.DEF-1_2~+/==");
        let long = "x".repeat(MAX_BEARER + 1);
        for token in ["", "=", "a b", "a=b", "a\r\nx: y", "ü", long.as_str()] {
            assert_eq!(bearer(token), Err(InvalidAuthorization::Bearer), "{token:?}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let added = header("x-a", "hunter2").expect("a header");
        let authorization = Authorization::bearer(&Secret::new("hunter2")).expect("an authorization");
        assert!(!format!("{added:?} {authorization:?}").contains("hunter2"));
    }
}
