//! One message to several targets: each is found, sent to and answered for by itself.

use std::borrow::Cow;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

use super::AppState;
use super::auth::{AccountCaller, MaySend};
use super::direct::{Peer, direct_space, stand_in};
use super::durable::{self, Place};
use super::edge::RequestId;
use super::error::ApiError;
use super::extract::{JsonBytes, Wait, parse_json};
use super::idempotency::{IdempotencyHeader, Keyed, mark_replayed};
use super::limits::{self, show_allowance};
use super::message_body::{MessageBody, ResolvedMessage, below};
use super::message_view::Message;
use super::messages::{applied, outcome};
use super::people::is_email;
use super::problem::Problem;
use crate::domain::SpaceId;
use crate::outbox::{Ticket, Together};
use crate::session::{OutgoingMessage, SendClass};
use crate::upstream::DirectKind;

/// Most targets of one call.
const MAX_TARGETS: usize = 100;

/// Targets that are looked up at a time.
const LOOKUPS: usize = 8;

/// Where a message goes: a space, or the direct space with a person.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Target {
    /// A space, by its id.
    Space(SpaceId),
    /// A registered user, by their id.
    User(SpaceId),
    /// An anonymous guest, by their id.
    Anonymous(SpaceId),
    /// A registered user, by their e-mail address.
    Email(String),
}

impl utoipa::PartialSchema for Target {
    fn schema() -> RefOr<Schema> {
        let id = "^[A-Za-z0-9_-]{1,128}$";
        let forms = [
            ("space", "A space, by its id.", id, "64f0a1b2c3d4e5f601020304"),
            ("user", "A registered user, by their id.", id, "5a0b1c2d3e4f506172839405"),
            ("anonymous", "An anonymous guest, by their id.", id, "5a0b1c2d3e4f506172839406"),
            (
                "email",
                "A registered user, by their e-mail address.",
                "^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,128}$",
                "bo@corp.example",
            ),
        ];
        let mut target = OneOfBuilder::new().description(Some("A space, or a person, whose direct space it then is."));
        for (name, description, pattern, example) in forms {
            let value = ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::String))
                .description(Some(description))
                .pattern(Some(pattern))
                .examples([example]);
            let form = ObjectBuilder::new()
                .property(name, value)
                .required(name)
                .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
            target = target.item(form);
        }
        target.into()
    }
}

impl ToSchema for Target {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Target")
    }
}

/// A message, and where it goes.
#[derive(Debug, ToSchema)]
#[schema(example = json!({
    "targets": [{"space": "64f0a1b2c3d4e5f601020304"}, {"email": "bo@corp.example"}],
    "message": {"text": "the build is green"},
}))]
#[expect(dead_code, reason = "the body as the document shows it")]
pub(super) struct MessageToTargets {
    /// Where it goes, each once.
    #[schema(min_items = 1, max_items = 100)]
    targets: Vec<Target>,
    /// What is sent.
    message: MessageBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    targets: Vec<Target>,
    message: Box<RawValue>,
}

/// What became of the message, target by target.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TargetResults {
    /// A result for each target, in the order of the targets.
    results: Vec<TargetResult>,
}

/// What became of the message for one target: either `message` or `problem`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TargetResult {
    /// The target, as it was given.
    target: Target,
    /// The status that the call would have had for this target alone: `201` if Spaces has the message, `202` if it is on its way.
    #[schema(minimum = 200, maximum = 599, example = 201)]
    status: u16,
    /// The message, unless it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<Box<Message>>,
    /// Why there is no message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<Box<Problem>>,
}

