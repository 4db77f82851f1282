//! The sum of all settings: defaults, then a TOML file, then `SPACES_BRIDGE_*` in the environment, then flags.
//!
//! A setting that is unknown, misspelt or makes no sense stops the start with its name. Secrets can be given as files.

mod sections;

use std::path::{Path, PathBuf};

use serde::de::IntoDeserializer as _;
use toml::{Table, Value};
use url::Url;

pub use sections::{
    AccountsConfig, Backend, Config, Environment, FilesConfig, HttpConfig, OutboxConfig, Protocol, SecurityConfig, SessionConfig,
    ShutdownConfig, StoreConfig, UnknownCategories, UpstreamConfig, WebhooksConfig,
};

use crate::domain::Secret;

/// What every environment variable of the service begins with.
pub const ENV_PREFIX: &str = "SPACES_BRIDGE_";

/// The environment variable that names the configuration file.
pub const ENV_CONFIG_FILE: &str = "SPACES_BRIDGE_CONFIG";

/// The environment variables of the commands that talk to a running bridge. They are no settings of the service, which may well
/// run with the same environment.
pub const ENV_CLIENT: [&str; 4] = [ENV_URL, ENV_TOKEN, ENV_TOKEN_FILE, ENV_TOKEN_TYPE];

/// Where the bridge is that commands talk to.
pub const ENV_URL: &str = "SPACES_BRIDGE_URL";

/// The token that commands show it.
pub const ENV_TOKEN: &str = "SPACES_BRIDGE_TOKEN";

/// A file with that token.
pub const ENV_TOKEN_FILE: &str = "SPACES_BRIDGE_TOKEN_FILE";

/// What kind of token it is.
pub const ENV_TOKEN_TYPE: &str = "SPACES_BRIDGE_TOKEN_TYPE";

/// Fewest characters of the admin key.
const MIN_ADMIN_KEY: usize = 24;

/// The longest time that webhooks may be set to fail before they are switched off: a year.
const MOST_HOURS: u64 = 8784;

/// Most webhooks with a label of their own in metrics.
const MOST_LABELS: usize = 10_000;

/// The addresses of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrls {
    /// The REST API.
    pub rest: Url,
    /// The socket server.
    pub socket: Url,
    /// The accounts server; without one there is no OAuth.
    pub accounts: Option<Url>,
}

