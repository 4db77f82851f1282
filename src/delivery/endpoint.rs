//! [`Endpoints`]: where and with which keys to send, prepared once per state of a webhook.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::Uri;

use super::signature::{InvalidSecret, SigningKey};
use crate::domain::{Webhook, WebhookId, WebhookStatus};
use crate::seal::UnsealError;
use crate::webhooks::WebhookRegistry;

/// A webhook prepared for sending.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The state that it was prepared from.
    pub(super) webhook: Arc<Webhook>,
    /// Where requests go.
    pub(super) uri: Uri,
    /// What they are signed with, newest first.
    pub(super) keys: Vec<SigningKey>,
}

impl Endpoint {
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
    #[error("the signing secret does not open")]
    Sealed(#[from] UnsealError),
    #[error("the signing secret is not valid")]
    Secret(#[from] InvalidSecret),
    #[error("the URL is not valid")]
    Uri(#[from] http::uri::InvalidUri),
}

/// The prepared webhooks.
#[derive(Debug)]
pub(super) struct Endpoints {
    webhooks: Arc<WebhookRegistry>,
    prepared: RwLock<HashMap<WebhookId, Arc<Endpoint>>>,
}

impl Endpoints {
    pub(super) fn new(webhooks: Arc<WebhookRegistry>) -> Self {
        Self { webhooks, prepared: RwLock::default() }
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
        let keys = vec![SigningKey::parse(&self.webhooks.secret(&webhook)?)?];
        let endpoint = Arc::new(Endpoint { uri: webhook.url.parse()?, keys, webhook });
        let mut prepared = self.prepared.write().unwrap_or_else(PoisonError::into_inner);
        prepared.insert(endpoint.webhook.id.clone(), Arc::clone(&endpoint));
        Ok(endpoint)
    }
}