/// Send a message to several targets
///
/// Sends one message to spaces and persons, up to 100, and answers for each what became of it: the status is `200` as soon as the
/// message is at least on its way to one of them; the others are told with their reasons. If it is on its way to none, the answer is
/// the problem `no_target_reached`, which holds the results as well.
///
/// Every message is on disk before anything of it leaves, and waits behind those that single calls wait for. With an `Idempotency-Key`
/// the same call again posts nothing twice and answers what became of each; targets that could not be found are tried again.
#[utoipa::path(
    post,
    path = "/messages",
    tag = "Messages",
    params(
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait N seconds for the outcomes, 60 at most; `respond-async`: take the messages into the outbox and answer at once (RFC 7240).", example = "wait=20", nullable = false),
        IdempotencyHeader,
    ),
    request_body = MessageToTargets,
    responses(
        (status = 200, description = "The message is on its way to at least one target; `results` tells of each.", body = TargetResults, headers(
            ("Preference-Applied" = String, description = "What was heeded of `Prefer`."),
        )),
        (status = 403, description = "`account_required`: the admin key stands for no user. Otherwise as for a space."),
        (status = 404, description = "Assignees were looked for: `upstream_not_found`."),
        (status = 409, description = "Assignees were looked for: `upstream_conflict`."),
        (status = 413, description = "`message_too_large`: Spaces takes no message of this `size`, only up to `limit`. `body_too_large`: the service reads no body of this size."),
        (status = 422, description = "`invalid_body`: `errors` says which field is wrong. `no_target_reached`: every target failed for a reason that stays; `results` tells them. `upstream_refused`: Spaces refused to look for assignees."),
        (status = 429, description = "`outbox_full`: too many messages of the account wait; none was taken. `session_busy`: too many sessions. Also `call_budget_exhausted`, `upstream_rate_limited`."),
        (status = 502, description = "`upstream_error`: Spaces failed."),
        (status = 503, description = "`no_target_reached`: every target failed, and some for a reason that may go away; `results` tells them. Also `not_connected`, `upstream_unreachable`, `session_closed`, `store_unavailable`, `overloaded`, `timed_out`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn post_message_to_targets(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    Extension(request): Extension<RequestId>,
    wait: Wait,
    Keyed(call, JsonBytes(json)): Keyed<JsonBytes>,
) -> Result<Response, ApiError> {
    let deadline = Instant::now() + wait.duration;
    let Fields { targets, message } = parse_json(&json)?;
    check(&targets)?;
    let body = MessageBody::parse(message.get().as_bytes()).map_err(|error| below("/message", error))?;
    if body.named_space().is_some() {
        return Err(ApiError::field("/message/topicId", "`targets` says where the message goes"));
    }
    if body.is_split() {
        return Err(ApiError::field("/message/split", "a message to several targets is one message for each"));
    }
    let limit = limits::payload_limit(&app, &caller);
    let prepared = body.prepare(&app, limit).map_err(|error| below("/message", error))?;

    let place = durable::place(&app, &caller, &call).await?;
    let mut results: Vec<Option<Result<Ticket, ApiError>>> = Vec::with_capacity(targets.len());
    for number in 0..targets.len() {
        results.push(known(&app, &caller, &place, number).await?.map(Ok));
    }
    if results.iter().any(Option::is_none) {
        let resolved = match prepared.resolve(&app, &caller).await {
            // Whatever is wrong with the message itself is wrong for all; another id stands in for a space's.
            Ok(message) => message.compose(&app, limit, &stand_in()).map(|_| message),
            Err(error) => Err(error),
        };
        let message = match resolved {
            Ok(message) => message,
            Err(error) => {
                durable::give_up(&app, place).await;
                return Err(below("/message", error));
            }
        };
        let composed = compose(&app, &caller, (&message, limit), &targets, &results).await;
        let (mut numbers, mut messages) = (Vec::new(), Vec::new());
        for (number, composed) in composed {
            match composed {
                Ok(message) => {
                    numbers.push(number);
                    messages.push(place.name(number, message));
                }
                Err(error) => results[number] = Some(Err(error)),
            }
        }
        if !messages.is_empty() {
            let tickets = durable::submit_all(&app, &caller, place, messages, Together::Independent).await?;
            for (number, ticket) in numbers.into_iter().zip(tickets) {
                results[number] = Some(Ok(ticket));
            }
        }
    }
    let mut response = answer(targets.into_iter().zip(results.into_iter().flatten()), &request, (wait, deadline)).await?;
    show_allowance(&app, &caller, &mut response);
    Ok(response)
}

/// Waits for the outcomes and tells them.
async fn answer(
    results: impl Iterator<Item = (Target, Result<Ticket, ApiError>)>,
    request: &RequestId,
    (wait, deadline): (Wait, Instant),
) -> Result<Response, ApiError> {
    let (mut told, mut is_repeat, mut is_lasting) = (Vec::new(), true, true);
    // They all wait until the same instant, and none of them has to be asked to go on.
    for (target, result) in results {
        let result = match result {
            Ok(ticket) => {
                is_repeat &= !ticket.is_new();
                outcome(vec![ticket.outcome(deadline).await])
            }
            Err(error) => Err(error),
        };
        told.push(match result {
            Ok((status, message)) => TargetResult::sent(target, status.as_u16(), message),
            Err(error) => {
                is_lasting &= !error.may_go_away();
                TargetResult::failed(target, error.into_problem(request))
            }
        });
    }
    if told.iter().all(|result| result.message.is_none()) {
        let results = serde_json::value::to_raw_value(&told).map_err(|error| ApiError::Internal(error.to_string()))?;
        return Err(ApiError::NoTargetReached { results, is_lasting });
    }
    let mut response = Json(TargetResults { results: told }).into_response();
    applied(&mut response, wait);
    if is_repeat {
        mark_replayed(&mut response);
    }
    Ok(response)
}

impl TargetResult {
    fn sent(target: Target, status: u16, message: Message) -> Self {
        Self { target, status, message: Some(Box::new(message)), problem: None }
    }

    fn failed(target: Target, problem: Problem) -> Self {
        Self { target, status: problem.status, message: None, problem: Some(Box::new(problem)) }
    }
}

fn check(targets: &[Target]) -> Result<(), ApiError> {
    if targets.is_empty() || targets.len() > MAX_TARGETS {
        return Err(ApiError::field("/targets", format!("there are 1 to {MAX_TARGETS} targets")));
    }
    for (number, target) in targets.iter().enumerate() {
        if targets[..number].contains(target) {
            return Err(ApiError::field(format!("/targets/{number}"), "this target is there already"));
        }
        if let Target::Email(address) = target
            && !is_email(address)
        {
            return Err(ApiError::field(format!("/targets/{number}/email"), "no e-mail address"));
        }
    }
    Ok(())
}

/// The message to the target of this number, if it was taken before.
async fn known(app: &AppState, caller: &AccountCaller, place: &Place, number: usize) -> Result<Option<Ticket>, ApiError> {
    let Some(known) = place.known(app, number).await? else { return Ok(None) };
    caller.check_space(&known.space)?;
    Ok(Some(app.outbox.attach(known)))
}

/// The message for each target that has no result yet, in their order; each space gets it once.
async fn compose(
    app: &AppState,
    caller: &AccountCaller,
    (message, limit): (&ResolvedMessage, usize),
    targets: &[Target],
    results: &[Option<Result<Ticket, ApiError>>],
) -> Vec<(usize, Result<OutgoingMessage, ApiError>)> {
    let mut lookups = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        if results[number].is_none() {
            lookups.push(async move { (number, space_of(app, caller, target).await) });
        }
    }
    let spaces: Vec<_> = futures_util::stream::iter(lookups).buffered(LOOKUPS).collect().await;
    let class = if targets.len() > 1 { SendClass::Bulk } else { SendClass::Interactive };
    let tickets = results.iter().flatten().filter_map(|result| result.as_ref().ok());
    let mut taken: Vec<SpaceId> = tickets.map(|ticket| ticket.space().clone()).collect();
    let mut composed = Vec::with_capacity(spaces.len());
    for (number, space) in spaces {
        let message = space.and_then(|space| {
            if taken.contains(&space) {
                return Err(ApiError::TargetRepeated);
            }
            let message = message.compose(app, limit, &space)?;
            taken.push(space);
            Ok(OutgoingMessage { class, ..message })
        });
        composed.push((number, message));
    }
    composed
}

async fn space_of(app: &AppState, caller: &AccountCaller, target: &Target) -> Result<SpaceId, ApiError> {
    let peer = match target {
        Target::Space(space) => {
            caller.check_space(space)?;
            return Ok(space.clone());
        }
        Target::User(id) => Peer::Id(DirectKind::User, id.clone()),
        Target::Anonymous(id) => Peer::Id(DirectKind::Anonymous, id.clone()),
        Target::Email(address) => Peer::Email(address.clone()),
    };
    let space = direct_space(app, caller, &peer).await?;
    caller.check_space(&space)?;
    Ok(space)
}
