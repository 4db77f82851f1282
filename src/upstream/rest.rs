//! The REST API of Spaces, as far as the bridge uses it.
//!
//! Source: <https://spaces.avayacloud.com/developers/docs/api/>. Error bodies and statuses are barely documented, so they are read
//! by status class first and leniently after that.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;

use super::TopicType;
use super::limits::resource;
use crate::domain::{AccountId, Credential, Secret, SpaceId, TokenKind};
use crate::governor::{Allowance, Governor, Governors, LimitSettings, RestClass};
use crate::metrics::Metrics;

/// Where the REST API is and how long it may take.
#[derive(Debug, Clone)]
pub struct RestSettings {
    /// The base address.
    pub url: Url,
    /// Most time for one call.
    pub timeout: Duration,
}

/// What the REST API is told beside the call itself, where Avaya does not document what it wants to hear.
#[derive(Debug, Clone)]
pub struct RestDialect {
    /// The value of `accept-version`, if that is to be sent.
    pub accept_version: Option<String>,
    /// The scheme word of `Authorization` for tokens of service applications.
    pub service_app_scheme: String,
}

impl Default for RestDialect {
    fn default() -> Self {
        Self { accept_version: None, service_app_scheme: TokenKind::ServiceApp.as_str().to_owned() }
    }
}

/// The header that asks for a version of the API.
const ACCEPT_VERSION: HeaderName = HeaderName::from_static("accept-version");

/// Largest answer that is read, in bytes; pages of 50 entries stay far below.
const MAX_ANSWER: usize = 4 << 20;

/// Entries asked for per page (Avaya's documented maximum).
const PAGE_SIZE: &str = "50";

/// Most pages that one listing follows: 10,000 spaces.
const MAX_PAGES: usize = 200;

/// Longest piece of an upstream's error text that is passed on.
const MAX_ERROR_TEXT: usize = 300;

/// How often a call that waits for the limit looks whether there is more than was to be expected.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long no call is made after a `429` that does not say.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a call of the REST API failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RestError {
    /// The upstream answered with a status that is no success.
    #[error("Spaces answered with status {status}")]
    Refused {
        /// The status.
        status: u16,
        /// The upstream's error code, if it gave one.
        code: Option<String>,
        /// The upstream's words, if it gave any.
        message: Option<String>,
        /// When to try again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The call was not made: as many as Spaces allows the user have been.
    #[error("as many calls as Spaces allows this user have been made")]
    Limited {
        /// When there may be another.
        retry_after: Duration,
        /// How the limit stands.
        allowance: Allowance,
    },
    /// No answer came.
    #[error("Spaces could not be reached: {detail}")]
    Unreachable {
        /// What happened, without secrets.
        detail: &'static str,
    },
    /// The answer makes no sense.
    #[error("Spaces gave an answer that makes no sense: {detail}")]
    Unreadable {
        /// What was wrong.
        detail: &'static str,
    },
}

impl RestError {
    /// Whether the upstream said that the token is not valid.
    pub fn is_auth(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    /// Whether the same call would be refused again: too many calls and slow ones may yet pass.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { status, .. } => (400..500).contains(status) && !matches!(status, 408 | 425 | 429),
            Self::Limited { .. } | Self::Unreachable { .. } | Self::Unreadable { .. } => false,
        }
    }

    /// When the upstream wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Limited { retry_after, .. } => Some(*retry_after),
            Self::Unreachable { .. } | Self::Unreadable { .. } => None,
        }
    }
}

/// The user behind a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Profile {
    /// The user's id.
    #[serde(rename = "_id")]
    pub id: String,
    /// The login name, often an e-mail address.
    #[serde(default)]
    pub username: Option<String>,
    /// The name shown.
    #[serde(default)]
    pub displayname: Option<String>,
    /// `user` or `anonymous`.
    #[serde(rename = "aType", default)]
    pub kind: Option<String>,
}

/// A space of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Its id.
    pub id: SpaceId,
    /// Its title.
    pub title: Option<String>,
    /// What kind of space it is.
    pub kind: Option<TopicType>,
}

/// One page of a listing of spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpacePage {
    /// The spaces of the page.
    pub spaces: Vec<SpaceInfo>,
    /// Where the next page is, relative to the upstream; `None` at the end.
    pub next: Option<String>,
}

/// Whom a direct space is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectKind {
    /// A registered user.
    User,
    /// An anonymous guest.
    Anonymous,
}

impl DirectKind {
    /// The word in the upstream's path and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Anonymous => "anonymous",
        }
    }
}

/// For whom a call is made, how urgent it is, and what opens the space that it is about.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) class: RestClass,
    pub(super) credential: &'a Credential,
    pub(super) password: Option<&'a Secret>,
}

