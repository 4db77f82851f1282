//! [`Endpoints`]: where and with which keys to send, prepared once per state of a webhook.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::format::{NoEnvelope, content_type};
use super::signature::{InvalidKey, SigningKey};
use crate::domain::{Format, Secret, Timestamp, Webhook, WebhookId, WebhookStatus};
use crate::seal::UnsealError;
use crate::webhooks::WebhookRegistry;

/// Names who sends, in requests to receivers of `CloudEvents` and to those that are asked for their permission.
pub(super) const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");

/// Names the program, in every request.
pub(super) const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("spaces-bridge/", env!("CARGO_PKG_VERSION")));

/// A webhook prepared for sending.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The state that it was prepared from.
    pub(super) webhook: Arc<Webhook>,
    /// Where requests go.
    pub(super) uri: Uri,
    /// The headers that are the same in every request.
    pub(super) headers: HeaderMap,
    /// What requests are signed with, newest first, each until its time.
    keys: Vec<(SigningKey, Option<Timestamp>)>,
}

impl Endpoint {
    /// The format of its bodies.
    pub(super) fn format(&self) -> Format {
        self.webhook.request.format
    }

    /// The keys that sign at `now`, newest first.
    pub(super) fn keys(&self, now: Timestamp) -> impl Iterator<Item = &SigningKey> {
        self.keys.iter().filter(move |(_, end)| end.is_none_or(|end| now < end)).map(|(key, _)| key)
    }

    /// The receiver's host, which is all of the URL that may be logged.
    pub(super) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }
}

/// Why nothing can be sent to a webhook now.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointError {
    #[error("the webhook was deleted")]
    Deleted,
    #[error("the webhook is switched off")]
    Off,
    #[error("a secret of the webhook does not open")]
    Sealed(#[from] UnsealError),
    #[error("a signing secret is not valid")]
    Key(#[from] InvalidKey),
    #[error("a header is not valid")]
    Header,
    #[error("the URL is not valid")]
    Uri(#[from] http::uri::InvalidUri),
    #[error(transparent)]
    Body(#[from] NoEnvelope),
}

/// The prepared webhooks.
#[derive(Debug)]
pub(super) struct Endpoints {
    webhooks: Arc<WebhookRegistry>,
    origin: HeaderValue,
    prepared: RwLock<HashMap<WebhookId, Arc<Endpoint>>>,
}

impl Endpoints {
    /// The endpoints of `webhooks`; `origin` names this service to receivers that want to know.
    pub(super) fn new(webhooks: Arc<WebhookRegistry>, origin: HeaderValue) -> Self {
        Self { webhooks, origin, prepared: RwLock::default() }
    }

    /// The endpoint of the webhook `id` in its present state.
    pub(super) fn get(&self, id: &WebhookId) -> Result<Arc<Endpoint>, EndpointError> {
        let Some(webhook) = self.webhooks.get(id) else {
            self.prepared.write().unwrap_or_else(PoisonError::into_inner).remove(id);
            return Err(EndpointError::Deleted);
        };
        match webhook.status {
            WebhookStatus::Enabled => {}
            WebhookStatus::Disabled | WebhookStatus::Gone | WebhookStatus::Failing | WebhookStatus::Steered => {
                return Err(EndpointError::Off);
            }
        }
        let known = self.prepared.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        match known {
            Some(endpoint) if Arc::ptr_eq(&endpoint.webhook, &webhook) => Ok(endpoint),
            _ => self.prepare(webhook),
        }
    }

    fn prepare(&self, webhook: Arc<Webhook>) -> Result<Arc<Endpoint>, EndpointError> {
        let mut keys = Vec::new();
        for key in self.webhooks.open_keys(&webhook)? {
            keys.push((SigningKey::parse(&key.secret)?, key.expires_at));
        }
        let endpoint = Arc::new(Endpoint { uri: webhook.url.parse()?, headers: self.headers(&webhook)?, keys, webhook });
        let mut prepared = self.prepared.write().unwrap_or_else(PoisonError::into_inner);
        prepared.insert(endpoint.webhook.id.clone(), Arc::clone(&endpoint));
        Ok(endpoint)
    }

    fn headers(&self, webhook: &Webhook) -> Result<HeaderMap, EndpointError> {
        let mut headers = HeaderMap::with_capacity(8 + webhook.request.headers.len());
        for (name, value) in self.webhooks.open_headers(webhook)? {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| EndpointError::Header)?;
            headers.insert(name, sensitive(&value)?);
        }
        if let Some(value) = self.webhooks.open_authorization(webhook)? {
            headers.insert(header::AUTHORIZATION, sensitive(&value)?);
        }
        let format = webhook.request.format;
        headers.insert(header::CONTENT_TYPE, content_type(format));
        headers.insert(header::USER_AGENT, USER_AGENT);
        if format == Format::CloudEvents || webhook.request.handshake {
            headers.insert(REQUEST_ORIGIN, self.origin.clone());
        }
        Ok(headers)
    }
}

/// A header's value that shows itself in no log.
fn sensitive(value: &Secret) -> Result<HeaderValue, EndpointError> {
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| EndpointError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}
