//! What a webhook may be registered with, and changed to.

use std::time::Duration;

use super::WebhookUrl;
use crate::domain::{
    AddedHeader, Authorization, EventPattern, Filter, Format, Ordering, Pace, RateLimit, RetryPolicy, SealedAuthorization,
    SealedHeader, Signing, SpaceSelector, Webhook, WebhookStatus,
};
use crate::store::{Flow, FlowLimits, Rate};

/// A webhook to be registered.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the API")]
pub struct NewWebhook {
    /// Where deliveries go.
    pub url: WebhookUrl,
    /// Which types it wants.
    pub events: Vec<EventPattern>,
    /// Which spaces it wants.
    pub spaces: Vec<SpaceSelector>,
    /// What it wants of the data, if not everything.
    pub filter: Option<Filter>,
    /// Whether order within a space is kept.
    pub ordering: Ordering,
    /// How fast and how often it is posted to.
    pub pace: Pace,
    /// Whether messages that this account sent through the bridge are left out.
    pub ignore_own: bool,
    /// Whether its receiver may answer a message with words for the same space.
    pub reply: bool,
    /// The owner's note.
    pub description: Option<String>,
    /// Whether deliveries are made from the start.
    pub enabled: bool,
    /// The format of the body.
    pub format: Format,
    /// Whether the receiver is asked for its permission first.
    pub handshake: bool,
    /// Headers that the owner adds.
    pub headers: Vec<AddedHeader>,
    /// How the bridge proves itself to the receiver, beyond the signature.
    pub authorization: Option<Authorization>,
    /// What deliveries are signed with.
    pub signing: Signing,
}

impl NewWebhook {
    /// An enabled webhook for every message in every space, everything else as by default.
    pub fn to(url: WebhookUrl) -> Self {
        Self {
            url,
            events: vec!["message.*".parse().expect("a pattern")],
            spaces: vec![SpaceSelector::All, SpaceSelector::Direct],
            ordering: Ordering::default(),
            pace: Pace::default(),
            ignore_own: false,
            filter: None,
            reply: false,
            description: None,
            enabled: true,
            format: Format::default(),
            handshake: false,
            headers: Vec::new(),
            authorization: None,
            signing: Signing::default(),
        }
    }
}

/// A change of a webhook; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct WebhookPatch {
    /// A new URL.
    pub url: Option<WebhookUrl>,
    /// New types.
    pub events: Option<Vec<EventPattern>>,
    /// New spaces.
    pub spaces: Option<Vec<SpaceSelector>>,
    /// A new filter, or none.
    pub filter: Option<Option<Filter>>,
    /// A new way of ordering, for events from now on.
    pub ordering: Option<Ordering>,
    /// Whether own messages are left out from now on.
    pub ignore_own: Option<bool>,
    /// Whether its receiver may answer in words from now on.
    pub reply: Option<bool>,
    /// A new note, or none.
    pub description: Option<Option<String>>,
    /// A new schedule of repeats, for attempts from now on.
    pub retry: Option<RetryPolicy>,
    /// A new time limit in seconds, or the service's own.
    pub timeout: Option<Option<u32>>,
    /// A new rate, or none. Ends a hold.
    pub rate_limit: Option<Option<RateLimit>>,
    /// Switched on or off. Switching on also ends a hold and revives a webhook that the bridge switched off.
    pub enabled: Option<bool>,
    /// A new format, for attempts from now on.
    pub format: Option<Format>,
    /// Whether the receiver is asked for its permission first from now on.
    pub handshake: Option<bool>,
    /// The headers that the owner adds, in place of those before.
    pub headers: Option<Vec<AddedHeader>>,
    /// A new authorization, or none.
    pub authorization: Option<Option<Authorization>>,
}

/// The parts of a change that are kept sealed.
#[derive(Debug, Default)]
pub(super) struct SealedPatch {
    pub(super) headers: Option<Vec<SealedHeader>>,
    #[expect(clippy::option_option, reason = "an authorization that stays, one that goes, and a new one")]
    pub(super) authorization: Option<Option<SealedAuthorization>>,
}

/// Applies `patch`, and says what becomes of the flow of deliveries.
pub(super) fn apply(webhook: &mut Webhook, patch: &WebhookPatch, sealed: &SealedPatch) -> Option<Flow> {
    let moved = patch.url.as_ref().is_some_and(|url| url.as_str() != webhook.url);
    if let Some(url) = &patch.url {
        url.as_str().clone_into(&mut webhook.url);
    }
    if let Some(events) = &patch.events {
        webhook.events.clone_from(events);
    }
    if let Some(spaces) = &patch.spaces {
        webhook.spaces.clone_from(spaces);
    }
    if let Some(filter) = &patch.filter {
        webhook.filter.clone_from(filter);
    }
    webhook.ordering = patch.ordering.unwrap_or(webhook.ordering);
    webhook.ignore_own = patch.ignore_own.unwrap_or(webhook.ignore_own);
    webhook.reply = patch.reply.unwrap_or(webhook.reply);
    if let Some(description) = &patch.description {
        webhook.description.clone_from(description);
    }
    let request = &mut webhook.request;
    request.format = patch.format.unwrap_or(request.format);
    request.handshake = patch.handshake.unwrap_or(request.handshake);
    if let Some(headers) = &sealed.headers {
        request.headers.clone_from(headers);
    }
    if let Some(authorization) = &sealed.authorization {
        request.authorization.clone_from(authorization);
    }
    let pace = &mut webhook.pace;
    if let Some(retry) = &patch.retry {
        pace.retry.clone_from(retry);
    }
    pace.timeout = patch.timeout.unwrap_or(pace.timeout);
    let rate_limit = patch.rate_limit.unwrap_or(pace.rate_limit);
    let repaced = rate_limit != pace.rate_limit;
    pace.rate_limit = rate_limit;
    match (patch.enabled, webhook.status) {
        (Some(true), _) => {
            webhook.status = WebhookStatus::Enabled;
            Some(Flow::Open(limits(webhook)))
        }
        (Some(false), WebhookStatus::Gone | WebhookStatus::Failing | WebhookStatus::Steered) => Some(Flow::Paused),
        (Some(false), WebhookStatus::Enabled | WebhookStatus::Disabled) => {
            webhook.status = WebhookStatus::Disabled;
            Some(Flow::Paused)
        }
        // A hold was about the receiver at the old address, or at the old rate.
        (None, WebhookStatus::Enabled) if moved || repaced => Some(Flow::Open(limits(webhook))),
        (None, _) => None,
    }
}

/// What the store limits of the webhook's flow.
pub(super) fn limits(webhook: &Webhook) -> FlowLimits {
    let rate = |limit: RateLimit| Rate { count: limit.count, per: Duration::from_secs(limit.per_seconds.into()) };
    FlowLimits { rate: webhook.pace.rate_limit.map(rate) }
}