/// The header with the password (PIN) of a protected space.
const SPACE_PASSWORD: HeaderName = HeaderName::from_static("spaces-x-space-password");

/// A client of the REST API, shared by all sessions. Each call says with whose token it is made, and stays within what Spaces allows
/// that token's user.
#[derive(Debug, Clone)]
pub struct RestClient {
    http: reqwest::Client,
    base: Url,
    governors: Arc<Governors>,
    dialect: RestDialect,
    /// Who wants to know of tokens that calls are refused with.
    refusals: Arc<OnceLock<mpsc::Sender<Credential>>>,
}

impl RestClient {
    /// A client for the API at `settings.url` that uses the given TLS configuration and keeps to the documented limits.
    pub fn new(settings: &RestSettings, tls: rustls::ClientConfig) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("spaces-bridge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let governors = Arc::new(Governors::new(LimitSettings::default(), Arc::new(Metrics::new())));
        Ok(Self { http, base: settings.url.clone(), governors, dialect: RestDialect::default(), refusals: Arc::default() })
    }

    /// Tells `refusals` of each token that a call of this client or a copy of it is refused with, as far as there is room. Only the first
    /// one to ask is told.
    pub fn tell_refusals(&self, refusals: mpsc::Sender<Credential>) {
        // Whoever has asked before is told.
        let _ = self.refusals.set(refusals);
    }

    /// The same, with `governors` that others share.
    #[must_use]
    pub fn governed_by(self, governors: Arc<Governors>) -> Self {
        Self { governors, ..self }
    }

    /// The same, with another dialect.
    #[must_use]
    pub fn speaking(self, dialect: RestDialect) -> Self {
        Self { dialect, ..self }
    }

    /// What says how many calls there may be.
    pub fn governors(&self) -> &Governors {
        &self.governors
    }

    /// The user behind the token (`GET /api/users/me`).
    pub async fn me(&self, credential: &Credential) -> Result<Profile, RestError> {
        let profile: Profile = self.get(credential, &["api", "users", "me"], &[]).await?;
        if let Ok(account) = AccountId::of_user(&profile.id) {
            self.governors.of_account(credential, &account, Instant::now());
        }
        Ok(profile)
    }

    /// One page of the user's spaces of all kinds (`GET /api/users/me/spaces`); `next` is what the page before gave.
    pub async fn spaces_page(&self, credential: &Credential, next: Option<&str>) -> Result<SpacePage, RestError> {
        self.spaces_page_for(RestClass::Interactive, credential, next).await
    }

    async fn spaces_page_for(
        &self,
        class: RestClass,
        credential: &Credential,
        next: Option<&str>,
    ) -> Result<SpacePage, RestError> {
        let path = ["api", "users", "me", "spaces"];
        let url = match next {
            Some(next) => self.page(&path, next)?,
            None => {
                let mut url = self.path(&path);
                url.query_pairs_mut().append_pair("size", PAGE_SIZE).append_pair("topictype", "all");
                url
            }
        };
        let listing: SpaceListing = self.call_for(class, credential, Method::GET, url).await?;
        Ok(listing.into())
    }

    /// All spaces of the user, page by page, without haste: it waits for its turn and leaves a reserve of calls to others.
    pub async fn spaces(&self, credential: &Credential) -> Result<Vec<SpaceInfo>, RestError> {
        let mut page = self.spaces_page_for(RestClass::Background, credential, None).await?;
        let mut spaces = std::mem::take(&mut page.spaces);
        for _ in 1..MAX_PAGES {
            let Some(next) = page.next.take() else { return Ok(spaces) };
            page = self.spaces_page_for(RestClass::Background, credential, Some(&next)).await?;
            if page.spaces.is_empty() {
                break;
            }
            spaces.append(&mut page.spaces);
        }
        Ok(spaces)
    }

    /// Joins a space (`GET /api/spaces/{id}/join`), which some spaces need before a subscription.
    pub async fn join(&self, credential: &Credential, space: &SpaceId) -> Result<(), RestError> {
        let url = self.path(&["api", "spaces", space.as_str(), "join"]);
        self.call::<serde::de::IgnoredAny>(credential, Method::GET, url).await.map(drop)
    }

    /// Finds or makes the direct space with a user (`GET /api/spaces/direct/{type}/{id}`).
    pub async fn direct_space(&self, credential: &Credential, kind: DirectKind, user: &str) -> Result<SpaceId, RestError> {
        let found: Wrapped<FoundSpace> = self.get(credential, &["api", "spaces", "direct", kind.as_str(), user], &[]).await?;
        let first = found.data.into_iter().next().ok_or(RestError::Unreadable { detail: "no direct space in the answer" })?;
        first.id.parse().map_err(|_| RestError::Unreadable { detail: "an odd space id" })
    }

