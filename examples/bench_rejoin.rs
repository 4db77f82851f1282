//! Measures how sessions come back when their upstream was away:
//!
//! ```text
//! cargo run --release --example bench_rejoin [SESSIONS [CONNECTS_PER_SECOND [SECONDS_AWAY]]]
//! cargo run --release --example bench_rejoin spaces [SPACES]
//! ```
//!
//! A child process is the upstream (the fake one, with limits off). So many sessions (10,000 if nothing is said), each kept by a
//! subscription to a space of its own, are opened through the service. Then the upstream is gone, listener and connections, and comes
//! back: each session has to connect, join, subscribe and read what happened meanwhile. The upstream counts the connections of each
//! second, and a run in which they are more than the setting allows fails. Each session takes a file here and one in the upstream's
//! process, so that `ulimit -n` has to allow some 2,000 more than there are sessions.
//!
//! With `spaces` it is one session that listens to so many spaces (10,000 if nothing is said), in every tenth of which something was said
//! while it was away. The time is that of the service alone: the upstream, in the same process, allows any number of calls. How many there
//! were tells how long it takes where 600 are allowed in five minutes.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use fake_upstream::{FakeUpstream, Limits, Options, Seen, TokenKind};
use futures_util::{StreamExt as _, TryStreamExt as _};
use spaces_bridge::app::App;
use spaces_bridge::config::{Config, Environment};
use spaces_bridge::shutdown::Shutdown;

type Error = Box<dyn std::error::Error + Send + Sync>;

const SESSIONS: usize = 10_000;
const CONNECTS_PER_SECOND: u32 = 500;
const SECONDS_AWAY: u64 = 10;
const SPACES: usize = 10_000;

/// Requests at a time while sessions are opened.
const OPENING: usize = 200;

/// The same where they are all for one session, which takes only so many at a time.
const OPENING_OF_ONE: usize = 8;

/// More than the limit on connection attempts makes it last.
const DEADLINE: Duration = Duration::from_mins(10);

/// What a second may have more than the setting. The service counts when it begins to connect; what is seen here is when connections
/// arrive, some sooner and some later after that.
const LATE: f64 = 1.1;

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [role, sessions] = &arguments[..]
        && role == "upstream"
    {
        return runtime.block_on(upstream(sessions.parse()?));
    }
    if arguments.first().is_some_and(|mode| mode == "spaces") {
        let spaces = arguments.get(1).map_or(Ok(SPACES), |text| text.parse())?;
        return runtime.block_on(recover(spaces));
    }
    let number = |place: usize, default: u64| arguments.get(place).map_or(Ok(default), |text| text.parse());
    let sessions = usize::try_from(number(0, SESSIONS as u64)?)?;
    let per_second = u32::try_from(number(1, CONNECTS_PER_SECOND.into())?)?;
    runtime.block_on(measure(sessions, per_second, Duration::from_secs(number(2, SECONDS_AWAY)?)))
}

