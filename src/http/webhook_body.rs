//! Webhooks as the API shows and takes them, and the checks of what comes in.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::error::ApiError;
use super::filter::checked_filter;
use super::filter_schema::FilterShape;
use super::webhook_pace::{RateLimitForm, RetryPolicyForm, checked_rate, checked_retry, checked_timeout};
use super::webhook_request::{AuthorizationBody, AuthorizationName, FormatName, SigningName, checked_headers};
use crate::domain::{
    self, AddedHeaderName, AuthorizationKind, EventPattern, Expression, Format, Ordering, Pace, RateLimit, RetryPolicy, Secret,
    Signing, SpaceSelector, Timestamp, WebhookId,
};
use crate::webhooks::{NewWebhook, WebhookPatch, WebhookUrl};

/// Most event patterns, and most spaces, of one webhook.
const MAX_ENTRIES: usize = 100;

/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 500;

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the API")]
pub(super) struct Webhook {
    /// Its id.
    #[schema(value_type = String, example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed")]
    pub(super) id: WebhookId,
    /// Where deliveries go.
    #[schema(format = "uri", example = "https://example.com/spaces-events")]
    url: String,
    /// Which event types it wants.
    #[schema(value_type = Vec<String>, example = json!(["message.*"]))]
    events: Vec<EventPattern>,
    /// Which spaces it wants.
    #[schema(value_type = Vec<String>, example = json!(["*", "direct"]))]
    spaces: Vec<SpaceSelector>,
    /// What it wants of the messages; `null` if everything.
    #[schema(value_type = Option<FilterShape>, required)]
    filter: Option<Expression>,
    /// Whether order is kept.
    #[schema(value_type = OrderingName)]
    ordering: Ordering,
    /// When a failed delivery is tried again.
    #[schema(value_type = RetryPolicyForm)]
    retry: RetryPolicy,
    /// How long one attempt may take, in seconds; `null` for the service's own limit.
    #[schema(required)]
    timeout: Option<u32>,
    /// Most attempts in a time; `null` for no limit.
    #[schema(value_type = Option<RateLimitForm>, required)]
    rate_limit: Option<RateLimit>,
    /// Whether what this account sent through the bridge is left out.
    ignore_own: bool,
    /// Whether its receiver may answer a message with words for the same space.
    reply: bool,
    /// The owner's note.
    #[schema(required)]
    description: Option<String>,
    /// Whether deliveries are made.
    enabled: bool,
    /// Why they are made or not.
    #[schema(value_type = WebhookStatusName)]
    status: domain::WebhookStatus,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// The format of its bodies.
    #[schema(value_type = FormatName)]
    format: Format,
    /// Whether its receiver is asked for permission first.
    handshake: bool,
    /// The names of the headers that its owner added; their values are never shown.
    #[schema(value_type = Vec<String>, example = json!(["x-tenant"]))]
    headers: Vec<AddedHeaderName>,
    /// How the bridge proves itself to the receiver beyond the signature, if it does; the rest is never shown.
    #[schema(value_type = Option<AuthorizationName>, required)]
    authorization: Option<AuthorizationKind>,
    /// What deliveries are signed with.
    #[schema(value_type = SigningName)]
    signing: Signing,
    /// The secret that deliveries are signed with (Standard Webhooks), with `hmac`; shown at creation only, and by
    /// `GET /webhooks/{id}/secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^whsec_")]
    secret: Option<String>,
    /// The public key that signatures are verified with, with `ed25519`; shown at creation, and by `GET /webhooks/{id}/secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^whpk_")]
    public_key: Option<String>,
}

/// How deliveries of one webhook follow each other.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = Ordering)]
#[expect(dead_code, reason = "the domain's orderings as the document shows them")]
pub(super) enum OrderingName {
    /// Several at a time, in no order.
    Parallel,
    /// One at a time and in order within each space.
    Space,
}

