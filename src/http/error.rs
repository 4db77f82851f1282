//! [`ApiError`]: every failure that a caller can be told, and the one table from failure to answer.
//!
//! Handlers, extractors and the layers around them answer an `ApiError` and nothing else; [`super::edge`] writes the body. A
//! failure of the service (5xx) is logged once, here, and its cause stays here.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::value::RawValue;

use super::edge::RequestId;
use super::limits::{self, Standing};
use super::message_view::MessagePart;
use super::problem::{FieldError, Problem};
use crate::accounts::{AccountError, MintError};
use crate::consumers::MAX_CONSUMERS;
use crate::delivery::HandshakeError;
use crate::event_log::TestError;
use crate::idempotency::IdempotencyError;
use crate::incoming::{CallError, HookError, PayloadError};
use crate::keys::{KeyError, KeyRefusal, KeyScope};
use crate::outbox::{CancelError, SubmitError};
use crate::session::SessionError;
use crate::spool::SpoolError;
use crate::store::StoreError;
use crate::upstream::{RestError, StorageError};
use crate::webhooks::WebhookError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// There is no such route.
    #[error("there is nothing at this path")]
    RouteNotFound,
    /// The route has no such method.
    #[error("this path does not take this method; see the Allow header")]
    MethodNotAllowed,
    /// The request did not arrive in time.
    #[error("the request's body did not arrive in time")]
    RequestTimeout,
    /// The body is not announced as JSON.
    #[error("the body must be of a media type that this call takes, such as JSON announced as `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// The body is larger than the service reads.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge {
        /// Most bytes that are read.
        limit: usize,
    },
    /// The body is no form, or breaks the rules of one.
    #[error("the form cannot be read: {0}")]
    MalformedForm(&'static str),
    /// A file is larger than Spaces takes.
    #[error("Spaces takes files of {limit} bytes at most")]
    FileTooLarge {
        /// Most bytes of a file.
        limit: u64,
    },
    /// Files cannot wait on disk now.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A file did not get into Spaces.
    #[error("the file `{file}` could not be uploaded, and nothing was posted: {source}")]
    UploadFailed {
        /// Its name.
        file: String,
        /// Why.
        source: StorageError,
    },
    /// A file could not be had from Spaces.
    #[error("the file could not be read: {0}")]
    DownloadFailed(#[source] StorageError),
    /// The body could not be read to its end.
    #[error("the body broke off")]
    BodyUnreadable,
    /// The body is no JSON.
    #[error("the body is not valid JSON: {detail}")]
    MalformedJson {
        /// What is wrong, and where.
        detail: String,
    },
    /// The body is JSON and does not say what it should.
    #[error("{}", .0.iter().map(|error| error.detail.as_str()).collect::<Vec<_>>().join("; "))]
    InvalidBody(Vec<FieldError>),
    /// A part of the path is not what it should be.
    #[error("{detail}")]
    InvalidPath {
        /// What is wrong.
        detail: String,
    },
    /// The query is not what it should be.
    #[error("{detail}")]
    InvalidQuery {
        /// What is wrong.
        detail: String,
    },
    /// The key of a call is none, or there are several.
    #[error("{0}")]
    IdempotencyKeyInvalid(String),
    /// A call with an idempotency key is not done.
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    /// No credentials came.
    #[error("this call needs an `Authorization` header with a Spaces token")]
    CredentialsMissing,
    /// The credentials have no form that the service knows.
    #[error("{0}")]
    CredentialsInvalid(&'static str),
    /// The operator made a call that acts for a Spaces user.
    #[error("this call acts for a Spaces user and needs that user's token; the admin key stands for none")]
    AccountRequired,
    /// Someone else than the operator made the operator's call.
    #[error("this call needs the admin key")]
    OperatorRequired,
    /// The bridge key opens nothing.
    #[error("{0}")]
    KeyInvalid(&'static str),
    /// The bridge key has none of the scopes that the call asks for.
    #[error("this call needs the scope {}, which the bridge key does not have", names(.0))]
    ScopeMissing(&'static [KeyScope]),
    /// The call is for nobody with a bridge key.
    #[error("no bridge key may do this; it needs a Spaces token or the admin key")]
    NotForKeys,
    /// The bridge key does not reach the space.
    #[error("the bridge key is limited to other spaces")]
    SpaceNotInKey,
    /// The bridge key was used as often as it may be in a time.
    #[error("the bridge key may be used {limit} times in its time, and was")]
    KeyRateLimited {
        /// As often as it may be.
        limit: u32,
        /// When it may be used again.
        retry_after: Duration,
        /// When it may be used that often again.
        reset_after: Duration,
    },
    /// The account that a bridge key acts for has no session.
    #[error("no token of this account is stored, so there is no session to act in; its owner or the operator has to give one")]
    AccountHasNoSession,
    /// Spaces refused the token of the account that a bridge key acts for.
    #[error("Spaces refused the token that is stored for this account; its owner or the operator has to give another")]
    AccountTokenRefused {
        /// The upstream's word.
        detail: String,
    },
    /// A bridge key could not be made, found or revoked.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no such thing, or it belongs to another account.
    #[error("there is no such {}", .0.as_str())]
    NotFound(Resource),
    /// Spaces knows nobody by an e-mail address.
    #[error("Spaces knows nobody by this e-mail address, or does not let this user know")]
    PersonNotFound,
    /// The password of a space is none.
    #[error("`X-Space-Password` is the password of one space: 1 to 128 visible ASCII characters")]
    SpacePasswordInvalid,
    /// The space's history does not have the message.
    #[error("the history of this space has no such message")]
    MessageNotInSpace,
    /// Someone else edits the message at the same time.
    #[error("Spaces did not take the edit, as it does when a message is edited twice at the same time")]
    EditConflict {
        /// The upstream's error code, if it gave one.
        code: Option<String>,
        /// The upstream's words, if it gave any.
        message: Option<String>,
    },
    /// The user may not delete the message.
    #[error("Spaces does not let this user delete the message; its sender may, and the space's admins")]
    DeletionForbidden {
        /// The upstream's error code, if it gave one.
        code: Option<String>,
        /// The upstream's words, if it gave any.
        message: Option<String>,
    },
    /// Spaces did not delete the message.
    #[error("Spaces did not delete the message")]
    NotDeleted {
        /// The upstream's error code, if it gave one.
        code: Option<String>,
        /// The upstream's words, if it gave any.
        message: Option<String>,
    },
    /// The message is larger than Spaces takes.
    #[error("the message takes {size} bytes as Spaces gets it, and Spaces takes {limit} at most")]
    MessageTooLarge {
        /// Bytes of the message.
        size: usize,
        /// Most bytes.
        limit: usize,
    },
    /// A session could not do what it was asked.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A call of Spaces' REST API failed.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// A managed account could not be made, found or changed.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A webhook could not be registered, found or changed.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// A consumer stands elsewhere than its acknowledgement supposes.
    #[error("the consumer stands at `{stands}` by now")]
    AcknowledgementStale {
        /// Where, as a cursor.
        stands: String,
    },
    /// The account has as many consumers as it may have.
    #[error("the account has {MAX_CONSUMERS} consumers, which is the most it may have")]
    TooManyConsumers,
    /// Others moved the consumer again and again in the meantime.
    #[error("the consumer was moved by others at the same time")]
    ConsumerChanged,
    /// The account has as many streams and long polls open as it may have.
    #[error("the account has {limit} streams and long polls open, which is the most it may have")]
    TooManyListeners {
        /// The most it may have.
        limit: usize,
    },
    /// A webhook's receiver does not want deliveries, or could not be asked.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// A webhook could not be tried.
    #[error(transparent)]
    WebhookTest(#[from] TestError),
    /// An attempt of the delivery is under way.
    #[error("an attempt of the delivery is under way")]
    DeliveryInFlight,
    /// A message could not be taken into the outbox.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A message could not be taken back.
    #[error(transparent)]
    Cancel(#[from] CancelError),
    /// The message that the call was made for before was taken back.
    #[error("the message was taken back; a new message needs a new key")]
    MessageCancelled,
    /// A message to several targets is on its way to none of them.
    #[error("the message is on its way to none of the targets; `results` says why")]
    NoTargetReached {
        /// What became of each, as JSON.
        results: Box<RawValue>,
        /// Whether it will be so again.
        is_lasting: bool,
    },
    /// Two targets of a message are the same space.
    #[error("another target is the same space, which gets the message once")]
    TargetRepeated,
    /// Spaces did not take the message, and it is not there.
    #[error("the message was not sent: {0}")]
    MessageNotTaken(String),
    /// Spaces has some parts of a message, and will not get the others.
    #[error("Spaces has {posted} of the {} parts of the message, and the others will not be sent: {why}", parts.len())]
    MessageIncomplete {
        /// How many Spaces has.
        posted: usize,
        /// What stood in the way of the next one.
        why: String,
        /// All of them.
        parts: Vec<MessagePart>,
    },
    /// The message was emitted, nothing is known of it yet, and that could not be written down.
    #[error(
        "the message was sent, its outcome is not known and could not be recorded; look into the space before sending it again"
    )]
    SentUnrecorded(#[source] StoreError),
    /// An incoming hook could not be made, found or changed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A call of an incoming hook is not taken.
    #[error(transparent)]
    HookCall(#[from] CallError),
    /// The body of a call of an incoming hook is nothing that could be shown.
    #[error(transparent)]
    HookPayload(#[from] PayloadError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// Too many requests are under way.
    #[error("the service has too many requests under way")]
    Overloaded,
    /// The answer took too long.
    #[error("the answer took too long")]
    TimedOut,
    /// The service is starting or stopping, or its store does not answer.
    #[error("the service is not ready: {0}")]
    NotReady(&'static str),
    /// A template could not be read for now.
    #[error("the template could not be checked now")]
    TemplateUnchecked,
    /// A defect of the service.
    #[error("the service failed")]
    Internal(String),
}

/// The things that can be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A send.
    Message,
    /// A session.
    Session,
    /// A subscription.
    Subscription,
    /// A webhook.
    Webhook,
    /// A delivery.
    Delivery,
    /// A named consumer.
    Consumer,
    /// An event.
    Event,
    /// An account.
    Account,
    /// A file.
    File,
}

impl Resource {
    fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message reference",
            Self::Session => "session",
            Self::Subscription => "subscription",
            Self::Webhook => "webhook",
            Self::Delivery => "delivery",
            Self::Consumer => "consumer",
            Self::Event => "event",
            Self::Account => "account",
            Self::File => "file",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Message => "message_not_found",
            Self::Session => "session_not_found",
            Self::Subscription => "subscription_not_found",
            Self::Webhook => "webhook_not_found",
            Self::Delivery => "delivery_not_found",
            Self::Consumer => "consumer_not_found",
            Self::Event => "event_not_found",
            Self::Account => "account_not_found",
            Self::File => "file_not_found",
        }
    }
}

/// A row of the table: the status, the stable code and the title of a kind of failure.
type Kind = (StatusCode, &'static str, &'static str);

/// When to come again if the service sheds load or a session has just closed.
const SOON: Duration = Duration::from_secs(1);

/// When to come again if something outside has to recover first.
const LATER: Duration = Duration::from_secs(5);

impl ApiError {
    /// The failure of one field of the body.
    pub(super) fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::InvalidBody(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.kind().0
    }

    /// The stable code of the answer.
    pub fn code(&self) -> &'static str {
        self.kind().1
    }

    fn kind(&self) -> Kind {
        match self {
            Self::RouteNotFound => (StatusCode::NOT_FOUND, "route_not_found", "Unknown path"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout", "Request took too long"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type")
            }
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large"),
            Self::MalformedForm(_) => (StatusCode::BAD_REQUEST, "malformed_form", "Malformed form"),
            Self::FileTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", "File too large"),
            Self::Spool(SpoolError::Full) => {
                (StatusCode::SERVICE_UNAVAILABLE, "upload_room_exhausted", "No room for files at the moment")
            }
            Self::UploadFailed { .. } => (StatusCode::BAD_GATEWAY, "upload_failed", "The upload failed"),
            Self::DownloadFailed(_) => (StatusCode::BAD_GATEWAY, "download_failed", "The download failed"),
            Self::BodyUnreadable => (StatusCode::BAD_REQUEST, "body_unreadable", "Unreadable body"),
            Self::MalformedJson { .. } => (StatusCode::BAD_REQUEST, "malformed_json", "Malformed JSON"),
            Self::InvalidBody(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", "Invalid body"),
            Self::InvalidPath { .. } => (StatusCode::BAD_REQUEST, "invalid_path", "Invalid path"),
            Self::InvalidQuery { .. } => (StatusCode::BAD_REQUEST, "invalid_query", "Invalid query"),
            Self::IdempotencyKeyInvalid(_) => (StatusCode::BAD_REQUEST, "idempotency_key_invalid", "Not an idempotency key"),
            Self::Idempotency(error) => idempotency_kind(error),
            Self::KeyInvalid(_) => (StatusCode::UNAUTHORIZED, "key_invalid", "Not a valid bridge key"),
            Self::ScopeMissing(_) | Self::NotForKeys => {
                (StatusCode::FORBIDDEN, "scope_missing", "The bridge key does not allow it")
            }
            Self::SpaceNotInKey => (StatusCode::FORBIDDEN, "space_not_in_key", "The bridge key does not reach the space"),
            Self::KeyRateLimited { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "key_rate_limited", "The bridge key is used too often")
            }
            Self::AccountHasNoSession => {
                (StatusCode::SERVICE_UNAVAILABLE, "account_has_no_session", "The account has no session")
            }
            Self::AccountTokenRefused { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "account_token_refused", "Spaces refused the account's token")
            }
            Self::Key(error) => key_kind(error),
            Self::CredentialsMissing => (StatusCode::UNAUTHORIZED, "credentials_missing", "Credentials missing"),
            Self::CredentialsInvalid(_) => (StatusCode::UNAUTHORIZED, "credentials_invalid", "Credentials not understood"),
            Self::AccountRequired => (StatusCode::FORBIDDEN, "account_required", "A Spaces user is needed"),
            Self::OperatorRequired => (StatusCode::FORBIDDEN, "operator_required", "The admin key is needed"),
            Self::NotFound(resource) => (StatusCode::NOT_FOUND, resource.code(), "Not found"),
            Self::PersonNotFound => (StatusCode::NOT_FOUND, "person_not_found", "Nobody has the address"),
            Self::SpacePasswordInvalid => (StatusCode::BAD_REQUEST, "space_password_invalid", "Not the password of a space"),
            Self::MessageNotInSpace => (StatusCode::NOT_FOUND, "message_not_found", "Not found"),
            Self::EditConflict { .. } => (StatusCode::CONFLICT, "message_edit_conflict", "The message is being edited"),
            Self::DeletionForbidden { .. } => (StatusCode::FORBIDDEN, "message_delete_forbidden", "Spaces forbids the deletion"),
            Self::NotDeleted { .. } => (StatusCode::CONFLICT, "message_not_deleted", "Spaces did not delete it"),
            Self::MessageTooLarge { .. } => TOO_LARGE,
            Self::Session(error) => session_kind(error),
            Self::Rest(error) => rest_kind(error),
            Self::Account(error) => account_kind(error),
            Self::Webhook(error) => webhook_kind(error),
            Self::Handshake(error) if error.is_refusal() => {
                (StatusCode::UNPROCESSABLE_ENTITY, "handshake_refused", "The receiver permits no deliveries")
            }
            Self::Handshake(_) => (StatusCode::UNPROCESSABLE_ENTITY, "handshake_failed", "The receiver could not be asked"),
            Self::WebhookTest(error) => test_kind(error),
            Self::DeliveryInFlight => (StatusCode::CONFLICT, "delivery_in_flight", "An attempt is under way"),
            Self::Submit(SubmitError::Full { .. }) => (StatusCode::TOO_MANY_REQUESTS, "outbox_full", "Too many messages wait"),
            Self::Cancel(CancelError::NotQueued) => (StatusCode::CONFLICT, "message_not_queued", "The message has left"),
            Self::MessageCancelled => (StatusCode::CONFLICT, "message_cancelled", "The message was taken back"),
            Self::NoTargetReached { is_lasting, .. } => {
                let status = if *is_lasting { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, "no_target_reached", "No target was reached")
            }
            Self::TargetRepeated => (StatusCode::CONFLICT, "target_repeated", "Two targets are one space"),
            Self::MessageNotTaken(_) => (StatusCode::BAD_GATEWAY, "message_not_taken", "Spaces did not take the message"),
            Self::MessageIncomplete { .. } => (StatusCode::BAD_GATEWAY, "message_incomplete", "Only a part was posted"),
            Self::AcknowledgementStale { .. } => (StatusCode::CONFLICT, "acknowledgement_stale", "The consumer stands elsewhere"),
            Self::TooManyConsumers => (StatusCode::CONFLICT, "consumer_limit_reached", "Too many consumers"),
            Self::ConsumerChanged => (StatusCode::CONFLICT, "consumer_changed", "The consumer moved meanwhile"),
            Self::TooManyListeners { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_listeners", "Too many streams and long polls")
            }
            Self::Hook(error) => hook_kind(error),
            Self::HookCall(error) => hook_call_kind(error),
            Self::HookPayload(_) => (StatusCode::BAD_REQUEST, "payload_unreadable", "Unreadable payload"),
            // No 503, which would invite callers to send again.
            Self::SentUnrecorded(_) => (StatusCode::INTERNAL_SERVER_ERROR, "unconfirmed", "Sent, outcome unknown"),
            Self::Store(_)
            | Self::Submit(SubmitError::Store(_))
            | Self::Cancel(CancelError::Store(_))
            | Self::Spool(SpoolError::Failed(_)) => STORE,
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many requests"),
            Self::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "timed_out", "Took too long"),
            Self::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "Not ready"),
            Self::TemplateUnchecked => (StatusCode::SERVICE_UNAVAILABLE, "template_unchecked", "The template was not checked"),
            Self::Internal(_) => INTERNAL,
        }
    }

    /// When it makes sense to try again, where the failure goes away by itself.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Session(
                SessionError::NotConnected { retry_after, .. }
                | SessionError::Busy { retry_after }
                | SessionError::RateLimited { retry_after, .. },
            )
            | Self::Rest(RestError::Refused { retry_after: Some(retry_after), .. } | RestError::Limited { retry_after, .. })
            | Self::KeyRateLimited { retry_after, .. }
            | Self::HookCall(CallError::TooOften { retry_after })
            | Self::Account(AccountError::Mint(MintError::Unavailable { retry_after: Some(retry_after), .. })) => {
                Some(*retry_after)
            }
            Self::Overloaded
            | Self::TimedOut
            | Self::Session(SessionError::Closed)
            | Self::Idempotency(IdempotencyError::InProgress) => Some(SOON),
            _ if matches!(self.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => Some(LATER),
            _ => None,
        }
    }

    /// What the caller is told. Nothing of a cause inside the service.
    fn detail(&self) -> String {
        match self {
            Self::Session(SessionError::AuthFailed { detail } | SessionError::NotConnected { detail, .. })
            | Self::AccountTokenRefused { detail } => with(self, detail),
            Self::Session(SessionError::SpaceRefused { code, message } | SessionError::MessageRefused { code, message })
            | Self::Rest(RestError::Refused { code, message, .. })
            | Self::EditConflict { code, message }
            | Self::DeletionForbidden { code, message }
            | Self::NotDeleted { code, message } => with(self, message.as_deref().or(code.as_deref()).unwrap_or_default()),
            _ if self.kind() == STORE => "the store does not take or give data at the moment".to_owned(),
            Self::Handshake(error) => error.detail(),
            _ if self.kind() == INTERNAL => "the service failed; the log knows more under this request's id".to_owned(),
            other => other.to_string(),
        }
    }

    /// The code that Spaces gave for its refusal.
    fn upstream_code(&self) -> Option<&str> {
        match self {
            Self::Session(SessionError::SpaceRefused { code, .. } | SessionError::MessageRefused { code, .. })
            | Self::Rest(RestError::Refused { code, .. })
            | Self::EditConflict { code, .. }
            | Self::DeletionForbidden { code, .. }
            | Self::NotDeleted { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// How the limit stands that the call ran into.
    fn standing(&self) -> Option<Standing> {
        match self {
            Self::Session(SessionError::RateLimited { allowance, .. }) | Self::Rest(RestError::Limited { allowance, .. }) => {
                Some(allowance.into())
            }
            Self::KeyRateLimited { limit, reset_after, .. } => {
                Some(Standing { limit: *limit, remaining: 0, reset_after: *reset_after })
            }
            _ => None,
        }
    }

    fn sizes(&self) -> Option<(usize, usize)> {
        match self {
            Self::MessageTooLarge { size, limit } | Self::Session(SessionError::TooLarge { size, limit }) => {
                Some((*size, *limit))
            }
            _ => None,
        }
    }

    fn problem(&self) -> Problem {
        let (status, code, title) = self.kind();
        let (size, limit) = match self {
            Self::FileTooLarge { limit } => (None, usize::try_from(*limit).ok()),
            _ => self.sizes().unzip(),
        };
        Problem {
            r#type: format!("{}{code}", Problem::TYPE_PREFIX),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail(),
            instance: String::new(),
            code: code.to_owned(),
            retry_after: self.retry_after().map(whole_seconds),
            errors: match self {
                Self::InvalidBody(errors) => Some(errors.clone()),
                _ => None,
            },
            size,
            limit,
            excess: size.zip(limit).map(|(size, limit)| size.saturating_sub(limit)),
            upstream_code: self.upstream_code().map(shorten),
            parts: match self {
                Self::MessageIncomplete { parts, .. } => Some(parts.clone()),
                _ => None,
            },
            results: match self {
                Self::NoTargetReached { results, .. } => Some(results.clone()),
                _ => None,
            },
        }
    }

    /// What is told of the failure of a part of the request with this id.
    pub(super) fn into_problem(self, request: &RequestId) -> Problem {
        self.log_if_ours();
        self.problem().of_request(request.as_str())
    }

    /// Whether the same call may do better later.
    pub(super) fn may_go_away(&self) -> bool {
        let status = self.status();
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
    }

    fn log_if_ours(&self) {
        // That it is not ready is what the question was; probes ask it again and again. What the targets failed for is logged.
        if self.status().is_server_error() && !matches!(self, Self::NotReady(_) | Self::NoTargetReached { .. }) {
            self.log();
        }
    }

    fn log(&self) {
        let code = self.code();
        let error: &dyn std::error::Error = match self {
            Self::Store(cause) => cause,
            Self::Internal(cause) => return tracing::error!(code, cause, "answered `{code}`"),
            other => other,
        };
        let cause = causes(error);
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(code, cause, "answered `{code}`");
        } else {
            tracing::error!(code, cause, "answered `{code}`");
        }
    }
}

const INTERNAL: Kind = (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error");
const TOO_LARGE: Kind = (StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", "Message too large");
const HOOK_NOT_FOUND: Kind = (StatusCode::NOT_FOUND, "incoming_hook_not_found", "Not found");
const STORE: Kind = (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "Store unavailable");
const TOKEN_REFUSED: Kind = (StatusCode::UNAUTHORIZED, "token_refused", "Spaces refused the token");

fn session_kind(error: &SessionError) -> Kind {
    match error {
        SessionError::AuthFailed { .. } => TOKEN_REFUSED,
        SessionError::NotConnected { .. } => (StatusCode::SERVICE_UNAVAILABLE, "not_connected", "Not connected to Spaces"),
        SessionError::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "session_busy", "The session is busy"),
        SessionError::RateLimited { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "emit_budget_exhausted", "The emit budget is used up")
        }
        SessionError::TooLarge { .. } => TOO_LARGE,
        SessionError::SpaceRefused { code, message } => match Refusal::read(code.as_deref(), message.as_deref()) {
            Refusal::Forbidden => (StatusCode::FORBIDDEN, "space_forbidden", "Spaces forbids the space"),
            Refusal::NotFound => (StatusCode::NOT_FOUND, "space_not_found", "Spaces does not know the space"),
            Refusal::Other => (StatusCode::CONFLICT, "subscription_refused", "Spaces refused the subscription"),
        },
        SessionError::MessageRefused { code, message } => match code.as_deref().or(message.as_deref()) {
            Some("not.authorized.by.topic.policy") => {
                (StatusCode::FORBIDDEN, "message_forbidden", "The space's policy forbids the message")
            }
            Some("app.event.channel.subscription.required") => {
                (StatusCode::CONFLICT, "subscription_required", "Spaces wants a subscription first")
            }
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "message_refused", "Spaces refused the message"),
        },
        SessionError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "session_closed", "The session has closed"),
        SessionError::Store => STORE,
    }
}

