//! A message with files as `multipart/form-data` (RFC 7578): streamed from the disk, a piece at a time, with its exact length.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use super::{Answer, ClientError};

/// How much of a file is in memory at a time, times two.
const PIECE: usize = 64 << 10;

/// A file to be sent.
#[derive(Debug, Clone)]
pub struct Upload {
    path: PathBuf,
    name: String,
    size: u64,
}

impl Upload {
    /// Looks at the file at `path`.
    pub fn new(path: &Path) -> Result<Self, ClientError> {
        let failed = |source| ClientError::File { path: path.to_owned(), source };
        // Opened once, so that what must not be read is known before anything is sent.
        let metadata = std::fs::File::open(path).and_then(|file| file.metadata()).map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file")));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { path: path.to_owned(), name, size: metadata.len() })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A message and the files that go with it. The same parts make the same bytes, so that a call that is made again is the same call.
#[derive(Debug)]
pub struct Form {
    boundary: String,
    message: String,
    files: Vec<Upload>,
    sent: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<ClientError>>>,
}

impl Form {
    /// A form whose boundary follows from the call's key.
    pub fn new(key: &str, message: &Value, files: Vec<Upload>) -> Self {
        let boundary = crate::domain::hex(&Sha256::digest(format!("boundary of {key}"))[..20]);
        Self { boundary, message: message.to_string(), files, sent: Arc::default(), failure: Arc::default() }
    }

    /// How many bytes of files have left, counted anew by each attempt, and how many there are.
    pub fn progress(&self) -> (Arc<AtomicU64>, u64) {
        (Arc::clone(&self.sent), self.files.iter().map(|file| file.size).sum())
    }

    pub(super) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    fn head_of_message(&self) -> String {
        let Self { boundary, message, .. } = self;
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"message\"\r\nContent-Type: application/json\r\n\r\n{message}\r\n"
        )
    }

    fn head_of_file(&self, file: &Upload) -> String {
        // As HTML says for names in forms.
        let name = file.name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        let boundary = &self.boundary;
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
    }

    fn tail(&self) -> String {
        format!("--{}--\r\n", self.boundary)
    }

    fn size(&self) -> u64 {
        let texts: usize = self.files.iter().map(|file| self.head_of_file(file).len() + 2).sum();
        let texts = texts + self.head_of_message().len() + self.tail().len();
        self.files.iter().map(|file| file.size).sum::<u64>() + texts as u64
    }

    /// A body, and its size in bytes.
    pub(super) async fn body(&self) -> Result<(reqwest::Body, u64), ClientError> {
        self.sent.store(0, Ordering::Relaxed);
        let mut parts = vec![Part::Text(self.head_of_message())];
        for upload in &self.files {
            let file = File::open(&upload.path).await;
            let file = file.map_err(|source| ClientError::File { path: upload.path.clone(), source })?;
            parts.extend([
                Part::Text(self.head_of_file(upload)),
                Part::File(file, upload.clone()),
                Part::Text("\r\n".to_owned()),
            ]);
        }
        parts.push(Part::Text(self.tail()));
        let (sender, pieces) = mpsc::channel(1);
        let (sent, failure) = (Arc::clone(&self.sent), Arc::clone(&self.failure));
        tokio::spawn(async move {
            if let Err(error) = write(parts, &sender, &sent).await {
                // Its text for whoever reads the body, the error itself for whoever asks what happened.
                let told = std::io::Error::other(error.in_words());
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                // Nobody listens if the call has ended.
                let _ = sender.send(Err(told)).await;
            }
        });
        let size = self.size();
        Ok((reqwest::Body::wrap(Pieces { pieces, left: size }), size))
    }

    /// Names the file if the call failed because one could not be read.
    pub(super) fn explain(&self, answer: Result<Answer, ClientError>) -> Result<Answer, ClientError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (answer, failure) {
            (Err(ClientError::Broken(_) | ClientError::Unreachable(_)), Some(failure)) => Err(failure),
            (answer, _) => answer,
        }
    }