/// Why the configuration does not do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file `{}` cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file `{}` is not valid TOML", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A setting is unknown or has a value that does not do.
    #[error("setting `{name}`: {problem}")]
    Setting {
        /// The setting's path.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

fn setting(name: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Setting { name: name.to_owned(), problem: problem.into() }
}

impl Config {
    /// Reads the file, if there is one, the environment and the flags (`(path, value)`), in this order, each overriding the one
    /// before, and checks the whole.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => read_file(path)?,
            None => Table::new(),
        };
        for (name, value) in environment {
            let other = name == ENV_CONFIG_FILE || ENV_CLIENT.contains(&name.as_str());
            let own = name.strip_prefix(ENV_PREFIX).filter(|rest| !other && !is_service_link(rest));
            if let Some(name) = own {
                let path = name.to_ascii_lowercase().replace("__", ".");
                put(&mut table, &path, &value).map_err(|_| setting(&path, "unknown setting"))?;
            }
        }
        for (path, value) in flags {
            put(&mut table, path, value).map_err(|_| setting(path, "unknown setting"))?;
        }
        let mut config: Self = serde_path_to_error::deserialize(Value::Table(table).into_deserializer()).map_err(|error| {
            let path = error.path().to_string();
            setting(&path, one_line(error.inner()))
        })?;
        config.read_secrets()?;
        config.check()?;
        Ok(config)
    }

    /// The upstream's addresses.
    pub fn upstream_urls(&self) -> Result<UpstreamUrls, ConfigError> {
        let upstream = &self.upstream;
        let (rest, socket, accounts) = match upstream.environment {
            Environment::Production => (
                "https://spacesapis.avayacloud.com",
                "https://spacesapis-socket.avayacloud.com",
                Some("https://accounts.avayacloud.com"),
            ),
            Environment::Staging => (
                "https://loganstagingapis.esna.com",
                "https://loganstagingapis-socket.esna.com",
                Some("https://onesnastaging.esna.com"),
            ),
            Environment::Custom => ("", "", None),
        };
        let accounts = match (&upstream.accounts_url, accounts) {
            (None, None) => None,
            (given, preset) => {
                let preset = preset.unwrap_or_default();
                Some(address("upstream.accounts_url", given.as_ref(), preset, &["http", "https"])?)
            }
        };
        Ok(UpstreamUrls {
            rest: address("upstream.rest_url", upstream.rest_url.as_ref(), rest, &["http", "https"])?,
            socket: address("upstream.socket_url", upstream.socket_url.as_ref(), socket, &["http", "https", "ws", "wss"])?,
            accounts,
        })
    }

    fn read_secrets(&mut self) -> Result<(), ConfigError> {
        let security = &mut self.security;
        read_secret("security.master_key", &mut security.master_key, security.master_key_file.as_deref())?;
        read_secret("security.admin_key", &mut security.admin_key, security.admin_key_file.as_deref())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.upstream_urls()?;
        if let Some(path) = self.accounts.token_directories.iter().find(|path| !path.is_absolute()) {
            return Err(setting("accounts.token_directories", format!("`{}` must be an absolute path", path.display())));
        }
        if !self.upstream.namespace.starts_with('/') || self.upstream.namespace.contains([',', '?']) {
            return Err(setting("upstream.namespace", "must begin with `/` and contain neither `,` nor `?`"));
        }
        if let Some(key) = &self.security.admin_key {
            let printable = key.expose().bytes().all(|byte| byte.is_ascii_graphic());
            if key.expose().len() < MIN_ADMIN_KEY || !printable {
                let problem = format!("must have {MIN_ADMIN_KEY} or more visible ASCII characters");
                return Err(setting("security.admin_key", problem));
            }
        }
        if let Some(key) = &self.security.master_key {
            crate::master_key::decode(key).map_err(|error| setting("security.master_key", error.to_string()))?;
        }
        if !is_host_name(&self.webhooks.origin) {
            return Err(setting("webhooks.origin", "must be a host name of letters, digits, hyphens and dots"));
        }
        let is_word = |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.upstream.accept_version.as_deref().is_none_or(is_word) {
            return Err(setting("upstream.accept_version", "must be 1 to 64 visible ASCII characters"));
        }
        if !is_word(&self.upstream.service_app_scheme) {
            return Err(setting("upstream.service_app_scheme", "must be 1 to 64 visible ASCII characters"));
        }
        self.check_numbers()?;
        crate::telemetry::check_filter(&self.log.filter).map_err(|error| setting("log.filter", error))
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("http.max_body_bytes", self.http.max_body_bytes),
            ("http.max_requests", self.http.max_requests),
            ("http.max_listeners_per_account", self.http.max_listeners_per_account),
            ("upstream.max_event_bytes", self.upstream.max_event_bytes.unwrap_or(1)),
            ("upstream.emits_per_minute", self.upstream.emits_per_minute.unwrap_or(1) as usize),
            ("session.connects_per_second", self.session.connects_per_second as usize),
            ("session.max_sessions", self.session.max_sessions),
            ("webhooks.concurrency", self.webhooks.concurrency),
            ("webhooks.concurrency_per_webhook", self.webhooks.concurrency_per_webhook),
            ("webhooks.max_per_account", self.webhooks.max_per_account),
            ("outbox.max_per_account", self.outbox.max_per_account),
            ("accounts.max_accounts", self.accounts.max_accounts),
            ("files.max_per_message", self.files.max_per_message),
            ("files.concurrency_per_message", self.files.concurrency_per_message),
            ("files.concurrency", self.files.concurrency),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, number)| *number == 0) {
            return Err(setting(name, "must be 1 or more"));
        }
        let seconds = [
            ("http.request_timeout_seconds", self.http.request_timeout_seconds, 3600),
            ("http.write_timeout_seconds", self.http.write_timeout_seconds, 3600),
            ("http.idempotency_hours", self.http.idempotency_hours, 7 * 24),
            ("upstream.rest_timeout_seconds", self.upstream.rest_timeout_seconds, 600),
            ("upstream.connect_timeout_seconds", self.upstream.connect_timeout_seconds, 600),
            ("session.idle_timeout_seconds", self.session.idle_timeout_seconds, 30 * 86_400),
            ("session.refusal_seconds", self.session.refusal_seconds, 86_400),
            ("session.limit_retry_seconds", self.session.limit_retry_seconds, 86_400),
            ("session.longest_wait_seconds", self.session.longest_wait_seconds, 3600),
            ("webhooks.timeout_seconds", self.webhooks.timeout_seconds, 60),
            ("accounts.file_check_seconds", self.accounts.file_check_seconds, 86_400),
            ("store.retention_days", self.store.retention_days, 36_500),
            // Records of sends are kept for seven days.
            ("outbox.max_age_hours", self.outbox.max_age_hours, 6 * 24),
            ("outbox.confirm_seconds", self.outbox.confirm_seconds, 600),
            ("outbox.settle_seconds", self.outbox.settle_seconds, 3600),
            ("outbox.silence_seconds", self.outbox.silence_seconds, 3600),
            ("outbox.doubt_seconds", self.outbox.doubt_seconds, 86_400),
            ("files.timeout_seconds", self.files.timeout_seconds, 86_400),
        ];
        match seconds.into_iter().find(|(_, number, most)| !(1..=*most).contains(number)) {
            Some((name, _, most)) => Err(setting(name, format!("must be between 1 and {most}"))),
            None if self.webhooks.disable_after_hours > MOST_HOURS => {
                Err(setting("webhooks.disable_after_hours", format!("must be {MOST_HOURS} at most")))
            }
            None if self.webhooks.metric_labels > MOST_LABELS => {
                Err(setting("webhooks.metric_labels", format!("must be {MOST_LABELS} at most")))
            }
            None if self.session.second_look_seconds > 3600 => {
                Err(setting("session.second_look_seconds", "must be 3600 at most"))
            }
            None if self.upstream.rest_fallback_seconds > 3600 => {
                Err(setting("upstream.rest_fallback_seconds", "must be 3600 at most"))
            }
            None if self.shutdown.grace_seconds > 3600 => Err(setting("shutdown.grace_seconds", "must be 3600 at most")),
            None => Ok(()),
        }
    }
}

