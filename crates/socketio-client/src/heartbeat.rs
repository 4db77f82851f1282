//! Who pings when, and when the other side counts as dead; no I/O and no timer of its own.

use std::time::Duration;

use tokio::time::Instant;

use crate::codec::{Handshake, Protocol};

/// Bounds on what a server may demand: neither a busy loop nor a time beyond the clock's range.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_hours(24);

/// The heartbeat of one connection, from its open packet on.
#[derive(Debug)]
pub(crate) enum Heartbeat {
    /// Engine.IO 3: the client pings on a fixed schedule, whatever else it sends; anything at all that arrives is a
    /// sign of life.
    ClientPings {
        interval: Duration,
        timeout: Duration,
        next_ping: Instant,
        /// When the first ping was sent that nothing has followed yet.
        unanswered_since: Option<Instant>,
    },
    /// Engine.IO 4: the server pings; nothing but a ping is a sign of life.
    ServerPings { limit: Duration, dead_at: Instant },
}

impl Heartbeat {
    pub(crate) fn new(protocol: Protocol, handshake: &Handshake, now: Instant) -> Self {
        let interval = handshake.ping_interval.clamp(SHORTEST, LONGEST);
        let timeout = handshake.ping_timeout.clamp(SHORTEST, LONGEST);
        match protocol {
            Protocol::EngineIo3 => Self::ClientPings { interval, timeout, next_ping: now + interval, unanswered_since: None },
            Protocol::EngineIo4 => {
                let limit = interval + timeout;
                Self::ServerPings { limit, dead_at: now + limit }
            }
        }
    }

    /// Notes that bytes arrived.
    pub(crate) fn on_read(&mut self) {
        match self {
            Self::ClientPings { unanswered_since, .. } => *unanswered_since = None,
            Self::ServerPings { .. } => {}
        }
    }

    /// Notes that the server pinged.
    pub(crate) fn on_ping(&mut self, now: Instant) {
        match self {
            Self::ClientPings { .. } => {}
            Self::ServerPings { limit, dead_at } => *dead_at = now + *limit,
        }
    }

    /// Tells whether a ping is due now, and counts it as sent.
    pub(crate) fn take_ping(&mut self, now: Instant) -> bool {
        match self {
            Self::ClientPings { interval, next_ping, unanswered_since, .. } if *next_ping <= now => {
                // After a pause of the whole process the schedule goes on from now; missed pings are not made up.
                *next_ping = (*next_ping + *interval).max(now + SHORTEST);
                unanswered_since.get_or_insert(now);
                true
            }
            Self::ClientPings { .. } | Self::ServerPings { .. } => false,
        }
    }

    /// Returns when silence becomes death.
    pub(crate) fn dead_at(&self) -> Option<Instant> {
        match self {
            Self::ClientPings { timeout, unanswered_since, .. } => unanswered_since.map(|since| since + *timeout),
            Self::ServerPings { dead_at, .. } => Some(*dead_at),
        }
    }

    /// Returns when there is something to do next; without listening there is no telling the dead.
    pub(crate) fn due(&self, listening: bool) -> Option<Instant> {
        let next_ping = match self {
            Self::ClientPings { next_ping, .. } => Some(*next_ping),
            Self::ServerPings { .. } => None,
        };
        let dead_at = if listening { self.dead_at() } else { None };
        next_ping.into_iter().chain(dead_at).min()
    }

    /// Begins to listen again after a time without: the silence meanwhile was this side's.
    pub(crate) fn on_resume(&mut self, now: Instant) {
        match self {
            Self::ClientPings { unanswered_since, .. } => {
                if let Some(since) = unanswered_since {
                    *since = now;
                }
            }
            Self::ServerPings { limit, dead_at } => *dead_at = now + *limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(interval: Duration, timeout: Duration) -> Handshake {
        Handshake { sid: "x".to_owned(), upgrades: vec![], ping_interval: interval, ping_timeout: timeout, max_payload: None }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_pings_on_a_fixed_schedule_and_dies_a_timeout_after_the_first_unanswered_ping() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(Protocol::EngineIo3, &handshake(seconds(25), seconds(60)), start);
        assert_eq!(heartbeat.due(true), Some(start + seconds(25)));
        assert!(!heartbeat.take_ping(start + seconds(24)));
        assert!(heartbeat.take_ping(start + seconds(26)), "late by a second");
        assert_eq!(heartbeat.due(true), Some(start + seconds(50)), "the schedule stays");
        heartbeat.on_read();
        assert_eq!(heartbeat.dead_at(), None);
        assert!(heartbeat.take_ping(start + seconds(50)));
        assert!(heartbeat.take_ping(start + seconds(75)));
        assert_eq!(heartbeat.dead_at(), Some(start + seconds(110)));
        assert_eq!(heartbeat.due(false), Some(start + seconds(100)));
        heartbeat.on_resume(start + seconds(80));
        assert_eq!(heartbeat.dead_at(), Some(start + seconds(140)));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_servers_ping_keeps_an_engine_io_4_connection() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(Protocol::EngineIo4, &handshake(seconds(25), seconds(20)), start);
        assert_eq!(heartbeat.due(true), Some(start + seconds(45)));
        heartbeat.on_read();
        assert!(!heartbeat.take_ping(start + seconds(30)));
        assert_eq!(heartbeat.due(true), Some(start + seconds(45)));
        heartbeat.on_ping(start + seconds(25));
        assert_eq!(heartbeat.due(true), Some(start + seconds(70)));
        assert_eq!(heartbeat.due(false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn absurd_times_neither_spin_nor_overflow() {
        let start = Instant::now();
        for protocol in [Protocol::EngineIo3, Protocol::EngineIo4] {
            for time in [Duration::ZERO, Duration::from_millis(u64::MAX)] {
                let mut heartbeat = Heartbeat::new(protocol, &handshake(time, time), start);
                heartbeat.take_ping(start + LONGEST);
                assert!(heartbeat.due(true) > Some(start));
            }
        }
    }
}
