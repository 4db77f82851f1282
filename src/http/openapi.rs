//! The `OpenAPI` document: made from the handlers, with what holds for every call added in one place.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;
use utoipa::OpenApi as _;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};

use super::deliveries::DeliveryStateName;
use super::direct::PeerType;
use super::event_types::openapi_webhooks;
use super::events::Event;
use super::examples;
use super::problem::{FieldError, Problem};

/// What the document says beside the calls.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "spaces-bridge",
        description = "Use Avaya Spaces from anything that speaks HTTP: confirmed sends in, signed webhooks out.\n\n\
            Authenticate with a Spaces token: `Authorization: Bearer <OAuth token>`, `jwt <JWT>` or `service_app <JWT>`. A JWT after \
            `Bearer` is taken as one, and `X-Spaces-Token-Type` (`oauth`, `jwt`, `service_app`) overrides. The first call with a \
            token opens its session. Or with a bridge key, `Bearer sbk_…`, that the operator made for an account.\n\n\
            Every failure is `application/problem+json` (RFC 9457); `code` is stable. Unknown fields are refused with their name. \
            A path that takes other methods answers `405` with `Allow`, an unknown path `404`. Calls that act take an \
            `Idempotency-Key`, or refuse it. Every answer carries `X-Request-Id`, which takes over the caller's if it has one.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "This service")),
    tags(
        (name = "Messages", description = "Send messages and see what became of them."),
        (name = "Files", description = "Send files to Spaces and get them from there."),
        (name = "Spaces", description = "Read spaces, change what is in them, and find people."),
        (name = "Webhooks", description = "Get events of spaces pushed, signed and at least once."),
        (name = "Events", description = "Pull events: pages, long polls, streams, and consumers that remember how far they are."),
        (name = "Subscriptions", description = "Listen to spaces beyond what webhooks want."),
        (name = "Caller", description = "Who the caller is and which spaces there are."),
        (name = "Bridge keys", description = "Keys for systems that are not to have a Spaces token."),
        (name = "Sessions", description = "The connections to Spaces, one per token."),
        (name = "Accounts", description = "Accounts whose tokens the bridge gets by itself; for the operator."),
        (name = "Health", description = "Whether the service is well."),
        (name = "Documentation", description = "This document."),
    ),
    components(schemas(Problem, FieldError, PeerType, DeliveryStateName, Event)),
)]
struct Base;

/// The document without its calls.
pub(super) fn base() -> OpenApi {
    let mut document = Base::openapi();
    let schemes = [
        ("spacesToken", bearer("An OAuth access token or JWT of a Spaces user.")),
        (
            "spacesJwt",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "Authorization",
                "`jwt <JWT>` for a user's or guest's JWT, `service_app <JWT>` for one of a service application.",
            ))),
        ),
        ("bridgeKey", bearer("A bridge key (`sbk_…`): acts for one account, as far as its scopes and spaces go.")),
        ("adminKey", bearer("The operator's admin key.")),
    ];
    let components = document.components.get_or_insert_default();
    components.security_schemes.extend(schemes.map(|(name, scheme)| (name.to_owned(), scheme.into())));
    document
}

fn bearer(description: &str) -> SecurityScheme {
    SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).description(Some(description)).build())
}

/// The whole document.
pub fn openapi() -> OpenApi {
    let mut document = super::public_routes().into_openapi();
    let shared = Failure::ALL.map(|failure| (failure.name().to_owned(), RefOr::T(failure.response())));
    let components = document.components.get_or_insert_default();
    components.responses.extend(shared);
    components.responses.insert(HEAD_TOO_LARGE.to_owned(), Response::new(HEAD_TOO_LARGE_WORDS).into());
    examples::show(&mut components.schemas);
    for item in document.paths.paths.values_mut() {
        let sends =
            item.post.as_mut().filter(|post| post.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "Messages")));
        if let Some(sends) = sends {
            show_limits_of_sends(sends);
        }
        for operation in operations(item) {
            complete(operation);
        }
    }
    document
}

/// Whoever sends is told how much more may be sent.
fn show_limits_of_sends(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && matches!(status.as_str(), "201" | "202")
        {
            response.headers.extend(limit_headers());
        }
    }
}

