//! An event of the log, and what became of it at each webhook.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayRead;
use super::error::ApiError;
use super::extract::ApiPath;
use super::filter::stored_event;
use super::reach::Reach;
use crate::domain::{
    DeadReason, Delivery, DeliveryId, DeliveryState, EventId, EventType, SpaceId, Timestamp, Webhook, WebhookId, WebhookStatus,
};
use crate::store::{DeliveryFilter, Query, Rows, StoredEvent};
use crate::webhooks::{EventView, Match, decide_by_rules};

/// An event and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExplainedEvent {
    /// Its id; the `webhook-id` header of its deliveries.
    #[schema(value_type = String, example = "evt_0f3c5a7e9b1d2f4a6c8e0b1d3f5a7c9e")]
    id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "message.created")]
    event_type: EventType,
    /// Where it happened; `null` if in no space.
    #[schema(value_type = Option<String>, required, example = "64f0a1b2c3d4e5f601020304")]
    space_id: Option<SpaceId>,
    /// When it happened, as Spaces says.
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    /// When the bridge stored it.
    #[schema(value_type = String, format = DateTime)]
    appended_at: Timestamp,
    /// The event as webhooks get it.
    #[schema(value_type = serde_json::Map<String, serde_json::Value>)]
    event: Box<RawValue>,
    /// What became of it at each webhook that the account has now, in the order of their ids.
    webhooks: Vec<WebhookOutcome>,
}

/// What became of an event at a webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookOutcome {
    /// The webhook.
    #[schema(value_type = String, example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed")]
    webhook_id: WebhookId,
    /// What became of the event there.
    outcome: Outcome,
    /// Its newest delivery there; `null` if there is none.
    #[schema(value_type = Option<String>, required, example = "dlv_17")]
    delivery_id: Option<DeliveryId>,
    /// When the receiver confirmed it.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    delivered_at: Option<Timestamp>,
    /// When it is tried next, if it waits.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_attempt_at: Option<Timestamp>,
    /// Why it was not delivered. For `not_matched`: `type`, `space`, `own_message`, `filter`, `not_yet_registered`, or
    /// `no_delivery` if the webhook as it is now would get such an event and this one has no delivery all the same. For `disabled`:
    /// why the webhook is off. For `dead`: the delivery's reason.
    #[schema(value_type = Option<String>, required, example = "filter")]
    reason: Option<&'static str>,
    /// The same for people.
    detail: String,
}

/// What became of an event at a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The receiver confirmed it.
    Delivered,
    /// It waits for its next attempt.
    Waiting,
    /// An attempt is under way.
    InFlight,
    /// It will not be tried again by itself.
    Dead,
    /// The webhook did not get it.
    NotMatched,
    /// The webhook is switched off, so it has no delivery or one that waits until it is on again.
    Disabled,
}

