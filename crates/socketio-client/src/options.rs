//! What to connect to, and how.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use thiserror::Error;
use url::{Host, Url};

use crate::codec::{Protocol, encode_query};
use crate::redact::Secrets;

/// How long all of connecting may take unless the caller says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// What servers take at most in one message by default (`maxHttpBufferSize` of Socket.IO 2.5 and later).
const MAX_MESSAGE_BYTES: usize = 1_000_000;
/// Largest message taken from a server; a hundred times smaller than what Socket.IO 2.0 would send.
const MAX_INBOUND_BYTES: usize = 16 << 20;
/// Frames that may wait to be written.
const QUEUE_FRAMES: usize = 1_024;
/// Bytes that may wait to be written.
const QUEUE_BYTES: usize = 4 << 20;

/// Everything that [`connect`](crate::connect) needs to know.
///
/// `Debug` shows the names of query pairs but not the values given to [`query`](Self::query).
///
/// ```
/// use socketio_client::{ConnectOptions, Protocol};
///
/// let options = ConnectOptions::new("https://chat.example.com")?
///     .namespace("/chat")?
///     .protocol(Protocol::EngineIo4)
///     .public_query("tokenType", "jwt")
///     .query("token", "s3cret");
/// assert!(!format!("{options:?}").contains("s3cret"));
/// # Ok::<(), socketio_client::OptionsError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct ConnectOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) namespace: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) query: Arc<Vec<QueryPair>>,
    pub(crate) tls: SharedTls,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_inbound_bytes: usize,
    pub(crate) queue_frames: usize,
    pub(crate) queue_bytes: usize,
}

/// Where the server is.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) secure: bool,
    pub(crate) path: String,
}

#[derive(Clone)]
pub(crate) struct QueryPair {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) secret: bool,
}

/// Why options are of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The URL cannot be read; its text is left out, as it may hold secrets.
    #[error("invalid server URL")]
    Url(#[source] url::ParseError),
    /// Only `ws`, `wss`, `http` and `https` lead to a Socket.IO server.
    #[error("server URL with the scheme `{0}` instead of ws, wss, http or https")]
    Scheme(String),
    /// The URL names no host.
    #[error("server URL without a host")]
    NoHost,
    /// User information, a query or a fragment in the URL would be dropped silently.
    #[error("server URL with user information, a query or a fragment")]
    Surplus,
    /// A namespace begins with `/` and holds no comma, question mark or control character.
    #[error("invalid namespace")]
    Namespace,
}

/// Why the platform's TLS settings cannot be used.
#[derive(Clone, Debug, Error)]
#[error("failed to set up TLS with the certificates of this system")]
pub struct TlsSetupError(#[source] rustls::Error);

/// TLS settings shared by connections.
#[derive(Clone, Copy, Debug)]
pub struct TlsConfig;

impl TlsConfig {
    /// Builds settings that trust what this system trusts.
    ///
    /// Make them once and give them to every [`ConnectOptions::tls`]: each copy costs memory, and only connections
    /// that share settings resume each other's TLS sessions.
    pub fn platform() -> Result<Arc<ClientConfig>, TlsSetupError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(TlsSetupError)?
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// TLS settings that all clones of the options share, made when first needed.
#[derive(Clone, Default)]
pub(crate) struct SharedTls(Arc<OnceLock<Arc<ClientConfig>>>);

impl SharedTls {
    pub(crate) fn get(&self) -> Result<Arc<ClientConfig>, TlsSetupError> {
        if let Some(config) = self.0.get() {
            return Ok(Arc::clone(config));
        }
        let config = TlsConfig::platform()?;
        Ok(Arc::clone(self.0.get_or_init(|| config)))
    }
}

impl ConnectOptions {
    /// Takes the server's base URL; a path other than `/` replaces the default `/socket.io/`.
    pub fn new(url: &str) -> Result<Self, OptionsError> {
        Ok(Self {
            endpoint: Endpoint::parse(url)?,
            namespace: Arc::from("/"),
            protocol: Protocol::default(),
            query: Arc::default(),
            tls: SharedTls::default(),
            connect_timeout: CONNECT_TIMEOUT,
            max_message_bytes: MAX_MESSAGE_BYTES,
            max_inbound_bytes: MAX_INBOUND_BYTES,
            queue_frames: QUEUE_FRAMES,
            queue_bytes: QUEUE_BYTES,
        })
    }

    /// Joins this namespace instead of the root `/`.
    pub fn namespace(mut self, namespace: &str) -> Result<Self, OptionsError> {
        let forbidden = |character: char| character == ',' || character == '?' || character.is_control();
        if !namespace.starts_with('/') || namespace.contains(forbidden) {
            return Err(OptionsError::Namespace);
        }
        self.namespace = Arc::from(namespace);
        Ok(self)
    }

    /// Speaks this protocol version; the default is Engine.IO 3.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Adds a pair that may be secret, such as a token.
    ///
    /// It is sent in the URL and once more when the namespace is joined: as query of the CONNECT packet in Engine.IO
    /// 3, as member of the auth object in Engine.IO 4. Servers differ in which copy they read. The value appears in
    /// no error, `Debug` output or log line; where a server repeats it in a refusal, it is masked.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.push_pair(name.into(), value.into(), true);
        self
    }

    /// Adds a pair that is no secret: sent like those of [`query`](Self::query), but neither hidden nor masked.
    pub fn public_query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.push_pair(name.into(), value.into(), false);
        self
    }

    /// Uses these TLS settings instead of [`TlsConfig::platform`]'s.
    ///
    /// Without this call the platform's settings are made at the first connection and shared by all clones of these
    /// options.
    pub fn tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = SharedTls(Arc::new(OnceLock::from(config)));
        self
    }

    /// Gives up when joining takes longer than this, counted from the first packet to the name server.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Refuses to send messages above this many bytes. A server that announces a smaller limit is obeyed.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Ends the connection when the server sends a message above this many bytes.
    pub fn max_inbound_bytes(mut self, bytes: usize) -> Self {
        self.max_inbound_bytes = bytes;
        self
    }

    /// Bounds what may wait to be written, in frames and in bytes.
    ///
    /// A single frame is always taken by an empty queue.
    pub fn outbound_queue(mut self, frames: usize, bytes: usize) -> Self {
        self.queue_frames = frames;
        self.queue_bytes = bytes;
        self
    }

    /// Returns path and query of the WebSocket request.
    pub(crate) fn path_and_query(&self) -> String {
        let own = [("EIO", self.protocol.eio()), ("transport", "websocket")];
        format!("{}?{}", self.endpoint.path, encode_query(self.pairs().chain(own)))
    }

    /// Returns the caller's pairs.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|pair| (pair.name.as_str(), pair.value.as_str()))
    }

    /// Returns what must not show up anywhere.
    pub(crate) fn secrets(&self) -> Secrets<'_> {
        secrets(&self.query)
    }

    fn push_pair(&mut self, name: String, value: String, secret: bool) {
        Arc::make_mut(&mut self.query).push(QueryPair { name, value, secret });
    }
}

