//! [`Shutdown`]: when the process is asked to stop, and how urgently.

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A request to stop. The first signal asks for a clean end, the second for an end at once.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// One that follows SIGTERM and SIGINT.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Self::default();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let asked = shutdown.clone();
        // Ends with the process: it is what ends it.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                let again = asked.soft.is_cancelled();
                asked.request();
                if again {
                    warn!("asked to stop again: stopping at once");
                } else {
                    info!("asked to stop");
                }
            }
        });
        Ok(shutdown)
    }

    /// Asks to stop; asked again, at once.
    pub fn request(&self) {
        if self.soft.is_cancelled() {
            self.hard.cancel();
        } else {
            self.soft.cancel();
        }
    }

    /// Waits until a stop is asked for.
    pub async fn requested(&self) {
        self.soft.cancelled().await;
    }

    /// Waits until a stop at once is asked for.
    pub async fn urgent(&self) {
        self.hard.cancelled().await;
    }
}
