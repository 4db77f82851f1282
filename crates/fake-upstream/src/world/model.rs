//! The plain values of the world.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::clock;

/// What kind of account a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserKind {
    /// An ordinary account.
    Registered,
    /// A guest made by `POST /api/anonymous/auth`.
    Anonymous,
    /// A service account, which may call fewer endpoints.
    Service,
}

/// Somebody who can hold tokens and be a member of spaces.
#[derive(Debug, Clone)]
pub struct User {
    /// 24 hex digits.
    pub id: String,
    /// The login name, an e-mail address for registered users.
    pub username: String,
    /// The name that people see.
    pub displayname: String,
    /// What kind of account it is.
    pub kind: UserKind,
    /// Where the picture is.
    pub picture_url: String,
}

impl AsRef<str> for User {
    fn as_ref(&self) -> &str {
        &self.id
    }
}

impl User {
    /// `user` or `anonymous`, as the wire calls it.
    pub fn wire_type(&self) -> &'static str {
        match self.kind {
            UserKind::Registered | UserKind::Service => "user",
            UserKind::Anonymous => "anonymous",
        }
    }

    /// The user as the `sender` of a message.
    pub fn as_sender(&self) -> Value {
        json!({"_id": self.id, "type": self.wire_type(), "username": self.username,
            "displayname": self.displayname, "picture_url": self.picture_url})
    }
}

/// What kind of credential a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A user's JWT: REST scheme `jwt`, socket `tokenType=jwt`.
    Jwt,
    /// An OAuth 2 access token: REST scheme `bearer`, socket `tokenType=oauth`.
    Oauth,
    /// A guest's JWT: REST scheme `jwt`, socket `tokenType=jwt`.
    Anonymous,
    /// A service app's JWT: REST scheme `service_app`; the socket's name for it is not public, `jwt` and `service_app` are taken.
    Service,
}

impl TokenKind {
    /// The scheme word of the `Authorization` header.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Jwt | Self::Anonymous => "jwt",
            Self::Oauth => "bearer",
            Self::Service => "service_app",
        }
    }

    /// The value of the socket's `tokenType`.
    pub fn socket_type(self) -> &'static str {
        match self {
            Self::Jwt | Self::Anonymous | Self::Service => "jwt",
            Self::Oauth => "oauth",
        }
    }

    pub(crate) fn accepts_socket_type(self, token_type: &str) -> bool {
        token_type == self.socket_type() || (self == Self::Service && token_type == "service_app")
    }
}

/// A credential of one user.
#[derive(Debug, Clone)]
pub struct Token {
    /// What the client sends.
    pub value: String,
    /// What kind of credential it is.
    pub kind: TokenKind,
    /// The id of the user it stands for.
    pub user: String,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: i64,
    /// Whether it was made invalid before its time.
    pub revoked: bool,
}

impl Token {
    /// The whole value of the `Authorization` header.
    pub fn authorization(&self) -> String {
        format!("{} {}", self.kind.scheme(), self.value)
    }

    /// How long the token still lives.
    pub(crate) fn life_at(&self, now_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.expires_at - now_ms).unwrap_or_default())
    }

    pub(crate) fn is_valid_at(&self, now_ms: i64) -> bool {
        !self.revoked && self.expires_at > now_ms
    }
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        &self.value
    }
}

/// A refresh token; it works once.
#[derive(Debug, Clone)]
pub(crate) struct RefreshToken {
    pub(crate) user: String,
    pub(crate) used: bool,
}

/// What kind of space it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceKind {
    /// Many members.
    Group,
    /// Exactly two members, chat only; its messages reach both without subscription.
    Direct,
    /// A user's own meeting room.
    Personal,
}

impl SpaceKind {
    /// `group`, `direct` or `personal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Direct => "direct",
            Self::Personal => "personal",
        }
    }
}

/// A space ("topic" on the wire).
#[derive(Debug, Clone)]
pub struct Space {
    /// 24 hex digits.
    pub id: String,
    /// The name; empty for direct spaces.
    pub title: String,
    /// The description, HTML.
    pub description: String,
    /// What kind of space it is.
    pub kind: SpaceKind,
    /// The id of the creator and admin.
    pub owner: Option<String>,
    /// The ids of the members, in the order they came.
    pub members: Vec<String>,
    /// The PIN that joining and subscribing need.
    pub pin: Option<String>,
    /// Whether it is closed for good; writing to it is refused.
    pub archived: bool,
    /// Restriction flags, such as `deny_guest_access_history_msg`.
    pub restrict: Vec<String>,
    /// Users whose posts the space's policy refuses.
    pub muted: HashSet<String>,
    /// Whether anyone who is not a member may join and subscribe.
    pub open: bool,
    pub(crate) created_ms: i64,
    pub(crate) active_ms: i64,
    pub(crate) log: VecDeque<String>,
}

