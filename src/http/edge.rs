//! What every request passes on its way in and out: its id, a span, a bound on how many are under way, a time limit, metrics, and the
//! body of failures. One layer, because each layer costs every request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tracing::{Instrument as _, info_span};

use super::AppState;
use super::error::ApiError;
use super::problem::Problem;
use super::{files, message_input};

/// Names a request, in both directions.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a caller.
const MAX_REQUEST_ID: usize = 128;

/// Routes that answer however much is under way, so that a busy service is not taken for a dead one.
const NEVER_SHED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Makes ids for requests that bring none: random digits of the process, and a number.
pub(super) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system provides random numbers");
        Self { process: u64::from_ne_bytes(bytes), next: AtomicU64::new(1) }
    }

    fn next(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        HeaderValue::from_str(&format!("{:016x}-{number:x}", self.process)).expect("digits and a hyphen")
    }

    /// The caller's id if it is one that may stand in logs and headers, else a new one.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let is_sane = |value: &&HeaderValue| {
            (1..=MAX_REQUEST_ID).contains(&value.len())
                && value.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        headers.get(REQUEST_ID).filter(is_sane).cloned().unwrap_or_else(|| self.next())
    }
}

/// The layer.
pub(super) async fn pass(State(app): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = app.internals().request_ids.of(request.headers());
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let id_text = id.to_str().unwrap_or_default();
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = info_span!("request", request.id = id_text, http.method = method, http.route = route);

    let answer = async {
        let response = with_problem(answer(&app, route, request, next).await, id_text);
        let (status, seconds) = (response.status(), started.elapsed().as_secs_f64());
        tracing::debug!(http.status = status.as_u16(), seconds, "answered {method} {route} with {}", status.as_u16());
        app.metrics.http_requests.with_label_values(&[method, route, status.as_str()]).inc();
        app.metrics.http_latency.observe(seconds);
        response
    };
    let mut response = answer.instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The id of a request, which its answer and its log entries carry.
#[derive(Debug, Clone)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

async fn answer(app: &AppState, route: &str, request: Request, next: Next) -> Response {
    let permit = app.internals().in_flight.try_acquire();
    if permit.is_err() && !NEVER_SHED.contains(&route) {
        return ApiError::Overloaded.into_response();
    }
    let limit = app.settings.request_timeout.saturating_mul(2).saturating_add(app.settings.max_wait);
    let limit = if sends_files(route, &request) { limit.saturating_add(app.settings.files.timeout) } else { limit };
    match tokio::time::timeout(limit.min(FAR), next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut.into_response(),
    }
}

/// Whether a request may take as long as files take.
fn sends_files(route: &str, request: &Request) -> bool {
    request.method() == Method::POST
        && (route == files::UPLOAD_ROUTE || message_input::is_form(request.headers().get(CONTENT_TYPE)))
}

/// What a handler's panic is answered with.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer calls")]
pub(super) fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::Internal(format!("a handler panicked: {}", words_of(panic.as_ref()))).into_response()
}

/// A time limit that is none; a longer one could not be added to the clock.
const FAR: Duration = Duration::from_hours(24);

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without words")
}

/// Gives a failure its body. Failures that did not come from this service's own code become problems by their status.
fn with_problem(mut response: Response, id: &str) -> Response {
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            ApiError::MethodNotAllowed.into_response().extensions_mut().remove().expect("a failure has a problem")
        }
        None => return response,
    };
    let problem = problem.of_request(id);
    let body = serde_json::to_vec(&problem).expect("problem details are texts and numbers");
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
    *response.body_mut() = Body::from(body);
    response
}

/// The method as a label: methods that HTTP does not know would be labels from outside.
fn method_label(method: &Method) -> &'static str {
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS]
        .iter()
        .zip(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
        .find_map(|(known, label)| (known == method).then_some(label))
        .unwrap_or("OTHER")
}
