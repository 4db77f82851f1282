//! Measures what the service adds to a confirmed send, and what an idle session costs:
//!
//! ```text
//! cargo run --release --example bench_bridge
//! ```
//!
//! A child process is the upstream (the fake one, with limits and records off). Against it, in one run: the client crate alone, and
//! the whole service over HTTP, from the request to the `201`; one in flight for the latency, many sessions with several in flight
//! each for the rate. Then two thousand idle sessions, for the memory of the service's process. With `sessions N` only that many
//! sessions (10,000 if nothing is said), opened as fast as the limit on connection attempts lets them; each takes a file here and one in the upstream's process, so that
//! `ulimit -n` has to allow some 2,000 more than that.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_upstream::{FakeUpstream, Options, TokenKind};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use socketio_client::{ConnectOptions, Connection, Incoming};
use spaces_bridge::app::App;
use spaces_bridge::config::{Config, Environment};
use spaces_bridge::shutdown::Shutdown;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Sessions of the rate measurement, and sends that each has in flight.
const SESSIONS: usize = 16;
const IN_FLIGHT: usize = 4;

/// Sends measured per way.
const LATENCY_SENDS: usize = 5_000;
const RATE_SENDS: usize = 40_000;

/// Idle sessions of the memory measurement.
const IDLE: usize = 2_000;

/// Sessions of the measurement that opens many, unless told.
const MANY: usize = 10_000;

/// Requests at a time while many sessions are opened: enough for their waits on connecting not to hold up the others.
const OPENING: usize = 500;

/// Connection attempts per second that the service is allowed.
const CONNECTS_PER_SECOND: u32 = 1_000;

/// The metric of sessions that have joined.
const ONLINE: &str = "spaces_bridge_sessions{state=\"online\"} ";

const ROUNDS: usize = 3;

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => runtime.block_on(measure()),
        ["sessions"] => runtime.block_on(open_many(MANY)),
        ["sessions", count] => runtime.block_on(open_many(count.parse()?)),
        ["upstream", places] => runtime.block_on(upstream(places.parse()?)),
        _ => Err("no arguments, or `sessions` and how many".into()),
    }
}

