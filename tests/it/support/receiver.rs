//! A webhook receiver that follows a script and records what it gets. It speaks HTTP by hand, so that it can misbehave.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// `POST /path`
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// The body's bytes.
    pub(crate) body: Vec<u8>,
    /// On which connection it came, counted from 1.
    pub(crate) connection: usize,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }
}

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// An answer with this status, these headers and this body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A successful answer after this time.
    Late(Duration),
    /// Nothing, for ever.
    Hang,
    /// The beginning of an answer, then the end of the connection.
    BreakInBody,
    /// A successful answer, one byte at a time, for ever.
    Drip,
    /// Something that is no HTTP.
    Nonsense,
    /// The end of the connection without an answer.
    Close,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    recorded: Mutex<Vec<Recorded>>,
    connections: Mutex<usize>,
}

#[derive(Debug)]
struct Script {
    next: VecDeque<Reply>,
    then: Reply,
}

/// A running receiver; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Receiver {
    /// A receiver that answers every request with `reply`.
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::start_with(reply, None).await
    }

    /// The same behind TLS.
    pub(crate) async fn start_tls(reply: Reply, acceptor: TlsAcceptor) -> Self {
        Self::start_with(reply, Some(acceptor)).await
    }

    async fn start_with(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            script: Mutex::new(Script { next: VecDeque::new(), then: reply }),
            recorded: Mutex::default(),
            connections: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&shared))).abort_handle();
        Self { address, scheme, shared, accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/hook?a=b", self.scheme, self.address)
    }

    /// What comes next gets these replies, in order; what comes after them the usual one.
    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.shared.script).next.extend(replies);
    }

    /// Changes the usual reply.
    pub(crate) fn reply(&self, reply: Reply) {
        lock(&self.shared.script).then = reply;
    }

    /// Everything received so far.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        lock(&self.shared.recorded).clone()
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        lock(&self.shared.recorded).len()
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        *lock(&self.shared.connections)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut tasks = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let connection = {
            let mut connections = lock(&shared.connections);
            *connections += 1;
            *connections
        };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tasks.spawn(async move { serve_either(stream, tls, connection, &shared).await });
    }
}

async fn serve_either(stream: TcpStream, tls: Option<TlsAcceptor>, connection: usize, shared: &Shared) -> Option<()> {
    match tls {
        None => serve(stream, connection, shared).await,
        Some(acceptor) => serve(acceptor.accept(stream).await.ok()?, connection, shared).await,
    }
}

/// Serves requests until the connection or the script ends it.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, connection: usize, shared: &Shared) -> Option<()> {
    let mut stream = BufStream::new(stream);
    loop {
        let recorded = read_request(&mut stream, connection).await?;
        lock(&shared.recorded).push(recorded);
        let reply = {
            let mut script = lock(&shared.script);
            script.next.pop_front().unwrap_or_else(|| script.then.clone())
        };
        send(&mut stream, reply).await?;
    }
}

async fn read_request(stream: &mut (impl AsyncBufRead + Unpin), connection: usize) -> Option<Recorded> {
    let line = read_line(stream).await?;
    let mut headers = HashMap::new();
    loop {
        let header = read_line(stream).await?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Recorded { line, headers, body, connection })
}

async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

/// Replies; `None` if the connection is to end.
async fn send(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> Option<()> {
    match reply {
        Reply::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
            for (name, value) in headers {
                head.extend([name, ": ", &value, "\r\n"]);
            }
            // These two never have a body, and saying otherwise would be an error of its own.
            if !matches!(status, 204 | 304) {
                head.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
            }
            stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
            stream.write_all(&body).await.ok()?;
            stream.flush().await.ok()
        }
        Reply::Late(wait) => {
            tokio::time::sleep(wait).await;
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
            stream.flush().await.ok()
        }
        Reply::Hang => std::future::pending().await,
        Reply::BreakInBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf").await.ok()?;
            stream.flush().await.ok()?;
            None
        }
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(b".").await.ok()?;
                stream.flush().await.ok()?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Reply::Nonsense => {
            stream.write_all(b"220 mail.example.com ESMTP\r\n").await.ok()?;
            stream.flush().await.ok()?;
            None
        }
        Reply::Close => None,
    }
}
