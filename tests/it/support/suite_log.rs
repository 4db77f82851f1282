//! Everything that the suite makes the product write, in one file, and beside it the secrets that the suite used.
//!
//! `SUITE_LOG` names the directory; without it nothing is kept. `scripts/ci/rust.sh` sets it and looks afterwards for each of the
//! secrets in the log. Kept are this process's log at its finest, in the product's own format, and what child processes print.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, Once, PoisonError};

use spaces_bridge::telemetry::{self, LogConfig, LogFormat};

/// The fake upstream's WebSocket library writes whole requests into its log; the product does not use it.
const FILTER: &str = "trace,tungstenite=off,tokio_tungstenite=off";
/// The most that one process keeps; the check fails when it finds [`CUT`].
const MOST_BYTES: u64 = 2 << 30;
const CUT: &[u8] = b"the suite's log is cut here\n";
/// Shorter ones are words that tests send in place of a secret.
const SHORTEST_SECRET: usize = 16;
/// How signing secrets begin, and the letters that follow.
const SIGNING_SECRET: &str = "whsec_";
/// What bridge keys begin with.
const BRIDGE_KEY: &str = "sbk_";
/// What comes before the secret in the address of an incoming hook, in the answer that shows it.
const HOOK: &str = "/hooks/";
/// What the description of the API shows in the place of secrets: the sample that Standard Webhooks publishes, with which nobody is
/// to sign, and a bridge key of zeros.
const PUBLISHED_SAMPLES: [&str; 2] = ["C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "sbk_0000000000000000000000000000000000000000000"];

static KEPT: LazyLock<Option<Kept>> = LazyLock::new(|| {
    let directory = std::env::var_os("SUITE_LOG")?;
    Some(Kept::open(Path::new(&directory)).expect("the suite's log can be written"))
});

struct Kept {
    log: File,
    written: AtomicU64,
    secrets: Mutex<(File, HashSet<String>)>,
}

impl Kept {
    fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let append = |name: &str| OpenOptions::new().create(true).append(true).open(directory.join(name));
        let secrets = Mutex::new((append("secrets")?, HashSet::new()));
        Ok(Self { log: append("log")?, written: AtomicU64::new(0), secrets })
    }

    /// One write for each line, so that several processes may share the file.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        let before = self.written.fetch_add(length, Ordering::Relaxed);
        if before >= MOST_BYTES {
            return Ok(());
        }
        let mut log = &self.log;
        log.write_all(bytes)?;
        if before + length >= MOST_BYTES { log.write_all(CUT) } else { Ok(()) }
    }
}

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        print(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to keep this process's log; later calls do nothing.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        if KEPT.is_some() {
            let settings = LogConfig { format: LogFormat::Json, filter: FILTER.to_owned() };
            telemetry::start_into(&settings, || Lines).expect("nothing else logs in the suite");
        }
    });
}

/// Keeps what a child process printed.
pub(crate) fn print(bytes: &[u8]) {
    if let Some(kept) = &*KEPT {
        kept.write(bytes).expect("the suite's log can be written");
    }
}

/// Notes a secret that nothing may write; of a token with parts also those behind the first, which are as bad as the whole.
pub(crate) fn note_secret(secret: &str) {
    let Some(kept) = &*KEPT else { return };
    let mut secrets = kept.secrets.lock().unwrap_or_else(PoisonError::into_inner);
    let parts = if secret.starts_with("ey") { secret.split('.').skip(1).collect() } else { Vec::new() };
    for secret in std::iter::once(secret).chain(parts) {
        let (file, known) = &mut *secrets;
        if secret.len() >= SHORTEST_SECRET && !secret.contains(char::is_whitespace) && known.insert(secret.to_owned()) {
            file.write_all(format!("{secret}\n").as_bytes()).expect("the suite's log can be written");
        }
    }
}

/// Notes the credential of a request.
pub(crate) fn note_authorization(authorization: &[u8]) {
    let authorization = String::from_utf8_lossy(authorization);
    note_secret(authorization.split_once(' ').map_or(&*authorization, |(_, credential)| credential));
}

/// Notes the signing secrets, bridge keys and addresses of incoming hooks that an answer hands out.
pub(crate) fn note_signing_secrets(answer: &str) {
    let keys = answer.match_indices(BRIDGE_KEY).map(|(start, _)| start);
    let hooks = answer.match_indices(HOOK).map(|(start, _)| start + HOOK.len());
    for start in keys.chain(hooks) {
        let rest = &answer[start..];
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"-_".contains(letter)).unwrap_or(rest.len());
        note_handed_out(&rest[..end]);
    }
    for (start, _) in answer.match_indices(SIGNING_SECRET) {
        let rest = &answer[start + SIGNING_SECRET.len()..];
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+/=".contains(letter)).unwrap_or(rest.len());
        note_handed_out(&rest[..end]);
    }
}

fn note_handed_out(secret: &str) {
    if !PUBLISHED_SAMPLES.contains(&secret) {
        note_secret(secret);
    }
}
