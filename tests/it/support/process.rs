//! The program itself as a child process: what it prints, how it ends, and calls to it.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bridge::{ADMIN_KEY, Answer, send};
use super::receiver::Receiver;
use super::suite_log;
use super::wait::eventually;

/// The program with `arguments` and without any setting from outside.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    without_settings(&mut command);
    command
}

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_spaces-bridge");

fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPACES_BRIDGE_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let output = command(arguments).envs(settings.iter().copied()).output().expect("the program runs");
    suite_log::print(&output.stdout);
    suite_log::print(&output.stderr);
    output
}

/// A running program; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        // The demo shows its own token, for its user to paste.
        let keep = !command.get_args().any(|argument| argument == "demo");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let printed = Arc::default();
        let out = collect(child.stdout.take().expect("a pipe"), &printed, keep);
        let errors = collect(child.stderr.take().expect("a pipe"), &printed, keep);
        Self { child, printed, readers: vec![out, errors] }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Everything printed so far.
    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits for a whole line that contains `text`.
    pub(crate) async fn line(&self, text: &str) -> String {
        eventually(&format!("a line with {text:?}"), async || {
            let printed = self.printed();
            let (whole, _) = printed.rsplit_once('\n')?;
            whole.lines().find(|line| line.contains(text)).map(str::to_owned)
        })
        .await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process can be signalled");
    }

    /// Waits for the end; everything printed is there afterwards.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let status = eventually("the end of the program", async || self.child.try_wait().expect("the state of a child")).await;
        for reader in self.readers.drain(..) {
            reader.join().expect("reading does not panic");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads whole lines, so that no secret is cut in two where pieces of several processes meet in the suite's log.
fn collect(pipe: impl Read + Send + 'static, printed: &Arc<Mutex<Vec<u8>>>, keep: bool) -> std::thread::JoinHandle<()> {
    let printed = Arc::clone(printed);
    std::thread::spawn(move || {
        let (mut pipe, mut line) = (BufReader::new(pipe), Vec::new());
        while let Ok(1..) = pipe.read_until(b'\n', &mut line) {
            if keep {
                suite_log::print(&line);
            }
            printed.lock().unwrap_or_else(PoisonError::into_inner).append(&mut line);
        }
    })
}

/// `spaces-bridge serve` on free ports, in front of a fake upstream.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) api: String,
    pub(crate) internal: String,
    pub(crate) client: reqwest::Client,
    data: Arc<TempDir>,
    settings: Vec<(String, String)>,
}

impl Service {
    /// A service with an empty store and these settings besides the usual ones.
    pub(crate) async fn start(upstream: &fake_upstream::FakeUpstream, settings: &[(&str, &str)]) -> Self {
        let usual = [
            ("UPSTREAM__ENVIRONMENT", "custom".to_owned()),
            ("UPSTREAM__REST_URL", upstream.rest_url()),
            ("UPSTREAM__SOCKET_URL", upstream.socket_url()),
            ("UPSTREAM__ACCOUNTS_URL", upstream.accounts_url()),
            ("UPSTREAM__EMITS_PER_MINUTE", "100000".to_owned()),
            ("SESSION__CONNECTS_PER_SECOND", "1000".to_owned()),
            ("WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8".to_owned()),
            ("SECURITY__ADMIN_KEY", ADMIN_KEY.to_owned()),
        ];
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = usual.into_iter().map(|(name, value)| (format!("SPACES_BRIDGE_{name}"), value)).chain(given).collect();
        let tls = socketio_client::TlsConfig::platform().expect("a TLS configuration");
        let client = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).no_proxy().build();
        Self::run(settings, client.expect("a client"), Arc::new(tempfile::tempdir().expect("a directory"))).await
    }

    async fn run(settings: Vec<(String, String)>, client: reqwest::Client, data: Arc<TempDir>) -> Self {
        // A write beyond a limit on file sizes is an error then, as on a full disk, and no signal that kills.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM, "serve"]);
        without_settings(&mut command);
        command.env("SPACES_BRIDGE_HTTP__LISTEN", "127.0.0.1:0").env("SPACES_BRIDGE_HTTP__INTERNAL_LISTEN", "127.0.0.1:0");
        command.env("SPACES_BRIDGE_STORE__PATH", data.path()).envs(settings.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn(command);
        let (api, internal) = addresses(&process).await;
        Self { api: format!("http://{api}"), internal: format!("http://{internal}"), process, client, data, settings }
    }

    /// Kills the process as `kill -9` does and answers a function that starts it again on the same store.
    pub(crate) async fn kill(mut self) -> Killed {
        self.process.signal(Signal::KILL);
        self.process.exit().await;
        Killed { settings: self.settings, client: self.client, data: self.data }
    }

    /// Starts the program again on the same store, after its process has ended.
    pub(crate) async fn start_again(&mut self) {
        *self = Self::run(self.settings.clone(), self.client.clone(), Arc::clone(&self.data)).await;
    }

    /// Where the store is.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn request(&self, method: Method, path: &str, authorization: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api)).header("authorization", authorization)
    }

    pub(crate) async fn get(&self, path: &str, token: impl AsRef<str>) -> Answer {
        send(self.request(Method::GET, path, &format!("jwt {}", token.as_ref()))).await
    }

    pub(crate) async fn post(&self, path: &str, token: impl AsRef<str>, body: &Value) -> Answer {
        send(self.request(Method::POST, path, &format!("jwt {}", token.as_ref())).json(body)).await
    }

    pub(crate) async fn say(&self, token: impl AsRef<str>, space: impl AsRef<str>, text: &str) -> Answer {
        self.post(&format!("/spaces/{}/messages", space.as_ref()), token, &json!({"text": text})).await
    }

    /// Registers a webhook for everything at `receiver`. Answers its id and its secret.
    pub(crate) async fn register(&self, token: impl AsRef<str>, receiver: &Receiver) -> (String, String) {
        let answer = self.post("/webhooks", token, &json!({"url": receiver.url()})).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let webhook = answer.json();
        let text = |name: &str| webhook[name].as_str().expect("a text").to_owned();
        (text("id"), text("secret"))
    }

    /// The only session, as the operator sees it.
    pub(crate) async fn session(&self) -> Value {
        let sessions = send(self.request(Method::GET, "/sessions", &format!("Bearer {ADMIN_KEY}"))).await.json();
        sessions["data"][0].clone()
    }

    /// All deliveries of a webhook.
    pub(crate) async fn deliveries(&self, token: impl AsRef<str>, webhook: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/webhooks/{webhook}/deliveries?limit=200{cursor}");
            let page = self.get(&path, token.as_ref()).await.json();
            all.extend(page["data"].as_array().expect("a list").iter().cloned());
            let Some(next) = page["nextCursor"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    }
}

/// A service that was killed.
pub(crate) struct Killed {
    settings: Vec<(String, String)>,
    client: reqwest::Client,
    data: Arc<TempDir>,
}

impl Killed {
    /// Where the store is.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// The settings that it is started with.
    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Sets or changes a setting, by the name of its environment variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it again on the same store.
    pub(crate) async fn start(self) -> Service {
        Service::run(self.settings, self.client, self.data).await
    }
}

/// Where a process that has begun to serve listens: the API, and what is internal.
pub(crate) async fn addresses(process: &Process) -> (SocketAddr, SocketAddr) {
    let line = process.line(" listens").await;
    let field = |name: &str| {
        let value = line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {line}"));
        value.parse().expect("an address")
    };
    (field("address="), field("internal="))
}
