//! Drives one connection over any byte stream: flush, heartbeat, read, in one poll and with one timer.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::codec::Protocol;
use crate::event::Incoming;
use crate::heartbeat::Heartbeat;
use crate::options::ConnectOptions;
use crate::outbox::Outbox;
use crate::session::{End, Session, Signal};
use crate::transport::Upgraded;
use crate::websocket::{Decoder, Message, Opcode};

/// Read at once; on the stack, so that an idle connection holds no read buffer.
const READ_CHUNK: usize = 16 * 1024;
/// What may pile up while the owner has paused an Engine.IO 4 connection, whose pings must still be read.
const PAUSED_BACKLOG: usize = 1 << 20;
/// How long leaving waits for the server's part.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection over a stream of type `S`.
#[derive(Debug)]
pub(crate) struct Driver<S> {
    /// None once the connection has ended.
    stream: Option<S>,
    decoder: Decoder,
    pub(crate) outbox: Outbox,
    /// Whether the stream may hold written bytes back.
    unflushed: bool,
    /// None until the open packet.
    heartbeat: Option<Heartbeat>,
    pub(crate) session: Session,
    timer: Pin<Box<Sleep>>,
    paused: bool,
    backlog: Backlog,
    pub(crate) frames_in: u64,
    pub(crate) last_received: Instant,
}

/// What was read while the owner would not take it.
#[derive(Debug, Default)]
struct Backlog {
    items: VecDeque<Incoming>,
    bytes: usize,
    /// The end that came behind the items.
    end: Option<End>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(crate) fn new(upgraded: Upgraded<S>, options: &ConnectOptions) -> Self {
        let now = Instant::now();
        let mut decoder = Decoder::new(options.max_inbound_bytes);
        decoder.extend(&upgraded.rest);
        Self {
            stream: Some(upgraded.stream),
            decoder,
            outbox: Outbox::new(upgraded.mask),
            unflushed: false,
            heartbeat: None,
            session: Session::new(options),
            timer: Box::pin(tokio::time::sleep_until(now)),
            paused: false,
            backlog: Backlog::default(),
            frames_in: 0,
            last_received: now,
        }
    }

    /// Waits for what comes next, driving everything meanwhile. Cancel-safe: all state is in `self`.
    ///
    /// Must not be called again after it returned an end.
    pub(crate) async fn signal(&mut self) -> Result<Signal, End> {
        let signal = poll_fn(|context| self.poll_unpaused(context)).await;
        if signal.is_err() {
            self.hang_up().await;
        }
        signal
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.stream.is_none()
    }

    pub(crate) fn pause(&mut self, pause: bool) {
        if self.paused
            && !pause
            && let Some(heartbeat) = &mut self.heartbeat
        {
            heartbeat.on_resume(Instant::now());
        }
        self.paused = pause;
    }

    /// Gives back all memory that an idle connection does not need.
    pub(crate) fn release_buffers(&mut self) {
        self.decoder.release();
        self.outbox.release();
    }

    /// Writes what is queued; an error is left for [`signal`](Self::signal) to find.
    pub(crate) async fn flush(&mut self) {
        let _ = poll_fn(|context| self.poll_flush(context)).await;
    }

    /// Says goodbye as far as that is possible at once, and drops the stream.
    pub(crate) async fn hang_up(&mut self) {
        if let Some(stream) = &mut self.stream {
            self.outbox.push_urgent(Opcode::Close, &[]);
            let outbox = &mut self.outbox;
            poll_fn(|context| {
                // What cannot be written now is not worth waiting for.
                let _ = poll_write_out(stream, outbox, context);
                let _ = Pin::new(&mut *stream).poll_flush(context);
                Poll::Ready(())
            })
            .await;
        }
        self.end();
    }

    /// Leaves the namespace, closes the WebSocket and waits a little for the server to do the same.
    pub(crate) async fn leave(&mut self, disconnect: &str) {
        self.paused = false;
        self.outbox.push_control(Opcode::Text, disconnect.as_bytes());
        self.outbox.push_control(Opcode::Close, &[]);
        let end_of_stream = async {
            // Whatever still comes is of no interest.
            while poll_fn(|context| self.poll_signal(context)).await.is_ok() {}
        };
        // Silence counts as consent.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, end_of_stream).await;
        self.end();
    }

    /// Drops the stream, and the timer with it: an owner that keeps what has ended is not woken for it.
    fn end(&mut self) {
        self.stream = None;
        self.timer.set(tokio::time::sleep_until(Instant::now()));
    }

    /// As [`poll_signal`](Self::poll_signal), but holds back what comes while paused.
    fn poll_unpaused(&mut self, context: &mut Context<'_>) -> Poll<Result<Signal, End>> {
        loop {
            if !self.paused {
                if let Some(item) = self.backlog.pop() {
                    return Poll::Ready(Ok(Signal::Incoming(item)));
                }
                if let Some(end) = self.backlog.end.take() {
                    return Poll::Ready(Err(end));
                }
                return self.poll_signal(context);
            }
            if self.backlog.end.is_some() {
                // The owner resumes in its own time and polls again then.
                return Poll::Pending;
            }
            match ready!(self.poll_signal(context)) {
                Ok(Signal::Incoming(item)) => self.backlog.push(item),
                Err(end) if !self.backlog.items.is_empty() => self.backlog.end = Some(end),
                other => return Poll::Ready(other),
            }
        }
    }

