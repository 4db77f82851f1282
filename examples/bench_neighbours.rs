//! Measures what bad neighbours do to a healthy receiver, in one process and one run:
//!
//! ```text
//! cargo run --release --example bench_neighbours
//! ```
//!
//! Events come at a steady rate; what is measured is the time from the start of an event's append until it is at the healthy
//! receiver. Each round measures it alone, and beside receivers of the same events that are dead, hang, drip, reset, and answer a
//! megabyte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use spaces_bridge::delivery::{
    AddressGuard, AllowList, DeliveryDispatcher, DeliveryParts, DeliverySettings, SystemResolver, WebhookClient,
};
use spaces_bridge::domain::{AccountId, Clock, EventId, EventType, SystemClock};
use spaces_bridge::event_log::{EventLog, LoggedEvent};
use spaces_bridge::metrics::Metrics;
use spaces_bridge::seal::Keyring;
use spaces_bridge::store::{EmbeddedSettings, EmbeddedStore, Engine, Fence, Wanted};
use spaces_bridge::webhooks::{NewWebhook, WebhookRegistry, WebhookUrl};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type Error = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 3;
const EVENTS: usize = 2_000;
const PACE: Duration = Duration::from_millis(2);

/// When which event was at the healthy receiver.
type Arrivals = Arc<Mutex<HashMap<String, Instant>>>;

#[derive(Clone, Copy)]
enum Neighbour {
    Hangs,
    Drips,
    Resets,
    Talks,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "a TLS provider is installed already")?;
    println!("{EVENTS} events a round, one each {PACE:?}; milliseconds from the append to the healthy receiver");
    println!("{:>5} {:>22} {:>8} {:>8} {:>8} {:>8}", "round", "", "p50", "p90", "p99", "max");
    for round in 1..=ROUNDS {
        for (name, beside) in [("alone", false), ("beside bad neighbours", true)] {
            let mut times = latencies(beside).await?;
            times.sort();
            let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
            println!("{round:>5} {name:>22} {:>8.2} {:>8.2} {:>8.2} {:>8.2}", at(50), at(90), at(99), at(100));
        }
    }
    Ok(())
}

async fn latencies(beside: bool) -> Result<Vec<Duration>, Error> {
    let directory = tempfile::tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine: Arc<dyn Engine> = Arc::new(EmbeddedStore::open(EmbeddedSettings::new(directory.path()), Arc::clone(&clock))?);
    let incarnation = engine.join("127.0.0.1:1", Duration::from_mins(10)).await?.incarnation;
    let registry = WebhookRegistry::load(Arc::clone(&engine), Arc::new(Keyring::random()), Arc::clone(&clock)).await?;
    let (webhooks, metrics) = (Arc::new(registry), Arc::new(Metrics::new()));
    let log = EventLog::new(Arc::clone(&engine), incarnation, Arc::clone(&webhooks), Arc::clone(&clock), Arc::clone(&metrics));
    let event_log = Arc::new(log);
    let owned = engine.acquire(incarnation, Wanted::Session("ses_1".parse()?)).await?;
    let fence = Fence { incarnation, ownership: owned.into_iter().next().ok_or("the session is owned by someone else")? };

    let guard = Arc::new(AddressGuard::new(AllowList::new(vec!["127.0.0.0/8".parse()?]), Vec::new()));
    let account: AccountId = "acc_1".parse()?;
    let arrivals = Arrivals::default();
    let mut urls = vec![healthy(&arrivals).await?];
    if beside {
        for neighbour in [Neighbour::Hangs, Neighbour::Drips, Neighbour::Resets, Neighbour::Talks] {
            urls.push(bad(neighbour).await?);
        }
        // Nobody listens there any more.
        urls.push(format!("http://{}/", TcpListener::bind("127.0.0.1:0").await?.local_addr()?));
    }
    for url in urls {
        webhooks.create(account.clone(), NewWebhook::to(WebhookUrl::parse(&url, &guard)?)).await?;
    }

    let settings = DeliverySettings::default();
    let tls = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let client = Arc::new(WebhookClient::new(settings.client(), guard, Arc::new(SystemResolver), Arc::new(tls)));
    let log = Arc::clone(&event_log);
    let parts = DeliveryParts { engine, incarnation, webhooks, event_log, client, replies: None, clock, metrics };
    let dispatcher = DeliveryDispatcher::spawn(parts, settings);
    let appended = append(&log, &fence, &account).await?;
    while arrivals.lock().unwrap_or_else(PoisonError::into_inner).len() < EVENTS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    dispatcher.shutdown(Duration::ZERO).await;
    let arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(appended.iter().map(|(id, at)| arrivals[id].duration_since(*at)).collect())
}

/// Appends the events one by one; tells when each append began.
async fn append(log: &EventLog, fence: &Fence, account: &AccountId) -> Result<Vec<(String, Instant)>, Error> {
    let mut ticks = tokio::time::interval(PACE);
    let mut appended = Vec::with_capacity(EVENTS);
    for number in 0..EVENTS {
        ticks.tick().await;
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        let id = EventId::from_digest(digest);
        let event = LoggedEvent {
            id: id.clone(),
            account: account.clone(),
            space: "space1".parse()?,
            direct: false,
            own: false,
            event_type: EventType::MESSAGE_CREATED,
            occurred_at: SystemClock.now(),
            body: r#"{"type":"message.created","timestamp":"2031-03-14T09:26:53.589Z","data":{}}"#.into(),
        };
        appended.push((id.to_string(), Instant::now()));
        log.append(fence.clone(), vec![event]).await?;
    }
    Ok(appended)
}

async fn healthy(arrivals: &Arrivals) -> Result<String, Error> {
    let arrivals = Arc::clone(arrivals);
    let answer = move |headers: http::HeaderMap| {
        let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        arrivals.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert_with(Instant::now);
        std::future::ready(http::StatusCode::NO_CONTENT)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    Ok(url)
}

async fn bad(neighbour: Neighbour) -> Result<String, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whatever the client does to such a connection is no matter here.
            tokio::spawn(async move { misbehave(stream, neighbour).await.ok() });
        }
    });
    Ok(url)
}

async fn misbehave(mut stream: TcpStream, neighbour: Neighbour) -> std::io::Result<()> {
    // The beginning of a request is enough to answer.
    stream.read_u8().await?;
    match neighbour {
        Neighbour::Hangs => std::future::pending().await,
        Neighbour::Drips => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
            loop {
                stream.write_all(b".").await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Neighbour::Resets => stream.set_zero_linger(),
        Neighbour::Talks => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n").await?;
            stream.write_all(&vec![b'x'; 1 << 20]).await
        }
    }
}
