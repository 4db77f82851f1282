//! From options to an open WebSocket: TCP, TLS, and the judgement of HTTP answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use crate::error::{ConnectError, Refusal, RefusedBy};
use crate::options::{ConnectOptions, Endpoint};
use crate::websocket::{MaskSource, Upgrade, UpgradeAnswer};

/// How much of a refusal's body is looked at.
const MAX_BODY: usize = 4 * 1024;
/// How long a refusal's body may take after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// A byte stream to a server.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// So that tests can pause the clock, which does not wait for sockets.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

/// An open WebSocket and the bytes that arrived behind the handshake.
pub(crate) struct Upgraded<S> {
    pub(crate) stream: S,
    pub(crate) mask: MaskSource,
    pub(crate) rest: Vec<u8>,
}

impl Transport {
    /// Connects to the server's port, with TLS if the URL asks for it.
    pub(crate) async fn dial(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let endpoint = &options.endpoint;
        let stream = dial_tcp(endpoint).await.map_err(ConnectError::unreachable)?;
        // A small write behind another would wait for the server's delayed acknowledgement, some 40 ms.
        stream.set_nodelay(true).map_err(ConnectError::unreachable)?;
        if !endpoint.secure {
            return Ok(Self::Plain(stream));
        }
        let config = options.tls.get().map_err(ConnectError::Tls)?;
        let name = server_name(&endpoint.host).map_err(ConnectError::unreachable)?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::unreachable)?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

async fn dial_tcp(endpoint: &Endpoint) -> io::Result<TcpStream> {
    match &endpoint.host {
        Host::Domain(name) => TcpStream::connect((name.as_str(), endpoint.port)).await,
        Host::Ipv4(address) => TcpStream::connect((*address, endpoint.port)).await,
        Host::Ipv6(address) => TcpStream::connect((*address, endpoint.port)).await,
    }
}

fn server_name(host: &Host) -> io::Result<ServerName<'static>> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
        Host::Ipv4(address) => Ok(ServerName::from(std::net::IpAddr::V4(*address))),
        Host::Ipv6(address) => Ok(ServerName::from(std::net::IpAddr::V6(*address))),
    }
}

/// Performs the WebSocket handshake.
pub(crate) async fn upgrade<S>(mut stream: S, options: &ConnectOptions) -> Result<Upgraded<S>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut mask = MaskSource::new();
    let handshake = Upgrade::new(&mut mask);
    let request = handshake.request(&options.endpoint.authority(), &options.path_and_query());
    stream.write_all(request.as_bytes()).await.map_err(ConnectError::unreachable)?;
    stream.flush().await.map_err(ConnectError::unreachable)?;

    let mut input = Vec::new();
    loop {
        read_more(&mut stream, &mut input).await?;
        match handshake.judge(&input).map_err(|error| ConnectError::Protocol(error.into()))? {
            None => {}
            Some(UpgradeAnswer::Accepted { head }) => {
                let rest = input.split_off(head);
                return Ok(Upgraded { stream, mask, rest });
            }
            Some(UpgradeAnswer::Refused { status, retry_after, content_length, head }) => {
                let body = input.split_off(head);
                let body = read_body(&mut stream, body, content_length).await;
                let retry_after = retry_after.and_then(|value| parse_retry_after(&value));
                return Err(judge_refusal(options, status, retry_after, &body));
            }
        }
    }
}

async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, input: &mut Vec<u8>) -> Result<(), ConnectError> {
    let read = stream.read_buf(input).await;
    match read {
        Ok(0) if input.is_empty() => Err(ConnectError::Misconfigured { status: None }),
        Ok(0) => Err(ConnectError::unreachable(io::ErrorKind::UnexpectedEof.into())),
        // Over TLS a close without notice is an error of its own.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && input.is_empty() => {
            Err(ConnectError::Misconfigured { status: None })
        }
        Ok(_) => Ok(()),
        Err(error) => Err(ConnectError::unreachable(error)),
    }
}

/// Reads what can be had of a refusal's body; the status alone is an answer, too.
async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, mut body: Vec<u8>, content_length: Option<usize>) -> Vec<u8> {
    let wanted = content_length.unwrap_or(MAX_BODY).min(MAX_BODY);
    let reading = async { while body.len() < wanted && stream.read_buf(&mut body).await.is_ok_and(|read| read > 0) {} };
    // A body that does not come is as good as none.
    let _ = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    body.truncate(wanted);
    body
}

/// Reads a number of seconds; the other form, a date, is not worth a calendar here.
fn parse_retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Tells what an HTTP answer other than 101 means.
fn judge_refusal(options: &ConnectOptions, status: u16, retry_after: Option<Duration>, body: &[u8]) -> ConnectError {
    const BAD_REQUEST: u16 = 400;
    const UNAUTHORIZED: u16 = 401;
    const FORBIDDEN: u16 = 403;
    const TOO_MANY_REQUESTS: u16 = 429;

    let body = String::from_utf8_lossy(body);
    match status {
        BAD_REQUEST if body.contains("Unsupported protocol version") => ConnectError::ProtocolMismatch,
        BAD_REQUEST if !is_forbidden(&body) => ConnectError::Misconfigured { status: Some(status) },
        BAD_REQUEST | UNAUTHORIZED | FORBIDDEN => {
            ConnectError::Refused(Refusal { by: RefusedBy::Http { status }, payload: refusal_payload(options, &body) })
        }
        TOO_MANY_REQUESTS | 500.. => ConnectError::Unavailable { status: Some(status), retry_after, source: None },
        _ => ConnectError::Misconfigured { status: Some(status) },
    }
}

/// Recognises the refusal of the server's own request check, as plain text or in JSON.
fn is_forbidden(body: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_str::<Said>(body).map(|said| said.message);
    said.as_deref().unwrap_or(body).trim().trim_matches('"') == "Forbidden"
}

fn refusal_payload(options: &ConnectOptions, body: &str) -> Option<Box<RawValue>> {
    let body = body.trim();
    if body.is_empty() {
        return None;
    }
    let json = if crate::codec::is_valid_json(body) { body.to_owned() } else { serde_json::Value::from(body).to_string() };
    Some(options.secrets().mask_json(&json))
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
