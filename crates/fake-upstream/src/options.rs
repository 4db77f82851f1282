//! How a fake upstream is set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Script;

/// The limits that `GET /api/limit` reports and that are enforced; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one user at once.
    pub connections: Option<u32>,
    /// Emits of one user in each interval.
    pub emits: Option<u32>,
    /// The interval of `emits`, in seconds.
    pub emit_interval: u32,
    /// The largest payload of an emit, in KiB.
    pub payload_kib: Option<u32>,
    /// REST calls of one user in each interval.
    pub rest_calls: Option<u32>,
    /// The interval of `rest_calls`, in seconds.
    pub rest_interval: u32,
    /// The largest file, in KiB.
    pub file_kib: u32,
}

impl Default for Limits {
    /// The values that the documentation shows.
    fn default() -> Self {
        Self {
            connections: Some(3),
            emits: Some(600),
            emit_interval: 60,
            payload_kib: Some(16),
            rest_calls: Some(600),
            rest_interval: 300,
            file_kib: 1_048_576,
        }
    }
}

impl Limits {
    /// No limits, for load tests; reported as very large numbers.
    pub fn none() -> Self {
        Self { connections: None, emits: None, payload_kib: None, rest_calls: None, ..Self::default() }
    }

    /// The body of `GET /api/limit`.
    pub(crate) fn to_json(self) -> Value {
        let or_huge = |limit: Option<u32>| limit.unwrap_or(1_000_000_000);
        json!({
            "global": {
                "rest_api": {"rate_limit": or_huge(self.rest_calls), "rate_interval": self.rest_interval, "max_upload_file_size": self.file_kib},
                "socketio": {"max_connections": or_huge(self.connections), "rate_limit": or_huge(self.emits),
                    "rate_interval": self.emit_interval, "payload_size": or_huge(self.payload_kib)},
            },
            "resource": [
                {"path": "/api/files/getuploadurl", "method": "POST", "rate_limit": 30, "rate_interval": 60},
                {"path": "/api/spaces/:id/invite", "method": "POST", "rate_limit": 10, "rate_interval": 600},
            ],
        })
    }
}

/// How a fake upstream is set up; the default is the documented behaviour on a free port of the loopback.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The `pingInterval` of the open packet.
    pub ping_interval: Duration,
    /// The `pingTimeout` of the open packet.
    pub ping_timeout: Duration,
    /// Count only pings as signs of life, as socket.io 4 does, rather than any packet.
    pub only_pings_count: bool,
    /// The largest WebSocket message taken, in bytes.
    pub max_message: usize,
    /// How many frames may wait for a client that does not read; beyond that it is cut.
    pub outbox: usize,
    /// How many emits, frames, REST calls and closed connections are remembered.
    pub record: usize,
    /// Remember frames.
    pub record_frames: bool,
    /// How many messages each space keeps.
    pub history: usize,
    /// Ids and tokens repeat with the seed.
    pub seed: u64,
    /// The limits reported and enforced.
    pub limits: Limits,
    /// The script for everybody, to begin with.
    pub script: Script,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_mins(1),
            only_pings_count: false,
            max_message: 1_000_000,
            outbox: 16_384,
            record: 16_384,
            record_frames: true,
            history: 10_000,
            seed: 1,
            limits: Limits::default(),
            script: Script::default(),
        }
    }
}

impl Options {
    /// For load tests: no limits, and little remembered, so that the fake upstream is not what is measured.
    pub fn for_load() -> Self {
        Self { record: 64, record_frames: false, history: 100, limits: Limits::none(), ..Self::default() }
    }
}
