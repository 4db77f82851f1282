//! [`Remembered`]: what Spaces was asked and will answer the same for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Answers remembered; beyond that the oldest are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Answers found lately.
pub(super) struct Remembered<K, V> {
    ttl: Duration,
    found: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, found: Mutex::new(HashMap::new()) }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(key).filter(|(_, since)| since.elapsed() < self.ttl).map(|(value, _)| value.clone())
    }

    pub(super) fn insert(&self, key: K, value: V) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= MAX_REMEMBERED {
            forget_older_half(&mut found);
        }
        found.insert(key, (value, Instant::now()));
    }
}

/// Half at a time, so that the sorting is paid for by many insertions.
fn forget_older_half<K: Eq + Hash, V>(found: &mut HashMap<K, (V, Instant)>) {
    let mut times: Vec<Instant> = found.values().map(|(_, since)| *since).collect();
    let (_, &mut median, _) = times.select_nth_unstable(MAX_REMEMBERED / 2);
    found.retain(|_, (_, since)| *since > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_remembered_for_its_time_only() {
        let answers = Remembered::new(Duration::from_secs(10));
        answers.insert(1, "one");
        assert_eq!(answers.get(&1), Some("one"));
        assert_eq!(answers.get(&2), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(answers.get(&1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_keeps_the_newest() {
        let answers = Remembered::new(Duration::from_hours(1));
        for number in 0..=MAX_REMEMBERED {
            answers.insert(number, ());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(answers.found.lock().expect("no panic").len() <= MAX_REMEMBERED);
        assert_eq!(answers.get(&MAX_REMEMBERED), Some(()));
        assert_eq!(answers.get(&0), None);
    }
}
