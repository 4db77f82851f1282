//! The commands that talk to a running bridge, as scripts run them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::process::command;
use super::suite_log;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Ended {
    /// Asserts how it ended.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.errors.contains("panicked"), "{self:?}");
        self
    }

    /// The lines of standard output as JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"))).collect()
    }

    /// The failure that `--json` tells of.
    #[track_caller]
    pub(crate) fn failure(&self) -> Value {
        serde_json::from_str(&self.errors).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Someone with a token, at the command line.
#[derive(Debug, Clone)]
pub(crate) struct Cli {
    url: String,
    token: String,
}

impl Cli {
    pub(crate) fn new(url: &str, token: impl AsRef<str>) -> Self {
        suite_log::note_secret(token.as_ref());
        Self { url: url.to_owned(), token: token.as_ref().to_owned() }
    }

    /// The command, not run yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("SPACES_BRIDGE_URL", &self.url).env("SPACES_BRIDGE_TOKEN", &self.token);
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        end(self.command(arguments), None).await
    }

    /// The same with something on standard input.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        end(self.command(arguments), Some(input.to_owned())).await
    }
}

/// Runs `command` to its end without holding up whoever it talks to.
pub(crate) async fn end(mut command: Command, input: Option<String>) -> Ended {
    let work = move || {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().expect("the program starts");
        if let Some(input) = input {
            child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("to write");
        }
        child.wait_with_output().expect("the program ends")
    };
    let output = tokio::task::spawn_blocking(work).await.expect("no panic");
    // Standard output shows a signing secret where one is asked for.
    suite_log::print(&output.stderr);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), out: text(&output.stdout), errors: text(&output.stderr) }
}
