//! The handshake of `CloudEvents` ("Abuse protection" of its HTTP webhook rules): before a webhook is registered, its receiver is
//! asked whether it wants deliveries from this service. Whoever cannot make a URL say yes cannot have it posted to.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};

use super::client::{PostError, Posting, WebhookClient};
use super::endpoint::{REQUEST_ORIGIN, USER_AGENT};
use crate::domain::RateLimit;
use crate::webhooks::WebhookUrl;

const REQUEST_RATE: HeaderName = HeaderName::from_static("webhook-request-rate");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// How long a receiver may take to say whether it wants deliveries; whoever registers the webhook waits meanwhile.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a receiver may not be sent to.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// There was no whole answer.
    #[error("the receiver could not be asked")]
    NotAsked(#[source] PostError),
    /// The answer was no success.
    #[error("the receiver answered {0} to the OPTIONS request")]
    Status(StatusCode),
    /// The answer permits nothing, or someone else.
    #[error("the receiver's `WebHook-Allowed-Origin` is neither `{origin}` nor `*`")]
    Origin {
        /// What this service calls itself.
        origin: String,
    },
    /// The answer permits fewer deliveries than may come.
    #[error("the receiver's `WebHook-Allowed-Rate` is {allowed} a minute: set a `rateLimit` that stays within it")]
    Rate {
        /// What it permits.
        allowed: u64,
    },
    /// The answer permits a number of deliveries that is none.
    #[error("the receiver's `WebHook-Allowed-Rate` is neither a number nor `*`")]
    UnknownRate,
}

impl HandshakeError {
    /// Whether the receiver said no, rather than nothing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NotAsked(_) => false,
            Self::Status(_) | Self::Origin { .. } | Self::Rate { .. } | Self::UnknownRate => true,
        }
    }

    /// The error and its causes in one sentence.
    pub fn detail(&self) -> String {
        match self {
            Self::NotAsked(cause) => format!("{self}: {}", cause.detail()),
            Self::Status(_) | Self::Origin { .. } | Self::Rate { .. } | Self::UnknownRate => self.to_string(),
        }
    }
}

/// Asks the receiver at `url` whether it wants deliveries from this service, at the rate `limit` or at any.
pub async fn ask_permission(client: &WebhookClient, url: &WebhookUrl, limit: Option<RateLimit>) -> Result<(), HandshakeError> {
    let uri: Uri = url.as_str().parse().map_err(|_| HandshakeError::NotAsked(no_host()))?;
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(http::header::USER_AGENT, USER_AGENT);
    headers.insert(REQUEST_ORIGIN, client.origin().clone());
    let rate = limit.map(per_minute);
    if let Some(rate) = rate {
        headers.insert(REQUEST_RATE, rate.into());
    }
    let question = Posting { uri, headers, body: Bytes::new(), timeout: Some(TIMEOUT) };
    let (head, _) = client.send(Method::OPTIONS, question).await.map_err(HandshakeError::NotAsked)?;
    if !head.status.is_success() {
        return Err(HandshakeError::Status(head.status));
    }
    let text = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let origin = client.origin().to_str().unwrap_or_default();
    if !text(&ALLOWED_ORIGIN).is_some_and(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
        return Err(HandshakeError::Origin { origin: origin.to_owned() });
    }
    match text(&ALLOWED_RATE) {
        None | Some("*") => Ok(()),
        Some(allowed) => match allowed.parse() {
            Ok(allowed) if rate.is_some_and(|rate| rate <= allowed) => Ok(()),
            Ok(allowed) => Err(HandshakeError::Rate { allowed }),
            Err(_) => Err(HandshakeError::UnknownRate),
        },
    }
}

/// The deliveries in a minute that `limit` lets pass on average, rounded up.
fn per_minute(limit: RateLimit) -> u64 {
    (u64::from(limit.count) * 60).div_ceil(u64::from(limit.per_seconds.max(1)))
}

fn no_host() -> PostError {
    PostError::Connect(super::connector::ConnectError::NoHost)
}
