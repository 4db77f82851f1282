//! What exists upstream: users, their tokens, spaces, messages and files.
//!
//! A [`World`] is plain data. It knows nothing of sockets or HTTP and is always touched under the lock of the
//! running [`FakeUpstream`](crate::FakeUpstream).

mod messages;
mod model;
mod query;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::json;

use crate::clock;
use crate::ids::Ids;

pub(crate) use messages::{Draft, completed_sender};
pub use model::FileContent;
pub use model::{Message, Space, SpaceKind, Token, TokenKind, User, UserKind};
pub(crate) use model::{RefreshToken, StoredFile};
pub(crate) use query::Direction;

/// How long an anonymous token lives.
const ANONYMOUS_LIFE_MS: i64 = 24 * 60 * 60 * 1000;
/// How long an OAuth access token lives.
const OAUTH_LIFE_MS: i64 = 3599 * 1000;

/// Everything that exists upstream.
#[derive(Debug)]
pub struct World {
    pub(crate) ids: Ids,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) tokens: HashMap<String, Token>,
    pub(crate) refresh_tokens: HashMap<String, RefreshToken>,
    pub(crate) passwords: HashMap<String, String>,
    pub(crate) spaces: BTreeMap<String, Space>,
    pub(crate) messages: HashMap<String, Message>,
    pub(crate) files: HashMap<String, StoredFile>,
    /// Who has marked which space as read, and how often.
    pub(crate) read_marks: HashMap<(String, String), u64>,
    /// Messages that someone is editing.
    pub(crate) being_edited: HashSet<String>,
    /// Pairs of users that may not open a direct space with each other.
    pub(crate) strangers: HashSet<(String, String)>,
    history_limit: usize,
    last_modified_ms: i64,
    oauth_life_ms: i64,
}

impl World {
    pub(crate) fn new(seed: u64, history_limit: usize) -> Self {
        Self {
            ids: Ids::new(seed),
            users: BTreeMap::new(),
            tokens: HashMap::new(),
            refresh_tokens: HashMap::new(),
            passwords: HashMap::new(),
            spaces: BTreeMap::new(),
            messages: HashMap::new(),
            files: HashMap::new(),
            read_marks: HashMap::new(),
            being_edited: HashSet::new(),
            strangers: HashSet::new(),
            history_limit: history_limit.max(1),
            last_modified_ms: 0,
            oauth_life_ms: OAUTH_LIFE_MS,
        }
    }

    /// Adds a registered user; `username` becomes `<name>@corp.example` in lower case.
    pub fn user(&mut self, displayname: &str) -> User {
        let local: String = displayname.to_lowercase().split_whitespace().collect::<Vec<_>>().join(".");
        self.add_user(displayname, &format!("{local}@corp.example"), UserKind::Registered)
    }

    /// Adds a user of any kind with a username of its own.
    pub fn add_user(&mut self, displayname: &str, username: &str, kind: UserKind) -> User {
        let user = User {
            id: self.ids.object(),
            username: username.to_owned(),
            displayname: displayname.to_owned(),
            kind,
            picture_url: "https://accounts.example/norevimages/noimage.jpg".to_owned(),
        };
        self.users.insert(user.id.clone(), user.clone());
        user
    }

    /// Lets `user` log in by the OAuth password grant.
    pub fn set_password(&mut self, user: &User, password: &str) {
        self.passwords.insert(user.username.clone(), password.to_owned());
    }

    /// Lets OAuth access tokens live so long from now on, and says so in `expires_in`; an hour less a second to begin with.
    pub fn set_oauth_life(&mut self, life: Duration) {
        self.oauth_life_ms = i64::try_from(life.as_millis()).unwrap_or(OAUTH_LIFE_MS);
    }

    /// The refresh tokens of `user` that were not used yet.
    pub fn unused_refresh_tokens(&self, user: &User) -> Vec<String> {
        let unused = self.refresh_tokens.iter().filter(|(_, token)| token.user == user.id && !token.used);
        unused.map(|(value, _)| value.clone()).collect()
    }

    /// Makes a token of the kind with the life that the documentation gives it.
    pub fn token_for(&mut self, user: &User, kind: TokenKind) -> Token {
        let life = match kind {
            TokenKind::Oauth => self.oauth_life_ms,
            TokenKind::Jwt | TokenKind::Anonymous | TokenKind::Service => ANONYMOUS_LIFE_MS,
        };
        self.token_until(user, kind, clock::now_ms() + life)
    }

    /// Makes a token that ends at `expires_at` (milliseconds since 1970); a JWT says so in its `exp` claim.
    pub fn token_until(&mut self, user: &User, kind: TokenKind, expires_at: i64) -> Token {
        let now = clock::now_ms();
        // Rounded up: a token must not claim to end before it does.
        let exp = (expires_at + 999).div_euclid(1000);
        let value = match kind {
            TokenKind::Oauth => self.ids.opaque(),
            TokenKind::Jwt => {
                let claims = json!({"user_id_sig": self.ids.opaque(), "product_type": "accounts", "lastupdatetime": clock::iso(now),
                    "iss": "accounts", "publickeyid": "fake", "exp": exp, "user_id": user.id, "ver": "2.0"});
                self.ids.jwt("RS256", &claims)
            }
            TokenKind::Anonymous => {
                let claims = json!({"anonymous_id": user.id, "product_type": "onesna", "iss": ["zang", "io"],
                    "iat": exp - ANONYMOUS_LIFE_MS / 1000, "exp": exp});
                self.ids.jwt("HS256", &claims)
            }
            TokenKind::Service => {
                let claims = json!({"sub": user.id, "iss": "service-key", "iat": now.div_euclid(1000), "exp": exp});
                self.ids.jwt("RS256", &claims)
            }
        };
        let token = Token { value, kind, user: user.id.clone(), expires_at, revoked: false };
        self.tokens.insert(token.value.clone(), token.clone());
        token
    }

