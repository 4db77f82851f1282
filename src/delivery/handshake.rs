//! The handshake of `CloudEvents` ("Abuse protection" of its HTTP webhook rules): before a webhook is registered, its receiver is
//! asked whether it wants deliveries from this service. Whoever cannot make a URL say yes cannot have it posted to.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};

use super::client::{PostError, Posting, WebhookClient};
use super::endpoint::{REQUEST_ORIGIN, USER_AGENT};
use crate::webhooks::WebhookUrl;

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
    #[error("the receiver's `WebHook-Allowed-Rate` limits deliveries, and the bridge asked for no limit")]
    Rate,
}

impl HandshakeError {
    /// Whether the receiver said no, rather than nothing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NotAsked(_) => false,
            Self::Status(_) | Self::Origin { .. } | Self::Rate => true,
        }
    }

    /// The error and its causes in one sentence.
    pub fn detail(&self) -> String {
        match self {
            Self::NotAsked(cause) => format!("{self}: {}", cause.detail()),
            Self::Status(_) | Self::Origin { .. } | Self::Rate => self.to_string(),
        }
    }
}

/// Asks the receiver at `url` whether it wants deliveries from this service.
pub async fn ask_permission(client: &WebhookClient, url: &WebhookUrl) -> Result<(), HandshakeError> {
    let uri: Uri = url.as_str().parse().map_err(|_| HandshakeError::NotAsked(no_host()))?;
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(http::header::USER_AGENT, USER_AGENT);
    headers.insert(REQUEST_ORIGIN, client.origin().clone());
    let question = Posting { uri, headers, body: Bytes::new() };
    let (head, _) = client.send(Method::OPTIONS, question, TIMEOUT).await.map_err(HandshakeError::NotAsked)?;
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
        Some(_) => Err(HandshakeError::Rate),
    }
}

fn no_host() -> PostError {
    PostError::Connect(super::connector::ConnectError::NoHost)
}
