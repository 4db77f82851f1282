//! `Idempotency-Key` on calls that act: the extractor [`Keyed`], and [`Call::once`], which does a call once and answers it as often as
//! it is made.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use utoipa::IntoParams;

use super::AppState;
use super::error::ApiError;
use super::extract::read_body;
use crate::domain::Seed;
use crate::idempotency::{Answer, Begun, Claim, Fingerprint, IdempotencyError, IdempotencyKey, Scope};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that an answer was given before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The headers that are part of an answer; all others are of the one time that it was given.
static KEPT_HEADERS: [HeaderName; 4] = [CONTENT_TYPE, LOCATION, CACHE_CONTROL, HeaderName::from_static("preference-applied")];

/// The header as the `OpenAPI` document shows it; `openapi` adds to calls that have it what they answer because of it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the header as the document shows it")]
pub(super) struct IdempotencyHeader {
    /// Names this request: made again with the same key, within a day by default, it is not done again but answered as the first
    /// time. 1 to 255 visible ASCII characters, as they are or as a quoted string.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        pattern = r#"^([!#-~][!-~]{0,254}|"([ !#-\[\]-~]|\\["\\]){1,255}")$"#,
        example = "8e03978e-40d5-43dd-bc93-6894a57f9324"
    )]
    idempotency_key: Option<String>,
}

/// A body, read by `E`, and the call that it came with.
#[derive(Debug)]
pub(super) struct Keyed<E>(pub(super) Call, pub(super) E);

/// A body that says nothing.
#[derive(Debug)]
pub(super) struct NoBody;

/// A call that may be made again.
#[derive(Debug, Clone)]
pub(super) struct Call(Option<(IdempotencyKey, Fingerprint)>);

impl<E: FromRequest<AppState, Rejection = ApiError>> FromRequest<AppState> for Keyed<E> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let Some(key) = read_key(request.headers())? else {
            return Ok(Self(Call(None), E::from_request(request, app).await?));
        };
        let (parts, body) = request.into_parts();
        let bytes = read_body(Request::from_parts(parts.clone(), body), app).await?;
        let fingerprint = fingerprint(&parts, &bytes);
        let body = E::from_request(Request::from_parts(parts, Body::from(bytes)), app).await?;
        Ok(Self(Call(Some((key, fingerprint))), body))
    }
}

impl FromRequest<AppState> for NoBody {
    type Rejection = ApiError;

    async fn from_request(_: Request, _: &AppState) -> Result<Self, ApiError> {
        Ok(Self)
    }
}

/// A call whose body is still to be read.
#[derive(Debug)]
pub(super) struct UnprintedCall {
    key: Option<IdempotencyKey>,
    method: Method,
    target: String,
}

impl UnprintedCall {
    /// Reads the key, if there is one.
    pub(super) fn read(parts: &Parts) -> Result<Self, ApiError> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { key: read_key(&parts.headers)?, method: parts.method.clone(), target })
    }

    /// Whether the call has a key.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The call, whose body of this type says what `print` does.
    pub(super) fn with_print(self, content_type: &str, print: &[Vec<u8>]) -> Call {
        let Self { key, method, target } = self;
        let call = [method.as_str().as_bytes(), target.as_bytes(), content_type.as_bytes()].into_iter();
        let asked: Vec<&[u8]> = call.chain(print.iter().map(Vec::as_slice)).collect();
        Call(key.map(|key| (key, Fingerprint::of(&asked))))
    }
}

impl Call {
    /// Whether the call has a key.
    pub(super) fn has_key(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the call if it has a key. Waits while the same call is being done, for `wait` at most.
    pub(super) async fn begin(
        &self,
        app: &AppState,
        scope: &Scope,
        wait: std::time::Duration,
    ) -> Result<Option<Begun>, ApiError> {
        let Some((key, fingerprint)) = &self.0 else { return Ok(None) };
        let begun = app.idempotency.begin(scope, key, fingerprint, wait).await;
        let result = match &begun {
            Ok(Begun::Run(claim)) if claim.is_repeat() => "again",
            Ok(Begun::Run(_)) => "first",
            Ok(Begun::Answered(_)) => "replayed",
            Err(IdempotencyError::Reused) => "reused",
            Err(IdempotencyError::InProgress) => "in_progress",
            Err(IdempotencyError::Store(_)) => return Ok(Some(begun?)),
        };
        app.metrics.idempotent_calls.with_label_values(&[result]).inc();
        Ok(Some(begun?))
    }

    /// Does `work` and answers it; a call with a key only if it has not been answered before, and to the end, also if the caller
    /// goes away. What the work makes is named after its seed, so that it makes nothing twice if it has to run again.
    ///
    /// Only what succeeded is remembered. A refusal means that nothing was done, so the same call may succeed later.
    pub(super) async fn once<F>(self, app: &AppState, scope: &Scope, work: impl FnOnce(Seed) -> F) -> Result<Response, ApiError>
    where
        F: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        let claim = match self.begin(app, scope, app.settings.default_wait).await? {
            None => return work(Seed::random()).await,
            Some(Begun::Answered(answer)) => return replay(answer),
            Some(Begun::Run(claim)) => claim,
        };
        let (work, keeper) = (work(claim.seed().clone()), app.clone());
        app.to_the_end(async move { keep(&keeper, claim, work.await?).await }).await
    }
}

