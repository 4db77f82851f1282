//! From the HTTP request to a WebSocket.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::future;
use http::{HeaderMap, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use socketio_client::codec::decode_query;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::debug;

use super::connection;
use crate::hub::Levers;
use crate::net::Stream;
use crate::script::Refusal;
use crate::state::Shared;

/// Small buffers: idle connections are many, frames are small.
const BUFFER: usize = 4096;

/// What the URL of a connection said.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) query: Vec<(String, String)>,
    pub(super) token: Arc<str>,
    /// The connection is accepted and then never hears anything.
    pub(super) mute: bool,
}

/// `GET /socket.io/?…&EIO=3&transport=websocket`
pub(crate) async fn upgrade(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let query = decode_query(request.uri().query().unwrap_or_default());
    let value = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    if value("transport") != Some("websocket") {
        return bad_request(&request, 0, "Transport unknown");
    }
    if value("sid").is_some() {
        return bad_request(&request, 1, "Session ID unknown");
    }
    let Some(accept_key) = accept_key(request.headers()) else {
        return bad_request(&request, 3, "Bad request");
    };
    let (Some(upgrade), Some(levers)) =
        (request.extensions_mut().remove::<OnUpgrade>(), request.extensions().get::<Levers>().cloned())
    else {
        return bad_request(&request, 3, "Bad request");
    };

    let token: Arc<str> = value("token").unwrap_or_default().into();
    let mut mute = false;
    let refusal = shared.lock().refusal_at_upgrade(&token);
    match refusal {
        Some(Refusal::Mute) => mute = true,
        Some(Refusal::Http { status, body, retry_after }) => return refused(status, body, retry_after),
        Some(Refusal::Unanswered) => return future::pending().await,
        Some(Refusal::Hangup) => {
            levers.cut.cancel();
            return future::pending().await;
        }
        Some(_) | None => {}
    }
    let handshake = Handshake { query, token, mute };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => accept(shared, upgraded, handshake, levers).await,
            Err(error) => debug!(%error, "an upgrade was not completed"),
        }
    });
    let headers =
        [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_ACCEPT, accept_key.as_str())];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn accept(shared: Arc<Shared>, upgraded: hyper::upgrade::Upgraded, handshake: Handshake, levers: Levers) {
    let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else {
        return debug!("an upgrade on a foreign connection");
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(shared.options.max_message))
        .max_frame_size(Some(shared.options.max_message));
    let stream = parts.io.into_inner();
    let socket = WebSocketStream::from_partially_read(stream, parts.read_buf.to_vec(), Role::Server, Some(config)).await;
    if levers.reset.load(Ordering::Relaxed) {
        return;
    }
    connection::run(shared, socket, handshake, levers).await;
}

/// The answer key of a complete WebSocket request.
fn accept_key(headers: &HeaderMap) -> Option<String> {
    let contains = |name: header::HeaderName, wanted: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    let complete = contains(header::CONNECTION, "upgrade")
        && contains(header::UPGRADE, "websocket")
        && contains(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| complete)?;
    Some(derive_accept_key(key.as_bytes()))
}

/// Stock servers answer an upgrade with text and a plain request with JSON.
fn bad_request(request: &Request, code: u8, message: &str) -> Response {
    if request.headers().contains_key(header::UPGRADE) {
        return (StatusCode::BAD_REQUEST, message.to_owned()).into_response();
    }
    (StatusCode::BAD_REQUEST, axum::Json(serde_json::json!({"code": code, "message": message}))).into_response()
}

fn refused(status: u16, body: String, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