fn limit_headers() -> impl Iterator<Item = (String, RefOr<Header>)> {
    let headers = [
        (
            "X-RateLimit-Limit",
            1,
            "How many there may be in the time over which they are counted; `GET /sessions/{id}` tells that time.",
        ),
        ("X-RateLimit-Remaining", 0, "How many more there may be now."),
        ("X-RateLimit-Reset", 0, "In how many seconds all of them are available again, if none is used until then."),
    ];
    headers.into_iter().map(|(name, least, description)| (name.to_owned(), number_header(description, least).into()))
}

/// The whole document as indented JSON with a line end.
///
/// # Panics
///
/// Never: the document is plain data.
pub fn openapi_json() -> String {
    let document = Document { document: openapi(), webhooks: openapi_webhooks() };
    let mut text = serde_json::to_string_pretty(&document).expect("the document is plain data");
    text.push('\n');
    text
}

/// The document with what receivers of webhooks get, whose schemas the catalogue writes itself.
#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    document: OpenApi,
    webhooks: BTreeMap<&'static str, serde_json::Value>,
}

/// The one failure that comes from below this API: no request was read, so there is none to give an id or a body to.
const HEAD_TOO_LARGE: &str = "HeadTooLarge";
const HEAD_TOO_LARGE_WORDS: &str =
    "The address and the headers together are larger than the service reads. The answer has no body and no `X-Request-Id`.";

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// Adds to a call what its handler need not say: the failures of its extractors and of the edge, and the headers.
fn complete(operation: &mut Operation) {
    let is_secured = operation.security.as_ref().is_some_and(|requirements| !requirements.is_empty());
    let has_parameters = operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    let has_body = operation.request_body.is_some();
    let takes_bridge_key = takes_bridge_key(operation);
    let takes_key =
        operation.parameters.iter().flatten().any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == KEY));
    let responses = &mut operation.responses.responses;
    if takes_key {
        complete_keyed(responses, has_body);
    }
    if takes_bridge_key && let Some(RefOr::T(forbidden)) = responses.get_mut("403") {
        forbidden.description = format!("{} {KEY_FORBIDDEN}", forbidden.description);
    }
    for failure in Failure::ALL.into_iter().filter(|failure| failure.is_possible(is_secured, has_parameters, has_body)) {
        responses
            .entry(failure.status().as_str().to_owned())
            .or_insert_with(|| RefOr::Ref(Ref::from_response_name(failure.name())));
    }
    responses.insert("431".to_owned(), RefOr::Ref(Ref::from_response_name(HEAD_TOO_LARGE)));
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            let status = status.parse().expect("responses are listed by status");
            complete_response(response, status);
        }
    }
}

const KEY_FORBIDDEN: &str = "`scope_missing`, `space_not_in_key`: the bridge key does not allow it.";

fn takes_bridge_key(operation: &Operation) -> bool {
    let requirements = operation.security.iter().flatten();
    requirements.map(serde_json::to_value).any(|one| one.is_ok_and(|one| one.get("bridgeKey").is_some()))
}

/// The header of calls that are done once however often they are made.
const KEY: &str = "Idempotency-Key";
const KEY_IN_PROGRESS: &str = "`idempotency_in_progress`: the first call with this key is still being done.";
const KEY_REUSED: &str = "`idempotency_key_reused`: another request had this key before.";

/// Adds what calls answer because of their key.
fn complete_keyed(responses: &mut BTreeMap<String, RefOr<Response>>, has_body: bool) {
    let otherwise = if has_body { Failure::InvalidBody.description() } else { "" };
    for (status, otherwise, words) in [("409", "", KEY_IN_PROGRESS), ("422", otherwise, KEY_REUSED)] {
        let response = responses.entry(status.to_owned()).or_insert_with(|| Response::new(otherwise).into());
        if let RefOr::T(response) = response {
            let before = std::mem::take(&mut response.description);
            response.description = if before.is_empty() { words.to_owned() } else { format!("{before} {words}") };
        }
    }
    // The body is part of what was asked, so it is read, also where there should be none.
    for failure in [Failure::RequestTimeout, Failure::BodyTooLarge] {
        let status = failure.status().as_str().to_owned();
        responses.entry(status).or_insert_with(|| RefOr::Ref(Ref::from_response_name(failure.name())));
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if status == "409" {
            response.headers.insert("Retry-After".to_owned(), number_header("In how many seconds to try again.", 1).into());
        } else if status.starts_with('2') {
            let replayed = text_header("`true`: the call was made before with this key, and this is what it was answered.");
            response.headers.insert("Idempotency-Replayed".to_owned(), replayed.into());
        }
    }
}

