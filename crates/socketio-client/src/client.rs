//! One task that owns a connection, for callers who would rather hold a handle.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::connection::{Connection, encode_body};
use crate::error::{Disconnect, EmitError};
use crate::event::{Ack, AckId, BinarySkipped, Event, Incoming};

/// Commands that may wait for the task; a caller beyond that waits.
const COMMANDS: usize = 256;
/// Abandoned waiters are looked for when there are this many, and at every doubling.
const SWEEP_FROM: usize = 1_024;

/// A handle to a connection that a task of its own drives.
///
/// Clones share the connection. It is closed when the last handle is dropped or by [`close`](Self::close), and the
/// task ends with it.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    /// The largest body that fits a message behind its prefix and ack id.
    max_body_bytes: usize,
}

/// What the server sends to a [`Client`], in order.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Received>,
    end: Option<oneshot::Receiver<Disconnect>>,
}

/// One item of [`Events`].
#[derive(Clone, Debug)]
pub enum Received {
    /// An event of the server.
    Event(Event),
    /// A binary event whose attachments were dropped.
    BinarySkipped(BinarySkipped),
}

/// Why an event was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AckError {
    /// The event was not sent.
    #[error("failed to send the event")]
    Emit(#[source] EmitError),
    /// The connection ended first; whether the server handled the event is unknown.
    #[error("connection ended before the acknowledgement")]
    ConnectionEnded,
    /// The server acknowledged with binary data, which is not kept.
    #[error("acknowledgement was binary")]
    Binary,
}

#[derive(Debug)]
enum Command {
    Emit { body: String, waiter: Option<Waiter> },
    Answer { id: AckId, body: String },
    Close { closed: oneshot::Sender<()> },
}

type Waiter = oneshot::Sender<Result<Ack, AckError>>;

impl Client {
    /// Hands a connection to a new task on the current runtime; up to `events` events wait for the consumer.
    ///
    /// A consumer that falls behind costs nothing but time: when its channel is full the task stops reading
    /// ([`Connection::pause_reading`]) and goes on keeping the heartbeat and writing. With Engine.IO 3 that may last
    /// for ever; with Engine.IO 4 only until one mebibyte has piled up and the server's patience is over, since
    /// its pings have to be read to be answered. Acknowledgements wait behind unread events. Dropping
    /// [`Events`] discards what comes from then on.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn(connection: Connection, events: usize) -> (Self, Events) {
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (event_sender, event_queue) = mpsc::channel(events.max(1));
        let (end_sender, end) = oneshot::channel();
        let max_body_bytes = connection.max_message_bytes().saturating_sub(connection.head_bytes());
        let client = Self { commands, max_body_bytes };
        let driver = Driver { connection, events: event_sender, waiting: None, acks: HashMap::new(), sweep_at: SWEEP_FROM };
        tokio::spawn(async move {
            let disconnect = driver.run(command_queue).await;
            // Nobody may be left to hear it.
            let _ = end_sender.send(disconnect);
        });
        (client, Events { events: event_queue, end: Some(end) })
    }

    /// Sends an event with one argument, given as JSON text; waits while too much is queued.
    ///
    /// Success means that the event is queued for writing; when the connection ends, its fate is unknown.
    pub async fn emit(&self, event: &str, payload: &str) -> Result<(), EmitError> {
        self.emit_args(event, &[payload]).await
    }

    /// Sends an event with any number of arguments, each given as JSON text.
    pub async fn emit_args(&self, event: &str, args: &[&str]) -> Result<(), EmitError> {
        self.send_event(event, args, None).await
    }

    /// Sends an event with one argument and waits for the server's acknowledgement.
    ///
    /// There is no time limit; dropping the future gives up on the acknowledgement.
    pub async fn emit_with_ack(&self, event: &str, payload: &str) -> Result<Ack, AckError> {
        self.emit_args_with_ack(event, &[payload]).await
    }

    /// Sends an event with any number of arguments and waits for the server's acknowledgement.
    pub async fn emit_args_with_ack(&self, event: &str, args: &[&str]) -> Result<Ack, AckError> {
        let (waiter, answer) = oneshot::channel();
        self.send_event(event, args, Some(waiter)).await.map_err(AckError::Emit)?;
        answer.await.unwrap_or(Err(AckError::ConnectionEnded))
    }

    /// Answers an event that carries this [`ack_id`](Event::ack_id).
    pub async fn ack(&self, id: AckId, args: &[&str]) -> Result<(), EmitError> {
        let body = self.body(None, args)?;
        self.command(Command::Answer { id, body }).await
    }

    /// Leaves the namespace and closes the connection, for all handles; returns when that is done.
    pub async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.command(Command::Close { closed }).await.is_ok() {
            // An error means that the connection ended by itself meanwhile.
            let _ = done.await;
        }
    }

    async fn send_event(&self, event: &str, args: &[&str], waiter: Option<Waiter>) -> Result<(), EmitError> {
        let body = self.body(Some(event), args)?;
        self.command(Command::Emit { body, waiter }).await
    }

    /// Makes the body here, so that the caller hears of what is wrong with it and the task has less to do.
    fn body(&self, event: Option<&str>, args: &[&str]) -> Result<String, EmitError> {
        let body = encode_body(event, args)?;
        if body.len() > self.max_body_bytes {
            return Err(EmitError::TooLarge { size: body.len(), limit: self.max_body_bytes });
        }
        Ok(body)
    }

    async fn command(&self, command: Command) -> Result<(), EmitError> {
        self.commands.send(command).await.map_err(|_| EmitError::Closed)
    }
}

