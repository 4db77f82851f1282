//! The log: where `tracing` goes.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Whether `filter` can be used. Answers why not in one line.
pub fn check_filter(filter: &str) -> Result<(), String> {
    filter.parse::<EnvFilter>().map(drop).map_err(|error| format!("`{filter}` is no filter: {error}"))
}

/// Sends all log lines to standard error, as `settings` say. Standard output belongs to what a command answers.
pub fn start(settings: &LogConfig) -> Result<(), String> {
    let filter: EnvFilter = settings.filter.parse().map_err(|error| format!("setting `log.filter`: {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
