//! Why a call did not succeed.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address will not do.
    #[error("the bridge's address will not do: {0}")]
    Address(&'static str),
    /// The token will not do.
    #[error("the token will not do: {0}")]
    Token(&'static str),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The bridge answered that it did not do it.
    #[error("{}", .0.detail())]
    Problem(Problem),
    /// No connection came about, so that the bridge knows nothing of the call.
    #[error("the bridge cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The connection ended before the whole answer was there.
    #[error("the bridge gave no answer")]
    Broken(#[source] reqwest::Error),
    /// The bridge did not answer in time.
    #[error("the bridge did not answer in time")]
    Silent,
    /// What answered is no bridge.
    #[error("what answers there (with status {status}) is no bridge")]
    NoBridge {
        /// The status of its answer.
        status: u16,
    },
    /// What answered gave no stream of events.
    #[error("what answers there gives no stream of events")]
    NoStream,
    /// A file cannot be read.
    #[error("the file `{}` cannot be read", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The call may have been done in an attempt whose answer did not come; the last attempt failed.
    #[error("it may have been done: an attempt got no answer, and after it: {0}")]
    InDoubt(#[source] Box<ClientError>),
}

impl From<reqwest::Error> for ClientError {
    fn from(error: reqwest::Error) -> Self {
        // The address may be of someone who does not want it in a log.
        let error = error.without_url();
        if error.is_connect() { Self::Unreachable(error) } else { Self::Broken(error) }
    }
}

impl ClientError {
    /// Whether the bridge may have done what was asked although this came of it.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Silent | Self::InDoubt(_) => true,
            // A proxy that gave up has perhaps passed the call on.
            Self::NoBridge { status } => *status == 502 || *status == 504,
            Self::Problem(problem) => matches!(problem.code(), "unconfirmed" | "timed_out" | "idempotency_in_progress"),
            Self::Address(_) | Self::Token(_) | Self::Tls(_) | Self::Unreachable(_) | Self::NoStream | Self::File { .. } => false,
        }
    }

    /// The last error of a call of which an earlier attempt may have been done.
    pub(super) fn after_doubt(self) -> Self {
        match self {
            // An answer to the same key, and so to that attempt as well. Others are given before anyone looks at the key.
            Self::Problem(problem) if matches!(problem.status(), 400 | 404 | 409 | 413 | 415 | 422) => Self::Problem(problem),
            doubtful if doubtful.leaves_doubt() => doubtful,
            other => Self::InDoubt(Box::new(other)),
        }
    }

    /// The error in the form of the bridge's own problems.
    pub fn to_json(&self) -> Value {
        let code = match self {
            Self::Problem(problem) => return problem.0.clone(),
            Self::Address(_) => "address_invalid",
            Self::Token(_) => "token_invalid",
            Self::Tls(_) => "tls_unavailable",
            Self::Unreachable(_) => "bridge_unreachable",
            Self::Broken(_) | Self::Silent => "bridge_silent",
            Self::NoBridge { .. } | Self::NoStream => "no_bridge",
            Self::File { .. } => "file_unreadable",
            Self::InDoubt(_) => "in_doubt",
        };
        json!({ "code": code, "detail": self.in_words() })
    }

    /// The error and its causes in a line.
    pub fn in_words(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let words = error.to_string();
            if !line.ends_with(&words) {
                line = format!("{line}: {words}");
            }
            cause = error.source();
        }
        line
    }
}

/// A problem (RFC 9457) as the bridge told it.
#[derive(Debug, Clone)]
pub struct Problem(Value);

impl Problem {
    /// Takes `body` for a problem, if it is one.
    pub(super) fn read(status: u16, mut body: Value) -> Option<Self> {
        body.get("code")?.as_str()?;
        // The answer's own status is the one that counts.
        body["status"] = status.into();
        Some(Self(body))
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.0["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or_default()
    }

    /// The kind of failure, for programs.
    pub fn code(&self) -> &str {
        self.text("code")
    }

    /// The kind of failure, in words.
    pub fn title(&self) -> &str {
        self.text("title")
    }

    /// What happened this time.
    pub fn detail(&self) -> &str {
        self.text("detail")
    }

    /// When to come again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0["retryAfter"].as_u64().map(Duration::from_secs)
    }

    /// What is wrong with which field of the body.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        let errors = self.0["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| (error["pointer"].as_str().unwrap_or_default(), error["detail"].as_str().unwrap_or_default()))
    }

    /// Whether the same call may succeed a little later.
    pub(super) fn is_about_now(&self) -> bool {
        matches!(self.status(), 408 | 429 | 503) || self.code() == "idempotency_in_progress"
    }
}
