//! Measures delivery against bare HTTP clients, in one process and one run, so that the ratios hold on any machine:
//!
//! ```text
//! cargo run --release --example bench_delivery
//! ```
//!
//! Three ways post the same 1 KiB events to the same sink: `reqwest` with 64 requests in flight, the service's own client with 64 in
//! flight, and the whole way of a delivery on the embedded store (claimed, signed, posted, settled, each attempt on disk before its
//! request). Events are appended beforehand; what is measured is the time from starting the dispatcher until every delivery is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use spaces_bridge::delivery::{
    AddressGuard, AllowList, DeliveryDispatcher, DeliveryParts, DeliverySettings, Posting, SystemResolver, WebhookClient,
};
use spaces_bridge::domain::{AccountId, Clock, EventId, EventType, SpaceId, SystemClock};
use spaces_bridge::event_log::{EventLog, LoggedEvent};
use spaces_bridge::metrics::Metrics;
use spaces_bridge::seal::Keyring;
use spaces_bridge::store::{EmbeddedSettings, EmbeddedStore, Engine, Fence, Query, Rows, Wanted};
use spaces_bridge::webhooks::{NewWebhook, WebhookRegistry, WebhookUrl};

type Error = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 5;
const REQUESTS: usize = 100_000;
const IN_FLIGHT: usize = 64;
const BODY: usize = 1024;
const APPEND_BATCH: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Error> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "a TLS provider is installed already")?;
    let sink = Sink::start().await?;
    println!("{REQUESTS} requests of {BODY} bytes a round; attempts per second, and the ratio to bare reqwest");
    println!(
        "{:>5} {:>10} {:>16} {:>22} {:>22}",
        "round", "reqwest", "own client", "delivery, 4 webhooks", "delivery, 16 webhooks"
    );
    let mut ratios = [Vec::new(), Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        let bare = reqwest_loop(&sink).await?;
        let rates = [client_loop(&sink).await?, delivery(&sink, 4).await?, delivery(&sink, 16).await?];
        print!("{round:>5} {bare:>10.0}");
        for ((rate, ratios), width) in rates.into_iter().zip(&mut ratios).zip([8, 14, 14]) {
            ratios.push(rate / bare);
            print!(" {rate:>width$.0} ({:.2})", rate / bare);
        }
        println!();
    }
    let [client, few, many] = ratios.map(median);
    println!("median ratios: own client {client:.2}, delivery to 4 webhooks {few:.2}, to 16 webhooks {many:.2}");
    Ok(())
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// Answers everything with 204 and counts.
struct Sink {
    url: String,
    count: Arc<AtomicUsize>,
}

impl Sink {
    async fn start() -> Result<Self, Error> {
        let count = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&count);
        let answer = move |_: Bytes| {
            counting.fetch_add(1, Relaxed);
            std::future::ready(StatusCode::NO_CONTENT)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        Ok(Self { url, count })
    }
}

fn body() -> Bytes {
    let text = "x".repeat(BODY - 60);
    format!(r#"{{"type":"message.created","data":{{"text":"{text}"}}}}"#).into()
}

/// The headers of a delivery, made anew for each request as a sender has to.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", HeaderValue::from_static("evt_0123456789abcdef0123456789abcdef"));
    headers.insert("webhook-timestamp", HeaderValue::from_static("1649367553"));
    headers.insert("webhook-signature", HeaderValue::from_static("v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="));
    headers
}

