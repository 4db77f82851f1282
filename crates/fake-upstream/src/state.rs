//! The one lock: world, script, connections and record change together, never across an await.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::options::{Limits, Options};
use crate::record::{ConnectionId, Seen};
use crate::script::{EchoFault, EventFault, Scripts};
use crate::world::{SpaceKind, World};

/// What every task of one fake upstream shares.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<()>,
    pub(crate) options: Options,
    /// Cancelled when the fake upstream is dropped.
    pub(crate) dropped: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) scripts: Scripts,
    pub(crate) hub: Hub,
    pub(crate) seen: Seen,
    pub(crate) limits: Limits,
    /// The body of `GET /api/limit`, if it is to differ from what is enforced.
    pub(crate) reported_limits: Option<Value>,
    pub(crate) base_url: String,
    pub(crate) emit_rates: HashMap<String, Window>,
    pub(crate) rest_rates: HashMap<String, Window>,
    held: Vec<Delivery>,
    overtaken: Vec<Delivery>,
}

/// A count within a fixed interval of time.
#[derive(Debug)]
pub(crate) struct Window {
    began: Instant,
    count: u32,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), count: 0 }
    }

    /// Counts one more; answers the time to wait if it is beyond the limit.
    pub(crate) fn count(&mut self, limit: Option<u32>, interval: Duration) -> Result<(), Duration> {
        let elapsed = self.began.elapsed();
        if elapsed >= interval {
            *self = Self::new();
        }
        self.count = self.count.saturating_add(1);
        match limit {
            Some(limit) if self.count > limit => Err(interval.saturating_sub(elapsed)),
            _ => Ok(()),
        }
    }
}

/// One event on its way to the connections of a space.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    space: String,
    /// The frame for everybody but the sender's socket.
    frame: Utf8Bytes,
    /// The sender's socket, left out of the others.
    sender: Option<ConnectionId>,
    /// What the sender's socket gets.
    echo: Option<Utf8Bytes>,
    echo_times: u32,
}

/// What befalls a delivery.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) event: Option<EventFault>,
    pub(crate) echo: Option<EchoFault>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        let state = State {
            world: World::new(options.seed, options.history),
            scripts: Scripts { everybody: options.script.clone(), tokens: HashMap::new() },
            hub: Hub::default(),
            seen: Seen::new(options.record, options.record_frames),
            limits: options.limits,
            reported_limits: None,
            base_url: String::new(),
            emit_rates: HashMap::new(),
            rest_rates: HashMap::new(),
            held: Vec::new(),
            overtaken: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), changes: watch::Sender::new(()), options, dropped: CancellationToken::new() })
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        // A panic of a test's own closure must not take every other task down with it.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, changes: &self.changes }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Does something to the state later, unless the fake upstream is gone by then.
    pub(crate) fn after(self: &Arc<Self>, delay: Duration, work: impl FnOnce(&mut State) + Send + 'static) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let ended = shared.dropped.clone();
            tokio::select! {
                () = ended.cancelled() => {}
                () = tokio::time::sleep(delay) => work(&mut shared.lock()),
            }
        });
    }

    /// Delivers an event as the faults say.
    pub(crate) fn dispatch(self: &Arc<Self>, state: &mut State, mut delivery: Delivery, faults: &Faults) {
        match &faults.echo {
            None => {}
            Some(EchoFault::Missing) => delivery.echo = None,
            Some(EchoFault::Twice) => delivery.echo_times = 2,
            Some(EchoFault::WithoutLoopback) => delivery.echo = Some(delivery.frame.clone()),
            Some(EchoFault::Held) => {
                let kept = delivery.split_echo();
                state.held.push(kept);
            }
            Some(EchoFault::Late(delay)) => {
                let kept = delivery.split_echo();
                self.after(*delay, move |state| state.deliver(&kept));
            }
        }
        match &faults.event {
            None => {
                state.deliver(&delivery);
                while let Some(overtaken) = state.overtaken.pop() {
                    state.deliver(&overtaken);
                }
            }
            Some(EventFault::Missing) => {}
            Some(EventFault::Twice) => {
                state.deliver(&delivery);
                state.deliver(&delivery);
            }
            Some(EventFault::Held) => state.held.push(delivery),
            Some(EventFault::Overtaken) => state.overtaken.push(delivery),
            Some(EventFault::Late(delay)) => {
                self.after(*delay, move |state| state.deliver(&delivery));
            }
        }
    }
}

impl Delivery {
    /// An event that goes to everybody alike.
    pub(crate) fn new(space: &str, frame: Utf8Bytes) -> Self {
        Self { space: space.to_owned(), frame, sender: None, echo: None, echo_times: 1 }
    }

    /// Gives the sender's socket a frame of its own.
    pub(crate) fn with_echo(mut self, sender: ConnectionId, echo: Utf8Bytes) -> Self {
        self.sender = Some(sender);
        self.echo = Some(echo);
        self
    }

    /// Takes the sender's copy out into a delivery of its own that reaches nobody else.
    fn split_echo(&mut self) -> Self {
        let echo = self.echo.take();
        Self { echo, sender: self.sender, ..Self::new("", Utf8Bytes::default()) }
    }
}

impl State {
    /// Writes the event to everyone who gets it: subscribers, and the members of a direct space.
    pub(crate) fn deliver(&mut self, delivery: &Delivery) {
        if let (Some(sender), Some(frame)) = (delivery.sender, &delivery.echo)
            && self.hub.get(sender).is_some_and(|connection| connection.joined)
        {
            for _ in 0..delivery.echo_times {
                self.hub.send(sender, frame.clone(), &mut self.seen);
            }
        }
        for id in self.recipients(&delivery.space) {
            if Some(id) != delivery.sender {
                self.hub.send(id, delivery.frame.clone(), &mut self.seen);
            }
        }
    }

    /// The connections that get the events of a space.
    pub(crate) fn recipients(&self, space_id: &str) -> Vec<ConnectionId> {
        let mut recipients: Vec<ConnectionId> = self.hub.subscribers(space_id).collect();
        if let Some(space) = self.world.spaces.get(space_id)
            && space.kind == SpaceKind::Direct
        {
            recipients.extend(space.members.iter().flat_map(|member| self.hub.of_user(member)));
            recipients.sort_unstable();
            recipients.dedup();
        }
        recipients
    }

    /// Delivers all that was held or overtaken, oldest first; answers how many deliveries that were.
    pub(crate) fn release(&mut self) -> usize {
        let mut kept = std::mem::take(&mut self.held);
        kept.extend(std::mem::take(&mut self.overtaken).into_iter().rev());
        for delivery in &kept {
            self.deliver(delivery);
        }
        kept.len()
    }
}

/// `42/chat,["<event>",<payload>]`
pub(crate) fn event_frame(event: &str, payload: &Value) -> Utf8Bytes {
    // Both display as JSON; writing them straight out spares a copy of the payload as a value.
    Utf8Bytes::from(format!("42/chat,[{},{payload}]", Value::from(event)))
}

/// The state under its lock; tells those who wait for a change when it is given back.
pub(crate) struct Locked<'a> {
    state: MutexGuard<'a, State>,
    changes: &'a watch::Sender<()>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if std::mem::take(&mut self.state.seen.changed) {
            self.changes.send_replace(());
        }
    }
}
