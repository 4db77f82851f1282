//! A process-wide limit on connection attempts, so that ten thousand sessions that lost their upstream do not fall over it together.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Hands out slots for connection attempts, evenly spaced.
#[derive(Debug)]
pub(super) struct ConnectLimiter {
    spacing: Duration,
    next: Mutex<Option<Instant>>,
}

impl ConnectLimiter {
    /// Allows `per_second` attempts a second.
    pub(super) fn new(per_second: u32) -> Self {
        Self { spacing: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(None) }
    }

    /// Waits for the next slot.
    pub(super) async fn slot(&self) {
        let slot = {
            let now = Instant::now();
            let mut next = self.next.lock().expect("no code panics while it holds this lock");
            let slot = next.map_or(now, |next| next.max(now));
            *next = Some(slot + self.spacing);
            slot
        };
        tokio::time::sleep_until(slot).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_are_spaced_over_all_callers() {
        let limiter = ConnectLimiter::new(10);
        let begin = Instant::now();
        futures_util::future::join_all((0..21).map(|_| limiter.slot())).await;
        assert_eq!(begin.elapsed().as_millis(), 2_000);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let begin = Instant::now();
        limiter.slot().await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "unused slots are not held against anyone");
    }
}
