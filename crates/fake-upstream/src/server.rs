//! [`FakeUpstream`]: start, stop, settings, and the questions that tests ask.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::options::{Limits, Options};
use crate::record::Seen;
use crate::script::Script;
use crate::state::Shared;
use crate::{net, rest};

/// A running stand-in for Avaya Spaces. Dropping it ends its listener and all its connections.
#[derive(Debug)]
pub struct FakeUpstream {
    pub(crate) shared: Arc<Shared>,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A condition on what was seen did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("not seen within {waited:?}; {summary}")]
pub struct DeadlinePassed {
    waited: Duration,
    summary: String,
}

impl FakeUpstream {
    /// Binds the address of the options and serves.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = net::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Shared::new(options);
        shared.lock().base_url = format!("http://{address}");
        let upstream = Self { shared, address, running: Mutex::new(None) };
        upstream.serve(listener);
        Ok(upstream)
    }

    /// Ends the listener and cuts every connection, as when the server is killed; the world stays.
    pub async fn stop(&self) {
        let running = self.running().take();
        if let Some(running) = running {
            running.stop.cancel();
            // The task neither panics nor is aborted, so there is no error to see here.
            let _ = running.task.await;
        }
        let mut changes = self.shared.changes();
        while self.seen(Seen::open_now) > 0 {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Serves again on the same port after [`FakeUpstream::stop`], or stops and serves again.
    pub async fn restart(&self) -> io::Result<()> {
        self.stop().await;
        self.serve(net::bind(self.address).await?);
        Ok(())
    }

    /// The address it listens on, also while stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of the REST API.
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL of the Socket.IO server.
    pub fn socket_url(&self) -> String {
        self.rest_url()
    }

    /// The base URL of the accounts side.
    pub fn accounts_url(&self) -> String {
        self.rest_url()
    }

    /// Changes the script for everybody.
    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.shared.lock().scripts.everybody)
    }

    /// Changes the script of one token, which is asked before the one for everybody.
    pub fn script_for<T>(&self, token: impl AsRef<str>, change: impl FnOnce(&mut Script) -> T) -> T {
        change(self.shared.lock().scripts.tokens.entry(token.as_ref().to_owned()).or_default())
    }

    /// Turns every switch off, for everybody and every token.
    pub fn clear_script(&self) {
        let mut state = self.shared.lock();
        state.scripts.everybody = Script::default();
        state.scripts.tokens.clear();
    }

    /// Changes the limits that are enforced and reported.
    pub fn set_limits(&self, limits: Limits) {
        let mut state = self.shared.lock();
        state.limits = limits;
        state.emit_rates.clear();
        state.rest_rates.clear();
    }

    /// Lets `GET /api/limit` answer this instead of the limits that are enforced; `None` ends that.
    pub fn report_limits(&self, body: Option<Value>) {
        self.shared.lock().reported_limits = body;
    }

    /// Looks at what was seen so far. The closure runs under a lock: it must not call the fake upstream.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.lock().seen)
    }

    /// Waits until `look` answers something.
    pub async fn wait_for<T>(&self, deadline: Duration, mut look: impl FnMut(&Seen) -> Option<T>) -> Result<T, DeadlinePassed> {
        let mut changes = self.shared.changes();
        let seen = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = self.seen(&mut look) {
                    return found;
                }
                if changes.changed().await.is_err() {
                    // Cannot be: the sender lives as long as `self`.
                    std::future::pending::<()>().await;
                }
            }
        };
        match tokio::time::timeout(deadline, seen).await {
            Ok(found) => Ok(found),
            Err(_) => Err(DeadlinePassed { waited: deadline, summary: self.seen(Seen::summary) }),
        }
    }

    /// Waits until the condition holds.
    pub async fn wait_until(&self, deadline: Duration, mut condition: impl FnMut(&Seen) -> bool) -> Result<(), DeadlinePassed> {
        self.wait_for(deadline, |seen| condition(seen).then_some(())).await
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let stop = self.shared.dropped.child_token();
        let router = rest::router(Arc::clone(&self.shared));
        let task = tokio::spawn(net::serve(listener, router, stop.clone()));
        *self.running() = Some(Running { stop, task });
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.shared.dropped.cancel();
    }
}
