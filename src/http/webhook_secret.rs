//! The secrets that webhooks are signed with: showing them, and letting new ones follow old ones.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::auth::MayUseWebhooks;
use super::error::ApiError;
use super::extract::{ApiPath, OptionalJson};
use super::idempotency::{IdempotencyHeader, Keyed};
use super::webhook_request::SigningName;
use super::webhooks::{NO_STORE, owned};
use crate::domain::{self, DEFAULT_OVERLAP, MAX_OVERLAP, Secret, Signing, Timestamp, WebhookId, hmac_key};
use crate::webhooks::{Rotation, WebhookError};

/// What deliveries are signed with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WebhookSecret {
    /// The kind of the signatures.
    #[schema(value_type = SigningName)]
    signing: Signing,
    /// The newest secret, as Standard Webhooks writes it; with `hmac`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^whsec_", example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    pub(super) secret: Option<String>,
    /// The newest public key, as Standard Webhooks writes it; with `ed25519`. The private key is never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^whpk_", example = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")]
    pub(super) public_key: Option<String>,
    /// Those before it that still sign, newest first.
    previous: Vec<PreviousSecret>,
}

/// A secret or key that still signs beside its successor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PreviousSecret {
    /// Its public key, with `ed25519`. A secret that has a successor is not shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^whpk_")]
    public_key: Option<String>,
    /// When it signs no more.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl WebhookSecret {
    /// What `webhook` is signed with now.
    pub(super) fn of(app: &AppState, webhook: &domain::Webhook) -> Result<Self, ApiError> {
        let secret = app.webhooks.secret(webhook).map_err(WebhookError::from)?;
        let previous = webhook.signing.valid(app.clock.now()).filter_map(|key| {
            let expires_at = key.expires_at?;
            Some(PreviousSecret { public_key: key.public_key.clone(), expires_at })
        });
        Ok(Self {
            signing: webhook.signing.kind,
            secret: secret.map(|secret| secret.expose().to_owned()),
            public_key: webhook.signing.newest().and_then(|key| key.public_key.clone()),
            previous: previous.collect(),
        })
    }
}

/// A rotation. Everything may be left out, the body too.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"overlapSeconds": 3600}))]
pub(super) struct SecretRotation {
    /// For how many seconds the secrets before go on signing; none do with 0.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 604_800, default = 86_400)]
    overlap_seconds: Option<u64>,
    /// A secret of one's own; a random one if left out. With `hmac` only: private keys of `ed25519` never travel.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^whsec_")]
    secret: Option<Secret>,
}

impl SecretRotation {
    /// The secret, if the caller gives one, and the overlap.
    fn checked(self, signing: Signing) -> Result<(Option<Secret>, Duration), ApiError> {
        let overlap = self.overlap_seconds.map_or(DEFAULT_OVERLAP, Duration::from_secs);
        if overlap > MAX_OVERLAP {
            return Err(ApiError::field("/overlapSeconds", format!("it is more than {} seconds", MAX_OVERLAP.as_secs())));
        }
        match (&self.secret, signing) {
            (Some(_), Signing::Ed25519) => {
                return Err(ApiError::field("/secret", "the webhook is signed with ed25519, whose keys are made by the bridge"));
            }
            (Some(secret), Signing::Hmac) => {
                hmac_key(secret).map_err(|error| ApiError::field("/secret", error.to_string()))?;
            }
            (None, Signing::Hmac | Signing::Ed25519) => {}
        }
        Ok((self.secret, overlap))
    }
}

/// Show a webhook's signing secret
///
/// The newest secret, or with `ed25519` the public key, and until when older ones still sign.
#[utoipa::path(
    get,
    path = "/webhooks/{id}/secret",
    tag = "Webhooks",
    params(("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed")),
    responses(
        (status = 200, description = "The secret.", body = WebhookSecret),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_webhook_secret(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
) -> Result<impl IntoResponse, ApiError> {
    let webhook = owned(&app, &caller.reach(&app).await?, &id)?;
    Ok(([(CACHE_CONTROL, NO_STORE)], Json(WebhookSecret::of(&app, &webhook)?)))
}

/// Rotate a webhook's signing secret
///
/// From now on deliveries carry the new secret's signature first and that of the one before it second, until the overlap is over:
/// a receiver that knows either of them accepts. An overlap of 0 ends every older secret at once. Rotating to the secret that is the
/// newest already changes nothing.
#[utoipa::path(
    post,
    path = "/webhooks/{id}/rotate-secret",
    tag = "Webhooks",
    params(
        ("id" = String, Path, description = "The webhook.", pattern = "^wh_[A-Za-z0-9_-]{1,128}$", example = "wh_1b9d6bcd4bbb4d2d9b5dab8dfbbd4bed"),
        IdempotencyHeader,
    ),
    request_body(content = Option<SecretRotation>, content_type = "application/json"),
    responses(
        (status = 200, description = "The new secret, and until when those before it sign.", body = WebhookSecret),
        (status = 404, description = "`webhook_not_found`: there is none, or not of this account."),
        (status = 409, description = "`webhook_secret_limit_reached`: as many secrets sign as may at a time. `webhook_changed`: others changed it at the same time; try again."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn rotate_webhook_secret(
    State(app): State<AppState>,
    MayUseWebhooks(caller): MayUseWebhooks,
    ApiPath(id): ApiPath<WebhookId>,
    Keyed(call, OptionalJson(rotation)): Keyed<OptionalJson<SecretRotation>>,
) -> Result<Response, ApiError> {
    let reach = caller.reach(&app).await?;
    let (secret, overlap) = rotation.checked(owned(&app, &reach, &id)?.signing.kind)?;
    let scope = caller.scope(&app).await?;
    let work = |seed| {
        let app = app.clone();
        async move {
            let rotation = Rotation { secret, seed, overlap };
            let rotating = {
                let app = app.clone();
                async move { Ok(app.webhooks.rotate_secret(&id, rotation).await?) }
            };
            let webhook = app.to_the_end(rotating).await?;
            Ok(([(CACHE_CONTROL, NO_STORE)], Json(WebhookSecret::of(&app, &webhook)?)).into_response())
        }
    };
    call.once(&app, &scope, work).await
}
