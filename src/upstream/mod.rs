//! Avaya Spaces as the service sees it: the Socket.IO side, the REST side, and their objects, read leniently and kept as they came.
//!
//! Facts about the upstream stand here and nowhere else. They come from Avaya's public developer documentation
//! (<https://spaces.avayacloud.com/developers/docs/>) and from public client code.

mod activity;
mod escape;
mod event;
mod history;
mod limits;
mod message;
mod oauth;
mod rest;
mod sending;
mod socket;
mod space;
mod text;

pub use activity::{ActivityKind, ReceivedActivity};
pub use escape::escape;
pub use event::{Circumstances, NoSpace, NormalisedEvent, api_category, normalise, upstream_category};
pub use history::{ChangesPage, HistoryPage};
pub use message::{
    Content, LOOPBACK_BRIDGE, Loopback, OutgoingContent, OutgoingPayload, Parent, ReceivedLoopback, ReceivedMessage,
    ReceivedParent, Sender, TopicType,
};
pub(crate) use message::{lenient, lenient_text};
pub use oauth::{Grant, GrantError, OauthApplication, TokenServer, TokenServerSettings};
pub(crate) use oauth::{describe, is_passing, read_at_most, retry_after};
pub use rest::{DirectKind, Profile, RestClient, RestDialect, RestError, RestSettings, SpaceInfo, SpacePage};
pub use sending::{ChatBody, PostError, PostedChat};
pub use socket::{Connector, Refusal, RefusedMessage, SUBSCRIPTION_REQUIRED, Socket, SocketEvent, SocketSettings};
pub use text::plain_text;