fn rest_kind(error: &RestError) -> Kind {
    match error {
        RestError::Refused { status: 401, .. } => TOKEN_REFUSED,
        RestError::Refused { status: 403, .. } => (StatusCode::FORBIDDEN, "upstream_forbidden", "Spaces forbids it"),
        RestError::Refused { status: 404, .. } => (StatusCode::NOT_FOUND, "upstream_not_found", "Spaces does not know it"),
        RestError::Refused { status: 409, .. } => (StatusCode::CONFLICT, "upstream_conflict", "Spaces sees a conflict"),
        RestError::Refused { status: 400 | 422, .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "upstream_refused", "Spaces refused it")
        }
        RestError::Refused { status: 429, .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "upstream_rate_limited", "Spaces wants fewer calls")
        }
        RestError::Limited { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "call_budget_exhausted", "The budget of calls to Spaces is used up")
        }
        RestError::Refused { .. } | RestError::Unreadable { .. } => (StatusCode::BAD_GATEWAY, "upstream_error", "Spaces failed"),
        RestError::Unreachable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "upstream_unreachable", "Spaces is out of reach"),
    }
}

fn account_kind(error: &AccountError) -> Kind {
    match error {
        AccountError::NotFound => (StatusCode::NOT_FOUND, "account_not_found", "Not found"),
        AccountError::Exists(_) => (StatusCode::CONFLICT, "account_exists", "The user has an account"),
        AccountError::TooMany { .. } => (StatusCode::CONFLICT, "account_limit_reached", "Too many accounts"),
        AccountError::OtherUser => (StatusCode::CONFLICT, "other_user", "Another user's credential"),
        AccountError::NotAllowed(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "credential_not_allowed", "The settings do not allow the credential")
        }
        AccountError::Mint(MintError::Refused(_)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "credential_refused", "The credential was refused")
        }
        AccountError::Mint(MintError::Failed(_)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "credential_failed", "The credential gives no token")
        }
        AccountError::Mint(MintError::Unavailable { .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, "credential_unavailable", "The credential cannot be used now")
        }
        AccountError::Session(error) => session_kind(error),
        AccountError::Store(_) => STORE,
    }
}