/// The child: serves, and does what the lines of its standard input say, until that ends.
async fn upstream(sessions: usize) -> Result<(), Error> {
    let options =
        Options { record: sessions * 4, record_frames: false, history: 10, limits: Limits::none(), ..Options::default() };
    let upstream = FakeUpstream::start(options).await?;
    say(&upstream.rest_url())?;
    let mut tokens = Vec::with_capacity(sessions);
    for number in 0..sessions {
        let user = upstream.user(&format!("User {number}"));
        let token = upstream.token_for(&user, TokenKind::Jwt);
        let space = upstream.space(&format!("Space {number}"), &[&user]);
        say(&format!("{} {}", token.as_ref(), space.as_ref()))?;
        tokens.push((token, space));
    }
    let (lines, mut received) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = received.recv().await {
        if let Some(millis) = line.strip_prefix("away ") {
            upstream.stop().await;
            tokio::time::sleep(Duration::from_millis(millis.parse()?)).await;
            let (before, back) = (upstream.seen(Seen::opened), Instant::now());
            upstream.restart().await?;
            let listens = |seen: &Seen| {
                seen.open_now() == sessions
                    && seen.connections().filter(|connection| !connection.subscriptions.is_empty()).count() == sessions
            };
            let deadline = Instant::now() + DEADLINE;
            while !upstream.seen(listens) {
                if Instant::now() > deadline {
                    return Err(format!("only {} came back", upstream.seen(Seen::open_now)).into());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            say(&upstream.seen(|seen| returns(seen, before, back)))?;
        }
    }
    Ok(())
}

fn say(line: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The most connections of a second, and when half, 99 of 100 and the last were joined, in milliseconds.
fn returns(seen: &Seen, before: usize, back: Instant) -> String {
    let opened: Vec<_> = seen.connections().map(|connection| connection.opened_at).skip(before).collect();
    let within_a_second =
        |begin: usize| opened[begin..].iter().take_while(|time| **time < opened[begin] + Duration::from_secs(1)).count();
    let most = (0..opened.len()).map(within_a_second).max().unwrap_or_default();
    let mut joined: Vec<_> = seen.connections().skip(before).filter_map(|connection| connection.joined_at).collect();
    joined.sort_unstable();
    let at = |place: usize| joined.get(place).map_or(0, |time| time.saturating_duration_since(back).as_millis());
    format!(
        "{most} {} {} {} {}",
        opened.len(),
        at(joined.len() / 2),
        at(joined.len() * 99 / 100),
        at(joined.len().saturating_sub(1))
    )
}

struct Upstream {
    child: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    url: String,
    places: Vec<(String, String)>,
}

impl Upstream {
    fn start(sessions: usize) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["upstream", &sessions.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = child.stdin.take().ok_or("no input")?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let url = lines.next().ok_or("the upstream ended")??;
        let places = (0..sessions).map(|_| {
            let line = lines.next().ok_or("the upstream ended")??;
            let (token, space) = line.split_once(' ').ok_or("an odd line")?;
            Ok((token.to_owned(), space.to_owned()))
        });
        let places = places.collect::<Result<_, Error>>()?;
        Ok(Self { child, commands, lines, url, places })
    }

    /// Goes away for this long, and answers how the sessions came back.
    fn away(&mut self, time: Duration) -> Result<Vec<u64>, Error> {
        writeln!(self.commands, "away {}", time.as_millis())?;
        let line = self.lines.next().ok_or("the upstream ended")??;
        Ok(line.split(' ').map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // The child ends by itself when its standard input closes; this only hurries it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn measure(sessions: usize, per_second: u32, away: Duration) -> Result<(), Error> {
    let mut upstream = Upstream::start(sessions)?;
    let service = Service::start(&upstream.url, per_second).await?;
    let (begin, before) = (Instant::now(), resident_kib()?);
    let opened =
        service.subscribe(upstream.places.iter().map(|(token, space)| (token.as_str(), space.as_str())), OPENING).await?;
    let (took, after) = (begin.elapsed(), resident_kib()?);
    println!("{opened} sessions opened and subscribed after {:.1} s", took.as_secs_f64());
    println!("memory: {before} KiB before, {after} KiB with all of them");

    let (failed, processor) = (service.metric(FAILURES).await?, processor_time()?);
    let returns = tokio::task::spawn_blocking(move || upstream.away(away).map(|returns| (upstream, returns))).await?;
    let (upstream, returns) = returns?;
    let [most, attempts, half, nearly_all, last] = returns[..] else { return Err("an odd answer".into()) };
    let failed = service.metric(FAILURES).await? - failed;
    let processor = processor_time()?.saturating_sub(processor);
    println!("upstream away for {} s, while {failed:.0} attempts failed", away.as_secs());
    println!("then {attempts} connections; the second with most had {most}, and the setting is {per_second}");
    println!("joined: half after {half} ms, 99 of 100 after {nearly_all} ms, the last after {last} ms");
    let peak = peak_kib()?;
    println!(
        "memory: {} KiB afterwards, {peak} KiB at its peak; processor time {:.1} s",
        resident_kib()?,
        processor.as_secs_f64()
    );
    drop(upstream);
    service.stop().await?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand fit")]
    let too_many = most as f64 > f64::from(per_second) * LATE;
    if too_many { Err("there were more connection attempts in a second than the setting allows".into()) } else { Ok(()) }
}

/// One session listens to many spaces, loses its upstream, and reads what was said in some of them meanwhile.
async fn recover(count: usize) -> Result<(), Error> {
    let options = Options { record: 1_000, record_frames: false, history: 10, limits: Limits::none(), ..Options::default() };
    let upstream = FakeUpstream::start(options).await?;
    let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
    let token = upstream.token_for(&ana, TokenKind::Jwt);
    let spaces: Vec<_> = (0..count).map(|number| upstream.space(&format!("Space {number}"), &[&ana, &bo])).collect();
    let service = Service::start(&upstream.rest_url(), CONNECTS_PER_SECOND).await?;
    let begin = Instant::now();
    let subscribed = service.subscribe(spaces.iter().map(|space| (token.as_ref(), space.as_ref())), OPENING_OF_ONE).await?;
    println!("one session subscribed to {subscribed} spaces after {:.1} s", begin.elapsed().as_secs_f64());

    upstream.stop().await;
    let missed: Vec<_> = spaces.iter().step_by(10).collect();
    for space in &missed {
        upstream.post_as(&bo, space, "missed")?;
    }
    let (calls, processor) = (upstream.seen(Seen::rest_total), processor_time()?);
    upstream.restart().await?;
    let begin = Instant::now();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand fit")]
    let expected = missed.len() as f64;
    while service.metric(RECOVERED).await? < expected || service.metric(OPEN).await? > 0.0 {
        if begin.elapsed() > DEADLINE {
            return Err(format!("only {} of {expected} messages were recovered", service.metric(RECOVERED).await?).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (took, calls) = (begin.elapsed(), upstream.seen(Seen::rest_total) - calls);
    println!(
        "{expected} messages of {count} spaces recovered {:.1} s after the upstream was back, reconnecting included",
        took.as_secs_f64()
    );
    println!("REST calls: {calls}; processor time {:.1} s", processor_time()?.saturating_sub(processor).as_secs_f64());
    println!("memory, the upstream's included: {} KiB at its peak", peak_kib()?);
    service.stop().await
}

/// The service on free ports, with a store of its own.
struct Service {
    api: String,
    internal: String,
    client: reqwest::Client,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<Result<(), Error>>,
    _data: tempfile::TempDir,
}

impl Service {
    async fn start(upstream: &str, per_second: u32) -> Result<Self, Error> {
        let data = tempfile::tempdir()?;
        let mut config = Config::default();
        config.http.listen = "127.0.0.1:0".parse()?;
        config.http.internal_listen = config.http.listen;
        config.upstream.environment = Environment::Custom;
        config.upstream.rest_url = Some(upstream.parse()?);
        config.upstream.socket_url = Some(upstream.parse()?);
        config.session.connects_per_second = per_second;
        config.store.path = data.path().to_owned();
        let app = App::build(config).await?;
        let (api, internal) = (format!("http://{}", app.address()), format!("http://{}", app.internal_address()));
        let shutdown = Shutdown::default();
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { Ok(app.run(shutdown).await?) }
        });
        let tls = socketio_client::TlsConfig::platform()?;
        let client = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).no_proxy().build()?;
        Ok(Self { api, internal, client, shutdown, running, _data: data })
    }

    /// Subscribes each token to its space, and answers how many there were.
    async fn subscribe(&self, places: impl Iterator<Item = (&str, &str)>, at_a_time: usize) -> Result<usize, Error> {
        let subscribed = futures_util::stream::iter(places).map(|(token, space)| {
            let request = self.client.put(format!("{}/spaces/{space}/subscription", self.api));
            let request = request.header("authorization", format!("jwt {token}"));
            async move {
                let answer = request.send().await?;
                if answer.status().is_success() { Ok(()) } else { Err(Error::from(answer.text().await?)) }
            }
        });
        let subscribed: Vec<_> = subscribed.buffer_unordered(at_a_time).try_collect().await?;
        Ok(subscribed.len())
    }

    /// A value that the service counts, summed over its labels.
    async fn metric(&self, name: &str) -> Result<f64, Error> {
        let text = self.client.get(format!("{}/metrics", self.internal)).send().await?.text().await?;
        let counts = text.lines().filter(|line| line.starts_with(name));
        counts.map(|line| Ok(line.rsplit(' ').next().ok_or("an odd line")?.parse::<f64>()?)).sum()
    }

    async fn stop(self) -> Result<(), Error> {
        self.shutdown.request();
        self.running.await?
    }
}

/// Failed attempts to connect, messages that were read from the history, and spaces whose history is still to be read.
const FAILURES: &str = "spaces_bridge_session_connect_failures_total";
const RECOVERED: &str = "spaces_bridge_events_recovered_total";
const OPEN: &str = "spaces_bridge_recoveries_open";

/// Resident memory of this process, in KiB.
fn resident_kib() -> Result<u64, Error> {
    status_kib("VmRSS:")
}

fn peak_kib() -> Result<u64, Error> {
    status_kib("VmHWM:")
}

fn status_kib(name: &str) -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
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
