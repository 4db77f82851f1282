//! Filters of webhooks: how they are written, how they are checked, and a way to try them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayUseWebhooks;
use super::error::{ApiError, Resource};
use super::extract::ApiJson;
use super::filter_schema::FilterShape;
use super::reach::Reach;
use super::webhook_body::{all_messages, all_spaces, checked_list};
use super::webhooks::owned;
use crate::domain::{
    AccountId, EventId, EventPattern, EventType, Expression, Filter, Rules, SpaceId, SpaceSelector, Timestamp, Webhook, WebhookId,
};
use crate::store::{Query, Rows, StoredEvent};
use crate::upstream::{Circumstances, LOOPBACK_BRIDGE, ReceivedMessage, normalise};
use crate::webhooks::{Envelope, EventView, Match, Reason, decide_by_rules};

/// The filter that `expression` in the member `filter` makes.
pub(super) fn checked_filter(expression: Expression) -> Result<Filter, ApiError> {
    filter_at("/filter", expression)
}

fn filter_at(pointer: &str, expression: Expression) -> Result<Filter, ApiError> {
    Filter::new(expression).map_err(|error| ApiError::field(format!("{pointer}{}", error.pointer), error.detail))
}

/// What to try on what: one of `webhookId` and `rules`, and one of `eventId` and `event`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "rules": {"filter": {"text": {"prefix": "!deploy"}}},
    "event": {"category": "chat", "topicId": "64f0a1b2c3d4e5f601020304", "content": {"bodyText": "!deploy 41"}},
}))]
pub(super) struct FilterTest {
    /// The rules of this webhook.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^wh_[A-Za-z0-9_-]{1,128}$")]
    webhook_id: Option<WebhookId>,
    /// These rules.
    #[serde(default)]
    rules: Option<TestRules>,
    /// An event of the log.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^evt_[A-Za-z0-9_-]{1,128}$")]
    event_id: Option<EventId>,
    /// A sample: an event as webhooks get it, with `type` and `data`, or an object as Spaces sends it.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    event: Option<Box<RawValue>>,
}

/// What a webhook would want.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TestRules {
    /// As in a webhook.
    #[serde(default = "all_messages")]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, default = json!(["message.*"]))]
    events: Vec<EventPattern>,
    /// As in a webhook.
    #[serde(default = "all_spaces")]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, default = json!(["*", "direct"]))]
    spaces: Vec<SpaceSelector>,
    /// As in a webhook.
    #[serde(default)]
    #[schema(value_type = Option<FilterShape>)]
    filter: Option<Expression>,
    /// As in a webhook.
    #[serde(default)]
    #[schema(default = false)]
    ignore_own: bool,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FilterTestResult {
    /// Whether the rules mean the event. Whether the webhook is enabled plays no part.
    matches: bool,
    /// Why not: `type`, `space`, `own_message` or `filter`.
    #[schema(value_type = Option<String>, required, example = "filter")]
    reason: Option<&'static str>,
    /// The part of the filter that decided it, as a JSON pointer into it.
    #[schema(required, example = "/text/prefix")]
    condition: Option<String>,
    /// The same for people.
    detail: String,
}

impl From<Match> for FilterTestResult {
    fn from(found: Match) -> Self {
        match found {
            Match::Matched => {
                Self { matches: true, reason: None, condition: None, detail: "the rules mean the event".to_owned() }
            }
            Match::NotMatched(reason) => Self {
                matches: false,
                reason: Some(reason.as_str()),
                detail: reason.detail(),
                condition: match reason {
                    Reason::Filter { path } => Some(path),
                    _ => None,
                },
            },
        }
    }
}

