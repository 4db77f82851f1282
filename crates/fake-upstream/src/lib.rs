//! A scriptable stand-in for Avaya Spaces.
//!
//! [`FakeUpstream`] serves the three faces of the service on one port: the Socket.IO 2.x side (`/socket.io/`, namespace
//! `/chat`), the REST API (`/api/…`) and the accounts side (`/oauth2/…`). Tests start it in their own process, fill its
//! [`World`], set the switches of its [`Script`], act as other users, and ask what it has [`Seen`].
//!
//! ```
//! use std::time::Duration;
//! use fake_upstream::{EchoFault, FakeUpstream, Fault, Options, Refusal, TokenKind, Who};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let upstream = FakeUpstream::start(Options::default()).await?;
//! let ana = upstream.user("Ana");
//! let bo = upstream.user("Bo");
//! let token = upstream.token_for(&ana, TokenKind::Jwt);
//! let ops = upstream.space("Ops", &[&ana, &bo]);
//!
//! // The next echo never comes, every echo after it is a second late; one refused join for this token.
//! upstream.script(|script| {
//!     script.echo.next(1, EchoFault::Missing).always(EchoFault::Late(Duration::from_secs(1)));
//! });
//! upstream.script_for(&token, |script| {
//!     script.refuse.next(1, Refusal::http(401, "Unauthorized"));
//! });
//!
//! // Somebody else writes; connections are hit.
//! upstream.post_as(&bo, &ops, "<p>it's down again</p>")?;
//! let hit = upstream.fault(&Who::token(&token), &Fault::Cut);
//! assert_eq!(hit, 0, "nobody is connected in this example");
//!
//! // What was seen, now or within a deadline.
//! assert_eq!(upstream.seen(|seen| seen.peak_with(&token)), 0);
//! upstream.wait_until(Duration::from_secs(5), |seen| seen.open_now() == 0).await?;
//! println!("REST {}, socket {}", upstream.rest_url(), upstream.socket_url());
//! # Ok(())
//! # }
//! ```
//!
//! With every switch off it behaves as documented publicly, or as stock socket.io 2.0.4 does where the documentation is
//! silent. What is unknown of the real service is a switch.
//!
//! # Map
//! `server` starts and stops; `net` accepts and cuts; `socket` and `rest` answer clients; `state` holds, under one lock
//! and never across an await, the `world` (what exists), the `script` (what goes wrong), the `hub` (who is connected) and
//! the `record` (what was seen); `acts` is what a test does as somebody else.

mod acts;
mod clock;
mod hub;
mod ids;
mod net;
mod options;
mod record;
mod rest;
mod rest_script;
mod script;
mod server;
mod socket;
mod state;
mod switch;
mod world;

pub use acts::{DemoWorld, UnknownTarget, Who};
pub use options::{Limits, Options};
pub use record::{ConnectionId, ConnectionSeen, Emit, Ended, Frame, RestCall, Seen, Way};
pub use script::{
    AckStyle, ChangeStyle, EchoFault, EndOfList, ErrorBody, EventFault, Expiry, Fault, OverLimit, Pagination, Place, Refusal,
    RestFault, RestScript, RootConnect, Script, SendFault, SendRefusal, SubscribeFault, Switch, TextStyle,
};
pub use server::{DeadlinePassed, FakeUpstream};
pub use world::{FileContent, Message, Space, SpaceKind, Token, TokenKind, User, UserKind, World};
