//! [`GuardedConnector`]: makes the connections of the delivery client, only to addresses that the guard lets pass.
//!
//! A name is resolved once per connection, every answer is checked, and the connection goes to an answer that was checked; there is
//! no second look-up that could answer differently. No proxy is asked for.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::{AddressGuard, Blocked};
use super::stream::WebhookStream;

/// Addresses of one name that are tried; more than a receiver in its right mind has.
const MAX_ADDRESSES: usize = 8;

/// How long one address may take if there are others to try.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Turns names into addresses.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host` in the order in which they should be tried.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL has no host that could be connected to.
    #[error("the URL has no usable host")]
    NoHost,
    /// The host name did not resolve.
    #[error("the host name did not resolve")]
    Dns(#[source] io::Error),
    /// The host name has no addresses.
    #[error("the host name has no addresses")]
    NoAddress,
    /// The guard refused the target.
    #[error("the target is refused")]
    Blocked(#[from] Blocked),
    /// No address accepted the connection.
    #[error("no connection could be made")]
    Tcp(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// It took too long.
    #[error("the connection was not made in time")]
    Timeout,
}

/// Makes connections; a service as `hyper-util`'s client wants it.
#[derive(Clone)]
pub(super) struct GuardedConnector {
    guard: Arc<AddressGuard>,
    resolver: Arc<dyn Resolve>,
    tls: TlsConnector,
    timeout: Duration,
}

impl GuardedConnector {
    pub(super) fn new(
        guard: Arc<AddressGuard>,
        resolver: Arc<dyn Resolve>,
        tls: Arc<rustls::ClientConfig>,
        timeout: Duration,
    ) -> Self {
        Self { guard, resolver, tls: TlsConnector::from(tls), timeout }
    }

    async fn connect(self, uri: Uri) -> Result<WebhookStream, ConnectError> {
        let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let host = uri.host().ok_or(ConnectError::NoHost)?.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream = self.connect_tcp(&self.addresses(host, port).await?).await?;
        if !tls {
            return Ok(WebhookStream::Plain(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::NoHost)?;
        let stream = self.tls.connect(name, stream).await.map_err(ConnectError::Tls)?;
        Ok(WebhookStream::Tls(Box::new(stream)))
    }

    /// The addresses of `host`, all checked: a name with one bad address among its addresses is refused.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = match host.parse() {
            Ok(literal) => vec![literal],
            Err(_) => self.resolver.resolve(host).await.map_err(ConnectError::Dns)?,
        };
        let targets: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        for target in &targets {
            self.guard.check(*target)?;
        }
        Ok(targets)
    }

    /// Connects to the first of `targets` that accepts.
    async fn connect_tcp(&self, targets: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
        let mut failure = ConnectError::NoAddress;
        for target in targets.iter().take(MAX_ADDRESSES) {
            let limit = if targets.len() == 1 { self.timeout } else { ADDRESS_TIMEOUT };
            match tokio::time::timeout(limit, TcpStream::connect(*target)).await {
                Ok(Ok(stream)) => return self.accept(stream),
                Ok(Err(error)) => failure = ConnectError::Tcp(error),
                Err(_) => failure = ConnectError::Timeout,
            }
        }
        Err(failure)
    }

    fn accept(&self, stream: TcpStream) -> Result<TcpStream, ConnectError> {
        let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
        let (local, peer) = ends.map_err(ConnectError::Tcp)?;
        self.guard.check_connected(local, peer)?;
        stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
        Ok(stream)
    }
}

impl tower::Service<Uri> for GuardedConnector {
    type Response = TokioIo<WebhookStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            // The client may go on connecting after the request that asked for it has ended, so the limit stands here too.
            let connected = tokio::time::timeout(connector.timeout, connector.connect(uri)).await;
            connected.unwrap_or(Err(ConnectError::Timeout)).map(TokioIo::new)
        })
    }
}
