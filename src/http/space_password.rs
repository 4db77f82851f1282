//! [`SpacePassword`]: what opens a protected space, from the header `X-Space-Password`, for one call and no longer.

use axum::extract::FromRequestParts;
use http::request::Parts;
use utoipa::IntoParams;

use super::AppState;
use super::error::ApiError;
use crate::domain::Secret;

const HEADER: &str = "x-space-password";

/// Longest password that is passed on.
const MAX_PASSWORD: usize = 128;

/// The password of a space, if the caller gives one.
#[derive(Debug)]
pub(super) struct SpacePassword(pub(super) Option<Secret>);

/// The header as the `OpenAPI` document shows it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the header as the document shows it")]
pub(super) struct SpacePasswordHeader {
    /// The password (PIN) of a protected space. Passed on to Spaces with this call, and kept nowhere.
    #[param(rename = "X-Space-Password", nullable = false, pattern = "^[!-~]{1,128}$", example = "2468")]
    space_password: Option<String>,
}

impl FromRequestParts<AppState> for SpacePassword {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let text = value
            .to_str()
            .ok()
            .filter(|text| (1..=MAX_PASSWORD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()));
        match (text, values.next()) {
            (Some(text), None) => Ok(Self(Some(Secret::new(text)))),
            _ => Err(ApiError::SpacePasswordInvalid),
        }
    }
}
