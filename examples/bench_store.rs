//! Measures the embedded store against the bare disk: `cargo run --release --example bench_store [directory]`.
//!
//! Absolute figures depend on the disk and on the neighbours, so each is also given as a ratio to a loop that writes 1 KiB and calls
//! `fdatasync`, run in the same process just before, and as the processor time that it took.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spaces_bridge::domain::{AttemptOutcome, EventType, SystemClock, Timestamp};
use spaces_bridge::store::{
    Appended, ClaimRequest, EmbeddedSettings, EmbeddedStore, Engine, Fence, Incarnation, Lane, NewEvent, Settlement, Target,
    Verdict, Wanted,
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// How long each part runs.
const PART: Duration = Duration::from_secs(3);

const BODY: [u8; 1024] = [b'x'; 1024];

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let place = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(place)?;
    let bare = bare_fdatasync(&directory.path().join("bare"))?;
    println!("{:<44}{bare:>12.0}/s", "bare write and fdatasync of 1 KiB");

    let bench = Arc::new(Bench::open(directory.path()).await?);
    let single = bench.append(1, "wh_a").await?;
    report("durable append, one at a time", &single, bare);
    let bare_again = bare_fdatasync(&directory.path().join("bare"))?;
    println!("{:<44}{bare_again:>12.0}/s", "bare write and fdatasync once more");
    for producers in [64, 256] {
        let rate = Arc::clone(&bench).append(producers, "wh_a").await?;
        report(&format!("durable append, {producers} producers"), &rate, bare_again);
    }
    for batch in [1, 64] {
        let rate = bench.claim_and_settle(batch, usize::MAX).await?;
        report(&format!("claim and settle, batches of {batch}"), &rate, bare_again);
    }
    bench.store.close().await;
    Ok(())
}

fn report(what: &str, measured: &Measured, bare: f64) {
    let Measured { count, wall, processor } = *measured;
    let rate = count / wall;
    println!("{what:<44}{rate:>12.0}/s {:>8.2} x bare {:>8.1} us of processor each", rate / bare, processor * 1e6 / count);
}

struct Measured {
    count: f64,
    wall: f64,
    processor: f64,
}

struct Meter {
    start: Instant,
    processor: f64,
}

impl Meter {
    fn start() -> Result<Self, AnyError> {
        Ok(Self { processor: processor_seconds()?, start: Instant::now() })
    }

    fn stop(&self, count: usize) -> Result<Measured, AnyError> {
        Ok(Measured {
            count: f64::from(u32::try_from(count)?),
            wall: self.start.elapsed().as_secs_f64(),
            processor: processor_seconds()? - self.processor,
        })
    }
}

/// Processor time of this process so far. Linux counts it in hundredths of a second.
fn processor_seconds() -> Result<f64, AnyError> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process status")?;
    // User and system time, which follow eleven other fields.
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

fn bare_fdatasync(path: &Path) -> Result<f64, AnyError> {
    let mut file = File::create(path)?;
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < PART {
        file.write_all(&BODY)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

struct Bench {
    store: EmbeddedStore,
    incarnation: Incarnation,
    fence: Fence,
    events: AtomicU32,
}

impl Bench {
    async fn open(directory: &Path) -> Result<Self, AnyError> {
        let store = EmbeddedStore::open(EmbeddedSettings::new(directory.join("store")), Arc::new(SystemClock))?;
        let incarnation = store.join("http://bench.internal", Duration::from_hours(1)).await?.incarnation;
        let mut owned = store.acquire(incarnation, Wanted::Session("ses_bench".parse()?)).await?;
        let fence = Fence { incarnation, ownership: owned.pop().ok_or("the session is free")? };
        Ok(Self { store, incarnation, fence, events: AtomicU32::new(0) })
    }

    /// Appends events with one delivery each from `producers` tasks, each awaiting its own.
    async fn append(self: &Arc<Self>, producers: usize, webhook: &str) -> Result<Measured, AnyError> {
        let meter = Meter::start()?;
        let start = meter.start;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..producers {
            let bench = Arc::clone(self);
            let target = Target { webhook: webhook.parse()?, lane: Lane::Parallel };
            tasks.spawn(async move {
                let mut count = 0_usize;
                while start.elapsed() < PART {
                    let event = bench.event(target.clone())?;
                    match bench.store.append(bench.fence.clone(), vec![event]).await? {
                        Appended::Durable(_) => count += 1,
                        Appended::Fenced => return Err("the fence holds".into()),
                    }
                }
                Ok::<_, AnyError>(count)
            });
        }
        let mut count = 0;
        while let Some(done) = tasks.join_next().await {
            count += done??;
        }
        meter.stop(count)
    }

    fn event(&self, target: Target) -> Result<NewEvent, AnyError> {
        let number = self.events.fetch_add(1, Ordering::Relaxed);
        // Ids in no order, as those of real events are.
        let scattered = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Ok(NewEvent {
            id: format!("evt_{scattered:032x}").parse()?,
            account: "acc_64f0a1b2c3d4e5f601020304".parse()?,
            space: "64f0a1b2c3d4e5f601020305".parse()?,
            event_type: EventType::MESSAGE_CREATED,
            occurred_at: Timestamp::from_millis(0),
            body: Bytes::from_static(&BODY),
            targets: vec![target],
        })
    }

    /// Claims and settles in batches until the time is over or nothing is left.
    async fn claim_and_settle(&self, batch: usize, per_webhook: usize) -> Result<Measured, AnyError> {
        let request = ClaimRequest { incarnation: self.incarnation, max: batch, per_webhook, lease: Duration::from_mins(1) };
        let meter = Meter::start()?;
        let mut count = 0_usize;
        while meter.start.elapsed() < PART {
            let claims = self.store.claim(request).await?;
            if claims.is_empty() {
                break;
            }
            count += claims.len();
            let settlements = claims.iter().map(|claim| Settlement {
                delivery: claim.delivery,
                claim_no: claim.claim_no,
                verdict: Verdict::Delivered,
                outcome: AttemptOutcome { duration_ms: Some(5), status: Some(204), error: None, detail: None, response: None },
                hold: None,
            });
            self.store.settle(settlements.collect()).await?;
        }
        meter.stop(count)
    }
}
