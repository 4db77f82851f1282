//! [`SteadyBody`]: a request's body that may take as long as it likes while it moves.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tracing::info;

use super::error::ApiError;
use super::multipart::Pieces;

/// Bytes that have to come within the time of patience. Who is slower holds a place for nothing.
const LEAST: usize = 16 << 10;

/// How often a long body tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What is read of a body that is refused, and for how long, so that its sender gets to read why.
const LAST_BYTES: usize = 4 << 20;
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A body whose sender has to keep up with a least speed; the time that others take does not count.
pub(super) struct SteadyBody {
    stream: BodyDataStream,
    patience: Duration,
    /// What came of the present window, and how long that was waited for.
    window: (usize, Duration),
    bytes: u64,
    told_at: Instant,
}

impl SteadyBody {
    pub(super) fn new(body: Body, patience: Duration) -> Self {
        let window = (0, Duration::ZERO);
        Self { stream: body.into_data_stream(), patience, window, bytes: 0, told_at: Instant::now() }
    }

    /// Takes a little more and forgets it.
    pub(super) async fn drain(mut self) {
        let drained = async {
            let mut bytes = 0;
            while let Some(Ok(piece)) = self.stream.next().await {
                bytes += piece.len();
                if bytes > LAST_BYTES {
                    break;
                }
            }
        };
        // Whoever sends more has been told all the same.
        let _ = tokio::time::timeout(LAST_WAIT, drained).await;
    }

    fn note(&mut self, length: usize, waited: Duration) {
        self.bytes += length as u64;
        self.window = match (self.window.0 + length, self.window.1 + waited) {
            (LEAST.., _) => (0, Duration::ZERO),
            window => window,
        };
        if self.told_at.elapsed() >= TELL_EVERY {
            self.told_at = Instant::now();
            info!(bytes = self.bytes, "files are arriving");
        }
    }
}

impl Pieces for SteadyBody {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let (began, left) = (Instant::now(), self.patience.saturating_sub(self.window.1));
        let piece = tokio::time::timeout(left, self.stream.next()).await.map_err(|_| ApiError::RequestTimeout)?;
        let Some(piece) = piece else { return Ok(None) };
        let piece = piece.map_err(|_| ApiError::BodyUnreadable)?;
        self.note(piece.len(), began.elapsed());
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body that gives `size` bytes every `seconds`, so many times.
    fn dripping(size: usize, seconds: u64, times: usize) -> SteadyBody {
        let stream = futures_util::stream::unfold(0, move |number| async move {
            if number == times {
                return None;
            }
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![0; size])), number + 1))
        });
        SteadyBody::new(Body::from_stream(stream), Duration::from_secs(30))
    }

    async fn read(body: &mut SteadyBody) -> Result<usize, ApiError> {
        let mut bytes = 0;
        while let Some(piece) = body.next().await? {
            bytes += piece.len();
        }
        Ok(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moves_may_take_long() {
        assert_eq!(read(&mut dripping(LEAST, 29, 100)).await.expect("it moves"), 100 * LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_drips_or_stands_still_is_cut() {
        for mut body in [dripping(1, 1, 100), dripping(LEAST, 31, 2), dripping(LEAST / 4, 10, 100)] {
            assert!(matches!(read(&mut body).await, Err(ApiError::RequestTimeout)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_others_take_does_not_count() {
        let mut body = dripping(10, 1, 20);
        while body.next().await.expect("it moves").is_some() {
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_drained_for_a_moment_only() {
        let began = Instant::now();
        dripping(1, 1, 100).drain().await;
        assert_eq!(began.elapsed(), LAST_WAIT);
        dripping(LAST_BYTES, 0, usize::MAX).drain().await;
    }
}
