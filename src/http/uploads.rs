//! Brings files that callers sent into Spaces: several at a time, in order, all or none.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Duration, Instant, sleep};
use tracing::{info, warn};

use super::AppState;
use super::auth::AccountCaller;
use super::error::ApiError;
use super::form::ReceivedFile;
use super::media_type::file_type;
use super::message_body::Attachment;
use crate::domain::SpaceId;
use crate::upstream::{AnnouncedFile, SignedUrl, StorageError, Upload, UploadTarget};

/// How often a file that waits on disk is put into the storage, if that fails for a moment.
const TRIES: u32 = 3;

/// The wait before the second time; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// Pieces between the one who reads a file and the one who sends it.
pub(super) const PIECES: usize = 2;

/// A place among those who send or get files.
pub(super) fn take_place(app: &AppState) -> Result<OwnedSemaphorePermit, ApiError> {
    std::sync::Arc::clone(&app.internals().transfers).try_acquire_owned().map_err(|_| ApiError::Overloaded)
}

/// Most bytes that Spaces takes of one file of the caller's user, who is asked for first.
pub(super) async fn file_limit(app: &AppState, caller: &AccountCaller) -> Result<u64, ApiError> {
    let (session, _) = caller.identity(app).await?;
    Ok(app.rest.governors().of(session.credential(), Instant::now()).limits().file_bytes)
}

/// Uploads the files for a message in `space` and answers them as attachments, in their order.
pub(super) async fn upload(
    app: &AppState,
    caller: &AccountCaller,
    space: &SpaceId,
    files: &[ReceivedFile],
) -> Result<Vec<Attachment>, ApiError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let announced: Vec<_> =
        files.iter().map(|file| AnnouncedFile { media_type: &file.media_type, size: file.content.size() }).collect();
    let targets = targets(app, caller, space, &announced).await?;
    let uploads: Vec<_> = files.iter().zip(targets).map(|(file, target)| upload_one(app, file, target)).collect();
    futures_util::stream::iter(uploads).buffered(app.settings.files.parallel_uploads).try_collect().await
}

/// Where the files are to be uploaded.
pub(super) async fn targets(
    app: &AppState,
    caller: &AccountCaller,
    space: &SpaceId,
    files: &[AnnouncedFile<'_>],
) -> Result<Vec<UploadTarget>, ApiError> {
    let (session, _) = caller.identity(app).await?;
    app.rest.upload_urls(session.credential(), space, files).await.map_err(|error| caller.told(error))
}

async fn upload_one(app: &AppState, file: &ReceivedFile, target: UploadTarget) -> Result<Attachment, ApiError> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match put(app, file, &target.url).await {
            Err(PutError::Storage(error)) if error.is_passing() => {
                info!(error = &error as &dyn std::error::Error, "an upload failed and is tried again");
                sleep(pause).await;
                pause *= 2;
            }
            result => return settle(app, file, target, result),
        }
    }
    let result = put(app, file, &target.url).await;
    settle(app, file, target, result)
}

enum PutError {
    Storage(StorageError),
    Api(ApiError),
}

/// Puts the file into the storage once.
async fn put(app: &AppState, file: &ReceivedFile, url: &SignedUrl) -> Result<(), PutError> {
    let source = |pieces| async { Ok(file.content.send(pieces).await?) };
    put_from(app, (&file.media_type, file.content.size()), url, source).await
}

/// Puts what `source` sends into the storage.
async fn put_from<F: Future<Output = Result<(), ApiError>>>(
    app: &AppState,
    (media_type, size): (&str, u64),
    url: &SignedUrl,
    source: impl FnOnce(mpsc::Sender<Bytes>) -> F,
) -> Result<(), PutError> {
    let (sender, pieces) = mpsc::channel(PIECES);
    let stored = app.storage.put(url, Upload { media_type, size, pieces });
    tokio::pin!(stored);
    tokio::select! {
        stored = &mut stored => stored.map_err(PutError::Storage),
        sent = source(sender) => match sent {
            Ok(()) => stored.await.map_err(PutError::Storage),
            Err(error) => Err(PutError::Api(error)),
        },
    }
}

fn settle(
    app: &AppState,
    file: &ReceivedFile,
    target: UploadTarget,
    result: Result<(), PutError>,
) -> Result<Attachment, ApiError> {
    settled(app, (&file.name, &file.media_type, file.content.size()), target, result)
}

/// Counts the end of an upload and says what came of it.
fn settled(
    app: &AppState,
    (name, media_type, size): (&str, &str, u64),
    target: UploadTarget,
    result: Result<(), PutError>,
) -> Result<Attachment, ApiError> {
    let outcome = match result {
        Ok(()) => "stored",
        Err(PutError::Storage(_)) => "failed",
        Err(PutError::Api(_)) => "broken_off",
    };
    app.metrics.uploads.with_label_values(&[outcome]).inc();
    match result {
        Ok(()) => {
            app.metrics.upload_bytes.inc_by(size);
            Ok(Attachment::uploaded(target.file_id, name, (size, file_type(media_type), media_type)))
        }
        Err(PutError::Storage(error)) => {
            warn!(bytes = size, error = &error as &dyn std::error::Error, "an upload failed");
            Err(ApiError::UploadFailed { file: name.to_owned(), source: error })
        }
        Err(PutError::Api(error)) => Err(error),
    }
}

/// Passes one file of known size on while it arrives: `source` sends its pieces.
pub(super) async fn pass_on<F: Future<Output = Result<(), ApiError>>>(
    app: &AppState,
    (name, media_type, size): (&str, &str, u64),
    target: UploadTarget,
    source: impl FnOnce(mpsc::Sender<Bytes>) -> F,
) -> Result<Attachment, ApiError> {
    let result = put_from(app, (media_type, size), &target.url, source).await;
    settled(app, (name, media_type, size), target, result)
}