impl Events {
    /// Waits for what comes next; the error says how the connection ended, and is [`Disconnect::Closed`] from then
    /// on. Cancel-safe.
    pub async fn next(&mut self) -> Result<Received, Disconnect> {
        if let Some(received) = self.events.recv().await {
            return Ok(received);
        }
        match &mut self.end {
            Some(end) => {
                let disconnect = end.await.unwrap_or(Disconnect::Closed);
                self.end = None;
                Err(disconnect)
            }
            None => Err(Disconnect::Closed),
        }
    }
}

/// What the task owns.
struct Driver {
    connection: Connection,
    events: mpsc::Sender<Received>,
    /// What the full channel had no room for; reading is paused while it waits.
    waiting: Option<Received>,
    acks: HashMap<AckId, Waiter>,
    sweep_at: usize,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Disconnect {
        let events = self.events.clone();
        loop {
            let has_room = self.connection.has_room();
            let step = tokio::select! {
                biased;
                command = commands.recv(), if has_room => Step::Command(command),
                permit = events.reserve(), if self.waiting.is_some() => Step::Permit(permit.ok()),
                step = drive(&mut self.connection, has_room) => step,
            };
            match step {
                Step::Command(Some(Command::Close { closed })) => {
                    self.connection.close().await;
                    // The caller may have given up waiting.
                    let _ = closed.send(());
                    return Disconnect::Closed;
                }
                Step::Command(Some(Command::Emit { body, waiter })) => self.on_emit(&body, waiter),
                Step::Command(Some(Command::Answer { id, body })) => {
                    self.connection.send_answer(id, &body);
                }
                Step::Command(None) => {
                    self.connection.close().await;
                    return Disconnect::Closed;
                }
                Step::Permit(permit) => self.on_permit(permit),
                Step::Room => {}
                Step::Incoming(Ok(incoming)) => self.on_incoming(incoming),
                Step::Incoming(Err(disconnect)) => return disconnect,
            }
        }
    }

    fn on_emit(&mut self, body: &str, waiter: Option<Waiter>) {
        match waiter {
            Some(waiter) => {
                let id = self.connection.send_body_with_ack(body);
                self.await_ack(id, waiter);
            }
            None => self.connection.send_body(body),
        }
    }

    /// Hands out what was waiting, or discards it if the consumer has gone.
    fn on_permit(&mut self, permit: Option<mpsc::Permit<'_, Received>>) {
        if let (Some(permit), Some(received)) = (permit, self.waiting.take()) {
            permit.send(received);
        }
        self.connection.pause_reading(false);
    }

    fn await_ack(&mut self, id: AckId, waiter: Waiter) {
        if self.acks.len() >= self.sweep_at {
            self.acks.retain(|_, waiter| !waiter.is_closed());
            self.sweep_at = (self.acks.len() * 2).max(SWEEP_FROM);
        }
        self.acks.insert(id, waiter);
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        let received = match incoming {
            Incoming::Event(event) => Received::Event(event),
            Incoming::Ack(ack) => return self.resolve(ack.id(), Ok(ack)),
            Incoming::BinarySkipped(BinarySkipped { event: None, ack: Some(id), .. }) => {
                return self.resolve(id, Err(AckError::Binary));
            }
            Incoming::BinarySkipped(skipped) => Received::BinarySkipped(skipped),
        };
        match self.events.try_send(received) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(received)) => {
                self.waiting = Some(received);
                self.connection.pause_reading(true);
            }
        }
    }

    fn resolve(&mut self, id: AckId, answer: Result<Ack, AckError>) {
        if let Some(waiter) = self.acks.remove(&id) {
            // The caller may have given up waiting.
            let _ = waiter.send(answer);
        }
    }
}

/// What the task does next.
enum Step<'a> {
    Command(Option<Command>),
    /// The consumer has room again, or has gone.
    Permit(Option<mpsc::Permit<'a, Received>>),
    /// So much was written that commands can be taken again.
    Room,
    Incoming(Result<Incoming, Disconnect>),
}

/// Drives the connection until something comes in, or until it has room where it had none.
async fn drive<'a>(connection: &mut Connection, had_room: bool) -> Step<'a> {
    poll_fn(|context| {
        if let Poll::Ready(incoming) = pin!(connection.next()).poll(context) {
            return Poll::Ready(Step::Incoming(incoming));
        }
        if !had_room && connection.has_room() { Poll::Ready(Step::Room) } else { Poll::Pending }
    })
    .await
}