/// Whether Kubernetes made this variable for a Service that happens to be called `spaces-bridge`: those are no settings.
fn is_service_link(name: &str) -> bool {
    let is_port = |rest: &str| rest.is_empty() || rest.starts_with('_') && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    name == "SERVICE_HOST"
        || name == "SERVICE_PORT"
        || name.starts_with("SERVICE_PORT_")
        || name.strip_prefix("PORT").is_some_and(is_port)
}

/// Whether `text` is a name as in the DNS.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let characters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && characters && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })
}

fn read_secret(name: &str, secret: &mut Option<Secret>, file: Option<&Path>) -> Result<(), ConfigError> {
    let Some(file) = file else { return Ok(()) };
    if secret.is_some() {
        return Err(setting(name, format!("is given both directly and by `{name}_file`")));
    }
    let text = zeroize::Zeroizing::new(
        std::fs::read_to_string(file)
            .map_err(|error| setting(&format!("{name}_file"), format!("`{}` cannot be read: {error}", file.display())))?,
    );
    *secret = Some(Secret::new(text.trim()));
    Ok(())
}

fn address(name: &str, given: Option<&Url>, preset: &str, schemes: &[&str]) -> Result<Url, ConfigError> {
    let url = match given {
        Some(url) => url.clone(),
        None => Url::parse(preset).map_err(|_| setting(name, "is needed with `upstream.environment = \"custom\"`"))?,
    };
    if !schemes.contains(&url.scheme()) {
        return Err(setting(name, format!("must begin with one of {}", schemes.join("://, ") + "://")));
    }
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if plain { Ok(url) } else { Err(setting(name, "must have neither user, query nor fragment")) }
}

/// A path that leads through something that is no table.
struct NoTable;

