//! The HTTP API: all routes on this page, one file per resource, and around them `edge`, which every request passes.
//!
//! A handler takes (extractors: who calls, what is asked), calls (sessions, registries, the store) and answers; whatever fails is an
//! [`ApiError`], which becomes problem details. The `OpenAPI` document is made from the same handlers that serve.

mod account_credential;
mod accounts;
mod auth;
mod consumers;
mod deliveries;
mod direct;
mod docs;
mod durable;
mod edge;
mod editing;
mod error;
mod event_stream;
mod event_types;
mod events;
mod examples;
mod explain;
mod extract;
mod files;
mod filter;
mod filter_schema;
mod form;
#[cfg(fuzzing)]
pub mod fuzzing;
mod health;
mod history;
mod hook_preview;
mod hook_template;
mod hooks;
mod idempotency;
mod incoming_hook_body;
mod incoming_hooks;
mod keys;
mod limits;
mod listeners;
mod media_type;
mod message_body;
mod message_input;
mod message_view;
mod messages;
mod multipart;
mod openapi;
mod page;
mod people;
mod problem;
mod reach;
mod recent;
mod recovery;
mod remembered;
mod second_path;
mod session_recovery;
mod sessions;
mod signs;
mod since;
mod space;
mod space_password;
mod spaces;
mod state;
mod steady;
mod subscriptions;
mod targets;
#[cfg(test)]
mod tests;
mod uploads;
mod upstream_list;
mod webhook_body;
mod webhook_health;
mod webhook_pace;
mod webhook_request;
mod webhook_secret;
mod webhooks;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use error::{ApiError, Resource};
pub use health::{Readiness, ReadyState};
pub use openapi::{openapi, openapi_json};
pub use page::Page;
pub use problem::{FieldError, Problem};
pub use state::{AppParts, AppState, FileSettings, HttpSettings};

/// The API as callers reach it.
fn public_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(messages::post_message))
        .routes(routes!(direct::post_direct_message))
        .routes(routes!(targets::post_message_to_targets))
        .routes(routes!(messages::get_message, messages::cancel_message))
        .routes(routes!(files::upload_files))
        .routes(routes!(files::get_file))
        .routes(routes!(spaces::get_me))
        .routes(routes!(spaces::list_spaces))
        .merge(space_routes())
        .routes(routes!(subscriptions::put_subscription, subscriptions::delete_subscription))
        .routes(routes!(subscriptions::list_subscriptions))
        .routes(routes!(webhooks::create_webhook, webhooks::list_webhooks))
        .routes(routes!(webhook_health::get_webhook, webhooks::update_webhook, webhooks::delete_webhook))
        .routes(routes!(webhook_secret::get_webhook_secret))
        .routes(routes!(webhook_secret::rotate_webhook_secret))
        .routes(routes!(webhooks::test_webhook))
        .routes(routes!(webhook_health::enable_webhook))
        .routes(routes!(filter::test_filter))
        .routes(routes!(explain::get_event))
        .routes(routes!(deliveries::list_deliveries))
        .routes(routes!(deliveries::get_delivery))
        .routes(routes!(recovery::retry_delivery))
        .routes(routes!(recovery::recover_webhook))
        .routes(routes!(recovery::replay_webhook))
        .routes(routes!(recovery::list_dead_letters))
        .routes(routes!(events::list_events))
        .routes(routes!(event_types::list_event_types))
        .routes(routes!(consumers::list_consumers))
        .routes(routes!(consumers::put_consumer, consumers::get_consumer, consumers::delete_consumer))
        .routes(routes!(consumers::list_consumer_events))
        .merge(hook_routes())
        .merge(session_routes())
        .merge(key_routes())
        .merge(account_routes())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::get_metrics))
        .routes(routes!(docs::get_openapi))
        .routes(routes!(docs::get_docs))
        .routes(routes!(docs::get_docs_asset))
}

fn space_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(space::get_space))
        .routes(routes!(space::list_members))
        .routes(routes!(people::list_people))
        .routes(routes!(history::list_messages))
        .routes(routes!(editing::edit_message, editing::delete_message))
        .routes(routes!(signs::tell_typing))
        .routes(routes!(signs::mark_read))
}

fn hook_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(incoming_hooks::create_incoming_hook, incoming_hooks::list_incoming_hooks))
        .routes(routes!(
            incoming_hooks::get_incoming_hook,
            incoming_hooks::update_incoming_hook,
            incoming_hooks::delete_incoming_hook
        ))
        .routes(routes!(incoming_hooks::rotate_incoming_hook_secret))
        .routes(routes!(hook_preview::preview_incoming_hook))
        .routes(routes!(hooks::call_incoming_hook))
}

fn session_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(sessions::list_sessions))
        .routes(routes!(sessions::get_session, sessions::close_session))
        .routes(routes!(sessions::restart_session))
}

fn key_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(keys::create_key, keys::list_keys)).routes(routes!(keys::get_key, keys::delete_key))
}

fn account_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(accounts::create_account, accounts::list_accounts))
        .routes(routes!(accounts::get_account, accounts::delete_account))
        .routes(routes!(accounts::replace_credential))
        .routes(routes!(accounts::renew_account))
}

/// The routes of the internal listener: health, metrics without a key, and the sessions, accounts and bridge keys for the operator.
fn internal_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(session_routes())
        .merge(account_routes())
        .merge(key_routes())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .route("/metrics", axum::routing::get(health::get_metrics_internally))
}

/// The API, ready to be served on the public listener.
pub fn public_router(app: &AppState) -> Router {
    served(public_routes(), app)
}

/// Health, metrics and the operator's views, ready to be served on the internal listener.
pub fn internal_router(app: &AppState) -> Router {
    served(internal_routes(), app)
}

fn served(routes: OpenApiRouter<AppState>, app: &AppState) -> Router {
    Router::from(routes)
        .fallback(route_not_found)
        .layer(DefaultBodyLimit::max(app.settings.body_limit))
        .layer(CatchPanicLayer::custom(edge::answer_panic))
        .layer(SetResponseHeaderLayer::if_not_present(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        // Answers are of the moment, and some hold a secret.
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(middleware::from_fn_with_state(app.clone(), edge::pass))
        .with_state(app.clone())
}

async fn route_not_found() -> ApiError {
    ApiError::RouteNotFound
}
