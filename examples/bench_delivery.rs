//! Measures delivery against bare HTTP clients, in one process and one run, so that the ratios hold on any machine:
//!
//! ```text
//! cargo run --release --example bench_delivery
//! ```
//!
//! Three ways post the same 1 KiB events to the same sink: `reqwest` with 64 requests in flight, the service's own client with 64 in
//! flight, and the whole way of a delivery on the embedded store (claimed, signed, posted, settled, each attempt on disk before its
//! request), to 1, 100 and 10,000 webhooks. Events are appended beforehand; what is measured is the time from starting the dispatcher
//! until every delivery is settled.
//!
//! Then events come one by one at a steady rate, and what is measured is the time from the end of an event's append until it is at the
//! receiver, beside that of a bare client's request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use spaces_bridge::delivery::{
    AddressGuard, AllowList, DeliveryDispatcher, DeliveryParts, DeliverySettings, Posting, SystemResolver, WebhookClient,
};
use spaces_bridge::domain::{AccountId, Clock, EventId, EventType, SystemClock};
use spaces_bridge::event_log::{EventLog, LoggedEvent};
use spaces_bridge::metrics::Metrics;
use spaces_bridge::seal::Keyring;
use spaces_bridge::store::{EmbeddedSettings, EmbeddedStore, Engine, Fence, Query, Rows, Wanted};
use spaces_bridge::webhooks::{NewWebhook, WebhookRegistry, WebhookUrl};

type Error = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 3;
const WEBHOOKS: [usize; 3] = [1, 100, 10_000];
const STEADY: usize = 2_000;
const PACE: Duration = Duration::from_millis(1);
const REQUESTS: usize = 100_000;
const IN_FLIGHT: usize = 64;
const BODY: usize = 1024;
const APPEND_BATCH: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Error> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "a TLS provider is installed already")?;
    let sink = Sink::start().await?;
    println!("{REQUESTS} requests of {BODY} bytes a round; attempts per second, and the ratio to bare reqwest");
    print!("{:>5} {:>10} {:>16}", "round", "reqwest", "own client");
    for webhooks in WEBHOOKS {
        print!(" {:>20}", format!("{webhooks} webhooks"));
    }
    println!();
    let mut ratios = [const { Vec::new() }; 4];
    for round in 1..=ROUNDS {
        let bare = reqwest_loop(&sink).await?;
        let mut rates = vec![client_loop(&sink).await?];
        for webhooks in WEBHOOKS {
            rates.push(delivery(&sink, webhooks).await?);
        }
        print!("{round:>5} {bare:>10.0}");
        for ((rate, ratios), width) in rates.into_iter().zip(&mut ratios).zip([9, 13, 13, 13]) {
            ratios.push(rate / bare);
            print!(" {rate:>width$.0} ({:.2})", rate / bare);
        }
        println!();
    }
    let [client, one, hundred, many] = ratios.map(median);
    println!("median ratios: own client {client:.2}, delivery to 1, 100 and 10,000 webhooks {one:.2}, {hundred:.2}, {many:.2}");

    println!("\n{STEADY} events, one each {PACE:?}; milliseconds, and the ratio to a bare request");
    println!("{:>16} {:>16} {:>16}", "", "p50", "p99");
    let bare = single_requests(&sink).await?;
    println!("{:>16} {:>9.2}        {:>9.2}", "bare request", millis(&bare, 50), millis(&bare, 99));
    for webhooks in WEBHOOKS {
        let times = first_attempts(&sink, webhooks).await?;
        print!("{:>16}", format!("{webhooks} webhooks"));
        for part in [50, 99] {
            print!(" {:>9.2} ({:.1})", millis(&times, part), millis(&times, part) / millis(&bare, part));
        }
        println!();
    }
    Ok(())
}

