//! [`Window`]: what was used in the last so many seconds, in classes. Counted in parts of the window rather than one by one, so that a
//! user costs a few hundred bytes however much it may use; a part counts until its youngest use is old enough.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Parts that a window is counted in. What was used is available again a sixtieth of the window later than it could be, at most.
const PARTS: u32 = 60;

/// How much longer a use counts here than at Spaces: what was used late in one window may have been long under way, and what follows
/// in the next may not.
const TRANSIT: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Part<const CLASSES: usize> {
    begins: Instant,
    used: [u32; CLASSES],
}

/// Uses by class over a sliding window.
#[derive(Debug)]
pub(super) struct Window<const CLASSES: usize> {
    length: Duration,
    /// Oldest first.
    parts: VecDeque<Part<CLASSES>>,
    used: [u32; CLASSES],
}

impl<const CLASSES: usize> Window<CLASSES> {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, parts: VecDeque::new(), used: [0; CLASSES] }
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// Changes the length. What was used within the old one counts as used now, which is never too little.
    pub(super) fn set_length(&mut self, length: Duration, now: Instant) {
        if length != self.length {
            self.advance(now);
            self.length = length;
            self.parts.clear();
            let used = std::mem::replace(&mut self.used, [0; CLASSES]);
            self.add(used, now);
        }
    }

    /// Uses of each class within the window, as of the last [`Self::advance`].
    pub(super) fn used(&self) -> [u32; CLASSES] {
        self.used
    }

    /// Forgets what has left the window.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some(part) = self.parts.front()
            && self.leaves(part) <= now
        {
            for (used, gone) in self.used.iter_mut().zip(part.used) {
                *used -= gone;
            }
            self.parts.pop_front();
        }
    }

    /// Counts one use.
    pub(super) fn count(&mut self, class: usize, now: Instant) {
        let mut used = [0; CLASSES];
        used[class] = 1;
        self.add(used, now);
    }

    /// Takes back the last use of `class`, which did not happen after all.
    pub(super) fn uncount(&mut self, class: usize) {
        if let Some(part) = self.parts.iter_mut().rev().find(|part| part.used[class] > 0) {
            part.used[class] -= 1;
            self.used[class] -= 1;
        }
    }

    /// Counts many uses.
    pub(super) fn add(&mut self, more: [u32; CLASSES], now: Instant) {
        let width = self.width();
        if self.parts.back().is_none_or(|part| now >= part.begins + width) && more.iter().any(|more| *more > 0) {
            self.parts.push_back(Part { begins: now, used: [0; CLASSES] });
        }
        if let Some(part) = self.parts.back_mut() {
            for ((of_part, of_all), more) in part.used.iter_mut().zip(&mut self.used).zip(more) {
                // Both stay the sum of their parts, whatever was asked to be counted.
                let more = more.min(u32::MAX - *of_all);
                *of_part += more;
                *of_all += more;
            }
        }
    }

    /// What leaves the window when, the next first.
    pub(super) fn leaving(&self) -> impl DoubleEndedIterator<Item = (Instant, [u32; CLASSES])> {
        self.parts.iter().map(|part| (self.leaves(part), part.used))
    }

    fn width(&self) -> Duration {
        self.length / PARTS
    }

    /// When even the youngest use of `part` is as old as the window is long, for Spaces too.
    fn leaves(&self, part: &Part<CLASSES>) -> Instant {
        part.begins + self.width() + self.length + TRANSIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_use_counts_for_the_length_of_the_window_and_little_longer() {
        let begin = Instant::now();
        let mut window: Window<2> = Window::new(MINUTE);
        window.count(0, begin);
        window.count(1, begin + Duration::from_millis(999));
        window.count(1, begin + Duration::from_secs(1));
        window.advance(begin + Duration::from_millis(61_499));
        assert_eq!(window.used(), [1, 2]);
        window.advance(begin + Duration::from_millis(61_500));
        assert_eq!(window.used(), [0, 1]);
        window.advance(begin + Duration::from_millis(62_500));
        assert_eq!(window.used(), [0, 0]);
        assert_eq!(window.leaving().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_use_that_did_not_happen_is_taken_back() {
        let now = Instant::now();
        let mut window: Window<2> = Window::new(MINUTE);
        window.count(0, now);
        window.count(1, now + Duration::from_secs(5));
        window.uncount(0);
        window.uncount(0);
        assert_eq!(window.used(), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_length_forgets_nothing() {
        let now = Instant::now();
        let mut window: Window<1> = Window::new(MINUTE);
        window.add([7], now);
        window.set_length(Duration::from_secs(10), now + Duration::from_secs(30));
        window.advance(now + Duration::from_secs(40));
        assert_eq!(window.used(), [7]);
        window.advance(now + Duration::from_secs(42));
        assert_eq!(window.used(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_by_the_parts() {
        let now = Instant::now();
        let mut window: Window<1> = Window::new(MINUTE);
        for step in 0..10_000 {
            let now = now + Duration::from_millis(50) * step;
            window.advance(now);
            window.count(0, now);
            assert!(window.parts.len() <= PARTS as usize + 2);
        }
    }
}