/// Explain an event
///
/// The event, and for each webhook of the account what became of it there and why. Webhooks that the event has no delivery for
/// are judged by their rules as they are now.
#[utoipa::path(
    get,
    path = "/events/{id}",
    tag = "Webhooks",
    params(("id" = String, Path, description = "The event.", pattern = "^evt_[A-Za-z0-9_-]{1,128}$", example = "evt_0f3c5a7e9b1d2f4a6c8e0b1d3f5a7c9e")),
    responses(
        (status = 200, description = "The event and what became of it.", body = ExplainedEvent),
        (status = 404, description = "`event_not_found`: there is none, it is not of this account, or it is too old to be kept."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_event(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(id): ApiPath<EventId>,
) -> Result<Json<ExplainedEvent>, ApiError> {
    let reach = caller.reach(&app).await?;
    let event = stored_event(&app, &reach, id).await?;
    let webhooks = explain(&app, &reach, &event).await?;
    let text = String::from_utf8(event.body.to_vec()).ok().and_then(|text| RawValue::from_string(text).ok());
    let body = text.ok_or_else(|| ApiError::Internal(format!("the body of event `{}` is no JSON", event.id)))?;
    Ok(Json(ExplainedEvent {
        id: event.id,
        event_type: event.event_type,
        space_id: event.space.somewhere(),
        occurred_at: event.occurred_at,
        appended_at: event.appended_at,
        event: body,
        webhooks,
    }))
}

async fn explain(app: &AppState, reach: &Reach, event: &StoredEvent) -> Result<Vec<WebhookOutcome>, ApiError> {
    let mut found = Vec::new();
    for webhook in app.webhooks.of_account(&reach.account).into_iter().filter(|webhook| reach.shows(webhook)) {
        let delivery = newest_delivery(app, &webhook.id, &event.id).await?;
        found.push((webhook, delivery));
    }
    let event = event.clone();
    AppState::apart(move || {
        let outcome = |(webhook, delivery): (Arc<Webhook>, Option<Delivery>)| match delivery {
            Some(delivery) => with_delivery(&webhook, &delivery),
            None => without_delivery(&webhook, &event),
        };
        found.into_iter().map(outcome).collect()
    })
    .await
}

async fn newest_delivery(app: &AppState, webhook: &WebhookId, event: &EventId) -> Result<Option<Delivery>, ApiError> {
    let filter = DeliveryFilter { event: Some(event.clone()), ..DeliveryFilter::of(webhook.clone()) };
    let Rows::Deliveries(found) = app.engine.query(Query::Deliveries { filter, cursor: None, limit: 1 }).await?.rows else {
        return Err(ApiError::Internal("the store answered with something else to the question for deliveries".to_owned()));
    };
    Ok(found.into_iter().next())
}

fn with_delivery(webhook: &Webhook, delivery: &Delivery) -> WebhookOutcome {
    let made = attempts(delivery.attempts);
    let (outcome, reason, detail) = match delivery.state {
        DeliveryState::Delivered => {
            (Outcome::Delivered, None, format!("the receiver confirmed it at {} after {made}", delivery.updated_at))
        }
        DeliveryState::InFlight(_) => (Outcome::InFlight, None, format!("attempt {} is under way", delivery.attempts)),
        DeliveryState::Waiting(at) => match off(webhook) {
            Some((reason, words)) => {
                (Outcome::Disabled, Some(reason), format!("{words}; the delivery waits until the webhook is enabled again"))
            }
            None => (Outcome::Waiting, None, format!("it waits until {at} for its next attempt, after {made}")),
        },
        DeliveryState::Dead(reason) => {
            let words = match reason {
                DeadReason::Exhausted => "every attempt of the schedule failed",
                DeadReason::Gone => "the receiver answered 410 Gone",
                DeadReason::WebhookDeleted => "the webhook was deleted",
                DeadReason::Aborted => "the receiver asked for no further attempt",
                DeadReason::FormatRefused => "the receiver does not understand the format",
            };
            (Outcome::Dead, Some(reason.as_str()), format!("it is dead since {} after {made}: {words}", delivery.updated_at))
        }
    };
    WebhookOutcome {
        webhook_id: webhook.id.clone(),
        outcome,
        delivery_id: Some(delivery.id),
        delivered_at: (delivery.state == DeliveryState::Delivered).then_some(delivery.updated_at),
        next_attempt_at: match delivery.state {
            DeliveryState::Waiting(at) if outcome == Outcome::Waiting => Some(at),
            _ => None,
        },
        reason,
        detail,
    }
}

fn without_delivery(webhook: &Webhook, event: &StoredEvent) -> WebhookOutcome {
    let (outcome, reason, detail) = why_no_delivery(webhook, event);
    WebhookOutcome {
        webhook_id: webhook.id.clone(),
        outcome,
        delivery_id: None,
        delivered_at: None,
        next_attempt_at: None,
        reason: Some(reason),
        detail,
    }
}

fn why_no_delivery(webhook: &Webhook, event: &StoredEvent) -> (Outcome, &'static str, String) {
    if let Match::NotMatched(reason) = decide_by_rules(webhook.rules(), &EventView::of_stored(event)) {
        return (Outcome::NotMatched, reason.as_str(), reason.detail());
    }
    if webhook.created_at > event.appended_at {
        let words = format!("the webhook was registered at {}, after the event; a replay can deliver it", webhook.created_at);
        return (Outcome::NotMatched, "not_yet_registered", words);
    }
    if let Some((reason, words)) = off(webhook).filter(|_| webhook.status_since <= event.appended_at) {
        return (Outcome::Disabled, reason, format!("{words}, before the event"));
    }
    let words = format!(
        "the webhook as it is now would get such an event, but it was changed at {}, and this one has no delivery; a replay can \
         deliver it",
        webhook.updated_at
    );
    (Outcome::NotMatched, "no_delivery", words)
}

/// Why and since when a webhook is off.
fn off(webhook: &Webhook) -> Option<(&'static str, String)> {
    let (reason, words) = match webhook.status {
        WebhookStatus::Enabled => return None,
        WebhookStatus::Disabled => ("disabled", "its owner switched the webhook off"),
        WebhookStatus::Gone => ("gone", "its receiver answered 410, which switched the webhook off"),
        WebhookStatus::Failing => ("failing", "every attempt had failed for so long that the webhook was switched off"),
        WebhookStatus::Steered => ("steered", "its receiver asked for no more, which switched the webhook off"),
    };
    Some((reason, format!("{words} at {}", webhook.status_since)))
}

fn attempts(number: u32) -> String {
    match number {
        1 => "1 attempt".to_owned(),
        number => format!("{number} attempts"),
    }
}
