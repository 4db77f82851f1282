//! How a command of the client ends: what it prints, and with which exit code.
//!
//! Results go to standard output and failures to standard error: for people, or as JSON, one document per line.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::NAME;
use crate::client::{ClientError, Problem};

/// How a command of the client ends, for scripts. `docs/cli.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It is done; of a message: Spaces has it.
    Done = 0,
    /// Something failed that has no number of its own.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The bridge or Spaces refused what was asked.
    Refused = 3,
    /// The token is missing, not valid, or does not allow it.
    NotAllowed = 4,
    /// What was asked for is not there.
    NotFound = 5,
    /// It may have been done, or is going to be: the outcome is not known.
    Unconfirmed = 6,
    /// The bridge or Spaces is out of reach or not ready; nothing was done.
    Unreachable = 7,
    /// Too many calls; nothing was done.
    Limited = 8,
}

/// Why a command of the client failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is no token.
    #[error("there is no token: set SPACES_BRIDGE_TOKEN, or name a file with it by SPACES_BRIDGE_TOKEN_FILE or --token-file")]
    NoToken,
    /// What was to be read could not be.
    #[error("{what} cannot be read: {source}")]
    Input {
        /// What.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Standard output takes no more.
    #[error("standard output takes no more: {0}")]
    Output(std::io::Error),
    /// The program cannot start.
    #[error("{0}")]
    Start(std::io::Error),
    /// The bridge answered something that it should not.
    #[error("the bridge's answer has no {0}")]
    Odd(&'static str),
}

impl CommandError {
    fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => exit_of(error),
            Self::Usage(_) => Exit::Usage,
            Self::NoToken => Exit::NotAllowed,
            Self::Input { .. } | Self::Output(_) | Self::Start(_) | Self::Odd(_) => Exit::Failed,
        }
    }

    fn to_json(&self) -> Value {
        let code = match self {
            Self::Client(error) => return error.to_json(),
            Self::Usage(_) => "usage",
            Self::NoToken => "token_missing",
            Self::Input { .. } => "input_unreadable",
            Self::Output(_) => "output_closed",
            Self::Start(_) => "no_start",
            Self::Odd(_) => "odd_answer",
        };
        json!({ "code": code, "detail": self.to_string() })
    }
}

fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::Problem(problem) => exit_of_problem(problem),
        ClientError::InDoubt(_) | ClientError::Broken(_) | ClientError::Silent | ClientError::NoBridge { status: 502 | 504 } => {
            Exit::Unconfirmed
        }
        ClientError::Unreachable(_) | ClientError::NoBridge { status: 503 } => Exit::Unreachable,
        ClientError::Address(_) => Exit::Usage,
        ClientError::Token(_) => Exit::NotAllowed,
        ClientError::NoBridge { .. } | ClientError::NoStream | ClientError::Tls(_) | ClientError::File { .. } => Exit::Failed,
    }
}

fn exit_of_problem(problem: &Problem) -> Exit {
    match (problem.code(), problem.status()) {
        ("unconfirmed" | "idempotency_in_progress" | "timed_out", _) => Exit::Unconfirmed,
        // Some of it was done, which no other number says.
        ("message_incomplete", _) => Exit::Failed,
        (_, 401 | 403) => Exit::NotAllowed,
        (_, 404) => Exit::NotFound,
        (_, 429) => Exit::Limited,
        (_, 408 | 502..=504) => Exit::Unreachable,
        (_, 400..=499) => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// Tells of a failure if there is one, and answers the exit code.
pub(super) fn end(as_json: bool, result: Result<Exit, CommandError>) -> ExitCode {
    let exit = match result {
        Ok(exit) => exit,
        // Whoever read it has had enough, as `head` does.
        Err(CommandError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            let told = if as_json { in_json(&error) } else { in_words(&error) };
            // There is nowhere else to tell.
            let _ = std::io::stderr().lock().write_all(told.as_bytes());
            error.exit()
        }
    };
    ExitCode::from(exit as u8)
}

fn in_json(error: &CommandError) -> String {
    let mut told = error.to_json();
    told["exitCode"] = json!(error.exit() as u8);
    format!("{told}\n")
}

fn in_words(error: &CommandError) -> String {
    let problem = match error {
        CommandError::Client(ClientError::Problem(problem)) => problem,
        CommandError::Client(error) => return format!("{NAME}: {}\n", plain(&error.in_words())),
        other => return format!("{NAME}: {}\n", plain(&other.to_string())),
    };
    let head = format!("{NAME}: {}: {} ({})\n", plain(problem.title()), plain(problem.detail()), plain(problem.code()));
    let place = |pointer: &str| if pointer.is_empty() { "the body".to_owned() } else { plain(pointer) };
    let fields = problem.errors().map(|(pointer, detail)| format!("  {}: {}\n", place(pointer), plain(detail)));
    let pause = problem.retry_after().map(|pause| format!("  try again in {} s\n", pause.as_secs()));
    std::iter::once(head).chain(fields).chain(pause).collect()
}

/// Prints a line.
pub(super) fn say(line: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CommandError::Output)
}

/// `text` from elsewhere as a terminal may have it: in a line, and without anything that steers it.
pub(super) fn plain(text: &str) -> String {
    let is_steering =
        |character: char| character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|character| if is_steering(character) { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_steers_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\r\nc\u{202e}d\u{9b}é"), "a [2Jb  c d é");
    }
}