    pub(super) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        credential: &Credential,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, RestError> {
        let mut url = self.path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.call(credential, Method::GET, url).await
    }

    /// Whether the API is configured without TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// The address of a path whose segments are escaped one by one.
    pub(super) fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(segments);
        url
    }

    /// The address of a next page: relative to the upstream, never to another host.
    pub(super) fn follow(&self, next: &str) -> Result<Url, RestError> {
        let url = self.base.join(next).map_err(|_| RestError::Unreadable { detail: "an odd next page" })?;
        let same_place = url.origin() == self.base.origin() && url.username().is_empty() && url.password().is_none();
        if same_place { Ok(url) } else { Err(RestError::Unreadable { detail: "a next page on another host" }) }
    }

    /// The address of another page of the list at `path`: what `next` asks for, and of nothing else than that list, because it may
    /// have come from outside.
    pub(super) fn page(&self, path: &[&str], next: &str) -> Result<Url, RestError> {
        let mut url = self.path(path);
        url.set_query(self.follow(next)?.query());
        Ok(url)
    }

    /// Makes a call that someone waits for.
    pub(super) async fn call<T: serde::de::DeserializeOwned>(
        &self,
        credential: &Credential,
        method: Method,
        url: Url,
    ) -> Result<T, RestError> {
        self.exchange((RestClass::Interactive, credential), method, url, None).await
    }

    pub(super) async fn call_for<T: serde::de::DeserializeOwned>(
        &self,
        class: RestClass,
        credential: &Credential,
        method: Method,
        url: Url,
    ) -> Result<T, RestError> {
        self.exchange((class, credential), method, url, None).await
    }

    /// One call, with a body of JSON if there is one.
    pub(super) async fn exchange<T: serde::de::DeserializeOwned>(
        &self,
        (class, credential): (RestClass, &Credential),
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Result<T, RestError> {
        read_json(&self.ask(Ask { class, credential, password: None }, method, url, body).await?)
    }

    /// One call, and the bytes of its answer if that is a success.
    pub(super) async fn ask(
        &self,
        Ask { class, credential, password }: Ask<'_>,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, RestError> {
        let governor = self.governors.of(credential, Instant::now());
        self.admit(&governor, class, &resource(&method, &url, &self.base)).await?;
        let scheme = match credential.kind {
            TokenKind::Oauth => "bearer",
            TokenKind::Jwt => "jwt",
            TokenKind::ServiceApp => &self.dialect.service_app_scheme,
        };
        let mut authorization = HeaderValue::from_str(&format!("{scheme} {}", credential.token.expose()))
            .map_err(|_| RestError::Refused { status: 401, code: None, message: None, retry_after: None })?;
        authorization.set_sensitive(true);
        let mut request = self.http.request(method, url).header(AUTHORIZATION, authorization);
        if let Some(version) = &self.dialect.accept_version {
            request = request.header(ACCEPT_VERSION, version);
        }
        if let Some(password) = password.and_then(|password| HeaderValue::from_str(password.expose()).ok()) {
            request = request.header(SPACE_PASSWORD, sensitive(password));
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        let answer = request.send().await.map_err(|error| RestError::Unreachable { detail: describe(&error) })?;
        let status = answer.status();
        let retry_after = retry_after(&answer);
        let body = read_bounded(answer).await?;
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.governors.metrics().limit_refusals.with_label_values(&["upstream"]).inc();
            governor.pause_calls(retry_after.unwrap_or(PAUSE), Instant::now());
        }
        if status == StatusCode::UNAUTHORIZED
            && let Some(refusals) = self.refusals.get()
        {
            // Without room there are others already, and the next call with this one tells of it again.
            let _ = refusals.try_send(credential.clone());
        }
        if !status.is_success() {
            return Err(refusal(status, retry_after, &masked(body, credential.token.expose())));
        }
        Ok(body)
    }

    /// Makes sure that Spaces allows the user another call. Who waits for the answer is refused at once if not, the others wait.
    async fn admit(&self, governor: &Governor, class: RestClass, resource: &str) -> Result<(), RestError> {
        let metrics = self.governors.metrics();
        if class == RestClass::Interactive {
            let now = Instant::now();
            return governor.take_call(class, resource, now).map_err(|retry_after| {
                metrics.limit_refusals.with_label_values(&["rest_calls"]).inc();
                RestError::Limited { retry_after, allowance: governor.call_allowance(now) }
            });
        }
        let _turn = governor.turn().await;
        let mut waits = 0_u32;
        while let Err(wait) = governor.take_call(class, resource, Instant::now()) {
            if waits == 0 {
                metrics.limit_waits.with_label_values(&["rest_calls"]).inc();
            }
            waits += 1;
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
        }
        Ok(())
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Reads an answer.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, RestError> {
    serde_json::from_slice(body).map_err(|_| RestError::Unreadable { detail: "not the expected JSON" })
}

/// The word for a call that found no connection, so that nothing of it has left.
pub(super) const NO_CONNECTION: &str = "no connection";

/// What happened, in words that carry neither address nor token.
fn describe(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        NO_CONNECTION
    } else {
        "the connection broke"
    }
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn read_bounded(mut answer: Response) -> Result<Vec<u8>, RestError> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| RestError::Unreachable { detail: describe(&error) })? {
        if body.len() + piece.len() > MAX_ANSWER {
            return Err(RestError::Unreadable { detail: "too large" });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// A body of an error without the token, should Spaces repeat it.
fn masked(body: Vec<u8>, token: &str) -> Vec<u8> {
    if token.is_empty() || memchr::memmem::find(&body, token.as_bytes()).is_none() {
        return body;
    }
    String::from_utf8_lossy(&body).replace(token, "[redacted]").into_bytes()
}

/// Reads `{code, message}`, also wrapped in `error` or with a plain text in its place.
fn refusal(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> RestError {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let error = value.get("error").filter(|error| error.is_object()).unwrap_or(&value);
    let text = |name: &str| error.get(name).and_then(serde_json::Value::as_str).map(shorten);
    let message = text("message").or_else(|| value.get("error").and_then(serde_json::Value::as_str).map(shorten));
    RestError::Refused { status: status.as_u16(), code: text("code"), message, retry_after }
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_ERROR_TEXT).collect()
}

#[derive(Deserialize)]
struct Wrapped<T> {
    data: Vec<T>,
}

#[derive(Deserialize)]
struct FoundSpace {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Deserialize)]
struct SpaceListing {
    data: Vec<ListedSpace>,
    #[serde(rename = "nextPageUrl", default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct ListedSpace {
    #[serde(rename = "_id", alias = "topicId", alias = "id")]
    id: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

/// Where a list goes on. Its end is a missing key, an empty text, the word `end`, or an empty page.
pub(super) fn next_page(next: Option<String>, is_empty: bool) -> Option<String> {
    next.filter(|next| !is_empty && !next.is_empty() && next != "end")
}

impl From<SpaceListing> for SpacePage {
    fn from(listing: SpaceListing) -> Self {
        let next = next_page(listing.next, listing.data.is_empty());
        let spaces = listing.data.into_iter().filter_map(|space| {
            let id = space.id.parse().ok()?;
            Some(SpaceInfo { id, title: space.title, kind: space.kind.as_deref().and_then(TopicType::parse) })
        });
        Self { spaces: spaces.collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> RestClient {
        let url = Url::parse("https://rest.example/base").expect("a URL");
        let tls = socketio_client::TlsConfig::platform().expect("a TLS configuration");
        let settings = RestSettings { url, timeout: Duration::from_secs(1) };
        RestClient::new(&settings, (*tls).clone()).expect("a client")
    }

    #[test]
    fn a_path_segment_cannot_leave_its_place() {
        let url = client().path(&["api", "spaces", "../x?y#z/w", "join"]);
        assert_eq!(url.as_str(), "https://rest.example/base/api/spaces/..%2Fx%3Fy%23z%2Fw/join");
    }

    #[test]
    fn a_next_page_stays_on_the_host() {
        let client = client();
        assert!(client.follow("/api/users/me/spaces?pageToken=x").is_ok());
        for next in ["https://evil.example/", "//evil.example/x", "http://rest.example/", "https://a@rest.example/"] {
            assert!(client.follow(next).is_err(), "{next} was followed");
        }
    }

    #[test]
    fn a_next_page_is_one_of_the_same_list() {
        let client = client();
        for next in ["/api/users/me/spaces?page=2", "/base/api/topics/t1/join?page=2", "?page=2"] {
            let url = client.page(&["api", "users", "me", "spaces"], next).expect("a page");
            assert_eq!(url.as_str(), "https://rest.example/base/api/users/me/spaces?page=2", "{next}");
        }
    }

    #[test]
    fn every_known_shape_of_an_error_is_read() {
        for (body, code, message) in [
            (r#"{"code":"a.b","message":"no"}"#, Some("a.b"), Some("no")),
            (r#"{"error":{"code":"a.b","message":"no"}}"#, Some("a.b"), Some("no")),
            (r#"{"error":"no"}"#, None, Some("no")),
            ("<html>", None, None),
            ("", None, None),
        ] {
            let RestError::Refused { code: found_code, message: found_message, .. } =
                refusal(StatusCode::FORBIDDEN, None, body.as_bytes())
            else {
                panic!("a refusal")
            };
            assert_eq!((found_code.as_deref(), found_message.as_deref()), (code, message), "{body}");
        }
    }
}
