//! [`Turns`]: of all who want the same, one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// Who is at what. Holds only what someone is at, or waits for.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Takes the turn at `id`, once all who came before are done. `None` if that is not before `deadline`.
    pub(crate) async fn take(self: &Arc<Self>, id: String, deadline: Instant) -> Option<Turn> {
        let lock = Arc::clone(self.all().entry(id.clone()).or_default());
        // Before the wait, so that whoever gives up waiting is forgotten as well.
        let mut turn = Turn { turns: Arc::clone(self), id, held: None };
        turn.held = Some(tokio::time::timeout_at(deadline, lock.lock_owned()).await.ok()?);
        Some(turn)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    id: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut all = self.turns.all();
        // Others join under the same lock.
        if all.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            all.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_nothing_is_left_behind() {
        let turns = Arc::<Turns>::default();
        let first = turns.take("a".to_owned(), soon()).await.expect("the first turn");
        assert!(turns.take("b".to_owned(), soon()).await.is_some(), "something else is free");
        assert!(turns.take("a".to_owned(), soon()).await.is_none(), "the wait has an end");
        let waiting = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take("a".to_owned(), soon()).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.expect("no panic"), "the turn goes on");
        assert!(turns.all().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_while_it_waits_is_forgotten() {
        let turns = Arc::<Turns>::default();
        let first = turns.take("a".to_owned(), soon()).await.expect("the first turn");
        let waiting = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { drop(turns.take("a".to_owned(), soon()).await) }
        });
        tokio::task::yield_now().await;
        drop(first);
        waiting.abort();
        let _ = waiting.await;
        assert!(turns.all().is_empty());
    }
}
