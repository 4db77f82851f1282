//! [`StorageClient`]: takes files to the storage host of Spaces and gets them from there.
//!
//! The host is another one than that of the REST API. Its addresses come in the answers of Spaces and are signed, so they are secrets
//! and no token goes along. They are followed over TLS only (unless the REST API itself is configured without), and never further.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;
use tracing::info;
use url::Url;

use super::oauth::describe;

/// How long nothing of a file may move before its transfer is given up.
const STALLED: Duration = Duration::from_secs(30);

/// How often a long transfer tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Most time to connect to the storage host.
const CONNECT: Duration = Duration::from_secs(10);

/// Connections to the storage host that are kept for the next file.
const IDLE_CONNECTIONS: usize = 4;

/// An address that says by itself that whoever has it may use it.
#[derive(Clone)]
pub struct SignedUrl(Url);

impl SignedUrl {
    /// Reads an address; `plain` also takes one without TLS.
    pub(super) fn parse(text: &str, plain: bool) -> Option<Self> {
        let url: Url = text.parse().ok()?;
        let is_allowed = match url.scheme() {
            "https" => true,
            "http" => plain,
            _ => false,
        };
        let is_sane = is_allowed && url.has_host() && url.username().is_empty() && url.password().is_none();
        is_sane.then_some(Self(url))
    }

    /// The address itself, for whoever asked for it.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[a signed address]")
    }
}

/// Why a file could not be brought to the storage, or be had from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The storage answered with a status that is no success.
    #[error("the storage of Spaces answered with status {0}")]
    Refused(u16),
    /// No answer came, or the connection broke.
    #[error("the storage of Spaces could not be reached: {0}")]
    Unreachable(&'static str),
    /// Nothing moved any more.
    #[error("the storage of Spaces took nothing for {} seconds", STALLED.as_secs())]
    Stalled,
}

impl StorageError {
    /// Whether the same may succeed in a moment.
    pub fn is_passing(self) -> bool {
        match self {
            Self::Refused(status) => status >= 500 || matches!(status, 408 | 429),
            Self::Unreachable(_) => true,
            Self::Stalled => false,
        }
    }
}

/// What is put into the storage: exactly so many bytes of this type.
#[derive(Debug)]
pub struct Upload<'a> {
    /// Its media type, as it was announced.
    pub media_type: &'a str,
    /// Exactly its size.
    pub size: u64,
    /// Its bytes. If they end early the upload fails.
    pub pieces: mpsc::Receiver<Bytes>,
}

/// A client of the storage host.
#[derive(Debug, Clone)]
pub struct StorageClient {
    http: reqwest::Client,
}

impl StorageClient {
    /// A client that uses the given TLS configuration.
    pub fn new(tls: rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .no_proxy()
            .referer(false)
            .user_agent(concat!("spaces-bridge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }

    /// Puts a file at `url` and waits until it is stored.
    pub async fn put(&self, url: &SignedUrl, upload: Upload<'_>) -> Result<(), StorageError> {
        let moved = Arc::new(AtomicU64::new(0));
        let size = upload.size;
        let body = Exactly { pieces: upload.pieces, left: size, moved: Arc::clone(&moved) };
        let request = self.http.put(url.0.clone()).header(CONTENT_TYPE, upload.media_type).header(CONTENT_LENGTH, size);
        let answer = tokio::select! {
            answer = request.body(reqwest::Body::wrap(body)).send() => answer,
            () = watch(&moved, size) => return Err(StorageError::Stalled),
        };
        let status = answer.map_err(|error| StorageError::Unreachable(describe(&error)))?.status();
        if status.is_success() { Ok(()) } else { Err(StorageError::Refused(status.as_u16())) }
    }

    /// Begins to read the file at `url`. `None` if it is not there.
    pub async fn get(&self, url: &SignedUrl) -> Result<Option<Download>, StorageError> {
        let answer = tokio::time::timeout(STALLED, self.http.get(url.0.clone()).send()).await;
        let answer = answer.map_err(|_| StorageError::Unreachable("no answer in time"))?;
        let answer = answer.map_err(|error| StorageError::Unreachable(describe(&error)))?;
        match answer.status() {
            StatusCode::OK => Ok(Some(Download(answer))),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status => Err(StorageError::Refused(status.as_u16())),
        }
    }
}

/// A file that is being read.
#[derive(Debug)]
pub struct Download(Response);

impl Download {
    /// Its media type, as the storage says it.
    pub fn media_type(&self) -> Option<&str> {
        self.0.headers().get(CONTENT_TYPE)?.to_str().ok()
    }

    /// Its size, if the storage says it.
    pub fn size(&self) -> Option<u64> {
        self.0.content_length()
    }

    /// The next piece, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        match tokio::time::timeout(STALLED, self.0.chunk()).await {
            Ok(piece) => piece.map_err(|error| StorageError::Unreachable(describe(&error))),
            Err(_) => Err(StorageError::Stalled),
        }
    }
}

/// Ends when nothing has moved for too long; tells how far a long upload is.
async fn watch(moved: &AtomicU64, size: u64) {
    let (mut before, mut still) = (0, Duration::ZERO);
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let now = moved.load(Ordering::Relaxed);
        if now > before {
            info!(bytes = now, of = size, percent = percent(now, size), "an upload is under way");
            (before, still) = (now, Duration::ZERO);
        } else {
            still += TELL_EVERY;
        }
        if still >= STALLED {
            return;
        }
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100)
}

