//! Files: sent to Spaces without a message, and got from there.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use utoipa::ToSchema;

use super::AppState;
use super::auth::{AccountCaller, MayRead, MaySend};
use super::error::{ApiError, Resource};
use super::extract::{ApiPath, ApiQuery};
use super::form::{FormRules, ReceivedFile, receive_body};
use super::idempotency::{Call, IdempotencyHeader, UnprintedCall};
use super::media_type::{UNKNOWN, clean_name, media_type};
use super::message_body::Attachment;
use super::message_input::read_parts;
use super::multipart::{Pieces as _, boundary};
use super::steady::SteadyBody;
use super::uploads;
use crate::domain::SpaceId;
use crate::spool::BEGINNING;
use crate::upstream::{AnnouncedFile, Download, is_file_id};

/// The route that takes files, which may take long.
pub(super) const UPLOAD_ROUTE: &str = "/spaces/{spaceId}/files";

/// What a body that is one file says of it in the query.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UploadQuery {
    /// The file's name, if the body is the file itself. In a form each file has its own.
    #[param(nullable = false, min_length = 1, max_length = 1024, example = "report.pdf")]
    name: Option<String>,
}

/// Files that are in Spaces now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"attachments": [{"fileId": "0b7f3c7e-1d2e-4f30-8a41-5b6c7d8e9f00", "name": "report.pdf", "fileSize": 20480,
    "fileType": "document", "providerFileType": "application/pdf"}]}))]
pub(super) struct UploadedFiles {
    /// The files in their order, as a message takes them in its own `attachments`.
    attachments: Vec<Attachment>,
}

/// A form with files.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the form as the document shows it")]
pub(super) struct FileForm {
    /// One file or more; the names of the fields do not matter.
    #[schema(min_items = 1, value_type = Vec<String>, format = Binary, content_media_type = "application/octet-stream")]
    file: Vec<u8>,
}

