//! [`Budget`]: who may use how much of one limit, by class.
//!
//! Classes are ranked, the most urgent first. There are never more uses in any window than the limit says. A part of the limit is kept
//! free for the first class, which comes without announcement and should not wait; and each of the others has a small share that
//! nobody else takes once it was turned away, so that none starves however much the more urgent ones ask for.

use std::time::Duration;

use tokio::time::Instant;

use super::limits::Quota;
use super::window::Window;

/// What the less urgent classes leave to the first one: a fifth of the limit.
const KEPT_FOR_FIRST: u32 = 5;

/// What each class but the first is sure of: a tenth of the limit.
const SURE_SHARE: u32 = 10;

/// Limits below this have no shares: first come, first served.
const TOO_SMALL_TO_SHARE: u32 = 4;

/// How a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Most uses in the window.
    pub limit: u32,
    /// The window's length.
    pub per: Duration,
    /// Uses that are left now.
    pub remaining: u32,
    /// How long until all that is used now is available again; zero if nothing is.
    pub reset_after: Duration,
}

#[derive(Debug)]
pub(super) struct Budget<const CLASSES: usize> {
    limit: u32,
    window: Window<CLASSES>,
    turned_away: [Option<Instant>; CLASSES],
}

impl<const CLASSES: usize> Budget<CLASSES> {
    pub(super) fn new(quota: Quota) -> Self {
        Self { limit: quota.count, window: Window::new(quota.per), turned_away: [None; CLASSES] }
    }

    /// Changes the limit. What was used stays used.
    pub(super) fn set(&mut self, quota: Quota, now: Instant) {
        self.limit = quota.count;
        self.window.set_length(quota.per, now);
    }

    /// Takes one use, if the class may have one now.
    pub(super) fn take(&mut self, class: usize, now: Instant) -> bool {
        self.window.advance(now);
        let may = self.admits(class, self.window.used(), now);
        if may {
            self.window.count(class, now);
        }
        self.turned_away[class] = (!may).then_some(now);
        may
    }

    /// Gives back a use that was taken and not made.
    pub(super) fn give_back(&mut self, class: usize) {
        self.window.uncount(class);
    }

    /// How long until the class may have a use.
    pub(super) fn wait(&mut self, class: usize, now: Instant) -> Duration {
        self.window.advance(now);
        let mut used = self.window.used();
        if self.admits(class, used, now) {
            return Duration::ZERO;
        }
        for (when, leaving) in self.window.leaving() {
            for (used, leaving) in used.iter_mut().zip(leaving) {
                *used -= leaving;
            }
            if self.admits(class, used, now) {
                return when.saturating_duration_since(now);
            }
        }
        self.window.length()
    }

    /// How the limit stands for the first class.
    pub(super) fn allowance(&mut self, now: Instant) -> Allowance {
        self.window.advance(now);
        let used = self.window.used();
        let remaining = self.free(used).saturating_sub(self.owed_below(0, used, now));
        let reset_after =
            self.window.leaving().next_back().map_or(Duration::ZERO, |(when, _)| when.saturating_duration_since(now));
        Allowance { limit: self.limit, per: self.window.length(), remaining, reset_after }
    }

    /// What was used within the window.
    pub(super) fn used(&mut self, now: Instant) -> [u32; CLASSES] {
        self.window.advance(now);
        self.window.used()
    }

    /// Counts what was used elsewhere.
    pub(super) fn add(&mut self, used: [u32; CLASSES], now: Instant) {
        self.window.add(used, now);
    }

    fn admits(&self, class: usize, used: [u32; CLASSES], now: Instant) -> bool {
        let free = self.free(used);
        let within_share = class > 0 && used[class] < self.sure_share();
        let kept = if class > 0 && self.limit >= TOO_SMALL_TO_SHARE { self.limit / KEPT_FOR_FIRST } else { 0 };
        free > 0 && (within_share || free > kept + self.owed_below(class, used, now))
    }

    fn free(&self, used: [u32; CLASSES]) -> u32 {
        used.iter().fold(self.limit, |free, used| free.saturating_sub(*used))
    }

    /// What the other shared classes are still sure of and were turned away for.
    fn owed_below(&self, class: usize, used: [u32; CLASSES], now: Instant) -> u32 {
        let others = (1..CLASSES).filter(|other| *other != class && self.was_turned_away(*other, now));
        others.map(|other| self.sure_share().saturating_sub(used[other])).sum()
    }

    fn was_turned_away(&self, class: usize, now: Instant) -> bool {
        self.turned_away[class].is_some_and(|at| now.saturating_duration_since(at) < self.window.length())
    }