/// Puts a text into the table, as the kind of value that its setting has.
fn put(table: &mut Table, path: &str, text: &str) -> Result<(), NoTable> {
    let (sections, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table = table;
    for section in sections.split('.').filter(|section| !section.is_empty()) {
        table = table.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut().ok_or(NoTable)?;
    }
    table.insert(name.to_owned(), value_of(name, text));
    Ok(())
}

/// Lists and numbers are told by the setting's name, so that a key of digits stays a text.
fn value_of(name: &str, text: &str) -> Value {
    if matches!(name, "allow_networks" | "token_directories") {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    }
    if name == "allow_commands"
        && let Ok(switch) = text.trim().parse()
    {
        return Value::Boolean(switch);
    }
    let numeric = [
        "_seconds",
        "_bytes",
        "_days",
        "_hours",
        "_labels",
        "_minute",
        "_second",
        "_sessions",
        "_requests",
        "_account",
        "_accounts",
        "concurrency",
        "_per_webhook",
        "_per_message",
    ];
    match text.trim().parse() {
        Ok(number) if numeric.iter().any(|ending| name.ends_with(ending)) => Value::Integer(number),
        _ => Value::String(text.to_owned()),
    }
}

fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(None, environment, &[])
    }

    fn problem(environment: &[(&str, &str)]) -> String {
        load(environment).expect_err("a problem").to_string()
    }

    #[test]
    fn no_setting_at_all_means_production_and_a_directory() {
        let config = load(&[]).expect("a configuration");
        assert_eq!(config.upstream_urls().expect("addresses").rest.as_str(), "https://spacesapis.avayacloud.com/");
        assert_eq!(config.store.path, Path::new("./data"));
        assert_eq!(config.http.listen.to_string(), "0.0.0.0:8080");
    }

    #[test]
    fn the_environment_overrides_and_flags_override_that() {
        let environment = [("SPACES_BRIDGE_HTTP__LISTEN".to_owned(), "127.0.0.1:1".to_owned())];
        let config = Config::load(None, environment, &[("http.listen", "127.0.0.1:2".to_owned())]).expect("a configuration");
        assert_eq!(config.http.listen.port(), 2);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (name, value, expected) in [
            ("SPACES_BRIDGE_HTTP__LISTN", "x", "http"),
            ("SPACES_BRIDGE_HTTP__LISTEN", "x", "http.listen"),
            ("SPACES_BRIDGE_NONSENSE", "x", "nonsense"),
            ("SPACES_BRIDGE_HTTP", "x", "http"),
            ("SPACES_BRIDGE_UPSTREAM__PROTOCOL", "eio5", "upstream.protocol"),
            ("SPACES_BRIDGE_UPSTREAM__ENVIRONMENT", "custom", "upstream.rest_url"),
            ("SPACES_BRIDGE_UPSTREAM__REST_URL", "ftp://x", "upstream.rest_url"),
            ("SPACES_BRIDGE_WEBHOOKS__ORIGIN", "https://a.example", "webhooks.origin"),
            ("SPACES_BRIDGE_WEBHOOKS__ORIGIN", "-a", "webhooks.origin"),
            ("SPACES_BRIDGE_STORE__BACKEND", "postgres", "store.backend"),
            ("SPACES_BRIDGE_SECURITY__ADMIN_KEY", "short", "security.admin_key"),
            ("SPACES_BRIDGE_SECURITY__MASTER_KEY", "c2hvcnQ=", "security.master_key"),
            ("SPACES_BRIDGE_SECURITY__MASTER_KEY_FILE", "/does/not/exist", "security.master_key_file"),
            ("SPACES_BRIDGE_WEBHOOKS__ALLOW_NETWORKS", "10.0.0.0/8,x", "webhooks.allow_networks"),
            ("SPACES_BRIDGE_WEBHOOKS__TIMEOUT_SECONDS", "0", "webhooks.timeout_seconds"),
            ("SPACES_BRIDGE_WEBHOOKS__CONCURRENCY", "many", "webhooks.concurrency"),
            ("SPACES_BRIDGE_WEBHOOKS__DISABLE_AFTER_HOURS", "9000", "webhooks.disable_after_hours"),
            ("SPACES_BRIDGE_WEBHOOKS__METRIC_LABELS", "10001", "webhooks.metric_labels"),
            ("SPACES_BRIDGE_UPSTREAM__ACCOUNTS_URL", "ftp://x", "upstream.accounts_url"),
            ("SPACES_BRIDGE_ACCOUNTS__ALLOW_COMMANDS", "sometimes", "accounts.allow_commands"),
            ("SPACES_BRIDGE_ACCOUNTS__TOKEN_DIRECTORIES", "/run,tokens", "accounts.token_directories"),
            ("SPACES_BRIDGE_ACCOUNTS__FILE_CHECK_SECONDS", "0", "accounts.file_check_seconds"),
            ("SPACES_BRIDGE_LOG__FILTER", "a=b=c", "log.filter"),
        ] {
            let problem = problem(&[(name, value)]);
            assert!(problem.contains(&format!("`{expected}")), "{name}={value}: {problem}");
            assert!(!problem.contains('\n'));
        }
    }

    #[test]
    fn lists_and_numbers_come_from_the_environment_too() {
        let config = load(&[
            ("SPACES_BRIDGE_WEBHOOKS__ALLOW_NETWORKS", "10.0.0.0/8, fd00::/8"),
            ("SPACES_BRIDGE_STORE__MAX_BYTES", "1000000"),
            ("SPACES_BRIDGE_SECURITY__ADMIN_KEY", "123456789012345678901234"),
            ("SPACES_BRIDGE_WEBHOOKS__CONCURRENCY_PER_WEBHOOK", "3"),
            ("SPACES_BRIDGE_ACCOUNTS__ALLOW_COMMANDS", "true"),
            ("SPACES_BRIDGE_ACCOUNTS__TOKEN_DIRECTORIES", "/run/a,/run/b"),
        ]);
        let config = config.expect("a configuration");
        assert!(config.accounts.allow_commands && config.accounts.token_directories.len() == 2);
        assert_eq!(config.webhooks.allow_networks.len(), 2);
        assert_eq!((config.store.max_bytes, config.webhooks.concurrency_per_webhook), (Some(1_000_000), 3));
        assert!(!format!("{config:?}").contains("1234567890"), "a secret is printed");
    }

    #[test]
    fn the_variables_that_kubernetes_makes_for_a_service_are_no_settings() {
        load(&[
            ("SPACES_BRIDGE_SERVICE_HOST", "10.0.0.1"),
            ("SPACES_BRIDGE_SERVICE_PORT", "8080"),
            ("SPACES_BRIDGE_SERVICE_PORT_HTTP", "8080"),
            ("SPACES_BRIDGE_PORT", "tcp://10.0.0.1:8080"),
            ("SPACES_BRIDGE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ])
        .expect("a configuration");
        assert!(problem(&[("SPACES_BRIDGE_HTTP_LISTEN", "x")]).contains("`http_listen`"));
    }

    #[test]
    fn the_variables_of_the_commands_are_no_settings() {
        load(&ENV_CLIENT.map(|name| (name, "x"))).expect("a configuration");
        assert!(problem(&[("SPACES_BRIDGE_TOKENS", "x")]).contains("`tokens`"));
    }

    #[test]
    fn a_secret_can_be_a_file_but_not_both() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "a-key-of-more-than-24-characters\n").expect("written");
        let path = file.path().to_str().expect("a path");
        let config = load(&[("SPACES_BRIDGE_SECURITY__ADMIN_KEY_FILE", path)]).expect("a configuration");
        assert_eq!(config.security.admin_key, Some(Secret::new("a-key-of-more-than-24-characters")));
        let both = problem(&[
            ("SPACES_BRIDGE_SECURITY__ADMIN_KEY_FILE", path),
            ("SPACES_BRIDGE_SECURITY__ADMIN_KEY", "a-key-of-more-than-24-characters"),
        ]);
        assert!(both.contains("security.admin_key"), "{both}");
    }

    #[test]
    fn a_misspelt_setting_of_the_file_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "[webhooks]\ntimeout = 3\n").expect("written");
        let error = Config::load(Some(file.path()), [], &[]).expect_err("a problem").to_string();
        assert!(error.contains("webhooks") && error.contains("timeout"), "{error}");
    }
}