/// Upload files
///
/// Takes files to Spaces for a message in this space, without sending one. The answer has them as `attachments` of a later message.
/// Either a form with files, or a body that is one file itself, with its name in the query: `curl -T report.pdf`. With
/// `Content-Length` and without `Idempotency-Key` the latter goes through without waiting on disk.
#[utoipa::path(
    post,
    path = "/spaces/{spaceId}/files",
    tag = "Files",
    params(
        ("spaceId" = String, Path, description = "The space, as Spaces numbers it.", pattern = "^[A-Za-z0-9_-]{1,128}$", example = "64f0a1b2c3d4e5f601020304"),
        UploadQuery,
        IdempotencyHeader,
    ),
    request_body(content(
        (FileForm = "multipart/form-data"),
        (String = "application/octet-stream"),
    ), description = "A form with files, or one file, of any media type."),
    responses(
        (status = 201, description = "All files are in Spaces.", body = UploadedFiles),
        (status = 400, description = "`malformed_form`: the form cannot be read. `invalid_query`: a body that is a file needs a `name`. `invalid_path`, `body_unreadable`, `idempotency_key_invalid`: the request is not well formed."),
        (status = 403, description = "`upstream_forbidden`: Spaces does not let this user upload there. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`upstream_not_found`: Spaces does not know the space."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 413, description = "`file_too_large`: Spaces takes files up to `limit` bytes. `body_too_large`: the other fields of the form are larger than the service reads."),
        (status = 422, description = "`invalid_body`: the form has no file, too many, or something else. `upstream_refused`: Spaces refused it."),
        (status = 502, description = "`upload_failed`: a file did not get into Spaces. `upstream_error`: Spaces failed."),
        (status = 503, description = "`upload_room_exhausted`: the files that are being sent take all the room on disk. `overloaded`: too many send files at the same time. Also `not_connected`, `upstream_unreachable`, `store_unavailable`, `timed_out`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn upload_files(
    State(app): State<AppState>,
    MaySend(caller): MaySend,
    ApiPath(space): ApiPath<SpaceId>,
    ApiQuery(query): ApiQuery<UploadQuery>,
    FileInput(request): FileInput,
) -> Result<Response, ApiError> {
    caller.check_space(&space)?;
    let place = uploads::take_place(&app)?;
    let said = said(request.headers());
    match said.as_deref().and_then(boundary) {
        Some(boundary) if query.name.is_none() => {
            let (call, mut form) = read_parts(request, &boundary?, &app, &caller, false).await?;
            let files = std::mem::take(&mut form.files);
            if files.is_empty() {
                return Err(ApiError::field("", "the form has no file"));
            }
            upload_once(&app, caller, (call, place), space, files).await
        }
        Some(_) => Err(ApiError::InvalidQuery { detail: "in a form each file has its own name".to_owned() }),
        None => {
            let name = query.name.filter(|name| (1..=MAX_GIVEN_NAME).contains(&name.chars().count()));
            let name = name.ok_or_else(|| ApiError::InvalidQuery { detail: NO_NAME.to_owned() })?;
            let (parts, body) = request.into_parts();
            let body = SteadyBody::new(body, app.settings.request_timeout);
            let call = UnprintedCall::read(&parts)?;
            let file = OneFile { name: clean_name(&name), said, size: size(&parts.headers), body };
            upload_body(&app, caller, (call, place), space, file).await
        }
    }
}

/// Longest name that is taken; what is stored of it may be shorter.
const MAX_GIVEN_NAME: usize = 1_024;

const NO_NAME: &str = "a body that is a file needs its name, `?name=report.pdf`, of at most 1024 characters";

/// The request, not read yet.
#[derive(Debug)]
pub(super) struct FileInput(Request);

impl FromRequest<AppState> for FileInput {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, ApiError> {
        Ok(Self(request))
    }
}

/// A body that is one file.
struct OneFile {
    name: String,
    said: Option<String>,
    size: Option<u64>,
    body: SteadyBody,
}

/// Takes a body to Spaces: at once if its size is known and it is not going to be asked for again, else by way of the disk.
async fn upload_body(
    app: &AppState,
    caller: AccountCaller,
    (call, place): (UnprintedCall, OwnedSemaphorePermit),
    space: SpaceId,
    mut file: OneFile,
) -> Result<Response, ApiError> {
    let file_limit = uploads::file_limit(app, &caller).await?;
    if file.size.is_some_and(|size| size > file_limit) {
        file.body.drain().await;
        return Err(ApiError::FileTooLarge { limit: file_limit });
    }
    match file.size {
        Some(size) if !call.has_key() => {
            let attachment = pass_on(app, &caller, &space, file, size).await?;
            Ok(created(vec![attachment]))
        }
        _ => {
            let rules = FormRules { file_limit, takes_fields: false, fingerprinted: call.has_key() };
            let received = receive_body(app, &mut file.body, (&file.name, file.said.as_deref()), rules).await;
            let received = match received {
                Ok(received) => received,
                Err(error) => {
                    file.body.drain().await;
                    return Err(error);
                }
            };
            let print: Vec<Vec<u8>> = received.content.digest().map(|digest| digest.to_vec()).into_iter().collect();
            let call = call.with_print(file.said.as_deref().unwrap_or_default(), &print);
            upload_once(app, caller, (call, place), space, vec![received]).await
        }
    }
}

/// Passes a body of known size on while it arrives.
async fn pass_on(
    app: &AppState,
    caller: &AccountCaller,
    space: &SpaceId,
    mut file: OneFile,
    size: u64,
) -> Result<Attachment, ApiError> {
    let mut first: Vec<Bytes> = Vec::new();
    while first.iter().map(Bytes::len).sum::<usize>() < BEGINNING
        && let Some(piece) = file.body.next().await?
    {
        first.push(piece);
    }
    let beginning = first.concat();
    let media_type = media_type(file.said.as_deref(), &file.name, &beginning[..beginning.len().min(BEGINNING)]);
    let announced = AnnouncedFile { media_type: &media_type, size };
    let target = uploads::targets(app, caller, space, &[announced]).await?.pop();
    let target = target.ok_or_else(|| ApiError::Internal("no upload address for a file".to_owned()))?;
    let source = |pieces: mpsc::Sender<Bytes>| async move {
        let mut first = first.into_iter();
        loop {
            let piece = match first.next() {
                Some(piece) => Some(piece),
                None => file.body.next().await?,
            };
            let Some(piece) = piece else { return Ok(()) };
            // Whoever takes the pieces says why it does so no longer.
            if pieces.send(piece).await.is_err() {
                return Ok(());
            }
        }
    };
    uploads::pass_on(app, (&file.name, &media_type, size), target, source).await
}

/// Uploads files, once however often that is asked for.
async fn upload_once(
    app: &AppState,
    caller: AccountCaller,
    (call, place): (Call, OwnedSemaphorePermit),
    space: SpaceId,
    files: Vec<ReceivedFile>,
) -> Result<Response, ApiError> {
    if !call.has_key() {
        return Ok(created(uploads::upload(app, &caller, &space, &files).await?));
    }
    let (state, scope) = (app.clone(), caller.scope(app).await?);
    call.once(app, &scope, |_| async move {
        let _place = place;
        Ok(created(uploads::upload(&state, &caller, &space, &files).await?))
    })
    .await
}

fn created(attachments: Vec<Attachment>) -> Response {
    (StatusCode::CREATED, Json(UploadedFiles { attachments })).into_response()
}

/// What the sender says of the body's type.
fn said(headers: &HeaderMap) -> Option<String> {
    headers.get(CONTENT_TYPE)?.to_str().ok().map(str::to_owned)
}

fn size(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The id of a file in Spaces.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FileId(String);

impl TryFrom<String> for FileId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_file_id(&text) { Ok(Self(text)) } else { Err("not a valid file id") }
    }
}

