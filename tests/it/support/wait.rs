//! Waiting for what comes eventually.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take; far more than it does, so that only what never comes fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks `probe` again and again until it gives a value.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: did not come about");
        sleep(Duration::from_millis(2)).await;
    }
}
