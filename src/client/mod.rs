//! A client of a running bridge, for the command line: calls over HTTP, made again where that is safe.
//!
//! A call is made again while the bridge cannot be reached, is not ready or asks for patience, for as long as [`Settings::patience`]
//! says. That does nothing twice, because whatever acts carries an `Idempotency-Key`. Nothing here follows redirects or uses a proxy,
//! so that the token goes to the bridge and nowhere else.

mod error;
mod form;
mod retry;
mod stream;

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

pub use error::{ClientError, Problem};
pub use form::{Form, Upload};
pub use stream::{EventStream, StreamEvent};

use crate::domain::Secret;

/// Where the bridge is, who calls, and how patient it is.
#[derive(Debug)]
pub struct Settings {
    /// The base address.
    pub url: Url,
    /// A token or a bridge key.
    pub token: Secret,
    /// What kind of token it is, if it does not show.
    pub token_type: Option<&'static str>,
    /// How long calls are made again.
    pub patience: Duration,
}

/// What a call has in its body.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Value),
    /// A message and files.
    Form(Form),
}

/// A call of the bridge's API.
#[derive(Debug)]
pub struct Call<'a> {
    /// `GET`, `POST`, …
    pub method: Method,
    /// The path in its parts.
    pub path: Vec<&'a str>,
    /// The query.
    pub query: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
    /// What makes the call the same one when it is made again.
    pub key: Option<&'a str>,
    /// What is preferred (`Prefer`).
    pub prefer: Option<String>,
    /// How long the bridge may take to answer once it has everything.
    pub longest: Duration,
}

impl<'a> Call<'a> {
    /// How long the bridge may take for a call that waits for nobody.
    const LONGEST: Duration = Duration::from_secs(45);

    /// A call without a body.
    pub fn new(method: Method, path: &[&'a str]) -> Self {
        let (path, query) = (path.to_vec(), Vec::new());
        Self { method, path, query, body: Body::Empty, key: None, prefer: None, longest: Self::LONGEST }
    }
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// The status, a 2xx.
    pub status: u16,
    /// The body; `null` if there is none.
    pub body: Value,
}

/// A client of one bridge with one token.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    headers: HeaderMap,
    patience: Duration,
}

/// Most time to connect.
const CONNECT_TIME: Duration = Duration::from_secs(10);

const TOKEN_TYPE: &str = "x-spaces-token-type";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const PREFER: &str = "prefer";

impl Client {
    /// A client as `settings` say.
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        let base = &settings.url;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(ClientError::Address("it must begin with http:// or https://"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(ClientError::Address("it must not have a name or password in it"));
        }
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", settings.token.expose()))
            .ok()
            .filter(|_| !settings.token.expose().is_empty())
            .ok_or(ClientError::Token("it is empty, or has characters that no token has"))?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::from_iter([
            (AUTHORIZATION, authorization),
            (USER_AGENT, HeaderValue::from_static(concat!("spaces-bridge/", env!("CARGO_PKG_VERSION")))),
        ]);
        if let Some(kind) = settings.token_type {
            headers.insert(TOKEN_TYPE, HeaderValue::from_static(kind));
        }
        let tls = socketio_client::TlsConfig::platform().map_err(|error| ClientError::Tls(error.to_string()))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .connect_timeout(CONNECT_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .build()
            .map_err(|error| ClientError::Tls(error.to_string()))?;
        Ok(Self { http, base: base.clone(), headers, patience: settings.patience })
    }

    /// Makes `call`, again if need be.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, ClientError> {
        let end = Instant::now() + self.patience;
        let mut in_doubt = false;
        for attempt in 0.. {
            let error = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // What changes nothing may be made again without a thought.
            in_doubt |= call.key.is_some() && error.leaves_doubt();
            let Some(pause) = retry::pause(&error, attempt, end.saturating_duration_since(Instant::now())) else {
                return Err(if in_doubt { error.after_doubt() } else { error });
            };
            tokio::time::sleep(pause).await;
        }
        unreachable!("there is an end to patience before there is one to numbers")
    }