fn webhook_kind(error: &WebhookError) -> Kind {
    match error {
        WebhookError::NotFound => (StatusCode::NOT_FOUND, "webhook_not_found", "Not found"),
        WebhookError::TooMany { .. } => (StatusCode::CONFLICT, "webhook_limit_reached", "Too many webhooks"),
        WebhookError::TooManySecrets(_) => (StatusCode::CONFLICT, "webhook_secret_limit_reached", "Too many secrets"),
        WebhookError::Sealed(_) => INTERNAL,
        WebhookError::Contended => (StatusCode::CONFLICT, "webhook_changed", "The webhook changed meanwhile"),
        WebhookError::Store(_) => STORE,
    }
}

fn hook_kind(error: &HookError) -> Kind {
    match error {
        HookError::NotFound => HOOK_NOT_FOUND,
        HookError::TooMany => (StatusCode::CONFLICT, "incoming_hook_limit_reached", "Too many incoming hooks"),
        HookError::TemplateMismatch => {
            (StatusCode::UNPROCESSABLE_ENTITY, "incoming_hook_template_mismatch", "Template or format is missing")
        }
        HookError::TooManySecrets => (StatusCode::CONFLICT, "incoming_hook_secret_limit_reached", "Too many secrets"),
        HookError::Changed => (StatusCode::CONFLICT, "incoming_hook_changed", "The incoming hook changed meanwhile"),
        HookError::Store(_) => STORE,
    }
}