    fn poll_signal(&mut self, context: &mut Context<'_>) -> Poll<Result<Signal, End>> {
        loop {
            let listening = self.is_listening();
            if listening {
                match self.next_signal() {
                    Ok(Some(signal)) => return Poll::Ready(Ok(signal)),
                    Ok(None) => {}
                    Err(end) => return Poll::Ready(Err(self.session.explain(end))),
                }
            }
            let now = Instant::now();
            self.ping_if_due(now);
            let written = self.poll_flush(context);
            let read = if listening { self.poll_read(context, now) } else { Poll::Pending };
            match (read, written) {
                (Poll::Ready(Ok(())), _) => {}
                (Poll::Ready(Err(error)), _) | (Poll::Pending, Poll::Ready(Err(error))) => {
                    return Poll::Ready(Err(self.session.explain(End::Lost(error))));
                }
                (Poll::Pending, Poll::Ready(Ok(())) | Poll::Pending) => {
                    ready!(self.poll_timer(context, listening, now))?;
                }
            }
        }
    }

    /// Paused Engine.IO 4 connections are read on, for the server's pings, until too much has piled up.
    fn is_listening(&self) -> bool {
        !self.paused
            || match self.session.protocol() {
                Protocol::EngineIo3 => false,
                Protocol::EngineIo4 => self.backlog.bytes < PAUSED_BACKLOG,
            }
    }

    /// Handles messages that were read until one concerns the owner.
    fn next_signal(&mut self) -> Result<Option<Signal>, End> {
        let Self { decoder, outbox, session, heartbeat, .. } = self;
        if session.is_opening() && is_http(decoder.pending()) {
            return Err(End::Mismatch);
        }
        while let Some(message) = decoder.next()? {
            self.frames_in += 1;
            let signal = match message {
                Message::Text(text) => session.on_text(text, outbox, heartbeat)?,
                Message::Binary(_) => session.on_binary()?,
                Message::Ping(payload) => {
                    outbox.push_urgent(Opcode::Pong, payload);
                    None
                }
                Message::Pong => None,
                Message::Close { code, reason } => return Err(session.closed(code, reason)),
            };
            if signal.is_some() {
                return Ok(signal);
            }
        }
        Ok(None)
    }

    fn ping_if_due(&mut self, now: Instant) {
        if let Some(heartbeat) = &mut self.heartbeat
            && heartbeat.take_ping(now)
        {
            self.decoder.release();
            self.outbox.release();
            self.outbox.push_urgent(Opcode::Text, b"2");
        }
    }

    /// Writes all that waits, in as few writes as the stream allows.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if !self.outbox.unwritten().is_empty() {
            self.unflushed = true;
            ready!(poll_write_out(stream, &mut self.outbox, context))?;
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let mut chunk = [MaybeUninit::uninit(); READ_CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(stream).poll_read(context, &mut chunk))?;
        if chunk.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.decoder.extend(chunk.filled());
        self.last_received = now;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.on_read();
        }
        Poll::Ready(Ok(()))
    }

    /// Called when there is nothing to read: waits for the next deadline, or finds that one has passed.
    fn poll_timer(&mut self, context: &mut Context<'_>, listening: bool, now: Instant) -> Poll<Result<(), End>> {
        if let Some(until) = self.session.kicked_until()
            && until <= now
        {
            return Poll::Ready(Err(End::Kicked { whole: false }));
        }
        let heartbeat = self.heartbeat.as_ref();
        if listening && heartbeat.and_then(Heartbeat::dead_at).is_some_and(|dead_at| dead_at <= now) {
            return Poll::Ready(Err(End::Dead));
        }
        let due = heartbeat.and_then(|heartbeat| heartbeat.due(listening));
        let Some(due) = due.into_iter().chain(self.session.kicked_until()).min() else {
            return Poll::Pending;
        };
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        self.timer.as_mut().poll(context).map(Ok)
    }
}

impl Backlog {
    fn push(&mut self, item: Incoming) {
        self.bytes += item.footprint();
        self.items.push_back(item);
    }

    fn pop(&mut self) -> Option<Incoming> {
        let item = self.items.pop_front()?;
        self.bytes -= item.footprint();
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
        Some(item)
    }
}

fn poll_write_out<S: AsyncWrite + Unpin>(stream: &mut S, outbox: &mut Outbox, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !outbox.unwritten().is_empty() {
        let written = ready!(Pin::new(&mut *stream).poll_write(context, outbox.unwritten()))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        outbox.advance(written);
    }
    Poll::Ready(Ok(()))
}

/// Recognises a server of Engine.IO 4 that refuses Engine.IO 3: after accepting the WebSocket it answers in HTTP.
fn is_http(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/")
}

#[cfg(test)]
mod tests;