/// Whether a webhook gets deliveries.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = WebhookStatus)]
#[expect(dead_code, reason = "the domain's states as the document shows them")]
pub(super) enum WebhookStatusName {
    /// It does.
    Enabled,
    /// Its owner switched it off.
    Disabled,
    /// Its receiver answered 410 Gone.
    Gone,
    /// All attempts failed for so long that the bridge switched it off.
    Failing,
    /// Its receiver asked for it with `webhook-delivery: disable`.
    Steered,
}

impl From<&domain::Webhook> for Webhook {
    fn from(webhook: &domain::Webhook) -> Self {
        Self {
            id: webhook.id.clone(),
            url: webhook.url.clone(),
            events: webhook.events.clone(),
            spaces: webhook.spaces.clone(),
            filter: webhook.filter.as_ref().map(|filter| filter.expression().clone()),
            ordering: webhook.ordering,
            retry: webhook.pace.retry.clone(),
            timeout: webhook.pace.timeout,
            rate_limit: webhook.pace.rate_limit,
            ignore_own: webhook.ignore_own,
            reply: webhook.reply,
            description: webhook.description.clone(),
            enabled: webhook.status == domain::WebhookStatus::Enabled,
            status: webhook.status,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
            format: webhook.request.format,
            handshake: webhook.request.handshake,
            headers: webhook.request.headers.iter().map(|header| header.name.clone()).collect(),
            authorization: webhook.request.authorization.as_ref().map(|authorization| authorization.kind),
            signing: webhook.signing.kind,
            secret: None,
            public_key: None,
        }
    }
}

impl Webhook {
    /// The same with what its signatures are made or verified with.
    pub(super) fn with_secret(self, secret: Option<String>, public_key: Option<String>) -> Self {
        Self { secret, public_key, ..self }
    }
}

/// A webhook to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"url": "https://example.com/spaces-events", "events": ["message.*"], "spaces": ["*", "direct"]}))]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the API")]
pub(super) struct WebhookCreation {
    /// Where deliveries go: `http` or `https`, on a public address unless the operator opened others.
    #[schema(format = "uri", max_length = 2048, example = "https://example.com/spaces-events")]
    url: String,
    /// Which event types it wants: a type such as `message.created`, a family such as `message.*`, `*` for all, or `MESSAGE_SENT`
    /// for all that Spaces sends under this name.
    #[serde(default = "all_messages")]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, default = json!(["message.*"]), example = json!(["message.created"]))]
    events: Vec<EventPattern>,
    /// Which spaces it wants: ids, `*` for all group and personal spaces, `direct` for all direct ones.
    #[serde(default = "all_spaces")]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, default = json!(["*", "direct"]), example = json!(["64f0a1b2c3d4e5f601020304"]))]
    spaces: Vec<SpaceSelector>,
    /// What it wants of the messages, as an expression over category, sender, mentions and text.
    #[serde(default)]
    #[schema(value_type = Option<FilterShape>, example = json!({"all": [{"category": "chat"}, {"mention": "me"}]}))]
    filter: Option<Expression>,
    /// Whether order is kept: `space` delivers one at a time and in order within each space.
    #[serde(default)]
    #[schema(value_type = OrderingName, default = "parallel")]
    ordering: Ordering,
    /// When a failed delivery is tried again.
    #[serde(default)]
    #[schema(value_type = RetryPolicyForm, default = "standard")]
    retry: RetryPolicy,
    /// How long one attempt may take, in seconds; the service's own limit if left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 60)]
    timeout: Option<u32>,
    /// Most attempts in a time; no limit if left out.
    #[serde(default)]
    #[schema(value_type = Option<RateLimitForm>)]
    rate_limit: Option<RateLimit>,
    /// Whether what this account sends through the bridge is left out. Otherwise it is marked `own: true`.
    #[serde(default)]
    #[schema(default = false)]
    ignore_own: bool,
    /// Whether its receiver may answer a message with words for the same space: `200` and `{"text": "…"}`.
    #[serde(default)]
    #[schema(default = false)]
    reply: bool,
    /// A note.
    #[serde(default)]
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Whether deliveries are made from the start.
    #[serde(default = "yes")]
    #[schema(default = true)]
    enabled: bool,
    /// The format of the body: `standard` is the envelope of Standard Webhooks, `cloudevents` a `CloudEvents` 1.0 event in structured
    /// JSON, `raw` the object that Spaces sent.
    #[serde(default)]
    #[schema(value_type = FormatName, default = "standard")]
    format: Format,
    /// Whether the receiver is asked for permission first, by an `OPTIONS` request as the HTTP webhook rules of `CloudEvents` say: now,
    /// when the address changes, and when the webhook is switched on.
    #[serde(default)]
    #[schema(default = false)]
    handshake: bool,
    /// Headers to add to every delivery, by name; 20 at most. Not those that the bridge or the connection needs.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, example = json!({"X-Tenant": "blue"}))]
    headers: BTreeMap<String, Secret>,
    /// How the bridge proves itself to the receiver beyond the signature.
    #[serde(default)]
    authorization: Option<AuthorizationBody>,
    /// What deliveries are signed with: `hmac` with a shared secret, or `ed25519`, of which the receiver needs the public key only.
    #[serde(default)]
    #[schema(value_type = SigningName, default = "hmac")]
    signing: Signing,
    /// From when on it wants what happened before, as far as the spaces' history tells and the log does not have it yet. Not in the
    /// future; without it, the webhook begins now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-11-20T00:00:00Z")]
    pub(super) since: Option<Timestamp>,
}