/// How a file is got.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DownloadQuery {
    /// `redirect`: to an address that serves the file for a while. `stream`: the file itself comes through the service.
    #[serde(default)]
    #[param(inline)]
    mode: DownloadMode,
}

/// How a file is got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DownloadMode {
    /// By a redirect.
    #[default]
    Redirect,
    /// Through the service.
    Stream,
}

/// Get a file
///
/// Redirects to a fresh address of the file at the storage of Spaces, which needs no token and works for a while only; whoever has the
/// address can read the file. Or streams the file, with `mode=stream`. Files are not told apart by space, so a bridge key that is
/// limited to spaces gets none.
#[utoipa::path(
    get,
    path = "/files/{fileId}",
    tag = "Files",
    params(
        ("fileId" = String, Path, description = "The file's id, as attachments have it.", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,255}$", example = "0b7f3c7e-1d2e-4f30-8a41-5b6c7d8e9f00"),
        DownloadQuery,
    ),
    responses(
        (status = 200, description = "The file, with `mode=stream`.", body = String, content_type = "*/*", headers(
            ("Content-Disposition" = String, description = "`attachment`: to be saved, not to be shown."),
        )),
        (status = 302, description = "Where the file is now.", headers(
            ("Location" = String, description = "A signed address."),
        )),
        (status = 403, description = "`upstream_forbidden`: Spaces does not let this user have it. `account_required`: the admin key stands for no user."),
        (status = 404, description = "`file_not_found`: Spaces knows no such file."),
        (status = 409, description = "`upstream_conflict`: Spaces sees a conflict."),
        (status = 422, description = "`upstream_refused`: Spaces refused it."),
        (status = 502, description = "`download_failed`: the storage of Spaces failed. `upstream_error`: Spaces failed."),
        (status = 503, description = "`overloaded`: too many send or get files at the same time. Also `not_connected`, `upstream_unreachable`, `timed_out`."),
    ),
    security(("spacesToken" = []), ("spacesJwt" = []), ("bridgeKey" = [])),
)]
pub(super) async fn get_file(
    State(app): State<AppState>,
    MayRead(caller): MayRead,
    ApiPath(file): ApiPath<FileId>,
    ApiQuery(query): ApiQuery<DownloadQuery>,
) -> Result<Response, ApiError> {
    caller.check_all_spaces()?;
    let (session, _) = caller.identity(&app).await?;
    let url = app.rest.download_url(session.credential(), &file.0).await.map_err(|error| caller.told(error))?;
    let url = url.ok_or(ApiError::NotFound(Resource::File))?;
    match query.mode {
        DownloadMode::Redirect => {
            let location = HeaderValue::from_str(url.expose());
            let mut location = location.map_err(|_| ApiError::Internal("an address has odd characters".to_owned()))?;
            location.set_sensitive(true);
            app.metrics.downloads.with_label_values(&["redirect"]).inc();
            let headers = [(LOCATION, location), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            Ok((StatusCode::FOUND, headers).into_response())
        }
        DownloadMode::Stream => {
            let place = uploads::take_place(&app)?;
            let found = app.storage.get(&url).await.map_err(ApiError::DownloadFailed)?;
            app.metrics.downloads.with_label_values(&["stream"]).inc();
            Ok(streamed(found.ok_or(ApiError::NotFound(Resource::File))?, place))
        }
    }
}

/// The file as an answer, which is to be saved and never to be shown: anyone may have put anything into it.
fn streamed(download: Download, place: OwnedSemaphorePermit) -> Response {
    let media_type = download.media_type().and_then(|said| HeaderValue::from_str(said).ok());
    let size = download.size();
    let pieces = futures_util::stream::try_unfold((download, place), |(mut download, place)| async move {
        let piece = download.next().await.inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "a download broke off");
        })?;
        Ok::<_, crate::upstream::StorageError>(piece.map(|piece| (piece, (download, place))))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type.unwrap_or(HeaderValue::from_static(UNKNOWN)));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    if let Some(size) = size {
        headers.insert(CONTENT_LENGTH, size.into());
    }
    response
}