/// A body of exactly so many bytes: it fails where there are more or fewer.
struct Exactly {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
    moved: Arc<AtomicU64>,
}

/// The pieces do not add up to the size that was announced.
#[derive(Debug, thiserror::Error)]
#[error("not the announced number of bytes")]
struct WrongSize;

impl Body for Exactly {
    type Data = Bytes;
    type Error = WrongSize;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WrongSize>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(cx).map(|piece| {
            let piece = piece.filter(|piece| piece.len() as u64 <= self.left);
            let Some(piece) = piece else { return Some(Err(WrongSize)) };
            self.left -= piece.len() as u64;
            self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Some(Ok(Frame::data(piece)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_storage_address_is_taken_over_tls_only_and_never_shown() {
        for (text, plain, expected) in [
            ("https://storage.example/a?X-Signature=s", false, true),
            ("https://storage.example/a?X-Signature=s", true, true),
            ("http://127.0.0.1:9/a", true, true),
            ("http://storage.example/a", false, false),
            ("ftp://storage.example/a", true, false),
            ("file:///etc/passwd", true, false),
            ("data:text/plain,a", true, false),
            ("https://user:word@storage.example/a", false, false),
            ("/relative", true, false),
            ("", true, false),
        ] {
            assert_eq!(SignedUrl::parse(text, plain).is_some(), expected, "{text} {plain}");
        }
        let url = SignedUrl::parse("https://storage.example/a?X-Signature=s3cret", false).expect("an address");
        assert_eq!(format!("{url:?}"), "[a signed address]");
        assert!(url.expose().ends_with("s3cret"));
    }

    #[test]
    fn only_what_may_go_away_by_itself_is_passing() {
        for (error, expected) in [
            (StorageError::Refused(403), false),
            (StorageError::Refused(400), false),
            (StorageError::Refused(429), true),
            (StorageError::Refused(503), true),
            (StorageError::Unreachable("the connection broke"), true),
            (StorageError::Stalled, false),
        ] {
            assert_eq!(error.is_passing(), expected, "{error}");
        }
    }

    async fn body_of(size: u64, pieces: &[&'static [u8]]) -> Result<usize, ()> {
        let (sender, receiver) = mpsc::channel(8);
        for piece in pieces {
            sender.send(Bytes::from_static(piece)).await.expect("there is room");
        }
        drop(sender);
        let body = Exactly { pieces: receiver, left: size, moved: Arc::default() };
        assert_eq!(body.size_hint().exact(), Some(size));
        body.collect().await.map(|collected| collected.to_bytes().len()).map_err(drop)
    }

    #[tokio::test]
    async fn a_body_has_exactly_the_announced_number_of_bytes() {
        assert_eq!(body_of(4, &[b"ab", b"cd"]).await, Ok(4));
        assert_eq!(body_of(0, &[]).await, Ok(0));
        assert_eq!(body_of(5, &[b"ab", b"cd"]).await, Err(()), "too few");
        assert_eq!(body_of(3, &[b"ab", b"cd"]).await, Err(()), "too many");
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_moves_is_let_go_on_and_one_that_stands_still_is_not() {
        let moved = AtomicU64::new(0);
        let watching = watch(&moved, 1_000);
        tokio::pin!(watching);
        for _ in 0..10 {
            moved.fetch_add(1, Ordering::Relaxed);
            assert!(tokio::time::timeout(Duration::from_secs(20), &mut watching).await.is_err(), "it moves");
        }
        tokio::time::timeout(Duration::from_secs(45), watching).await.expect("it stands still");
    }
}