/// Does `post` [`REQUESTS`] times, by [`IN_FLIGHT`] tasks one after the other, and tells how often a second.
async fn repeat<F>(post: impl Fn() -> F + Clone + Send + 'static) -> Result<f64, Error>
where
    F: Future<Output = Result<(), Error>> + Send,
{
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..IN_FLIGHT {
        let post = post.clone();
        tasks.spawn(async move {
            for _ in (task..REQUESTS).step_by(IN_FLIGHT) {
                post().await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(rate(started.elapsed()))
}

#[expect(clippy::cast_precision_loss, reason = "the count is far below what a float holds exactly")]
fn rate(elapsed: Duration) -> f64 {
    REQUESTS as f64 / elapsed.as_secs_f64()
}

async fn reqwest_loop(sink: &Sink) -> Result<f64, Error> {
    let (client, url, body) = (reqwest::Client::builder().no_proxy().build()?, sink.url.clone(), body());
    repeat(move || {
        let request = client.post(&url).headers(headers()).body(body.clone());
        async move { Ok(request.send().await?.bytes().await.map(drop)?) }
    })
    .await
}

fn guard() -> Result<Arc<AddressGuard>, Error> {
    Ok(Arc::new(AddressGuard::new(AllowList::new(vec!["127.0.0.0/8".parse()?]), Vec::new())))
}

fn client(settings: DeliverySettings) -> Result<Arc<WebhookClient>, Error> {
    let builder = rustls::ClientConfig::builder();
    let tls = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    Ok(Arc::new(WebhookClient::new(settings.client(), guard()?, Arc::new(SystemResolver), Arc::new(tls))))
}

fn posting(uri: &http::Uri, body: &Bytes) -> Posting {
    Posting { uri: uri.clone(), headers: headers(), body: body.clone(), timeout: None }
}

async fn client_loop(sink: &Sink) -> Result<f64, Error> {
    let client = client(DeliverySettings { per_webhook: IN_FLIGHT, ..DeliverySettings::default() })?;
    let (uri, body): (http::Uri, _) = (sink.url.parse()?, body());
    repeat(move || {
        let (client, posting) = (Arc::clone(&client), posting(&uri, &body));
        async move { Ok(client.post(posting).await.map(drop)?) }
    })
    .await
}

async fn delivery(sink: &Sink, webhooks: usize) -> Result<f64, Error> {
    let directory = tempfile::tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine: Arc<dyn Engine> = Arc::new(EmbeddedStore::open(EmbeddedSettings::new(directory.path()), Arc::clone(&clock))?);
    let incarnation = engine.join("127.0.0.1:1", Duration::from_mins(10)).await?.incarnation;
    let keyring = Arc::new(Keyring::random());
    let registry = Arc::new(WebhookRegistry::load(Arc::clone(&engine), keyring, Arc::clone(&clock)).await?);
    let metrics = Arc::new(Metrics::new());
    let accounts = register(&registry, &sink.url, webhooks).await?;
    let log = EventLog::new(Arc::clone(&engine), incarnation, Arc::clone(&registry), Arc::clone(&clock), Arc::clone(&metrics));
    let event_log = Arc::new(log);
    let owned = engine.acquire(incarnation, Wanted::Session("ses_1".parse()?)).await?;
    let ownership = owned.into_iter().next().ok_or("the session is owned by someone else")?;
    append(&event_log, &Fence { incarnation, ownership }, &accounts).await?;

    let settings = DeliverySettings::default();
    let before = sink.count.load(Relaxed);
    let (engine_too, client) = (Arc::clone(&engine), client(settings)?);
    let parts =
        DeliveryParts { engine: engine_too, incarnation, webhooks: registry, event_log, client, replies: None, clock, metrics };
    let started = Instant::now();
    let dispatcher = DeliveryDispatcher::spawn(parts, settings);
    while !settled(&engine, sink.count.load(Relaxed) - before).await? {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let elapsed = started.elapsed();
    dispatcher.shutdown(Duration::from_secs(5)).await;
    Ok(rate(elapsed))
}

/// One webhook for each of as many accounts, so that each event has one target.
async fn register(registry: &WebhookRegistry, url: &str, count: usize) -> Result<Vec<AccountId>, Error> {
    let new = NewWebhook::to(WebhookUrl::parse(url, &*guard()?)?);
    let mut accounts = Vec::with_capacity(count);
    for number in 0..count {
        let account: AccountId = format!("acc_{number}").parse()?;
        registry.create(account.clone(), new.clone()).await?;
        accounts.push(account);
    }
    Ok(accounts)
}

async fn append(log: &EventLog, fence: &Fence, accounts: &[AccountId]) -> Result<(), Error> {
    let (body, space): (_, SpaceId) = (body(), "space1".parse()?);
    let events = (0..REQUESTS).zip(accounts.iter().cycle()).map(|(number, account)| {
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        LoggedEvent {
            id: EventId::from_digest(digest),
            account: account.clone(),
            space: space.clone(),
            direct: false,
            own: false,
            event_type: EventType::MESSAGE_CREATED,
            occurred_at: SystemClock.now(),
            body: body.clone(),
        }
    });
    let events: Vec<_> = events.collect();
    for batch in events.chunks(APPEND_BATCH) {
        log.append(fence.clone(), batch.to_vec()).await?;
    }
    Ok(())
}

/// Whether every delivery has been received and settled.
async fn settled(engine: &Arc<dyn Engine>, received: usize) -> Result<bool, Error> {
    if received < REQUESTS {
        return Ok(false);
    }
    let Rows::Depths { waiting, in_flight, .. } = engine.query(Query::Depths).await?.rows else { return Ok(false) };
    Ok(waiting == 0 && in_flight == 0)
}
