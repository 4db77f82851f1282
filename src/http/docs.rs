//! The `OpenAPI` document and a page to browse it, which needs nothing from outside.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use utoipa_swagger_ui::Config;

use super::AppState;
use super::error::ApiError;
use super::extract::ApiPath;

/// Only the service's own files; the page's library sets styles on elements and draws its icons from `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page. It stands at `/docs`, and its parts below it.
const PAGE: &str = include_str!("docs.html");

/// Show the description of the API
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Documentation",
    responses((status = 200, description = "This document.", body = Object)),
)]
pub(super) async fn get_openapi(State(app): State<AppState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], app.internals().openapi.clone())
}

/// Browse the API
///
/// A page that shows this document, and lets one try the calls.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "Documentation",
    responses((status = 200, description = "A page that shows this document.", body = String, content_type = "text/html")),
)]
pub(super) async fn get_docs() -> Response {
    protected(Html(PAGE))
}

/// Load a part of the page
#[utoipa::path(
    get,
    path = "/docs/{asset}",
    tag = "Documentation",
    params(("asset" = String, Path, description = "The part's name.", example = "swagger-ui.css")),
    responses(
        (status = 200, description = "A script, style sheet or picture, most of them compressed.", headers(
            ("Content-Encoding" = String, description = "`gzip`, whatever the caller accepts: a page is read by browsers."),
        ), content((String = "text/javascript"), (String = "text/css"), (String = "text/html"), (Vec<u8> = "image/png"), (Object = "application/json"))),
        (status = 404, description = "`route_not_found`: the page has no such part."),
    ),
)]
pub(super) async fn get_docs_asset(ApiPath(name): ApiPath<String>) -> Result<Response, ApiError> {
    let config = Arc::new(Config::from("openapi.json").try_it_out_enabled(true).validator_url("none"));
    let found = utoipa_swagger_ui::serve(&name, config).map_err(|error| ApiError::Internal(error.to_string()))?;
    let file = found.ok_or(ApiError::RouteNotFound)?;
    let content_type = HeaderValue::from_str(&file.content_type).map_err(|error| ApiError::Internal(error.to_string()))?;
    let encoding = file.gzpipped.then_some([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
    Ok(protected(([(CONTENT_TYPE, content_type)], encoding, Bytes::from(file.bytes.into_owned()))))
}

/// An answer for browsers that runs nothing from elsewhere and is shown in no other page.
fn protected(answer: impl IntoResponse) -> Response {
    let headers = [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, answer).into_response()
}