pub(super) fn all_messages() -> Vec<EventPattern> {
    vec!["message.*".parse().expect("a pattern")]
}

pub(super) fn all_spaces() -> Vec<SpaceSelector> {
    vec![SpaceSelector::All, SpaceSelector::Direct]
}

fn yes() -> bool {
    true
}

/// A change of a webhook. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"enabled": true}))]
pub(super) struct WebhookChange {
    /// A new address. Deliveries that wait go there too.
    #[serde(default, deserialize_with = "some")]
    #[schema(nullable = false, format = "uri", max_length = 2048)]
    url: Option<String>,
    /// New event types.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1, max_items = 100)]
    events: Option<Vec<EventPattern>>,
    /// New spaces.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1, max_items = 100)]
    spaces: Option<Vec<SpaceSelector>>,
    /// A new filter; `null` for none.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<FilterShape>)]
    #[expect(clippy::option_option, reason = "a filter that stays, one that goes, and a new one")]
    filter: Option<Option<Expression>>,
    /// Whether order is kept, for events from now on.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<OrderingName>, nullable = false)]
    ordering: Option<Ordering>,
    /// When a failed delivery is tried again, from now on.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<RetryPolicyForm>, nullable = false)]
    retry: Option<RetryPolicy>,
    /// How long one attempt may take, in seconds; `null` for the service's own limit.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 60)]
    #[expect(clippy::option_option, reason = "a limit that stays, one that goes, and a new one")]
    timeout: Option<Option<u32>>,
    /// Most attempts in a time; `null` for no limit. A new limit also ends a hold.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<RateLimitForm>)]
    #[expect(clippy::option_option, reason = "a limit that stays, one that goes, and a new one")]
    rate_limit: Option<Option<RateLimit>>,
    /// Whether own messages are left out from now on.
    #[serde(default, deserialize_with = "some")]
    #[schema(nullable = false)]
    ignore_own: Option<bool>,
    /// Whether its receiver may answer in words from now on.
    #[serde(default, deserialize_with = "some")]
    #[schema(nullable = false)]
    reply: Option<bool>,
    /// A new note; `null` for none.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<String>, max_length = 500)]
    #[expect(clippy::option_option, reason = "a note that stays, one that goes, and a new one")]
    description: Option<Option<String>>,
    /// Switched on or off. Switching on also revives a webhook that the bridge switched off; what waited is delivered.
    #[serde(default, deserialize_with = "some")]
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// A new format, for attempts from now on.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<FormatName>, nullable = false)]
    format: Option<Format>,
    /// Whether the receiver is asked for permission first; switching it on asks at once.
    #[serde(default, deserialize_with = "some")]
    #[schema(nullable = false)]
    handshake: Option<bool>,
    /// The headers to add from now on, in place of those before.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<BTreeMap<String, String>>, nullable = false)]
    headers: Option<BTreeMap<String, Secret>>,
    /// A new authorization; `null` for none.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<AuthorizationBody>)]
    #[expect(clippy::option_option, reason = "an authorization that stays, one that goes, and a new one")]
    authorization: Option<Option<AuthorizationBody>>,
}

