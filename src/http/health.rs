//! Health and metrics.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Operator;
use super::error::ApiError;
use crate::outbox::Depths;
use crate::store::{Query, Rows};

/// How long the store may take to show that it is there.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// How far the service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyState {
    /// It is starting.
    Starting,
    /// It serves.
    Ready,
    /// It is stopping.
    Stopping,
}

/// Whether the service is ready to serve; `app` sets it, `/readyz` tells it.
#[derive(Debug)]
pub struct Readiness(watch::Sender<ReadyState>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(ReadyState::Starting))
    }
}

impl Readiness {
    /// Says how far the service is.
    pub fn set(&self, state: ReadyState) {
        self.0.send_replace(state);
    }

    /// How far the service is.
    pub fn get(&self) -> ReadyState {
        *self.0.borrow()
    }

    /// Waits until the service is stopping. Safe to cancel.
    pub(super) async fn stopping(&self) {
        // The sender stays as long as this is here.
        let _ = self.0.subscribe().wait_for(|state| *state == ReadyState::Stopping).await;
    }
}

/// A service that is well.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Health {
    /// `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
}

const OK: Json<Health> = Json(Health { status: "ok" });

/// Tell whether the process lives
///
/// Answers as long as the process can answer anything, whatever becomes of Spaces or the store.
#[utoipa::path(get, path = "/livez", tag = "Health", responses((status = 200, description = "It does.", body = Health)))]
pub(super) async fn livez() -> Json<Health> {
    OK
}

/// Tell whether the service is ready
///
/// Ready means: it has started, is not stopping, and its store answers. Whether Spaces is reachable is a matter of each session.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Health",
    responses(
        (status = 200, description = "It is.", body = Health),
        (status = 503, description = "`not_ready`: it is not."),
    ),
)]
pub(super) async fn readyz(State(app): State<AppState>) -> Result<Json<Health>, ApiError> {
    match app.readiness.get() {
        ReadyState::Starting => return Err(ApiError::NotReady("it is starting")),
        ReadyState::Stopping => return Err(ApiError::NotReady("it is stopping")),
        ReadyState::Ready => {}
    }
    match tokio::time::timeout(STORE_PATIENCE, app.engine.next_due()).await {
        Ok(Ok(_)) => Ok(OK),
        Ok(Err(_)) | Err(_) => Err(ApiError::NotReady("its store does not answer")),
    }
}

/// Show the metrics
///
/// In the Prometheus text format. The internal listener shows them without a key.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Health",
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
        (status = 403, description = "`operator_required`: this call needs the admin key."),
    ),
    security(("adminKey" = [])),
)]
pub(super) async fn get_metrics(_: Operator, app: State<AppState>) -> impl IntoResponse {
    get_metrics_internally(app).await
}

/// The metrics without a key.
pub(super) async fn get_metrics_internally(State(app): State<AppState>) -> impl IntoResponse {
    show_token_ends(&app);
    app.accounts.observe();
    match app.engine.query(Query::Depths).await.map(|page| page.rows) {
        Ok(Rows::Depths { waiting, in_flight, dead, oldest_waiting }) => {
            let age = oldest_waiting.map_or(Duration::ZERO, |since| app.clock.now().since(since));
            app.metrics.oldest_waiting.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
            for (state, count) in [("waiting", waiting), ("in_flight", in_flight), ("dead", dead)] {
                app.metrics.delivery_queue.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        Ok(_) => tracing::error!("the store answered another question than for its depths"),
        // The other metrics are wanted most when the store is failing.
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "failed to read the depths of the delivery queue"),
    }
    let Depths { queued, doubtful, oldest } = app.outbox.depths();
    for (state, count) in [("queued", queued), ("doubtful", doubtful)] {
        app.metrics.outbox_messages.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let age = oldest.map_or(Duration::ZERO, |since| app.clock.now().since(since));
    app.metrics.outbox_oldest.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    app.metrics.upload_room.set(i64::try_from(app.spool.taken()).unwrap_or(i64::MAX));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}

/// Of each kind of token that sessions have, when the first one ends.
fn show_token_ends(app: &AppState) {
    app.metrics.token_end.reset();
    let now = app.clock.now();
    for (kind, ends) in app.sessions.soonest_token_ends() {
        let left = i64::try_from(ends.since(now).as_secs()).unwrap_or(i64::MAX);
        app.metrics.token_end.with_label_values(&[kind.as_str()]).set(left);
    }
}
