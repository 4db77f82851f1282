use axum::body::Body;
use fake_upstream::{FakeUpstream, Token};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

use super::DEADLINE;

/// A REST answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("expected JSON, got {}", self.text))
    }
}

/// Calls with a token and an optional JSON body; the call must be answered.
pub(crate) async fn call(upstream: &FakeUpstream, token: &Token, method: Method, path: &str, body: Option<Value>) -> Reply {
    let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
    let headers = [("authorization", token.authorization())];
    call_with(upstream, method, path, &headers, body).await
}

pub(crate) async fn call_with(
    upstream: &FakeUpstream,
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Reply {
    send_rest(upstream, method, path, headers, body).await.expect("an answer")
}

/// Sends a call that may be cut.
pub(crate) async fn send_rest(
    upstream: &FakeUpstream,
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Result<Reply, hyper_util::client::legacy::Error> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let mut request = Request::builder().method(method).uri(format!("{}{path}", upstream.rest_url()));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Body::from(body)).expect("a valid request");
    let response = timeout(DEADLINE, client.request(request)).await.expect("an answer in time")?;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, text })
}