fn read_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::IdempotencyKeyInvalid("there is more than one `Idempotency-Key` header".to_owned()));
    }
    let key = IdempotencyKey::read(value.as_bytes());
    key.map(Some).map_err(|error| ApiError::IdempotencyKeyInvalid(error.to_string()))
}

/// What the request asks for. How it wants to be answered (`Prefer`, `Accept`) is no part of that.
fn fingerprint(parts: &Parts, body: &[u8]) -> Fingerprint {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let content_type = parts.headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    Fingerprint::of(&[parts.method.as_str().as_bytes(), target.as_bytes(), content_type, body])
}

/// Keeps the answer of a call that succeeded.
async fn keep(app: &AppState, claim: Claim, response: Response) -> Result<Response, ApiError> {
    if !response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.map_err(|error| ApiError::Internal(format!("an answer broke off: {error}")))?;
    let bytes = collected.to_bytes();
    if let Ok(body) = String::from_utf8(bytes.to_vec()) {
        let kept = KEPT_HEADERS.iter().filter_map(|name| {
            let value = parts.headers.get(name)?.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        app.idempotency.finish(claim, &Answer { status: parts.status.as_u16(), headers: kept.collect(), body }).await;
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn replay(answer: Answer) -> Result<Response, ApiError> {
    let odd = |what: &str| ApiError::Internal(format!("a kept answer has an odd {what}"));
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(|_| odd("status"))?;
    for (name, value) in answer.headers {
        let name = HeaderName::try_from(name).map_err(|_| odd("header"))?;
        response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(|_| odd("header"))?);
    }
    mark_replayed(&mut response);
    Ok(response)
}

/// Says of an answer that it was given before.
pub(super) fn mark_replayed(response: &mut Response) {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use tokio::sync::oneshot;

    use super::super::tests::state;
    use super::*;

    fn call() -> Call {
        Call(Some((IdempotencyKey::read(b"k").expect("a key"), Fingerprint::of(&[b"a"]))))
    }

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.expect("a whole answer").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("a text")
    }

    #[tokio::test]
    async fn work_goes_to_its_end_also_if_its_caller_goes_away() {
        let app = state(|_| {}).await;
        let (begun, has_begun) = oneshot::channel();
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let caller = tokio::spawn({
            let app = app.clone();
            async move {
                let work = |seed: Seed| async move {
                    begun.send(seed.clone()).expect("someone waits");
                    may_go_on.await.expect("it may");
                    Ok(seed.as_str().to_owned().into_response())
                };
                call().once(&app, &Scope::Operator, work).await
            }
        });
        let seed = has_begun.await.expect("it begins");
        caller.abort();
        assert!(caller.await.is_err(), "nobody waits for the answer");
        go_on.send(()).expect("the work still waits");
        let never = |_| async { Err(ApiError::Internal("it was done again".to_owned())) };
        let answer = call().once(&app, &Scope::Operator, never).await.expect("the answer of the first time");
        assert_eq!(answer.headers().get(REPLAYED).map(HeaderValue::as_bytes), Some(&b"true"[..]));
        assert_eq!(text(answer).await, seed.as_str());
    }

    #[tokio::test]
    async fn a_failure_is_tried_again_with_the_same_seed() {
        let app = state(|_| {}).await;
        let mut seeds = Vec::new();
        for fails in [true, true, false] {
            let work = |seed: Seed| {
                seeds.push(seed);
                async move { if fails { Err(ApiError::Overloaded) } else { Ok("done".into_response()) } }
            };
            assert_eq!(call().once(&app, &Scope::Operator, work).await.is_err(), fails);
        }
        assert!(seeds.iter().all(|seed| *seed == seeds[0]) && seeds.len() == 3);
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn one_key_or_none_is_taken() {
        assert!(read_key(&headers(&[])).expect("no key").is_none());
        assert_eq!(read_key(&headers(&["a"])).expect("a key").as_ref().map(IdempotencyKey::as_str), Some("a"));
        for odd in [&["a", "a"][..], &["a", "b"], &[""], &["a b"]] {
            let error = read_key(&headers(odd)).expect_err("refused");
            assert_eq!((error.status().as_u16(), error.code()), (400, "idempotency_key_invalid"), "{odd:?}");
        }
    }

    #[test]
    fn a_request_is_the_same_if_it_asks_for_the_same() {
        let print = |method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]| {
            let mut request = http::Request::builder().method(method).uri(target);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            fingerprint(&request.body(()).expect("a request").into_parts().0, body)
        };
        let json = ("content-type", "application/json");
        let first = print("POST", "/webhooks", &[json], b"{}");
        for same in [
            print("POST", "/webhooks", &[json, ("prefer", "wait=5")], b"{}"),
            print("POST", "/webhooks", &[json, ("x-request-id", "7"), ("authorization", "jwt x")], b"{}"),
        ] {
            assert_eq!(same, first);
        }
        for other in [
            print("PUT", "/webhooks", &[json], b"{}"),
            print("POST", "/webhooks?x", &[json], b"{}"),
            print("POST", "/webhooks/wh_1/test", &[json], b"{}"),
            print("POST", "/webhooks", &[], b"{}"),
            print("POST", "/webhooks", &[json], b"{ }"),
            print("POST", "/webhooks", &[json], b""),
        ] {
            assert_ne!(other, first);
        }
    }
}