/// A member that is there: `null` is no way to leave it out.
pub(super) fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl WebhookCreation {
    pub(super) fn checked(self, app: &AppState) -> Result<NewWebhook, ApiError> {
        Ok(NewWebhook {
            url: checked_url(&self.url, app)?,
            events: checked_list("/events", self.events)?,
            spaces: checked_list("/spaces", self.spaces)?,
            filter: self.filter.map(checked_filter).transpose()?,
            ordering: self.ordering,
            pace: Pace {
                retry: checked_retry(self.retry)?,
                timeout: checked_timeout(self.timeout)?,
                rate_limit: checked_rate(self.rate_limit)?,
            },
            ignore_own: self.ignore_own,
            reply: self.reply,
            description: checked_description(self.description)?,
            enabled: self.enabled,
            format: self.format,
            handshake: self.handshake,
            headers: checked_headers(self.headers)?,
            authorization: self.authorization.map(AuthorizationBody::checked).transpose()?,
            signing: self.signing,
        })
    }
}

impl WebhookChange {
    pub(super) fn checked(self, app: &AppState) -> Result<WebhookPatch, ApiError> {
        Ok(WebhookPatch {
            url: self.url.map(|url| checked_url(&url, app)).transpose()?,
            events: self.events.map(|events| checked_list("/events", events)).transpose()?,
            spaces: self.spaces.map(|spaces| checked_list("/spaces", spaces)).transpose()?,
            filter: self.filter.map(|filter| filter.map(checked_filter).transpose()).transpose()?,
            ordering: self.ordering,
            retry: self.retry.map(checked_retry).transpose()?,
            timeout: self.timeout.map(checked_timeout).transpose()?,
            rate_limit: self.rate_limit.map(checked_rate).transpose()?,
            ignore_own: self.ignore_own,
            reply: self.reply,
            description: self.description.map(checked_description).transpose()?,
            enabled: self.enabled,
            format: self.format,
            handshake: self.handshake,
            headers: self.headers.map(checked_headers).transpose()?,
            authorization: self.authorization.map(|change| change.map(AuthorizationBody::checked).transpose()).transpose()?,
        })
    }
}

pub(super) fn checked_url(url: &str, app: &AppState) -> Result<WebhookUrl, ApiError> {
    WebhookUrl::parse(url, &app.address_guard).map_err(|error| {
        let reason = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        ApiError::field("/url", format!("{error}{reason}"))
    })
}

pub(super) fn checked_list<T>(pointer: &str, entries: Vec<T>) -> Result<Vec<T>, ApiError> {
    if (1..=MAX_ENTRIES).contains(&entries.len()) {
        Ok(entries)
    } else {
        Err(ApiError::field(pointer, format!("it has 1 to {MAX_ENTRIES} entries")))
    }
}

fn checked_description(description: Option<String>) -> Result<Option<String>, ApiError> {
    match &description {
        Some(text) if text.chars().count() > MAX_DESCRIPTION => {
            Err(ApiError::field("/description", format!("it has more than {MAX_DESCRIPTION} characters")))
        }
        _ => Ok(description),
    }
}
