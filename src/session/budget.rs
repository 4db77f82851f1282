//! How much a session may emit: a token bucket of the upstream's emits per minute.
//!
//! Avaya documents 200 events a minute per user (<https://spaces.avayacloud.com/developers/docs/guides/limit>).

use std::time::Duration;

use tokio::time::Instant;

/// The part of the budget that subscriptions leave to messages.
const MESSAGE_RESERVE: f64 = 0.2;

const MINUTE: f64 = 60.0;

/// A token bucket that is full at the start.
#[derive(Debug)]
pub(super) struct EmitBudget {
    per_minute: f64,
    left: f64,
    counted_at: Instant,
}

impl EmitBudget {
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let per_minute = f64::from(per_minute);
        Self { per_minute, left: per_minute, counted_at: now }
    }

    /// Takes one emit for a message.
    pub(super) fn take_for_message(&mut self, now: Instant) -> bool {
        self.take(now, 0.0)
    }

    /// Takes one emit for a subscription, which leaves a reserve to messages.
    pub(super) fn take_for_subscription(&mut self, now: Instant) -> bool {
        self.take(now, self.reserve())
    }

    /// How long until a message may be emitted.
    pub(super) fn wait_for_message(&self, now: Instant) -> Duration {
        self.wait(now, 0.0)
    }

    /// How long until a subscription may be emitted.
    pub(super) fn wait_for_subscription(&self, now: Instant) -> Duration {
        self.wait(now, self.reserve())
    }

    /// Whole emits left.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between zero and a u32 by construction")]
    pub(super) fn left(&self, now: Instant) -> u32 {
        self.at(now) as u32
    }

    /// What subscriptions leave; never so much that none would ever be possible.
    fn reserve(&self) -> f64 {
        (self.per_minute * MESSAGE_RESERVE).min(self.per_minute - 1.0)
    }

    fn at(&self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.counted_at).as_secs_f64() * self.per_minute / MINUTE;
        (self.left + gained).min(self.per_minute)
    }

    fn take(&mut self, now: Instant, reserve: f64) -> bool {
        self.left = self.at(now);
        self.counted_at = now;
        let enough = self.left >= reserve + 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    fn wait(&self, now: Instant, reserve: f64) -> Duration {
        let missing = (reserve + 1.0 - self.at(now)).max(0.0);
        Duration::from_secs_f64(missing * MINUTE / self.per_minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_than_the_budget_plus_what_was_saved() {
        let mut now = Instant::now();
        let mut budget = EmitBudget::new(60, now);
        let mut taken = 0;
        for _ in 0..600 {
            taken += u32::from(budget.take_for_message(now));
            now += Duration::from_millis(100);
        }
        assert!((119..=120).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn subscriptions_leave_a_reserve_to_messages() {
        let now = Instant::now();
        let mut budget = EmitBudget::new(10, now);
        let subscriptions = (0..10).filter(|_| budget.take_for_subscription(now)).count();
        let messages = (0..10).filter(|_| budget.take_for_message(now)).count();
        assert_eq!((subscriptions, messages), (8, 2));
        let wait = budget.wait_for_message(now);
        assert!(!budget.take_for_message(now + wait - Duration::from_millis(10)));
        assert!(budget.take_for_message(now + wait + Duration::from_millis(1)));
        assert!(budget.wait_for_subscription(now) > wait);
    }

    #[tokio::test(start_paused = true)]
    async fn the_smallest_budget_allows_subscriptions_too() {
        let now = Instant::now();
        let mut budget = EmitBudget::new(1, now);
        assert!(budget.take_for_subscription(now));
        assert!(budget.take_for_message(now + Duration::from_mins(1)));
    }
}
