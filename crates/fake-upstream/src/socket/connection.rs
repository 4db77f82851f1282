//! The one task of a connection: read, hand in, write, end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use socketio_client::codec::{EnginePacket, Handshake as OpenPacket, Packet, PacketBody};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::upgrade::Handshake;
use super::{events, join};
use crate::clock;
use crate::hub::{Levers, Out};
use crate::net::Stream;
use crate::record::{ConnectionId, Ended, Way};
use crate::script::{Expiry, Fault, RootConnect};
use crate::state::Shared;

/// How many waiting frames are written before the next flush.
const BATCH: usize = 256;
/// How long a closed connection may take to answer the close frame.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<Stream>;

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ConnectionId,
    pub(super) handshake: Handshake,
    heard_at: Instant,
    /// `40` is sent after the join.
    pub(super) root_after_join: bool,
    /// The end of the token that the client joined with, while it is still to be acted on.
    pub(super) token_ends_at: Option<Instant>,
}

/// What the handling of a frame asks of the task.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    GoOn,
    /// Let the fault happen to this connection.
    Suffer(Fault),
    /// Close the WebSocket in order, with a close frame that is empty or has a code.
    Close(Ended, Option<u16>),
    /// The connection is gone.
    End(Ended),
}

pub(super) async fn run(shared: Arc<Shared>, mut socket: Socket, handshake: Handshake, levers: Levers) {
    let (outbox, out) = mpsc::channel(shared.options.outbox.max(1));
    let cut = levers.cut.clone();
    let id = {
        let mut state = shared.lock();
        let id = state.hub.open(&handshake.token, handshake.mute, outbox, levers);
        state.seen.connection_opened(id, &handshake.token, handshake.query.clone());
        id
    };
    let mut connection = Connection {
        shared: Arc::clone(&shared),
        id,
        handshake,
        heard_at: Instant::now(),
        root_after_join: false,
        token_ends_at: None,
    };
    connection.open();
    let ended = tokio::select! {
        biased;
        () = cut.cancelled() => Ended::Cut,
        ended = connection.serve(&mut socket, out, &cut) => ended,
    };
    let mut state = shared.lock();
    let ended = state.hub.close(id).unwrap_or(ended);
    state.seen.connection_closed(id, ended);
}

impl Connection {
    /// Sends the open packet and, if it comes before the join, `40`.
    fn open(&mut self) {
        let options = &self.shared.options;
        let mut state = self.shared.lock();
        let handshake = OpenPacket {
            sid: state.world.ids.sid(),
            upgrades: Vec::new(),
            ping_interval: options.ping_interval,
            ping_timeout: options.ping_timeout,
            max_payload: None,
        };
        let open = Utf8Bytes::from(EnginePacket::Open(&handshake.encode()).encode());
        let state = &mut *state;
        state.hub.send(self.id, open, &mut state.seen);
        let when = state.scripts.take(&self.handshake.token, |script| &mut script.root_connect);
        self.root_after_join = when == Some(RootConnect::After);
        let (id, root) = (self.id, Utf8Bytes::from_static("40"));
        match when {
            None | Some(RootConnect::Before) => state.hub.send(id, root, &mut state.seen),
            Some(RootConnect::Never | RootConnect::After) => {}
            Some(RootConnect::Late(delay)) => self.shared.after(delay, move |state| {
                state.hub.send(id, root, &mut state.seen);
            }),
        }
    }

    async fn serve(&mut self, socket: &mut Socket, mut out: mpsc::Receiver<Out>, cut: &CancellationToken) -> Ended {
        let alarm = sleep_until(self.next_alarm());
        tokio::pin!(alarm);
        loop {
            // What is ready here must not outrun a cut that this very task has caused.
            if cut.is_cancelled() {
                return Ended::Cut;
            }
            let step = tokio::select! {
                message = socket.next() => self.on_message(message),
                Some(first) = out.recv() => match write(socket, first, &mut out).await {
                    Ok(step) => step,
                    Err(_) => Step::End(Ended::ClientVanished),
                },
                () = &mut alarm => {
                    let step = self.on_alarm();
                    alarm.as_mut().reset(self.next_alarm());
                    step
                }
            };
            match step {
                Step::GoOn => {}
                Step::Suffer(fault) => self.suffer(fault),
                Step::Close(ended, code) => return close(socket, code, ended).await,
                Step::End(ended) => return ended,
            }
            if self.token_ends_at.is_some_and(|ends_at| ends_at < alarm.deadline()) {
                alarm.as_mut().reset(self.next_alarm());
            }
        }
    }