    /// Makes the token invalid for REST and for new connections; open connections stay.
    pub fn revoke(&mut self, token: &Token) {
        if let Some(stored) = self.tokens.get_mut(&token.value) {
            stored.revoked = true;
        }
    }

    /// Makes a refresh token for `user`; each use of it gives a new one and ends the old.
    pub fn refresh_token_for(&mut self, user: &User) -> String {
        let value = self.ids.opaque();
        self.refresh_tokens.insert(value.clone(), RefreshToken { user: user.id.clone(), used: false });
        value
    }

    /// Ends every refresh token of `user`, as when the user's sign-in is taken back.
    pub fn revoke_refresh_tokens(&mut self, user: &User) {
        self.refresh_tokens.retain(|_, token| token.user != user.id);
    }

    /// Adds a group space; the first member is its admin.
    pub fn space(&mut self, title: &str, members: &[&User]) -> Space {
        self.add_space(title, SpaceKind::Group, members)
    }

    /// Adds a space of any kind; the first member is its admin.
    pub fn add_space(&mut self, title: &str, kind: SpaceKind, members: &[&User]) -> Space {
        let space = Space::new(self.ids.object(), title, kind, members, clock::now_ms());
        self.spaces.insert(space.id.clone(), space.clone());
        space
    }

    /// Finds the direct space of two users or makes it.
    pub fn direct_space(&mut self, one: &User, other: &User) -> Space {
        let found = self
            .spaces
            .values()
            .find(|space| space.kind == SpaceKind::Direct && space.is_member(&one.id) && space.is_member(&other.id));
        match found {
            Some(space) => space.clone(),
            None => self.add_space("", SpaceKind::Direct, &[one, other]),
        }
    }

    /// Makes the direct space of these two users refused, as for users of two companies that share no space.
    pub fn separate(&mut self, one: &User, other: &User) {
        self.strangers.insert((one.id.clone(), other.id.clone()));
        self.strangers.insert((other.id.clone(), one.id.clone()));
    }

    /// How often the user has marked the space as read.
    pub fn read_marks(&self, user: &User, space: &Space) -> u64 {
        self.read_marks.get(&(user.id.clone(), space.id.clone())).copied().unwrap_or(0)
    }

    /// Lets someone begin or end to edit a message; whoever else edits it meanwhile is refused.
    pub fn set_being_edited(&mut self, message_id: &str, is_edited: bool) {
        if is_edited {
            self.being_edited.insert(message_id.to_owned());
        } else {
            self.being_edited.remove(message_id);
        }
    }

    /// Changes a space in place (title, PIN, members, flags); tells nobody.
    ///
    /// Answers whether the space exists.
    pub fn change_space(&mut self, space_id: &str, change: impl FnOnce(&mut Space)) -> bool {
        let Some(space) = self.spaces.get_mut(space_id) else {
            return false;
        };
        change(space);
        true
    }

    /// The space as it is now.
    pub fn find_space(&self, space_id: &str) -> Option<&Space> {
        self.spaces.get(space_id)
    }

    /// The message as it is now, also when it was deleted.
    pub fn find_message(&self, message_id: &str) -> Option<&Message> {
        self.messages.get(message_id)
    }

    /// The messages of a space in the order of their creation, deleted ones left out.
    pub fn messages_in(&self, space_id: &str) -> Vec<&Message> {
        self.records_in(space_id).filter(|message| !message.deleted).collect()
    }

    /// An uploaded file, once all its bytes have arrived.
    pub fn uploaded(&self, file_key: &str) -> Option<&FileContent> {
        self.files.get(file_key)?.content.as_ref()
    }

    /// The media type that was announced for a file.
    pub fn announced_type(&self, file_key: &str) -> Option<&str> {
        Some(&self.files.get(file_key)?.content_type)
    }

    /// How many files were announced, and how many of them are there.
    pub fn count_files(&self) -> (usize, usize) {
        (self.files.len(), self.files.values().filter(|file| file.content.is_some()).count())
    }

    /// Lets the signed addresses of all files end; who asks anew gets others.
    pub fn expire_signed_urls(&mut self) {
        for file in self.files.values_mut() {
            file.signature = self.ids.opaque();
        }
    }

    /// How many whole seconds an OAuth access token lives.
    pub(crate) fn oauth_seconds(&self) -> i64 {
        self.oauth_life_ms.div_euclid(1000)
    }

    /// The user of a token that is neither unknown, revoked nor expired.
    pub(crate) fn valid_token(&self, value: &str) -> Option<&Token> {
        self.tokens.get(value).filter(|token| token.is_valid_at(clock::now_ms()))
    }
}