/// Returns the values of the pairs that are secret.
pub(crate) fn secrets(pairs: &[QueryPair]) -> Secrets<'_> {
    Secrets::new(pairs.iter().filter(|pair| pair.secret).map(|pair| pair.value.as_str()))
}

impl Endpoint {
    fn parse(url: &str) -> Result<Self, OptionsError> {
        let url = Url::parse(url).map_err(OptionsError::Url)?;
        let secure = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            other => return Err(OptionsError::Scheme(other.to_owned())),
        };
        let surplus = [url.password(), url.query(), url.fragment()].iter().any(Option::is_some);
        if surplus || !url.username().is_empty() {
            return Err(OptionsError::Surplus);
        }
        let host = url.host().ok_or(OptionsError::NoHost)?.to_owned();
        let path = match url.path() {
            "/" | "" => "/socket.io/".to_owned(),
            path if path.ends_with('/') => path.to_owned(),
            path => format!("{path}/"),
        };
        let default_port = if secure { 443 } else { 80 };
        Ok(Self { host, port: url.port().unwrap_or(default_port), secure, path })
    }

    /// Returns the value of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectOptions")
            .field("endpoint", &self.endpoint)
            .field("namespace", &self.namespace)
            .field("protocol", &self.protocol)
            .field("query", &self.query)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("max_inbound_bytes", &self.max_inbound_bytes)
            .field("queue_frames", &self.queue_frames)
            .field("queue_bytes", &self.queue_bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for QueryPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.secret { "***" } else { &self.value };
        write!(formatter, "{}={value}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> (String, bool, String) {
        let endpoint = ConnectOptions::new(url).expect("a usable URL").endpoint;
        (endpoint.authority(), endpoint.secure, endpoint.path)
    }

    #[test]
    fn base_urls_of_all_spellings_lead_to_the_same_path() {
        let path = "/socket.io/".to_owned();
        assert_eq!(endpoint("ws://a"), ("a".to_owned(), false, path.clone()));
        assert_eq!(endpoint("http://a:80/"), ("a".to_owned(), false, path.clone()));
        assert_eq!(endpoint("wss://a"), ("a".to_owned(), true, path.clone()));
        assert_eq!(endpoint("https://a:8443"), ("a:8443".to_owned(), true, path.clone()));
        assert_eq!(endpoint("http://[::1]:3000"), ("[::1]:3000".to_owned(), false, path));
        assert_eq!(endpoint("http://a/other").2, "/other/");
    }

    #[test]
    fn urls_that_cannot_work_are_refused() {
        assert!(matches!(ConnectOptions::new("no url"), Err(OptionsError::Url(_))));
        assert_eq!(ConnectOptions::new("ftp://a").err(), Some(OptionsError::Scheme("ftp".to_owned())));
        for url in ["http://u@a", "http://:p@a", "http://a?token=x", "http://a#x"] {
            assert_eq!(ConnectOptions::new(url).err(), Some(OptionsError::Surplus), "{url}");
        }
    }

    #[test]
    fn namespaces_that_would_break_the_packet_are_refused() {
        let options = ConnectOptions::new("http://a").expect("a usable URL");
        for namespace in ["", "chat", "/a,b", "/a?b", "/a\n"] {
            assert_eq!(options.clone().namespace(namespace).err(), Some(OptionsError::Namespace), "{namespace}");
        }
        assert!(options.namespace("/chat").is_ok());
    }

    #[test]
    fn the_request_line_carries_the_pairs_and_the_version() {
        let options =
            ConnectOptions::new("http://a").expect("a usable URL").query("token", "a,b").public_query("tokenType", "jwt");
        assert_eq!(options.path_and_query(), "/socket.io/?token=a%2Cb&tokenType=jwt&EIO=3&transport=websocket");
        let options = options.protocol(Protocol::EngineIo4);
        assert_eq!(options.path_and_query(), "/socket.io/?token=a%2Cb&tokenType=jwt&EIO=4&transport=websocket");
        assert!(format!("{options:?}").contains("[token=***, tokenType=jwt]"), "{options:?}");
    }
}