/// The time within which `part` of 100 in `times`, which are sorted, lie.
fn millis(times: &[Duration], part: usize) -> f64 {
    times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// When which event arrived first.
type Arrivals = Arc<Mutex<HashMap<String, Instant>>>;

/// Answers everything with 204 and counts; notes arrivals of what it is told to.
struct Sink {
    url: String,
    count: Arc<AtomicUsize>,
    arrivals: Arrivals,
    noting: Arc<AtomicBool>,
}

impl Sink {
    async fn start() -> Result<Self, Error> {
        let count = Arc::new(AtomicUsize::new(0));
        let (arrivals, noting) = (Arrivals::default(), Arc::new(AtomicBool::new(false)));
        let (counting, seen, is_noting) = (Arc::clone(&count), Arc::clone(&arrivals), Arc::clone(&noting));
        let answer = move |headers: HeaderMap, _: Bytes| {
            counting.fetch_add(1, Relaxed);
            if is_noting.load(Relaxed) {
                let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
                seen.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert_with(Instant::now);
            }
            std::future::ready(StatusCode::NO_CONTENT)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        Ok(Self { url, count, arrivals, noting })
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

/// A store with webhooks, and what delivers from it.
struct Bench {
    engine: Arc<dyn Engine>,
    event_log: Arc<EventLog>,
    fence: Fence,
    accounts: Vec<AccountId>,
    parts: DeliveryParts,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new(sink: &Sink, webhooks: usize) -> Result<Self, Error> {
        let directory = tempfile::tempdir()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = EmbeddedStore::open(EmbeddedSettings::new(directory.path()), Arc::clone(&clock))?;
        let engine: Arc<dyn Engine> = Arc::new(store);
        let incarnation = engine.join("127.0.0.1:1", Duration::from_mins(10)).await?.incarnation;
        let keyring = Arc::new(Keyring::random());
        let registry = Arc::new(WebhookRegistry::load(Arc::clone(&engine), keyring, Arc::clone(&clock)).await?);
        let metrics = Arc::new(Metrics::new());
        let accounts = register(&registry, &sink.url, webhooks).await?;
        let log =
            EventLog::new(Arc::clone(&engine), incarnation, Arc::clone(&registry), Arc::clone(&clock), Arc::clone(&metrics));
        let event_log = Arc::new(log);
        let owned = engine.acquire(incarnation, Wanted::Session("ses_1".parse()?)).await?;
        let ownership = owned.into_iter().next().ok_or("the session is owned by someone else")?;
        let parts = DeliveryParts {
            engine: Arc::clone(&engine),
            incarnation,
            webhooks: registry,
            event_log: Arc::clone(&event_log),
            client: client(DeliverySettings::default())?,
            replies: None,
            clock,
            metrics,
        };
        Ok(Self { engine, event_log, fence: Fence { incarnation, ownership }, accounts, parts, _directory: directory })
    }

    fn deliver(&self) -> DeliveryDispatcher {
        DeliveryDispatcher::spawn(self.parts.clone(), DeliverySettings::default())
    }
}

async fn delivery(sink: &Sink, webhooks: usize) -> Result<f64, Error> {
    let bench = Bench::new(sink, webhooks).await?;
    let events: Vec<_> =
        (0..REQUESTS).zip(bench.accounts.iter().cycle()).map(|(number, account)| event(number, account)).collect();
    for batch in events.chunks(APPEND_BATCH) {
        bench.event_log.append(bench.fence.clone(), batch.to_vec()).await?;
    }
    let before = sink.count.load(Relaxed);
    let started = Instant::now();
    let dispatcher = bench.deliver();
    while !settled(&bench.engine, sink.count.load(Relaxed) - before).await? {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let elapsed = started.elapsed();
    dispatcher.shutdown(Duration::from_secs(5)).await;
    Ok(rate(elapsed))
}

/// From the end of the append of each event until it is at the receiver, sorted.
async fn first_attempts(sink: &Sink, webhooks: usize) -> Result<Vec<Duration>, Error> {
    let bench = Bench::new(sink, webhooks).await?;
    let dispatcher = bench.deliver();
    sink.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clear();
    sink.noting.store(true, Relaxed);
    let mut ticks = tokio::time::interval(PACE);
    let mut appended = Vec::with_capacity(STEADY);
    for (number, account) in (0..STEADY).zip(bench.accounts.iter().cycle()) {
        ticks.tick().await;
        let event = event(number, account);
        let id = event.id.to_string();
        bench.event_log.append(bench.fence.clone(), vec![event]).await?;
        appended.push((id, Instant::now()));
    }
    while sink.arrivals.lock().unwrap_or_else(PoisonError::into_inner).len() < STEADY {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sink.noting.store(false, Relaxed);
    dispatcher.shutdown(Duration::from_secs(5)).await;
    let arrivals = sink.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    let mut times: Vec<_> = appended.iter().map(|(id, at)| arrivals[id].saturating_duration_since(*at)).collect();
    times.sort();
    Ok(times)
}

/// How long a bare request takes to be answered if they come at the same rate, sorted.
async fn single_requests(sink: &Sink) -> Result<Vec<Duration>, Error> {
    let (client, body) = (reqwest::Client::builder().no_proxy().build()?, body());
    let mut ticks = tokio::time::interval(PACE);
    let mut times = Vec::with_capacity(STEADY);
    for _ in 0..STEADY {
        ticks.tick().await;
        let started = Instant::now();
        client.post(&sink.url).headers(headers()).body(body.clone()).send().await?.bytes().await?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times)
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

fn event(number: usize, account: &AccountId) -> LoggedEvent {
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    LoggedEvent {
        id: EventId::from_digest(digest),
        account: account.clone(),
        space: "space1".parse().expect("the constant is a valid id"),
        direct: false,
        own: false,
        event_type: EventType::MESSAGE_CREATED,
        occurred_at: SystemClock.now(),
        body: body(),
    }
}

/// Whether every delivery has been received and settled.
async fn settled(engine: &Arc<dyn Engine>, received: usize) -> Result<bool, Error> {
    if received < REQUESTS {
        return Ok(false);
    }
    let Rows::Depths { waiting, in_flight, .. } = engine.query(Query::Depths).await?.rows else { return Ok(false) };
    Ok(waiting == 0 && in_flight == 0)
}
