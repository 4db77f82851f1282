//! [`WebhookClient`]: one HTTP request to a receiver, with everything that can go wrong as a typed error.
//!
//! Redirects are answers like any other, proxies are not asked for, and neither a slow nor a talkative receiver gets more than its
//! share: one deadline covers everything from the look-up to the end of the answer, of which a bounded piece is read.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::address::AddressGuard;
use super::connector::{ConnectError, GuardedConnector, Resolve};
use crate::domain::{ErrorClass, MAX_TIMEOUT};

/// Most bytes of an answer that are read.
pub const MAX_ANSWER: usize = 16 * 1024;

/// Most bytes of an answer's status line and headers.
const MAX_HEAD: usize = 64 * 1024;

/// The header by which a receiver steers what it gets.
const STEERING: HeaderName = HeaderName::from_static("webhook-delivery");

/// How long an unused connection is kept. Common servers close theirs after five seconds; closing first avoids writing into a
/// connection that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// What the client needs to know.
#[derive(Debug, Clone, Copy)]
pub struct ClientSettings {
    /// How long one request may take in all, if it does not say itself.
    pub timeout: Duration,
    /// Unused connections kept per host; as many as requests run at a time, since many webhooks may share a host.
    pub idle_connections: usize,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Posting {
    /// Where it goes.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// How long it may take in all; the client's limit if not set.
    pub timeout: Option<Duration>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The status.
    pub status: StatusCode,
    /// The value of `Retry-After`.
    pub retry_after: Option<HeaderValue>,
    /// The value of `webhook-delivery`.
    pub steering: Option<HeaderValue>,
    /// The first [`MAX_ANSWER`] bytes of the body.
    pub body: Vec<u8>,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// There was no connection.
    #[error(transparent)]
    Connect(ConnectError),
    /// The time was over.
    #[error("the receiver did not answer in whole within {limit:?}")]
    Timeout {
        /// The time it had.
        limit: Duration,
        /// The status, if the answer had begun.
        status: Option<StatusCode>,
    },
    /// The answer began with more than is read.
    #[error("the answer has more than {MAX_HEAD} bytes or 100 lines of headers")]
    TooLarge,
    /// The connection broke, or what came was no HTTP.
    #[error("the connection broke")]
    Broken {
        /// The status, if the answer had begun.
        status: Option<StatusCode>,
        /// What the connection said.
        #[source]
        source: crate::store::BoxError,
    },
}

impl PostError {
    /// What kind of failure this is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Connect(ConnectError::Dns(_) | ConnectError::NoAddress) => ErrorClass::Dns,
            Self::Connect(ConnectError::NoHost | ConnectError::Tcp(_)) => ErrorClass::Connect,
            Self::Connect(ConnectError::Blocked(_)) => ErrorClass::AddressBlocked,
            Self::Connect(ConnectError::Tls(_)) => ErrorClass::Tls,
            Self::Connect(ConnectError::Timeout) | Self::Timeout { .. } => ErrorClass::Timeout,
            Self::Broken { .. } => ErrorClass::Reset,
            Self::TooLarge => ErrorClass::TooLarge,
        }
    }

    /// The status, if the answer had begun.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Timeout { status, .. } | Self::Broken { status, .. } => *status,
            Self::Connect(_) | Self::TooLarge => None,
        }
    }

    /// The error and its causes in one sentence.
    pub fn detail(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// What this service calls itself towards receivers, unless the settings say otherwise.
const DEFAULT_ORIGIN: HeaderValue = HeaderValue::from_static("spaces-bridge");

/// Posts to receivers. One for the whole process; connections are kept and used again.
pub struct WebhookClient {
    client: Client<GuardedConnector, Full<Bytes>>,
    timeout: Duration,
    origin: HeaderValue,
}

impl std::fmt::Debug for WebhookClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WebhookClient").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl WebhookClient {
    /// A client that connects where `guard` allows and trusts whom `tls` trusts.
    pub fn new(
        settings: ClientSettings,
        guard: Arc<AddressGuard>,
        resolver: Arc<dyn Resolve>,
        tls: Arc<rustls::ClientConfig>,
    ) -> Self {
        let connector = GuardedConnector::new(guard, resolver, tls, settings.timeout.max(MAX_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(settings.idle_connections)
            .http1_max_buf_size(MAX_HEAD)
            .build(connector);
        Self { client, timeout: settings.timeout, origin: DEFAULT_ORIGIN }
    }

    /// The same client of a service that calls itself `origin`.
    #[must_use]
    pub fn with_origin(self, origin: HeaderValue) -> Self {
        Self { origin, ..self }
    }

    /// What this service calls itself towards receivers that want to know.
    pub fn origin(&self) -> &HeaderValue {
        &self.origin
    }

    /// Sends one request and reads its answer.
    pub async fn post(&self, posting: Posting) -> Result<Received, PostError> {
        let (head, body) = self.send(Method::POST, posting).await?;
        let header = |name: &HeaderName| head.headers.get(name).cloned();
        Ok(Received { status: head.status, retry_after: header(&header::RETRY_AFTER), steering: header(&STEERING), body })
    }

    /// Sends one request of any method and reads its answer.
    pub(super) async fn send(&self, method: Method, posting: Posting) -> Result<(Parts, Vec<u8>), PostError> {
        let limit = posting.timeout.unwrap_or(self.timeout);
        let deadline = Instant::now() + limit;
        let mut request = Request::new(Full::new(posting.body));
        *request.method_mut() = method;
        *request.uri_mut() = posting.uri;
        *request.headers_mut() = posting.headers;
        let answer = match timeout_at(deadline, self.client.request(request)).await {
            Ok(answer) => answer.map_err(classify)?,
            Err(_) => return Err(PostError::Timeout { limit, status: None }),
        };
        let (head, body) = answer.into_parts();
        let status = head.status;
        let body = match timeout_at(deadline, read_some(body)).await {
            Ok(body) => body.map_err(|error| PostError::Broken { status: Some(status), source: error.into() })?,
            Err(_) => return Err(PostError::Timeout { limit, status: Some(status) }),
        };
        Ok((head, body))
    }
}

/// Reads the first piece of `body`. The rest stays unread; dropping it then closes the connection.
async fn read_some(mut body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut read = Vec::new();
    while read.len() < MAX_ANSWER && !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame?.data_ref() {
            read.extend_from_slice(&data[..data.len().min(MAX_ANSWER - read.len())]);
        }
    }
    Ok(read)
}

fn classify(error: legacy::Error) -> PostError {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    if cause.is_some_and(hyper::Error::is_parse_too_large) {
        return PostError::TooLarge;
    }
    if !error.is_connect() {
        return PostError::Broken { status: None, source: error.into() };
    }
    PostError::Connect(connect_error(&error).unwrap_or_else(|| ConnectError::Tcp(io::Error::other(error))))
}

/// The connector's own error, which the client passes on as the cause of its error.
fn connect_error(error: &legacy::Error) -> Option<ConnectError> {
    let error = error.source()?.downcast_ref::<ConnectError>()?;
    // An I/O error cannot be cloned; its kind and words can.
    let copy = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
    Some(match error {
        ConnectError::NoHost => ConnectError::NoHost,
        ConnectError::Dns(error) => ConnectError::Dns(copy(error)),
        ConnectError::NoAddress => ConnectError::NoAddress,
        ConnectError::Blocked(blocked) => ConnectError::Blocked(*blocked),
        ConnectError::Tcp(error) => ConnectError::Tcp(copy(error)),
        ConnectError::Tls(error) => ConnectError::Tls(copy(error)),
        ConnectError::Timeout => ConnectError::Timeout,
    })
}
