//! Files: announce, upload to a signed URL, download.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use socketio_client::codec::decode_query;

use super::answer::{Answer, Failure, object};
use super::caller::Caller;
use crate::state::Shared;
use crate::world::{FileContent, StoredFile, UserKind};

/// The most files kept.
const MAX_FILES: usize = 1000;

const FORBIDDEN: Failure = Failure::new(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", "the URL or its headers were changed");
const WRONG_SIZE: Failure = Failure::new(StatusCode::BAD_REQUEST, "EntityTooLarge", "not the announced number of bytes");

/// `POST /api/files/getuploadurl`
pub(super) async fn get_upload_url(State(shared): State<Arc<Shared>>, caller: Caller, body: Bytes) -> Answer {
    if caller.user.kind == UserKind::Anonymous {
        return Err(Failure::GUESTS_BARRED);
    }
    let body = object(&body)?;
    let files = body.get("files").and_then(Value::as_array).ok_or(Failure::invalid("files is required"))?;
    let state = &mut *shared.lock();
    if let Some(space_id) = body.get("topicId").and_then(Value::as_str) {
        caller.writable_space(state, space_id)?;
    }
    if state.world.files.len() + files.len() > MAX_FILES {
        return Err(Failure::invalid("too many files for a stand-in"));
    }
    let largest = u64::from(state.limits.file_kib) << 10;
    let mut data = Vec::new();
    for file in files {
        let announced = file.get("Content-Length").and_then(Value::as_u64);
        let announced =
            announced.filter(|size| *size <= largest).ok_or(Failure::invalid("Content-Length is missing or too large"))?;
        let content_type =
            file.get("Content-Type").and_then(Value::as_str).ok_or(Failure::invalid("Content-Type is required"))?;
        let (key, signature) = (state.world.ids.uuid(), state.world.ids.opaque());
        let url = format!("{}/storage/{key}?X-Signature={signature}", state.base_url);
        let stored = StoredFile { announced, content_type: content_type.to_owned(), signature, content: None };
        state.world.files.insert(key.clone(), stored);
        data.push(json!({"url": url, "fileKey": key}));
    }
    Ok(Json(json!({"data": data})))
}

/// `GET` or `POST /api/files/getdownloadurl`
pub(super) async fn get_download_url(
    State(shared): State<Arc<Shared>>,
    _: Caller,
    OriginalUri(uri): OriginalUri,
    body: Bytes,
) -> Answer {
    let mut keys: Vec<String> = decode_query(uri.query().unwrap_or_default())
        .into_iter()
        .filter(|(name, _)| name.trim_end_matches("[]") == "fileKeys")
        .map(|(_, key)| key)
        .collect();
    if !body.is_empty() {
        let body = object(&body)?;
        let named = body.get("fileKeys").and_then(Value::as_array).into_iter().flatten();
        keys.extend(named.filter_map(Value::as_str).map(str::to_owned));
    }
    let state = shared.lock();
    let urls = keys.iter().filter_map(|key| {
        let file = state.world.files.get(key).filter(|file| file.content.is_some())?;
        Some(json!({"fileKey": key, "url": format!("{}/storage/{key}?X-Signature={}", state.base_url, file.signature)}))
    });
    Ok(Json(json!({"data": urls.collect::<Vec<_>>()})))
}

/// `PUT` to a signed URL: the announced type and exactly the announced bytes, and no `Authorization`.
pub(super) async fn put_file(
    State(shared): State<Arc<Shared>>,
    Path(key): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Failure> {
    let (announced, content_type) = {
        let state = shared.lock();
        let file = signed_file(&state.world.files, &key, &uri)?;
        (file.announced, file.content_type.clone())
    };
    let header = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if header(CONTENT_TYPE) != Some(&content_type) || headers.contains_key(AUTHORIZATION) {
        return Err(FORBIDDEN);
    }
    if header(CONTENT_LENGTH).is_some_and(|length| length.parse() != Ok(announced)) {
        return Err(WRONG_SIZE);
    }
    let mut content = FileContent::of(&[]);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        content.add(&piece.map_err(|_| WRONG_SIZE)?);
        if content.size > announced {
            return Err(WRONG_SIZE);
        }
    }
    if content.size != announced {
        return Err(WRONG_SIZE);
    }
    if let Some(file) = shared.lock().world.files.get_mut(&key) {
        file.content = Some(content);
    }
    Ok(StatusCode::OK)
}

/// `GET` of a signed URL.
pub(super) async fn get_file(
    State(shared): State<Arc<Shared>>,
    Path(key): Path<String>,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Failure> {
    let state = shared.lock();
    let file = signed_file(&state.world.files, &key, &uri)?;
    let content = file.content.as_ref().and_then(|content| content.bytes.clone()).ok_or(FORBIDDEN)?;
    Ok(([(CONTENT_TYPE, file.content_type.clone())], content).into_response())
}

fn signed_file<'a>(
    files: &'a std::collections::HashMap<String, StoredFile>,
    key: &str,
    uri: &http::Uri,
) -> Result<&'a StoredFile, Failure> {
    let file = files.get(key).ok_or(FORBIDDEN)?;
    let query = decode_query(uri.query().unwrap_or_default());
    let signed = query.iter().any(|(name, value)| name == "X-Signature" && *value == file.signature);
    if signed { Ok(file) } else { Err(FORBIDDEN) }
}
