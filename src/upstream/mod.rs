//! Avaya Spaces as the service sees it: the Socket.IO side, the REST side, and their objects, read leniently and kept as they came.
//!
//! Facts about the upstream stand here and nowhere else. They come from Avaya's public developer documentation
//! (<https://spaces.avayacloud.com/developers/docs/>) and from public client code.

mod activity;
mod attachments;
mod beside;
mod editing;
mod escape;
mod event;
mod files;
mod history;
mod limits;
mod message;
mod oauth;
mod people;
mod readable;
mod reading;
mod rest;
mod sending;
mod socket;
mod space;
mod storage;
mod text;

pub use activity::{ActivityKind, ReceivedActivity, typing};
pub use beside::Beside;
pub use editing::{Deletion, Reason};
pub use escape::escape;
pub use event::{Circumstances, MessageView, NoSpace, NormalisedEvent, api_category, is_change, normalise, upstream_category};
pub(crate) use files::is_file_id;
pub use files::{AnnouncedFile, UploadTarget};
pub use history::{ChangesPage, HistoryPage};
pub use message::{
    CHAT_CATEGORY, Content, LOOPBACK_BRIDGE, Loopback, OutgoingContent, OutgoingMention, OutgoingPayload, Parent,
    ReceivedLoopback, ReceivedMessage, ReceivedParent, Sender, TopicType, UserRef,
};
pub(crate) use message::{lenient, lenient_text};
pub use oauth::{Grant, GrantError, OauthApplication, TokenServer, TokenServerSettings};
pub(crate) use oauth::{describe, is_passing, read_at_most, retry_after};
pub use readable::readable_text;
pub use reading::{HistoryFilter, InSpace};
pub use rest::{DirectKind, Profile, RestClient, RestDialect, RestError, RestSettings, SpaceInfo, SpacePage};
pub use sending::{PostError, PostedMessage, RestMessage, SocketOnly};
pub use socket::{Connector, Refusal, RefusedMessage, SUBSCRIPTION_REQUIRED, Socket, SocketEvent, SocketSettings};
pub use space::{PeoplePage, Person, SpaceDetails};
pub use storage::{Download, SignedUrl, StorageClient, StorageError, Upload};
pub use text::plain_text;