    fn on_message(&mut self, message: Option<Result<Message, Error>>) -> Step {
        match message {
            Some(Ok(Message::Text(text))) => self.on_text(&text),
            Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Step::GoOn,
            // Closing once more writes the answer to the client's close frame.
            Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) => Step::Close(Ended::ClientClosed, None),
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => {
                Step::Close(Ended::ProtocolError, Some(CloseCode::Size.into()))
            }
            Some(Err(_)) | None => Step::End(Ended::ClientVanished),
        }
    }

    fn on_text(&mut self, text: &Utf8Bytes) -> Step {
        let frozen = {
            let mut state = self.shared.lock();
            state.seen.frame(self.id, Way::Received, text);
            state.hub.get(self.id).is_none_or(|connection| connection.frozen)
        };
        let packet = EnginePacket::decode(text);
        if matches!(packet, Ok(EnginePacket::Ping(_))) || !self.shared.options.only_pings_count {
            self.heard_at = Instant::now();
        }
        if frozen {
            return Step::GoOn;
        }
        match packet {
            Ok(EnginePacket::Ping(data)) => self.on_ping(data),
            Ok(EnginePacket::Message(message)) => return self.on_packet(message),
            Ok(EnginePacket::Close) => return Step::Close(Ended::ClientClosed, None),
            Ok(EnginePacket::Open(_) | EnginePacket::Pong(_) | EnginePacket::Upgrade | EnginePacket::Noop) => {}
            Err(_) => return Step::Close(Ended::ProtocolError, None),
        }
        Step::GoOn
    }

    fn on_ping(&self, data: &str) {
        let state = &mut *self.shared.lock();
        if let Some(entry) = state.seen.connection(self.id) {
            entry.pings += 1;
        }
        if state.scripts.take(&self.handshake.token, |script| &mut script.withhold_pong).is_none() {
            let pong = Utf8Bytes::from(EnginePacket::Pong(data).encode());
            state.hub.send(self.id, pong, &mut state.seen);
        }
    }

    fn on_packet(&mut self, message: &str) -> Step {
        // As with socket.io 2.0.4, what cannot be read is dropped and the session goes on.
        let Ok(packet) = Packet::decode(message) else {
            return Step::GoOn;
        };
        match packet.body {
            PacketBody::Connect { query, payload } => {
                return join::on_connect(self, packet.namespace, query, payload);
            }
            PacketBody::Event { name, args, .. } if packet.namespace == join::NAMESPACE => {
                events::on_event(self, &name, args.first().copied().unwrap_or_default());
            }
            PacketBody::Disconnect if packet.namespace == join::NAMESPACE => {
                let state = &mut *self.shared.lock();
                state.hub.leave(self.id);
                if let Some(entry) = state.seen.connection(self.id) {
                    entry.subscriptions.clear();
                }
            }
            PacketBody::Event { .. }
            | PacketBody::Disconnect
            | PacketBody::Ack { .. }
            | PacketBody::Error { .. }
            | PacketBody::BinaryEvent { .. }
            | PacketBody::BinaryAck { .. } => {}
        }
        Step::GoOn
    }

    fn next_alarm(&self) -> Instant {
        let silent_at = self.heard_at + self.patience();
        self.token_ends_at.map_or(silent_at, |ends_at| ends_at.min(silent_at))
    }

    fn patience(&self) -> Duration {
        self.shared.options.ping_interval + self.shared.options.ping_timeout
    }

    /// Lets the end of the token have its consequence; ends a silent client.
    fn on_alarm(&mut self) -> Step {
        let now = Instant::now();
        if self.token_ends_at.is_some_and(|ends_at| ends_at <= now) {
            self.token_ends_at = self.on_token_end(now);
        }
        if now < self.heard_at + self.patience() {
            return Step::GoOn;
        }
        let state = self.shared.lock();
        let frozen = state.hub.get(self.id).is_some_and(|connection| connection.frozen);
        if frozen {
            // A frozen server closes nobody; look again after as long.
            self.heard_at = now;
            return Step::GoOn;
        }
        Step::Close(Ended::PingTimeout, None)
    }

    /// Acts on the end of the token; answers when to look again if it lives on.
    fn on_token_end(&self, now: Instant) -> Option<Instant> {
        let state = &mut *self.shared.lock();
        let token = Arc::clone(&state.hub.get(self.id)?.token);
        let known = state.world.tokens.get(&*token)?;
        if known.revoked {
            // Revoked before its time: that has had its consequences already.
            return None;
        }
        let life = known.life_at(clock::now_ms());
        if !life.is_zero() {
            return now.checked_add(life);
        }
        match state.scripts.take(&token, |script| &mut script.expiry) {
            None | Some(Expiry::Kept) => {}
            Some(Expiry::Fault(fault)) => {
                state.hub.suffer(self.id, fault, &mut state.seen);
            }
        }
        None
    }

    fn suffer(&self, fault: Fault) {
        let state = &mut *self.shared.lock();
        state.hub.suffer(self.id, fault, &mut state.seen);
    }
}

/// Writes what is waiting, up to a batch, and flushes once.
async fn write(socket: &mut Socket, first: Out, out: &mut mpsc::Receiver<Out>) -> Result<Step, Error> {
    let mut next = Some(first);
    let mut written = 0;
    while let Some(item) = next {
        match item {
            Out::Frame(text) => socket.feed(Message::Text(text)).await?,
            Out::Binary(bytes) => socket.feed(Message::Binary(bytes)).await?,
            Out::Then(fault) => {
                socket.flush().await?;
                return Ok(Step::Suffer(fault));
            }
            Out::Close(code) => {
                socket.flush().await?;
                return Ok(Step::Close(Ended::ServerClosed, code));
            }
        }
        written += 1;
        next = if written < BATCH { out.try_recv().ok() } else { None };
    }
    socket.flush().await?;
    Ok(Step::GoOn)
}

/// Sends a close frame and waits a little for the client's.
async fn close(socket: &mut Socket, code: Option<u16>, ended: Ended) -> Ended {
    let frame = code.map(|code| CloseFrame { code: code.into(), reason: Utf8Bytes::default() });
    if socket.close(frame).await.is_ok() {
        let closing = async { while let Some(Ok(_)) = socket.next().await {} };
        // Running into the grace time is an answer too: the client is left to itself.
        let _ = tokio::time::timeout(CLOSE_GRACE, closing).await;
    }
    ended
}