    fn sure_share(&self) -> u32 {
        if self.limit < TOO_SMALL_TO_SHARE { 0 } else { (self.limit / SURE_SHARE).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn budget(count: u32) -> Budget<3> {
        Budget::new(Quota { count, per: MINUTE })
    }

    fn take(budget: &mut Budget<3>, class: usize, times: u32, now: Instant) -> usize {
        (0..times).filter(|_| budget.take(class, now)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_less_urgent_leave_a_part_to_the_first() {
        let (now, mut budget) = (Instant::now(), budget(100));
        assert_eq!(take(&mut budget, 2, 200, now), 80);
        assert_eq!(take(&mut budget, 1, 200, now), 10, "their sure share comes out of what is kept");
        assert_eq!(take(&mut budget, 0, 200, now), 10);
        assert_eq!(budget.allowance(now).remaining, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_has_everything_if_nobody_else_asks() {
        let (now, mut budget) = (Instant::now(), budget(100));
        assert_eq!(take(&mut budget, 0, 200, now), 100);
        let allowance = budget.allowance(now);
        assert_eq!((allowance.limit, allowance.remaining), (100, 0));
        assert_eq!(allowance.reset_after, Duration::from_millis(61_500));
        assert_eq!(budget.wait(0, now), Duration::from_millis(61_500));
        assert_eq!(budget.wait(0, now + Duration::from_millis(61_500)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_that_is_told_is_exact() {
        for class in 0..3 {
            let (now, mut budget) = (Instant::now(), budget(10));
            assert_eq!(take(&mut budget, 0, 4, now), 4);
            assert_eq!(take(&mut budget, 0, 6, now + Duration::from_secs(20)), 6);
            let asked = now + Duration::from_secs(30);
            let wait = budget.wait(class, asked);
            assert_eq!(wait, Duration::from_millis(31_500), "class {class}");
            assert!(!budget.take(class, asked + wait - Duration::from_millis(1)), "class {class}");
            assert!(budget.take(class, asked + wait), "class {class}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn small_limits_serve_whoever_comes_first() {
        for count in 1..TOO_SMALL_TO_SHARE {
            let (now, mut budget) = (Instant::now(), budget(count));
            assert_eq!(take(&mut budget, 2, 10, now), count as usize);
            assert_eq!(take(&mut budget, 0, 10, now), 0);
            assert_eq!(take(&mut budget, 0, 10, now + MINUTE * 2), count as usize);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lower_limit_holds_at_once_and_a_higher_one_too() {
        let (now, mut budget) = (Instant::now(), budget(10));
        assert_eq!(take(&mut budget, 0, 10, now), 10);
        budget.set(Quota { count: 20, per: MINUTE }, now);
        assert_eq!(take(&mut budget, 0, 20, now), 10);
        budget.set(Quota { count: 5, per: MINUTE }, now);
        assert_eq!(budget.allowance(now).remaining, 0);
        assert_eq!(take(&mut budget, 0, 20, now + MINUTE * 2), 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is asked for when, no window of the length has more uses than the limit says.
        #[test]
        fn no_window_has_more_than_the_limit(
            count in 1_u32..40,
            asked in proptest::collection::vec((0_u64..4_000, 0_usize..3), 1..400),
        ) {
            let (begin, mut budget) = (Instant::now(), budget(count));
            let mut now = begin;
            let mut made = Vec::new();
            for (after, class) in asked {
                now += Duration::from_millis(after);
                if budget.take(class, now) {
                    made.push(now);
                }
            }
            for (index, first) in made.iter().enumerate() {
                let within = made[index..].iter().take_while(|made| **made - *first < MINUTE).count();
                prop_assert!(within <= count as usize, "{within} of {count}");
            }
        }

        /// If all classes ask all the time, the most urgent first, each has its share of every two minutes, and nothing is wasted.
        #[test]
        fn no_class_starves(count in 4_u32..300, step in 20_u64..3_000) {
            let (begin, mut budget) = (Instant::now(), budget(count));
            let mut had = [0_u32; 3];
            let mut now = begin;
            let end = begin + MINUTE * 20;
            while now < end {
                for (class, had) in had.iter_mut().enumerate() {
                    while budget.take(class, now) {
                        *had += 1;
                    }
                }
                now += Duration::from_millis(step);
            }
            let share = (count / SURE_SHARE).max(1);
            // The first window passes before anyone is known to wait.
            prop_assert!(had[1] >= share * 17 && had[2] >= share * 17, "{had:?} of {count}");
            prop_assert!(had[0] >= had[1] && had[0] >= had[2], "{had:?} of {count}");
            prop_assert!(had.iter().sum::<u32>() >= count * 18, "{had:?} of {count}");
        }
    }
}
