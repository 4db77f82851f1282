//! Tokens that commands print. No shell comes between: the operator names a program and its arguments.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::found::MAX_FOUND;
use super::source::MintError;
use crate::domain::Secret;

/// Runs `command` and answers what it prints, which is bounded in size and time. It sees no variable whose name begins with `hidden`, and
/// what it says on standard error, which may hold anything, goes nowhere.
pub(super) async fn run(command: &[Secret], timeout: Duration, hidden: &str) -> Result<Vec<u8>, MintError> {
    let [program, arguments @ ..] = command else { return Err(failed("the command is empty")) };
    let mut process = Command::new(program.expose());
    process.args(arguments.iter().map(Secret::expose));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(hidden) {
            process.env_remove(name);
        }
    }
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
    let child = process.spawn().map_err(|error| MintError::Failed(format!("the command cannot be run: {}", error.kind())))?;
    let mut group = Group::of(child);
    match tokio::time::timeout(timeout, group.output()).await {
        Ok(output) => output,
        Err(_) => Err(MintError::Failed(format!("the command took longer than {} s", timeout.as_secs()))),
    }
}

fn failed(detail: &str) -> MintError {
    MintError::Failed(detail.to_owned())
}

/// A command and everything that it started; none of it outlives this.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, leader }
    }

    async fn output(&mut self) -> Result<Vec<u8>, MintError> {
        let out = self.child.stdout.take().ok_or_else(|| failed("the command has no output"))?;
        let mut bytes = Vec::new();
        let read = out.take(MAX_FOUND as u64 + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| MintError::Failed(format!("the command's output cannot be read: {}", error.kind())))?;
        if bytes.len() > MAX_FOUND {
            return Err(failed("the command prints too much"));
        }
        let status = self.child.wait().await.map_err(|_| failed("the command's end is not known"))?;
        if status.success() { Ok(bytes) } else { Err(MintError::Failed(format!("the command failed: {status}"))) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // Fails if all of it has ended, which is what is wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, seconds: u64) -> Result<Vec<u8>, MintError> {
        let command = ["sh", "-c", script].map(Secret::new);
        run(&command, Duration::from_secs(seconds), "CARGO_").await
    }

    #[tokio::test]
    async fn a_command_prints_a_token() {
        assert_eq!(sh("echo abc; echo noise >&2", 30).await, Ok(b"abc\n".to_vec()));
        let literal = ["printf", "%s", "$(id) ; `id`"].map(Secret::new);
        assert_eq!(
            run(&literal, Duration::from_secs(30), "-").await,
            Ok(b"$(id) ; `id`".to_vec()),
            "no shell reads the arguments"
        );
        assert_eq!(sh("echo ${CARGO_MANIFEST_DIR-hidden}", 30).await, Ok(b"hidden\n".to_vec()));
    }

    #[tokio::test]
    async fn a_command_that_does_not_do_what_it_should_is_told_of_without_its_output() {
        for (script, seconds, words) in [
            ("echo hidden; exit 3", 30, "exit status: 3"),
            ("kill -9 $$", 30, "signal"),
            ("yes hidden", 30, "prints too much"),
            ("sleep 600 & sleep 600", 1, "longer than 1 s"),
        ] {
            let error = sh(script, seconds).await.expect_err(script).to_string();
            assert!(error.contains(words) && !error.contains("hidden"), "{script}: {error}");
        }
        let missing = run(&[Secret::new("/does/not/exist")], Duration::from_secs(30), "-").await;
        assert!(matches!(missing, Err(MintError::Failed(_))), "{missing:?}");
        assert!(run(&[], Duration::from_secs(1), "-").await.is_err());
    }
}