    /// Opens the stream of events that `query` asks for, after the event with the id `after`.
    pub async fn events(&self, query: &[(&'static str, String)], after: Option<&str>) -> Result<EventStream, ClientError> {
        let mut request =
            self.http.get(self.url(&["events"], query)).headers(self.headers.clone()).header(ACCEPT, stream::MEDIA_TYPE);
        if let Some(id) = after {
            request = request.header(stream::LAST_EVENT_ID, id);
        }
        let answer = tokio::time::timeout(Call::LONGEST, request.send()).await.map_err(|_| ClientError::Silent)??;
        if answer.status() != 200 {
            return Err(read(answer).await.err().unwrap_or(ClientError::NoStream));
        }
        let is_stream =
            answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(stream::MEDIA_TYPE.as_bytes()));
        if is_stream { Ok(EventStream::new(answer)) } else { Err(ClientError::NoStream) }
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Answer, ClientError> {
        let mut request = self.http.request(call.method.clone(), self.url(&call.path, &call.query)).headers(self.headers.clone());
        if let Some(key) = call.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(prefer) = &call.prefer {
            request = request.header(PREFER, prefer);
        }
        let exchange = |request: reqwest::RequestBuilder| async { read(request.send().await?).await };
        match &call.body {
            Body::Form(form) => {
                let (body, size) = form.body().await?;
                let request = request.header(CONTENT_TYPE, form.content_type()).header(CONTENT_LENGTH, size).body(body);
                tokio::select! {
                    answer = exchange(request) => form.explain(answer),
                    () = form.stalled(call.longest) => Err(ClientError::Silent),
                }
            }
            Body::Empty => within(call.longest, exchange(request)).await,
            Body::Json(body) => {
                let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
                within(call.longest, exchange(request)).await
            }
        }
    }

    fn url(&self, path: &[&str], query: &[(&'static str, String)]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.path_segments_mut().expect("an address of http has a path").pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

async fn within(longest: Duration, exchange: impl Future<Output = Result<Answer, ClientError>>) -> Result<Answer, ClientError> {
    tokio::time::timeout(longest, exchange).await.map_err(|_| ClientError::Silent)?
}

/// Reads an answer to its end.
async fn read(answer: reqwest::Response) -> Result<Answer, ClientError> {
    let status = answer.status();
    let body = answer.bytes().await?;
    let json = if body.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&body).ok() };
    if status.is_success() {
        return json
            .map(|body| Answer { status: status.as_u16(), body })
            .ok_or(ClientError::NoBridge { status: status.as_u16() });
    }
    let problem = json.and_then(|body| Problem::read(status.as_u16(), body));
    Err(problem.map_or(ClientError::NoBridge { status: status.as_u16() }, ClientError::Problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client, ClientError> {
        let (url, token) = (url.parse().expect("an address"), Secret::new("t"));
        Client::new(&Settings { url, token, token_type: None, patience: Duration::ZERO })
    }

    #[test]
    fn paths_are_put_below_the_base_and_their_parts_stay_parts() {
        for (base, expected) in [
            ("http://bridge", "http://bridge/direct/email/a%2Fb@c?x=1%262"),
            ("https://host:8443/bridge/", "https://host:8443/bridge/direct/email/a%2Fb@c?x=1%262"),
            ("http://host/bridge?y#z", "http://host/bridge/direct/email/a%2Fb@c?x=1%262"),
        ] {
            let client = client(base).expect("a client");
            assert_eq!(client.url(&["direct", "email", "a/b@c"], &[("x", "1&2".to_owned())]).as_str(), expected);
        }
    }

    #[test]
    fn addresses_and_tokens_that_will_not_do_are_refused() {
        for url in ["ftp://bridge", "mailto:a@b", "http://user@bridge", "http://user:secret@bridge"] {
            assert!(matches!(client(url), Err(ClientError::Address(_))), "{url}");
        }
        for token in ["", "a\nb"] {
            let settings = Settings {
                url: "http://bridge".parse().expect("an address"),
                token: Secret::new(token),
                token_type: None,
                patience: Duration::ZERO,
            };
            assert!(matches!(Client::new(&settings), Err(ClientError::Token(_))), "{token:?}");
        }
    }
}
