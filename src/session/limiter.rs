//! A process-wide limit on connection attempts, so that ten thousand sessions that lost their upstream do not fall over it together.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// A slot that is missed by more than this is lost. After a standstill of the process all that were due meanwhile would be taken at
/// once.
const MISSED: Duration = Duration::from_millis(100);

/// Slots that one attempt loses at most: where everything is always late, waiting longer helps nobody.
const MOST_MISSED: usize = 5;

/// Hands out slots for connection attempts, evenly spaced, first come, first served.
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
        for _ in 0..=MOST_MISSED {
            let slot = self.reserve();
            tokio::time::sleep_until(slot).await;
            if slot.elapsed() <= MISSED {
                return;
            }
        }
    }

    fn reserve(&self) -> Instant {
        let now = Instant::now();
        let mut next = self.next.lock().expect("no code panics while it holds this lock");
        let slot = next.map_or(now, |next| next.max(now));
        *next = Some(slot + self.spacing);
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_are_spaced_over_all_callers() {
        let limiter = ConnectLimiter::new(10);
        let begin = Instant::now();
        join_all((0..21).map(|_| limiter.slot())).await;
        assert_eq!(begin.elapsed().as_millis(), 2_000);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let begin = Instant::now();
        limiter.slot().await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "unused slots are not held against anyone");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_standstill_attempts_are_spaced_all_the_same() {
        let limiter = Arc::new(ConnectLimiter::new(10));
        let attempt = |limiter: Arc<ConnectLimiter>| async move {
            limiter.slot().await;
            Instant::now()
        };
        let attempts: Vec<_> = (0..50).map(|_| tokio::spawn(attempt(Arc::clone(&limiter)))).collect();
        tokio::task::yield_now().await;
        // As if the machine had slept, with everything that was due meanwhile due now.
        tokio::time::advance(Duration::from_mins(1)).await;
        let mut times: Vec<_> = join_all(attempts).await.into_iter().map(|time| time.expect("no panic")).collect();
        times.sort_unstable();
        let within_a_second =
            |begin: Instant| times.iter().filter(move |time| (begin..begin + Duration::from_secs(1)).contains(time));
        let most = times.iter().map(|begin| within_a_second(*begin).count()).max();
        assert!(most <= Some(11), "{most:?} attempts within a second");
    }
}