impl AsRef<str> for Space {
    fn as_ref(&self) -> &str {
        &self.id
    }
}

impl Space {
    pub(super) fn new(id: String, title: &str, kind: SpaceKind, members: &[&User], now_ms: i64) -> Self {
        Self {
            id,
            title: title.to_owned(),
            description: String::new(),
            kind,
            owner: members.first().map(|user| user.id.clone()),
            members: members.iter().map(|user| user.id.clone()).collect(),
            pin: None,
            archived: false,
            restrict: Vec::new(),
            muted: HashSet::new(),
            open: false,
            created_ms: now_ms,
            active_ms: now_ms,
            log: VecDeque::new(),
        }
    }

    /// Whether the user is a member.
    pub fn is_member(&self, user_id: &str) -> bool {
        self.members.iter().any(|member| member == user_id)
    }

    /// `admin`, `member` or `guest`.
    pub fn role_of(&self, user: &User) -> &'static str {
        if user.kind == UserKind::Anonymous || !self.is_member(&user.id) {
            "guest"
        } else if self.owner.as_deref() == Some(&user.id) {
            "admin"
        } else {
            "member"
        }
    }

    /// The user may see the space: a member, or anybody if it is open.
    pub(crate) fn admits(&self, user_id: &str) -> bool {
        self.open || self.is_member(user_id)
    }

    /// The PIN given opens the space.
    pub(crate) fn accepts_pin(&self, given: Option<&str>) -> bool {
        self.pin.as_deref().is_none_or(|pin| given == Some(pin))
    }

    pub(crate) fn restricts(&self, flag: &str) -> bool {
        self.restrict.iter().any(|set| set == flag)
    }
}

/// A stored chat message, post or task.
#[derive(Debug, Clone)]
pub struct Message {
    /// 24 hex digits.
    pub id: String,
    /// The id of the space.
    pub space: String,
    /// `chat`, `idea` or `task`.
    pub category: String,
    /// The id of the author.
    pub sender: String,
    /// Whether it was deleted; the record stays.
    pub deleted: bool,
    pub(crate) created_ms: i64,
    pub(crate) modified_ms: i64,
    /// The object as events and listings show it, without times.
    pub(crate) body: Map<String, Value>,
}

impl AsRef<str> for Message {
    fn as_ref(&self) -> &str {
        &self.id
    }
}

impl Message {
    /// The text as it is stored.
    pub fn text(&self) -> &str {
        self.body.get("content").and_then(|content| content.get("bodyText")).and_then(Value::as_str).unwrap_or_default()
    }

    /// The message as events and listings show it.
    pub fn to_json(&self) -> Value {
        let mut object = self.body.clone();
        object.insert("created".to_owned(), clock::iso(self.created_ms).into());
        if self.modified_ms > self.created_ms || self.deleted {
            object.insert("modified".to_owned(), clock::iso(self.modified_ms).into());
        }
        if self.deleted {
            object.insert("isDeleted".to_owned(), true.into());
        }
        Value::Object(object)
    }
}

/// A file that was announced and, perhaps, uploaded.
#[derive(Debug, Clone)]
pub(crate) struct StoredFile {
    pub(crate) announced: u64,
    pub(crate) content_type: String,
    pub(crate) signature: String,
    pub(crate) content: Option<FileContent>,
}

/// What arrived of a file, once all of it had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileContent {
    /// Its size in bytes.
    pub size: u64,
    /// Its checksum, as [`FileContent::of`] makes it.
    pub checksum: u64,
    /// Its bytes, unless there are too many for a stand-in to keep.
    pub bytes: Option<Vec<u8>>,
}

/// The largest file whose bytes are kept.
const KEPT: usize = 8 << 20;

impl FileContent {
    /// The content that consists of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut content = Self { bytes: Some(Vec::new()), ..Self::default() };
        content.add(bytes);
        content
    }

    /// Adds a piece to the end.
    pub fn add(&mut self, piece: &[u8]) {
        const PRIME: u64 = 0x0100_0000_01b3;
        self.size += piece.len() as u64;
        self.checksum =
            piece.iter().fold(self.checksum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(PRIME).wrapping_add(1));
        self.bytes = self.bytes.take().filter(|bytes| bytes.len() + piece.len() <= KEPT).map(|mut bytes| {
            bytes.extend_from_slice(piece);
            bytes
        });
    }
}