/// The child: serves until its standard input ends.
async fn upstream(places: usize) -> Result<(), Error> {
    let upstream = FakeUpstream::start(Options::for_load()).await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {}", upstream.rest_url(), upstream.socket_url())?;
    for number in 0..places {
        let user = upstream.user(&format!("User {number}"));
        let token = upstream.token_for(&user, TokenKind::Jwt);
        let space = upstream.space(&format!("Space {number}"), &[&user]);
        writeln!(out, "{} {}", token.as_ref(), space.as_ref())?;
    }
    out.flush()?;
    drop(out);
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

struct Upstream {
    child: Child,
    rest: String,
    socket: String,
    places: Vec<Place>,
}

/// A user's token and space.
#[derive(Clone)]
struct Place {
    token: Arc<str>,
    space: Arc<str>,
}

impl Upstream {
    fn start(places: usize) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("upstream").arg(places.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut pair = || -> Result<(String, String), Error> {
            let line = lines.next().ok_or("the upstream ended")??;
            let (first, second) = line.split_once(' ').ok_or("an odd line")?;
            Ok((first.to_owned(), second.to_owned()))
        };
        let (rest, socket) = pair()?;
        let places = (0..places).map(|_| pair().map(|(token, space)| Place { token: token.into(), space: space.into() }));
        let places = places.collect::<Result<_, _>>()?;
        Ok(Self { child, rest, socket, places })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // The child ends by itself when its standard input closes; this only hurries it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn measure() -> Result<(), Error> {
    let upstream = Upstream::start(SESSIONS + IDLE)?;
    // First, while the process has not yet kept memory for anything else.
    let bridge = Bridge::start(&upstream).await?;
    bridge.memory(&upstream.places[SESSIONS..]).await?;
    bridge.stop().await?;
    let bridge = Bridge::start(&upstream).await?;
    println!("confirmed sends; the service's figures as ratios to the client crate's in the same round");
    for round in 1..=ROUNDS {
        let direct = direct_latency(&upstream).await?;
        let through = bridge.latency(&upstream.places[0]).await?;
        println!(
            "round {round}: one in flight, p50 direct {:.3} ms, service {:.3} ms, added {:.3} ms (p99 direct {:.3}, service {:.3})",
            ms(direct.0),
            ms(through.0),
            ms(through.0.saturating_sub(direct.0)),
            ms(direct.1),
            ms(through.1)
        );
        let direct = direct_rate(&upstream).await?;
        let through = bridge.rate(&upstream.places[..SESSIONS]).await?;
        println!(
            "round {round}: {SESSIONS} sessions x {IN_FLIGHT} in flight: direct {direct:.0}/s, service {through:.0}/s, ratio {:.2}",
            through / direct
        );
    }
    bridge.stop().await
}

async fn open_many(count: usize) -> Result<(), Error> {
    let upstream = Upstream::start(count)?;
    let bridge = Bridge::start(&upstream).await?;
    let before = resident_kib()?;
    let begin = Instant::now();
    let opened = futures_util::stream::iter(&upstream.places).map(|place| async {
        let begin = Instant::now();
        bridge.who(place).await.map(|()| begin.elapsed())
    });
    let times: Vec<_> = opened.buffer_unordered(OPENING).try_collect().await?;
    let answered = begin.elapsed();
    bridge.wait_until_joined(count).await?;
    let joined = begin.elapsed();
    let (p50, p99) = percentiles(times);
    println!(
        "{count} sessions, {OPENING} at a time: all answered after {:.1} s (p50 {:.0} ms, p99 {:.0} ms), all joined after {:.1} s",
        answered.as_secs_f64(),
        ms(p50),
        ms(p99),
        joined.as_secs_f64()
    );
    #[expect(clippy::cast_precision_loss, reason = "a few thousand fit")]
    let rate = count as f64 / joined.as_secs_f64();
    println!("{rate:.0} connection attempts per second; the limit is {CONNECTS_PER_SECOND}");
    let processor = processor_time()?;
    print_memory(count, before).await?;
    println!(
        "processor time of the service and of its HTTP client: {:.2} ms a session",
        ms(processor) / f64::from(u32::try_from(count)?)
    );
    let idle = processor_time()?;
    tokio::time::sleep(Duration::from_secs(30)).await;
    println!("and while idle: {:.1} % of a processor over 30 s", ms(processor_time()?.saturating_sub(idle)) / 300.0);
    bridge.stop().await
}

/// Prints what each session takes, once what was freed while connecting has settled.
async fn print_memory(sessions: usize, before: usize) -> Result<(), Error> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = resident_kib()?;
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes fit")]
    let each = after.saturating_sub(before) as f64 / sessions as f64;
    println!("{sessions} idle sessions: {each:.1} KiB each ({before} KiB before, {after} KiB after)");
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// A bare connection that is subscribed to its space.
struct Direct {
    connection: Connection,
    space: Arc<str>,
}

impl Direct {
    async fn open(upstream: &Upstream, place: &Place) -> Result<Self, Error> {
        let options = ConnectOptions::new(&upstream.socket)?.namespace("/chat")?;
        let options = options.query("token", place.token.as_ref()).query("tokenType", "jwt");
        let mut connection = socketio_client::connect(&options).await?;
        let channel = format!(r#"{{"channel":{{"type":"topic","_id":"{}"}}}}"#, place.space);
        connection.emit("SUBSCRIBE_CHANNEL", &channel)?;
        let mut direct = Self { connection, space: Arc::clone(&place.space) };
        direct.wait_for("CHANNEL_SUBSCRIBED").await?;
        Ok(direct)
    }

    fn send(&mut self, number: usize) -> Result<(), Error> {
        let payload = format!(
            r#"{{"category":"chat","topicId":"{}","content":{{"bodyText":"message {number}","data":[]}},"loopbackMetadata":{{"ref":"{number}"}}}}"#,
            self.space
        );
        Ok(self.connection.emit("SEND_MESSAGE", &payload)?)
    }

    async fn wait_for(&mut self, name: &str) -> Result<(), Error> {
        loop {
            if let Incoming::Event(event) = self.connection.next().await?
                && event.name() == name
            {
                return Ok(());
            }
        }
    }
}

async fn direct_latency(upstream: &Upstream) -> Result<(Duration, Duration), Error> {
    let mut direct = Direct::open(upstream, &upstream.places[0]).await?;
    let mut times = Vec::with_capacity(LATENCY_SENDS);
    for number in 0..LATENCY_SENDS {
        let begin = Instant::now();
        direct.send(number)?;
        direct.wait_for("MESSAGE_SENT").await?;
        times.push(begin.elapsed());
    }
    Ok(percentiles(times))
}

async fn direct_rate(upstream: &Upstream) -> Result<f64, Error> {
    let mut tasks = Vec::new();
    let mut connections = Vec::new();
    for place in &upstream.places[..SESSIONS] {
        connections.push(Direct::open(upstream, place).await?);
    }
    let begin = Instant::now();
    for mut direct in connections {
        tasks.push(tokio::spawn(async move {
            for number in 0..IN_FLIGHT {
                direct.send(number)?;
            }
            for number in IN_FLIGHT..RATE_SENDS / SESSIONS + IN_FLIGHT {
                direct.wait_for("MESSAGE_SENT").await?;
                if number < RATE_SENDS / SESSIONS {
                    direct.send(number)?;
                }
            }
            Ok::<(), Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(per_second(RATE_SENDS, begin))
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand fit")]
fn per_second(count: usize, begin: Instant) -> f64 {
    count as f64 / begin.elapsed().as_secs_f64()
}

type HttpClient = Client<HttpConnector, Full<bytes::Bytes>>;

/// The service in this process, and a client of its API.
struct Bridge {
    api: String,
    internal: String,
    client: HttpClient,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<Result<(), spaces_bridge::app::AppError>>,
    _data: tempfile::TempDir,
}

impl Bridge {
    async fn start(upstream: &Upstream) -> Result<Self, Error> {
        let data = tempfile::tempdir()?;
        let mut config = Config::default();
        config.http.listen = "127.0.0.1:0".parse()?;
        config.http.internal_listen = config.http.listen;
        config.upstream.environment = Environment::Custom;
        config.upstream.rest_url = Some(upstream.rest.parse()?);
        config.upstream.socket_url = Some(upstream.socket.parse()?);
        config.session.connects_per_second = CONNECTS_PER_SECOND;
        config.store.path = data.path().to_owned();
        let app = App::build(config).await?;
        let (api, internal) = (format!("http://{}", app.address()), format!("http://{}", app.internal_address()));
        let shutdown = Shutdown::default();
        let running = tokio::spawn(app.run(shutdown.clone()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { api, internal, client, shutdown, running, _data: data })
    }

    async fn stop(self) -> Result<(), Error> {
        self.shutdown.request();
        Ok(self.running.await??)
    }

    async fn latency(&self, place: &Place) -> Result<(Duration, Duration), Error> {
        let mut times = Vec::with_capacity(LATENCY_SENDS);
        for number in 0..LATENCY_SENDS {
            let begin = Instant::now();
            send(&self.client, &self.api, place, number).await?;
            times.push(begin.elapsed());
        }
        Ok(percentiles(times))
    }

    async fn rate(&self, places: &[Place]) -> Result<f64, Error> {
        for place in places {
            send(&self.client, &self.api, place, 0).await?;
        }
        let begin = Instant::now();
        let mut tasks = Vec::new();
        for place in places {
            for _ in 0..IN_FLIGHT {
                let (client, api, place) = (self.client.clone(), self.api.clone(), place.clone());
                tasks.push(tokio::spawn(async move {
                    for number in 0..RATE_SENDS / SESSIONS / IN_FLIGHT {
                        send(&client, &api, &place, number).await?;
                    }
                    Ok::<(), Error>(())
                }));
            }
        }
        for task in tasks {
            task.await??;
        }
        Ok(per_second(RATE_SENDS, begin))
    }

    /// Opens sessions by asking who each token is, and compares the process's memory before and after.
    async fn memory(&self, places: &[Place]) -> Result<(), Error> {
        let before = resident_kib()?;
        for chunk in places.chunks(50) {
            futures_util::future::try_join_all(chunk.iter().map(|place| self.who(place))).await?;
        }
        self.wait_until_joined(places.len()).await?;
        print_memory(places.len(), before).await
    }

    async fn who(&self, place: &Place) -> Result<(), Error> {
        let request = Request::get(format!("{}/me", self.api)).header("authorization", format!("jwt {}", place.token));
        let answer = self.client.request(request.body(Full::default())?).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        if status.is_success() { Ok(()) } else { Err(format!("GET /me answers {status}").into()) }
    }

    /// Waits until the service says that so many sessions are online.
    async fn wait_until_joined(&self, count: usize) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let answer = self.client.get(format!("{}/metrics", self.internal).parse()?).await?;
            let text = answer.into_body().collect().await?.to_bytes();
            let text = String::from_utf8_lossy(&text);
            let online = text.lines().find_map(|line| line.strip_prefix(ONLINE)).ok_or("no metric of sessions online")?;
            if online.trim().parse::<f64>()? >= f64::from(u32::try_from(count)?) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("only{online} sessions came up").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn send(client: &HttpClient, api: &str, place: &Place, number: usize) -> Result<(), Error> {
    let request = Request::post(format!("{api}/spaces/{}/messages", place.space))
        .header("authorization", format!("jwt {}", place.token))
        .header("content-type", "application/json")
        .body(Full::from(format!(r#"{{"text":"message {number}"}}"#)))?;
    let answer = client.request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if status == 201 { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into()) }
}

/// Resident memory of this process, in KiB.
fn resident_kib() -> Result<usize, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().next().ok_or("no number")?.parse()?)
}

/// Processor time that this process has used.
fn processor_time() -> Result<Duration, Error> {
    /// Clock ticks a second, as Linux reports times to programs on every common machine.
    const TICKS: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
    let fields: Vec<_> = stat.rsplit(") ").next().ok_or("no fields")?.split(' ').collect();
    let ticks = fields.get(11..13).ok_or("too few fields")?.iter().map(|field| field.parse::<u64>()).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}
