//! A raw WebSocket client and a raw HTTP client, so that tests see the wire as it is.

mod http;
mod socket;

use std::time::Duration;

use fake_upstream::{FakeUpstream, Options, Space, Token, TokenKind, User};

pub(crate) use http::{Reply, call, call_with, send_rest};
pub(crate) use socket::{Client, Refused, connect_url, query};

/// How long a test waits for anything before it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long a test listens before it says that nothing came.
pub(crate) const QUIET: Duration = Duration::from_millis(150);

/// A delay that is long enough for what comes at once to overtake it.
pub(crate) const LATE: Duration = Duration::from_millis(400);

/// Ana and Bo in one space, with a token for each.
pub(crate) struct Scene {
    pub(crate) upstream: FakeUpstream,
    pub(crate) ana: User,
    pub(crate) bo: User,
    pub(crate) anas: Token,
    pub(crate) bos: Token,
    pub(crate) ops: Space,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let upstream = FakeUpstream::start(options).await.expect("a free port");
        let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
        let anas = upstream.token_for(&ana, TokenKind::Jwt);
        let bos = upstream.token_for(&bo, TokenKind::Oauth);
        let ops = upstream.space("Ops", &[&ana, &bo]);
        Self { upstream, ana, bo, anas, bos, ops }
    }

    /// Connects and joins; the open frames are consumed.
    pub(crate) async fn join(&self, token: &Token) -> Client {
        let mut client = Client::open(&self.upstream, token).await;
        client.join(token).await;
        client
    }

    /// Connects, joins and subscribes to the space.
    pub(crate) async fn subscribe(&self, token: &Token) -> Client {
        let mut client = self.join(token).await;
        client.subscribe(&self.ops.id).await;
        client
    }
}