/// Try a filter
///
/// Tells whether a webhook, or rules that no webhook has yet, mean an event of the log or a sample, and if not, why. Nothing is
/// delivered and nothing is stored.
#[utoipa::path(
    post,
    path = "/webhooks/filter-test",
    tag = "Webhooks",
    request_body(content = FilterTest, content_type = "application/json"),
    responses(
        (status = 200, description = "Whether it matches, and why.", body = FilterTestResult),
        (status = 404, description = "`webhook_not_found`, `event_not_found`: there is none, or not of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn test_filter(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiJson(test): ApiJson<FilterTest>,
) -> Result<Json<FilterTestResult>, ApiError> {
    let rules = RulesSource::of(test.webhook_id, test.rules)?;
    let event = EventSource::of(test.event_id, test.event)?;
    let reach = caller.reach(&app).await?;
    let rules = rules.find(&app, &reach)?;
    let found = match event {
        EventSource::Stored(id) => {
            let event = stored_event(&app, &reach, id).await?;
            AppState::apart(move || decide_by_rules(rules.rules(), &EventView::of_stored(&event))).await?
        }
        EventSource::Sample(sample) => {
            let now = app.clock.now();
            AppState::apart(move || sample.decide(rules.rules(), &reach.account, now)).await??
        }
    };
    Ok(Json(found.into()))
}

/// The event `id`, if it is the account's and within reach.
pub(super) async fn stored_event(app: &AppState, reach: &Reach, id: EventId) -> Result<StoredEvent, ApiError> {
    let Rows::Events(events) = app.engine.query(Query::Event(id)).await?.rows else {
        return Err(ApiError::Internal("the store answered with something else to the question for an event".to_owned()));
    };
    let is_own = |event: &StoredEvent| event.account == reach.account && reach.includes(&event.space);
    events.into_iter().find(is_own).ok_or(ApiError::NotFound(Resource::Event))
}

/// Where the rules come from.
enum RulesSource {
    Webhook(WebhookId),
    Given(GivenRules),
}

struct GivenRules {
    events: Vec<EventPattern>,
    spaces: Vec<SpaceSelector>,
    filter: Option<Filter>,
    ignore_own: bool,
}

impl RulesSource {
    fn of(webhook: Option<WebhookId>, rules: Option<TestRules>) -> Result<Self, ApiError> {
        match (webhook, rules) {
            (Some(webhook), None) => Ok(Self::Webhook(webhook)),
            (None, Some(rules)) => Ok(Self::Given(GivenRules {
                events: checked_list("/rules/events", rules.events)?,
                spaces: checked_list("/rules/spaces", rules.spaces)?,
                filter: rules.filter.map(|filter| filter_at("/rules/filter", filter)).transpose()?,
                ignore_own: rules.ignore_own,
            })),
            (Some(_), Some(_)) => Err(ApiError::field("/rules", "there is either `webhookId` or `rules`, not both")),
            (None, None) => Err(ApiError::field("", "one of `webhookId` and `rules` is needed")),
        }
    }

    fn find(self, app: &AppState, reach: &Reach) -> Result<FoundRules, ApiError> {
        Ok(match self {
            Self::Webhook(id) => FoundRules::Webhook(owned(app, reach, &id)?),
            Self::Given(rules) => FoundRules::Given(rules),
        })
    }
}

enum FoundRules {
    Webhook(Arc<Webhook>),
    Given(GivenRules),
}

impl FoundRules {
    fn rules(&self) -> Rules<'_> {
        match self {
            Self::Webhook(webhook) => webhook.rules(),
            Self::Given(GivenRules { events, spaces, filter, ignore_own }) => {
                Rules { events, spaces, filter: filter.as_ref(), ignore_own: *ignore_own }
            }
        }
    }
}

/// Where the event comes from.
enum EventSource {
    Stored(EventId),
    Sample(Sample),
}

impl EventSource {
    fn of(id: Option<EventId>, event: Option<Box<RawValue>>) -> Result<Self, ApiError> {
        match (id, event) {
            (Some(id), None) => Ok(Self::Stored(id)),
            (None, Some(event)) => Sample::read(event).map(Self::Sample),
            (Some(_), Some(_)) => Err(ApiError::field("/event", "there is either `eventId` or `event`, not both")),
            (None, None) => Err(ApiError::field("", "one of `eventId` and `event` is needed")),
        }
    }
}

/// An event that a caller made up or copied.
enum Sample {
    /// As webhooks get it.
    Envelope { event_type: EventType, space: SpaceId, text: Box<RawValue> },
    /// As Spaces sends it.
    Upstream(Box<RawValue>),
}

impl Sample {
    fn read(event: Box<RawValue>) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(rename = "type", borrow, default)]
            event_type: Option<&'a RawValue>,
            #[serde(borrow, default)]
            data: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Place {
            #[serde(default)]
            space_id: Option<SpaceId>,
        }
        let no_object = || ApiError::field("/event", "it must be a JSON object");
        if !event.get().starts_with('{') {
            return Err(no_object());
        }
        let head: Head<'_> = serde_json::from_str(event.get()).map_err(|_| no_object())?;
        let (Some(event_type), Some(data)) = (head.event_type, head.data) else { return Ok(Self::Upstream(event)) };
        let event_type: EventType =
            serde_json::from_str(event_type.get()).map_err(|_| ApiError::field("/event/type", "it must be an event type"))?;
        if !data.get().starts_with('{') {
            return Err(ApiError::field("/event/data", "it must be a JSON object"));
        }
        let place: Place = serde_json::from_str(data.get())
            .map_err(|_| ApiError::field("/event/data/spaceId", "it must be the id of a space, or `null`"))?;
        let space = place.space_id.unwrap_or_else(SpaceId::nowhere);
        Ok(Self::Envelope { event_type, space, text: event })
    }

    fn decide(self, rules: Rules<'_>, account: &AccountId, now: Timestamp) -> Result<Match, ApiError> {
        match self {
            Self::Envelope { event_type, space, text } => {
                let body = text.get().as_bytes();
                let envelope = Envelope::read(body);
                let event = EventView::new(account, &event_type, &space, (envelope.direct, envelope.own), body);
                Ok(decide_by_rules(rules, &event))
            }
            Self::Upstream(raw) => {
                let message: ReceivedMessage<'_> = serde_json::from_str(raw.get())
                    .map_err(|_| ApiError::field("/event", "it must be a JSON object, each member of which is there once"))?;
                let bridge = message.loopback.as_ref().and_then(|loopback| loopback.bridge.as_deref());
                let own = bridge == Some(LOOPBACK_BRIDGE);
                let circumstances = Circumstances { account, own, recovered: false, direct: false, received_at: now };
                let event = normalise(&message, &raw, circumstances)
                    .map_err(|_| ApiError::field("/event/topicId", "it must be the id of a space"))?;
                let event = EventView::new(account, &event.event_type, &event.space, (event.direct, own), &event.body);
                Ok(decide_by_rules(rules, &event))
            }
        }
    }
}