fn hook_call_kind(error: &CallError) -> Kind {
    match error {
        CallError::Unknown => HOOK_NOT_FOUND,
        CallError::TooOften { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "incoming_hook_rate_limited", "The incoming hook is called too often")
        }
        CallError::Unproven(_) => (StatusCode::FORBIDDEN, "incoming_hook_check_failed", "The sender did not prove itself"),
        CallError::Sealed(_) => INTERNAL,
    }
}

fn idempotency_kind(error: &IdempotencyError) -> Kind {
    match error {
        IdempotencyError::Reused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", "Another request had this key"),
        IdempotencyError::InProgress => (StatusCode::CONFLICT, "idempotency_in_progress", "The same call is being done"),
        IdempotencyError::Store(_) => STORE,
    }
}

fn key_kind(error: &KeyError) -> Kind {
    match error {
        KeyError::NotFound => (StatusCode::NOT_FOUND, "key_not_found", "Not found"),
        KeyError::TooMany => (StatusCode::CONFLICT, "key_limit_reached", "Too many keys"),
        KeyError::Store(_) => STORE,
    }
}

impl From<KeyRefusal> for ApiError {
    fn from(refusal: KeyRefusal) -> Self {
        match refusal {
            KeyRefusal::Unknown => Self::KeyInvalid("there is no such bridge key, or not any more"),
            KeyRefusal::Expired => Self::KeyInvalid("the bridge key has expired"),
            KeyRefusal::TooFast { limit, retry_after, reset_after } => Self::KeyRateLimited { limit, retry_after, reset_after },
        }
    }
}

