//! Tokens, limits and addresses.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use socketio_client::codec::decode_query;

use super::caller::AnyCaller;
use crate::state::Shared;
use crate::world::{TokenKind, User, UserKind, World};

/// `POST /api/anonymous/auth`, JSON or form; every field is optional.
pub(super) async fn authenticate_anonymous(State(shared): State<Arc<Shared>>, body: Bytes) -> Json<Value> {
    let fields = fields(&body);
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let world = &mut shared.lock().world;
    let displayname = field("displayname").unwrap_or_else(|| "Guest".to_owned());
    let username = field("username").unwrap_or_else(|| displayname.clone());
    let guest = world.add_user(&displayname, &username, UserKind::Anonymous);
    let token = world.token_for(&guest, TokenKind::Anonymous);
    Json(json!({"token": token.value}))
}

/// `GET /api/service-configurations`
pub(super) async fn get_service_configurations(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let state = shared.lock();
    let url = &state.base_url;
    Json(json!({
        "spaces": {"server_url": url, "socketio_server_url": url, "marketing_url": url},
        "store": {"server_url": url},
        "accounts": {"server_url": url},
    }))
}

/// `GET /api/limit`
pub(super) async fn get_limit(State(shared): State<Arc<Shared>>, _: AnyCaller) -> Json<Value> {
    let state = shared.lock();
    Json(state.reported_limits.clone().unwrap_or_else(|| state.limits.to_json()))
}

/// `POST /oauth2/access_token`: the grants `refresh_token` and `password`.
pub(super) async fn get_access_token(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let fields = fields(&body);
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.as_str());
    let world = &mut shared.lock().world;
    if field("client_id").is_empty() {
        return oauth_error("invalid_client");
    }
    let user = match field("grant_type") {
        "refresh_token" => world.use_refresh_token(field("refresh_token")),
        "password" => world.log_in(field("username"), field("password")),
        _ => return oauth_error("unsupported_grant_type"),
    };
    let Some(user) = user else {
        return oauth_error("invalid_grant");
    };
    let access = world.token_for(&user, TokenKind::Oauth);
    let refresh = world.refresh_token_for(&user);
    Json(json!({"access_token": access.value, "token_type": "bearer", "scope": "email profile spaces", "expires_in": world.oauth_seconds(),
        "refresh_token": refresh}))
    .into_response()
}

/// `POST /oauth2/revoke_token`
pub(super) async fn revoke_token(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    let fields = fields(&body);
    let token = fields.iter().find(|(name, _)| name == "refresh_token");
    if let Some((_, token)) = token {
        shared.lock().world.refresh_tokens.remove(token);
    }
    StatusCode::OK
}

impl World {
    /// The user of a refresh token that was never used; it is used now.
    fn use_refresh_token(&mut self, value: &str) -> Option<User> {
        let token = self.refresh_tokens.get_mut(value).filter(|token| !token.used)?;
        token.used = true;
        self.users.get(&token.user).cloned()
    }

    fn log_in(&self, username: &str, password: &str) -> Option<User> {
        self.passwords.get(username).filter(|known| *known == password)?;
        self.users.values().find(|user| user.username == username).cloned()
    }
}

fn oauth_error(error: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": error, "error_description": "the grant was refused"}))).into_response()
}

/// The fields of a JSON object or of a form.
fn fields(body: &[u8]) -> Vec<(String, String)> {
    if let Ok(Value::Object(object)) = serde_json::from_slice(body) {
        let strings = object.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
        return strings.collect();
    }
    decode_query(&String::from_utf8_lossy(body))
}