    /// Comes back when nothing has left for `longest`.
    pub(super) async fn stalled(&self, longest: Duration) {
        loop {
            let before = self.sent.load(Ordering::Relaxed);
            tokio::time::sleep(longest).await;
            if self.sent.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

enum Part {
    Text(String),
    File(File, Upload),
}

/// Hands the parts over piece by piece, until that is done or nobody takes them any more.
async fn write(parts: Vec<Part>, pieces: &mpsc::Sender<std::io::Result<Bytes>>, sent: &AtomicU64) -> Result<(), ClientError> {
    for part in parts {
        match part {
            Part::Text(text) => {
                if pieces.send(Ok(text.into())).await.is_err() {
                    return Ok(());
                }
            }
            Part::File(mut file, upload) => {
                let failed = |source| ClientError::File { path: upload.path.clone(), source };
                let mut left = upload.size;
                while left > 0 {
                    let mut piece = Vec::with_capacity(usize::try_from(left).unwrap_or(PIECE).min(PIECE));
                    let read = (&mut file).take(left.min(PIECE as u64)).read_to_end(&mut piece).await.map_err(failed)?;
                    if read == 0 {
                        return Err(failed(std::io::Error::new(
                            std::io::ErrorKind::UnexpectedEof,
                            "it became shorter meanwhile",
                        )));
                    }
                    left -= read as u64;
                    if pieces.send(Ok(piece.into())).await.is_err() {
                        return Ok(());
                    }
                    sent.fetch_add(read as u64, Ordering::Relaxed);
                }
            }
        }
    }
    Ok(())
}

/// The body of a form, whose size is known.
struct Pieces {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    left: u64,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let piece = ready!(self.pieces.poll_recv(context));
        if let Some(Ok(bytes)) = &piece {
            self.left = self.left.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;

    fn file(directory: &Path, name: &str, bytes: &[u8]) -> Upload {
        let path = directory.join(name);
        std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("a file");
        Upload::new(&path).expect("an upload")
    }

    #[tokio::test]
    async fn a_form_has_the_size_that_it_says_and_the_same_bytes_each_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let large = vec![7; 3 * PIECE + 5];
        let files = vec![file(directory.path(), "a\"b.bin", &large), file(directory.path(), "empty", b"")];
        let form = Form::new("k", &json!({"text": "here"}), files);
        let mut bodies = Vec::new();
        for _ in 0..2 {
            let (body, size) = form.body().await.expect("a body");
            let bytes = body.collect().await.expect("all of it").to_bytes();
            assert_eq!(bytes.len() as u64, size);
            bodies.push(bytes);
        }
        assert_eq!(bodies[0], bodies[1]);
        let text = String::from_utf8_lossy(&bodies[0]);
        assert!(text.contains("name=\"message\"\r\nContent-Type: application/json\r\n\r\n{\"text\":\"here\"}\r\n--"), "{text}");
        assert!(text.contains("filename=\"a%22b.bin\"") && text.ends_with(&form.tail()));
        let (sent, all) = form.progress();
        assert_eq!((sent.load(Ordering::Relaxed), all), (large.len() as u64, large.len() as u64));
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_breaks_the_body_off() {
        let directory = tempfile::tempdir().expect("a directory");
        let upload = file(directory.path(), "log", b"0123456789");
        std::fs::write(directory.path().join("log"), b"0123").expect("written");
        let form = Form::new("k", &json!({}), vec![upload]);
        let (body, _) = form.body().await.expect("a body");
        body.collect().await.expect_err("no whole body");
        let error = form.explain(Err(ClientError::Silent)).expect_err("an error");
        assert!(matches!(error, ClientError::Silent), "another failure stays what it is");
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in [directory.path().to_owned(), directory.path().join("nothing")] {
            assert!(matches!(Upload::new(&path), Err(ClientError::File { .. })), "{path:?}");
        }
    }
}
