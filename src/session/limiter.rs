//! A process-wide limit on connection attempts, so that ten thousand sessions that lost their upstream do not fall over it together.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// A slot that is missed by more than this is lost. After a standstill of the process all that were due meanwhile would be taken at
/// once.
const MISSED: Duration = Duration::from_millis(100);

/// Slots that one attempt loses at most: where everything is always late, waiting longer helps nobody.
const MOST_MISSED: usize = 5;

/// The time in which there are at most as many attempts as the setting says, wherever it begins.
const WINDOW: Duration = Duration::from_secs(1);

/// Hands out slots for connection attempts, evenly spaced, first come, first served.
///
/// Slots are taken a little late, and those of a busy moment together with those after it. So what was taken is counted too: no second
/// has more than its share.
#[derive(Debug)]
pub(super) struct ConnectLimiter {
    per_second: usize,
    spacing: Duration,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    next: Option<Instant>,
    /// When the last ones were taken, as many as a second may have.
    taken: VecDeque<Instant>,
}

impl ConnectLimiter {
    /// Allows `per_second` attempts a second.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        Self {
            per_second: usize::try_from(per_second).unwrap_or(usize::MAX),
            spacing: WINDOW / per_second,
            slots: Mutex::default(),
        }
    }

    /// Waits for the next slot.
    pub(super) async fn slot(&self) {
        for _ in 0..=MOST_MISSED {
            let slot = self.reserve();
            tokio::time::sleep_until(slot).await;
            if slot.elapsed() <= MISSED {
                break;
            }
        }
        while let Err(until) = self.take() {
            tokio::time::sleep_until(until).await;
        }
    }

    fn reserve(&self) -> Instant {
        let now = Instant::now();
        let mut slots = self.slots.lock().expect("no code panics while it holds this lock");
        let slot = slots.next.map_or(now, |next| next.max(now));
        slots.next = Some(slot + self.spacing);
        slot
    }

    /// Counts an attempt that begins now, or tells when there may be one.
    fn take(&self) -> Result<(), Instant> {
        let mut slots = self.slots.lock().expect("no code panics while it holds this lock");
        let now = Instant::now();
        if slots.taken.len() >= self.per_second {
            let free = slots.taken.front().map_or(now, |first| *first + WINDOW);
            if free > now {
                return Err(free);
            }
            slots.taken.pop_front();
        }
        slots.taken.push_back(now);
        Ok(())
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

    /// When each of `count` attempts began.
    async fn begun(limiter: ConnectLimiter, count: usize, meanwhile: impl Future<Output = ()>) -> Vec<Instant> {
        let limiter = Arc::new(limiter);
        let attempt = |limiter: Arc<ConnectLimiter>| async move {
            limiter.slot().await;
            Instant::now()
        };
        let attempts: Vec<_> = (0..count).map(|_| tokio::spawn(attempt(Arc::clone(&limiter)))).collect();
        tokio::task::yield_now().await;
        meanwhile.await;
        let mut times: Vec<_> = join_all(attempts).await.into_iter().map(|time| time.expect("no panic")).collect();
        times.sort_unstable();
        times
    }

    fn most_within_a_second(times: &[Instant]) -> usize {
        let within = |begin: Instant| times.iter().filter(move |time| (begin..begin + WINDOW).contains(time)).count();
        times.iter().map(|begin| within(*begin)).max().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_standstill_attempts_are_spaced_all_the_same() {
        // As if the machine had slept, with everything that was due meanwhile due now.
        let times = begun(ConnectLimiter::new(10), 50, tokio::time::advance(Duration::from_mins(1))).await;
        assert!(most_within_a_second(&times) <= 10, "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn late_attempts_do_not_come_on_top_of_those_in_time() {
        // As on a machine that gets round to things now and then only.
        let late = async {
            for _ in 0..60 {
                tokio::time::advance(Duration::from_millis(90)).await;
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let times = begun(ConnectLimiter::new(100), 400, late).await;
        assert_eq!(most_within_a_second(&times), 100, "{times:?}");
    }
}