/// The scopes in words.
fn names(scopes: &[KeyScope]) -> String {
    scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect::<Vec<_>>().join(" or ")
}

fn test_kind(error: &TestError) -> Kind {
    match error {
        TestError::NotFound => (StatusCode::NOT_FOUND, "webhook_not_found", "Not found"),
        TestError::Disabled(_) => (StatusCode::CONFLICT, "webhook_not_enabled", "The webhook is not enabled"),
        TestError::NotAppended(_) => STORE,
    }
}

/// What the upstream means by refusing a space. It documents no list of codes, so the words decide.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Forbidden,
    NotFound,
    Other,
}

impl Refusal {
    fn read(code: Option<&str>, message: Option<&str>) -> Self {
        let words = format!("{} {}", code.unwrap_or_default(), message.unwrap_or_default()).to_ascii_lowercase();
        let says = |hints: &[&str]| hints.iter().any(|hint| words.contains(hint));
        if says(&["not found", "not.found", "not_found", "notfound", "no such", "does not exist", "unknown"]) {
            Self::NotFound
        } else if says(&["forbidden", "permission", "authorized", "authorised", "denied", "not a member", "acess", "access"]) {
            Self::Forbidden
        } else {
            Self::Other
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        self.log_if_ours();
        let problem = self.problem();
        let mut response = status.into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = problem.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(standing) = self.standing() {
            standing.show(headers);
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = match self {
                Self::CredentialsMissing => r#"Bearer realm="spaces-bridge""#,
                _ => r#"Bearer realm="spaces-bridge", error="invalid_token""#,
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.extensions_mut().insert(problem);
        response
    }
}

/// `duration` in the whole seconds of `Retry-After`, at least one.
fn whole_seconds(duration: Duration) -> u64 {
    limits::whole_seconds(duration).max(1)
}

/// Longest piece of the upstream's words that is passed on.
const MAX_UPSTREAM_WORDS: usize = 300;

fn shorten(words: &str) -> String {
    words.chars().filter(|character| !character.is_control()).take(MAX_UPSTREAM_WORDS).collect()
}

/// The error's own words, and the upstream's after them.
fn with(error: &ApiError, words: &str) -> String {
    match shorten(words).as_str() {
        "" => error.to_string(),
        words => format!("{error}: {words}"),
    }
}

/// The error and its causes in one line, for the log.
fn causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
