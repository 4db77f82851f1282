//! Connections over a stream in memory: what they write, and when they wake.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::websocket::MaskSource;

/// Length of the frame that asks for `/chat`.
const CONNECT: usize = 14;

/// Counts the writes that reach the stream.
#[derive(Debug)]
struct Counting {
    stream: DuplexStream,
    writes: usize,
}

impl AsyncRead for Counting {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let counting = self.get_mut();
        counting.writes += 1;
        Pin::new(&mut counting.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Joins over a stream in memory; the given packets follow the joined packet.
async fn joined(ping_interval: u64) -> (Driver<Counting>, DuplexStream) {
    let (stream, mut server) = tokio::io::duplex(1 << 20);
    let open = format!(r#"0{{"sid":"x","pingInterval":{ping_interval},"pingTimeout":60000}}"#);
    for text in [open.as_str(), "40/chat,"] {
        let length = u8::try_from(text.len()).expect("a short frame");
        server.write_all(&[&[0x81, length], text.as_bytes()].concat()).await.expect("to write");
    }
    let options = ConnectOptions::new("http://localhost").expect("a URL").namespace("/chat").expect("valid");
    let stream = Counting { stream, writes: 0 };
    let mut driver = Driver::new(Upgraded { stream, mask: MaskSource::new(), rest: Vec::new() }, &options);
    assert!(matches!(driver.signal().await, Ok(Signal::Opened)));
    assert!(matches!(driver.signal().await, Ok(Signal::Joined)));
    (driver, server)
}

fn writes(driver: &Driver<Counting>) -> usize {
    driver.stream.as_ref().expect("a living connection").writes
}

#[tokio::test(start_paused = true)]
async fn whatever_is_queued_leaves_in_one_write() {
    let (mut driver, mut server) = joined(25_000).await;
    let silence = tokio::time::timeout(Duration::from_secs(1), driver.signal()).await;
    assert!(silence.is_err());
    let before = writes(&driver);
    for _ in 0..100 {
        driver.outbox.push(&[b"42/chat,[\"event\"]"]);
    }
    let silence = tokio::time::timeout(Duration::from_secs(1), driver.signal()).await;
    assert!(silence.is_err());
    assert_eq!(writes(&driver) - before, 1);
    let mut read = [0; CONNECT + 100 * 23];
    server.read_exact(&mut read).await.expect("all of them");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_holds_no_buffers_and_wakes_for_its_pings_only() {
    let (mut driver, mut server) = joined(25_000).await;
    driver.release_buffers();
    let mut polls = 0;
    let idle = tokio::time::timeout(
        Duration::from_secs(24),
        poll_fn(|context| {
            polls += 1;
            driver.poll_signal(context)
        }),
    )
    .await;
    assert!(idle.is_err());
    assert_eq!(polls, 2, "at the start and at the end");
    assert_eq!(driver.outbox.queued_bytes(), 0);
    server.read_exact(&mut [0; CONNECT]).await.expect("the CONNECT packet");
    let next = tokio::time::timeout(Duration::from_secs(2), driver.signal()).await;
    assert!(next.is_err());
    let mut ping = [0; 64];
    assert_eq!(server.read(&mut ping).await.expect("to read"), 7, "one masked frame of one byte");
}

#[tokio::test(start_paused = true)]
async fn writes_that_cannot_go_on_do_not_stop_the_heartbeat_from_finding_the_dead() {
    let (mut driver, _server) = joined(25_000).await;
    driver.outbox.push(&[&vec![b'x'; 2 << 20]]);
    let start = Instant::now();
    assert!(matches!(driver.signal().await, Err(End::Dead)));
    assert_eq!(start.elapsed().as_secs(), 25 + 60);
}

/// Counts how often a task would be woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_ended_wakes_nobody_any_more() {
    let woken = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);

    let (mut living, _server) = joined(25_000).await;
    assert!(living.poll_signal(&mut context).is_pending());
    tokio::time::advance(Duration::from_secs(26)).await;
    assert_eq!(woken.count(), 1, "for its ping");

    let (mut lost, server) = joined(25_000).await;
    assert!(lost.poll_signal(&mut context).is_pending());
    drop(server);
    assert!(matches!(lost.signal().await, Err(End::Lost(_))));
    let (mut left, _server) = joined(25_000).await;
    assert!(left.poll_signal(&mut context).is_pending());
    left.leave("41/chat,").await;
    let before = woken.count();
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(woken.count(), before);
}
