//! Serves a router on a listener, with limits on what a connection may take, until asked to stop.

mod stalled;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use self::stalled::CutIfStalled;
use crate::shutdown::Shutdown;

/// Most connections of a listener at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16_384;

/// Most time for a request's head to arrive.
const HEAD_TIME: Duration = Duration::from_secs(20);

/// Largest request head, in bytes.
const MAX_HEAD: usize = 32 << 10;

/// How long a caller may take nothing of its answer, unless the settings say otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Wait after accepting failed, which happens when the process has no file descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A bound listener, before it serves.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    patience: Duration,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, patience: PATIENCE, address })
    }

    /// The same listener with another time after which a caller who takes nothing of its answer is cut off.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until a stop is asked for, and then lets requests under way finish, for `grace` at most.
    pub async fn serve(self, router: Router, shutdown: Shutdown, grace: Duration) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.socket, &connections) => accepted,
                () = shutdown.requested() => break,
            };
            match accepted {
                Ok((stream, place)) => {
                    serve_connection(CutIfStalled::new(stream, self.patience), place, router.clone(), &graceful);
                }
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(self.socket);
        if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
            warn!("some requests did not finish within the grace time; their connections are dropped");
        }
    }
}

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(connections).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

fn serve_connection(stream: CutIfStalled<TcpStream>, place: OwnedSemaphorePermit, router: Router, graceful: &GracefulShutdown) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    // Ends with its connection, which the graceful shutdown follows.
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = connection.await {
            debug!(error = &error as &dyn std::error::Error, "a connection ended early");
        }
    });
}
