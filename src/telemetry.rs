//! The log: where `tracing` goes.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Settings of the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines appear, as `tracing`'s filter directives.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// Whether `filter` can be used. Answers why not in one line.
pub fn check_filter(filter: &str) -> Result<(), String> {
    filter.parse::<EnvFilter>().map(drop).map_err(|error| format!("`{filter}` is no filter: {error}"))
}

/// Sends all log lines to standard error, as `settings` say. Standard output belongs to what a command answers.
pub fn start(settings: &LogConfig) -> Result<(), String> {
    start_into(settings, std::io::stderr)
}

/// As [`start`], to somewhere else.
pub fn start_into<W>(settings: &LogConfig, to: W) -> Result<(), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter: EnvFilter = settings.filter.parse().map_err(|error| format!("setting `log.filter`: {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to);
    let started = match settings.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