fn complete_response(response: &mut Response, status: StatusCode) {
    let mut add = |name: &str, header: Header| response.headers.insert(name.to_owned(), header.into());
    add("X-Request-Id", text_header("Names this request in the service's log."));
    match status {
        StatusCode::UNAUTHORIZED => {
            add("WWW-Authenticate", text_header("How to authenticate."));
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            add("Retry-After", number_header("In how many seconds to try again.", 1));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            add("Allow", text_header("The methods that the path takes."));
        }
        _ => {}
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        // Only where a limit of that kind was reached.
        response.headers.extend(limit_headers());
    }
    if status.is_client_error() || status.is_server_error() {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        response.content.insert(Problem::MEDIA_TYPE.to_owned(), problem.into());
    }
}

fn text_header(description: &str) -> Header {
    HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).description(Some(description)).build()
}

fn number_header(description: &str, least: u8) -> Header {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least));
    HeaderBuilder::new().schema(Some(number)).description(Some(description)).build()
}

/// Failures that do not depend on what a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    BadRequest,
    Unauthenticated,
    Forbidden,
    MethodNotAllowed,
    RequestTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidBody,
    TooMany,
    Internal,
    Unavailable,
}

impl Failure {
    const ALL: [Self; 11] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidBody,
        Self::TooMany,
        Self::Internal,
        Self::Unavailable,
    ];

    fn is_possible(self, is_secured: bool, has_parameters: bool, has_body: bool) -> bool {
        match self {
            Self::BadRequest => has_parameters || has_body,
            Self::Unauthenticated | Self::Forbidden | Self::TooMany => is_secured,
            Self::RequestTimeout | Self::BodyTooLarge | Self::UnsupportedMediaType | Self::InvalidBody => has_body,
            // The document lists the methods that a path takes; what others get stands in its description.
            Self::MethodNotAllowed => false,
            Self::Internal | Self::Unavailable => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthenticated => "Unauthenticated",
            Self::Forbidden => "Forbidden",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::RequestTimeout => "RequestTimeout",
            Self::BodyTooLarge => "BodyTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::InvalidBody => "InvalidBody",
            Self::TooMany => "TooMany",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidBody => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::BadRequest => {
                "`invalid_path`, `invalid_query`, `malformed_json`, `body_unreadable`, `idempotency_key_invalid`: the \
                 request is not well formed."
            }
            Self::Unauthenticated => {
                "`credentials_missing`, `credentials_invalid`: no usable `Authorization` header. `token_refused`: Spaces refused the \
                 token. `key_invalid`: the bridge key is unknown, revoked or expired."
            }
            Self::Forbidden => {
                "`account_required`: the admin key stands for no user. `scope_missing`, `space_not_in_key`: the bridge key does not \
                 allow it."
            }
            Self::MethodNotAllowed => "`method_not_allowed`: the path takes other methods.",
            Self::RequestTimeout => "`request_timeout`: the body did not arrive in time.",
            Self::BodyTooLarge => "`body_too_large`: the service reads no body of this size.",
            Self::UnsupportedMediaType => "`unsupported_media_type`: the body is not announced as JSON.",
            Self::InvalidBody => "`invalid_body`: `errors` says which field is wrong, and how.",
            Self::TooMany => {
                "`session_busy`: the service or the session has too much to do. `key_rate_limited`: the bridge key was used as often \
                 as it may be. `call_budget_exhausted`: as many calls as Spaces allows the user have been made."
            }
            Self::Internal => {
                "`internal`: the service failed. `unconfirmed`: the message was sent, and its outcome is not known."
            }
            Self::Unavailable => {
                "`not_connected`, `session_closed`, `store_unavailable`, `overloaded`, `timed_out`: not now; try again. \
                 `not_ready`: the service is starting. `account_has_no_session`, `account_token_refused`: the account of the bridge \
                 key needs a token first."
            }
        }
    }

    fn response(self) -> Response {
        let mut response = Response::new(self.description());
        complete_response(&mut response, self.status());
        response
    }
}
