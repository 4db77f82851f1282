//! What happens to every REST call before and after its handler.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::json;

use super::caller::credentials;
use crate::hub::Levers;
use crate::script::{ErrorBody, RestFault};
use crate::state::{Shared, Window};

/// Records the call, lets it suffer what the script says, counts it, and passes it on.
pub(super) async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let levers = request.extensions().get::<Levers>().cloned();
    let (number, fault, wait) = enter(&shared, &request);
    let response = match fault {
        None => match wait {
            Some(wait) => too_many(wait),
            None => next.run(request).await,
        },
        Some(RestFault::Slow(delay)) => {
            tokio::time::sleep(delay).await;
            next.run(request).await
        }
        Some(RestFault::Answer { status, body, retry_after }) => scripted(status, body, retry_after),
        Some(RestFault::Garbled { content_type, body }) => {
            let response = next.run(request).await;
            (response.status(), [(CONTENT_TYPE, content_type)], body).into_response()
        }
        Some(RestFault::Hang) => future::pending().await,
        Some(RestFault::Cut) => cut(levers).await,
        Some(RestFault::CutAfter) => {
            next.run(request).await;
            cut(levers).await
        }
    };
    shared.lock().seen.rest_answered(number, response.status().as_u16());
    response
}

/// The call's number in the record, its fault, and how long it is to wait if it came too often.
fn enter(shared: &Shared, request: &Request) -> (u64, Option<RestFault>, Option<Duration>) {
    let state = &mut *shared.lock();
    let (method, path, query) = (request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
    let number = state.seen.rest_called((method.as_str(), path), query, request.headers());

    let token = credentials(request.headers()).map(|(_, token)| token).unwrap_or_default();
    let own = state.scripts.tokens.get_mut(token).and_then(|script| script.rest.take(method, path));
    let fault = own.or_else(|| state.scripts.everybody.rest.take(method, path));

    let user = state.world.tokens.get(token).map(|token| token.user.clone());
    let interval = Duration::from_secs(state.limits.rest_interval.into());
    let wait = user.and_then(|user| {
        let window = state.rest_rates.entry(user).or_insert_with(Window::new);
        window.count(state.limits.rest_calls, interval).err()
    });
    (number, fault, wait)
}

fn too_many(wait: Duration) -> Response {
    let body = ErrorBody::CodeAndMessage("too.many.requests".to_owned(), "rate limit exceeded".to_owned());
    scripted(429, body, Some(wait.as_secs() + 1))
}

fn scripted(status: u16, body: ErrorBody, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match body {
        ErrorBody::CodeAndMessage(code, message) => {
            (status, axum::Json(json!({"code": code, "message": message}))).into_response()
        }
        ErrorBody::Wrapped(code, message) => {
            (status, axum::Json(json!({"error": {"code": code, "message": message}}))).into_response()
        }
        ErrorBody::Raw(content_type, body) => (status, [(CONTENT_TYPE, content_type)], body).into_response(),
        ErrorBody::Empty => status.into_response(),
    };
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Ends the connection that the call came on; the answer is never written.
async fn cut(levers: Option<Levers>) -> Response {
    if let Some(levers) = levers {
        levers.cut.cancel();
    }
    future::pending().await
}
