//! [`WebhookUrl`]: an address that a webhook may have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use url::{Host, Url};

use crate::delivery::{AddressGuard, Blocked};

/// Longest URL that is taken, in bytes.
pub const MAX_URL: usize = 2048;

/// The URL of a receiver: `http` or `https`, without user name, password and fragment, on a port of the web, and not on an address
/// that the guard refuses. What a host name resolves to is checked at each delivery instead, because it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl(String);

/// Why a text is no URL for a webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is longer than [`MAX_URL`].
    #[error("the URL is longer than {MAX_URL} bytes")]
    TooLong,
    /// It has white space, control characters or a backslash in it, which URL parsers read in different ways.
    #[error("the URL contains white space, control characters or a backslash")]
    Characters,
    /// It is no absolute URL.
    #[error("the URL is not valid")]
    Invalid(#[source] url::ParseError),
    /// Its scheme is neither `http` nor `https`.
    #[error("the URL's scheme is neither `http` nor `https`")]
    Scheme,
    /// It carries a user name or password.
    #[error("the URL carries a user name or password")]
    UserInfo,
    /// It has a fragment, which no receiver would see.
    #[error("the URL has a fragment")]
    Fragment,
    /// Its host is an IPv4 address in another spelling than four decimal numbers.
    #[error("the URL's host spells an IPv4 address otherwise than as four decimal numbers")]
    NumericHost,
    /// Its address or port is refused.
    #[error("the URL's target is refused")]
    Blocked(#[source] Blocked),
}

impl WebhookUrl {
    /// Reads `text` as the URL of a receiver that `guard` lets pass.
    pub fn parse(text: &str, guard: &AddressGuard) -> Result<Self, UrlError> {
        if text.len() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        if text.chars().any(|character| character.is_whitespace() || character.is_control() || character == '\\') {
            return Err(UrlError::Characters);
        }
        let url = Url::parse(text).map_err(UrlError::Invalid)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme);
        }
        let authority = raw_authority(text).ok_or(UrlError::Invalid(url::ParseError::EmptyHost))?;
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        check_target(&url, authority, guard)?;
        // The normalised form can be longer than the text, where that had characters to be escaped.
        if url.as_str().len() > MAX_URL { Err(UrlError::TooLong) } else { Ok(Self(url.into())) }
    }

    /// The URL as text, in normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The authority as written: between `//` and what follows it.
fn raw_authority(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    rest.split(['/', '?', '#']).next().filter(|authority| !authority.is_empty())
}

fn check_target(url: &Url, authority: &str, guard: &AddressGuard) -> Result<(), UrlError> {
    let host = url.host().ok_or(UrlError::Invalid(url::ParseError::EmptyHost))?;
    let port = url.port_or_known_default().expect("http and https have a default port");
    let address = match host {
        Host::Ipv4(address) => {
            let written = authority.split(':').next().unwrap_or_default();
            if written != address.to_string() {
                return Err(UrlError::NumericHost);
            }
            IpAddr::V4(address)
        }
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(name) if is_localhost(name) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // No address yet; the port is checked all the same.
        Host::Domain(_) if crate::delivery::is_allowed_port(port) => return Ok(()),
        Host::Domain(_) => return Err(UrlError::Blocked(Blocked::Port)),
    };
    guard.check(SocketAddr::new(address, port)).map_err(UrlError::Blocked)
}

/// Whether `name` means this machine wherever it is resolved (RFC 6761).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::AllowList;

    fn parse(text: &str) -> Result<WebhookUrl, UrlError> {
        WebhookUrl::parse(text, &AddressGuard::default())
    }

    #[test]
    fn an_ordinary_url_is_taken_in_normal_form() {
        for (text, normal) in [
            ("https://example.com", "https://example.com/"),
            ("https://Example.COM:443/a?b=c", "https://example.com/a?b=c"),
            ("http://example.com:8080/hook", "http://example.com:8080/hook"),
            ("https://8.8.8.8/", "https://8.8.8.8/"),
            ("https://[2606:4700::1111]:8443/", "https://[2606:4700::1111]:8443/"),
            ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ] {
            assert_eq!(parse(text).as_ref().map(WebhookUrl::as_str), Ok(normal), "{text}");
        }
    }

    #[test]
    fn what_is_no_webhook_url_is_refused_with_its_reason() {
        for (text, error) in [
            ("ftp://example.com/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("https://user@example.com/", UrlError::UserInfo),
            ("https://user:password@example.com/", UrlError::UserInfo),
            ("https://@example.com/", UrlError::UserInfo),
            ("https://example.com/#part", UrlError::Fragment),
            ("https://example.com/#", UrlError::Fragment),
            (" https://example.com/", UrlError::Characters),
            ("https://exa\tmple.com/", UrlError::Characters),
            ("https://example.com\\@10.0.0.1/", UrlError::Characters),
            ("https://example.com:22/", UrlError::Blocked(Blocked::Port)),
            ("https://example.com:0/", UrlError::Blocked(Blocked::Port)),
            ("http://localhost:8080/", UrlError::Blocked(Blocked::Address)),
            ("http://a.localhost./", UrlError::Blocked(Blocked::Address)),
            ("http://127.0.0.1/", UrlError::Blocked(Blocked::Address)),
            ("http://169.254.169.254/latest/meta-data", UrlError::Blocked(Blocked::Address)),
            ("http://[::1]/", UrlError::Blocked(Blocked::Address)),
            ("http://[::ffff:10.0.0.1]/", UrlError::Blocked(Blocked::Address)),
            ("http://[fd00:ec2::254]/", UrlError::Blocked(Blocked::Address)),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        for text in ["", "example.com/hook", "https://", "https:///path", "//example.com/", "https:example.com"] {
            assert!(parse(text).is_err(), "{text} was taken");
        }
        assert_eq!(parse(&format!("https://example.com/{}", "a".repeat(MAX_URL))), Err(UrlError::TooLong));
        assert_eq!(parse(&format!("https://example.com/{}", "ü".repeat(MAX_URL / 4))), Err(UrlError::TooLong));
    }

    #[test]
    fn an_ipv4_address_in_disguise_is_refused() {
        for host in
            ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x8.8.8.8", "8.8.2056", "8.8.8.8.", "８.8.8.8", "%38.8.8.8"]
        {
            assert_eq!(parse(&format!("http://{host}/")), Err(UrlError::NumericHost), "{host}");
        }
    }

    #[test]
    fn an_opened_network_may_be_named() {
        let guard = AddressGuard::new(AllowList::new(vec!["127.0.0.0/8".parse().expect("a network")]), Vec::new());
        for text in ["http://127.0.0.1:9999/", "http://localhost:9999/"] {
            assert!(WebhookUrl::parse(text, &guard).is_ok(), "{text}");
        }
    }
}
