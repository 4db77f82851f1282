//! The sum of all settings: defaults, then a TOML file, then `SPACES_BRIDGE_*` in the environment, then flags.
//!
//! A setting that is unknown, misspelt or makes no sense stops the start with its name. Secrets can be given as files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use toml::{Table, Value};
use url::Url;

use crate::domain::Secret;

/// What every environment variable of the service begins with.
pub const ENV_PREFIX: &str = "SPACES_BRIDGE_";

/// The environment variable that names the configuration file.
pub const ENV_CONFIG_FILE: &str = "SPACES_BRIDGE_CONFIG";

/// Fewest characters of the admin key.
const MIN_ADMIN_KEY: usize = 24;

/// All settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP listeners.
    pub http: HttpConfig,
    /// Avaya Spaces.
    pub upstream: UpstreamConfig,
    /// Sessions.
    pub session: SessionConfig,
    /// The store.
    pub store: StoreConfig,
    /// Webhooks and their delivery.
    pub webhooks: WebhooksConfig,
    /// Keys.
    pub security: SecurityConfig,
    /// The log.
    pub log: LogConfig,
    /// Shutting down.
    pub shutdown: ShutdownConfig,
}

/// Settings of the HTTP listeners.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where health, metrics and the operator's views listen.
    pub internal_listen: SocketAddr,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Most time for a request beyond what it asked to wait for, in seconds.
    pub request_timeout_seconds: u64,
    /// Most requests at a time.
    pub max_requests: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            internal_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            max_body_bytes: 1 << 20,
            request_timeout_seconds: 30,
            max_requests: 10_000,
        }
    }
}

/// Which Spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// `avayacloud.com`.
    Production,
    /// Avaya's staging system.
    Staging,
    /// The hosts that the other settings name.
    Custom,
}

/// Which Engine.IO version the upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Engine.IO 3, Socket.IO 2: what Spaces documents.
    Eio3,
    /// Engine.IO 4, Socket.IO 3 and newer.
    Eio4,
}

/// Settings of the upstream.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Which Spaces.
    pub environment: Environment,
    /// The REST API's address; the environment's if not set.
    pub rest_url: Option<Url>,
    /// The socket server's address; the environment's if not set.
    pub socket_url: Option<Url>,
    /// The accounts server's address; the environment's if not set.
    pub accounts_url: Option<Url>,
    /// The Engine.IO version.
    pub protocol: Protocol,
    /// The Socket.IO namespace.
    pub namespace: String,
    /// The socket's `tokenType` for tokens of service applications, which Avaya does not document.
    pub service_app_token_type: String,
    /// Most time for a call of the REST API, in seconds.
    pub rest_timeout_seconds: u64,
    /// Most time to open a connection and join the namespace, in seconds.
    pub connect_timeout_seconds: u64,
    /// Socket.IO events that a session may emit per minute.
    pub emits_per_minute: u32,
    /// Largest Socket.IO event that Spaces takes, in bytes.
    pub max_event_bytes: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            environment: Environment::Production,
            rest_url: None,
            socket_url: None,
            accounts_url: None,
            protocol: Protocol::Eio3,
            namespace: "/chat".to_owned(),
            service_app_token_type: "jwt".to_owned(),
            rest_timeout_seconds: 10,
            connect_timeout_seconds: 10,
            emits_per_minute: 200,
            max_event_bytes: 16 << 10,
        }
    }
}

/// The addresses of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrls {
    /// The REST API.
    pub rest: Url,
    /// The socket server.
    pub socket: Url,
}

/// Settings of sessions.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// How long a session that no webhook or subscription needs lives after its last use, in seconds.
    pub idle_timeout_seconds: u64,
    /// How long a refused token is answered for without asking Spaces again, in seconds.
    pub refusal_seconds: u64,
    /// Connection attempts per second, over all sessions.
    pub connects_per_second: u32,
    /// Most sessions at a time.
    pub max_sessions: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { idle_timeout_seconds: 600, refusal_seconds: 60, connects_per_second: 50, max_sessions: 20_000 }
    }
}

/// Where the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// In a directory of this machine.
    Embedded,
}

/// Settings of the store.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The back end.
    pub backend: Backend,
    /// The directory of the embedded store.
    pub path: PathBuf,
    /// Most bytes of the embedded store; unlimited if not set.
    pub max_bytes: Option<u64>,
    /// Days that events and their settled deliveries are kept.
    pub retention_days: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { backend: Backend::Embedded, path: PathBuf::from("./data"), max_bytes: None, retention_days: 30 }
    }
}

/// Settings of webhooks and their delivery.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Networks that webhooks may point to although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// Most time for one attempt, in seconds.
    pub timeout_seconds: u64,
    /// Most attempts at a time, over all webhooks.
    pub concurrency: usize,
    /// Most attempts at a time per webhook.
    pub concurrency_per_webhook: usize,
    /// Most webhooks of an account.
    pub max_per_account: usize,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            allow_networks: Vec::new(),
            timeout_seconds: 30,
            concurrency: 256,
            concurrency_per_webhook: 16,
            max_per_account: 100,
        }
    }
}

/// Keys.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfig {
    /// The key that seals secrets at rest: 32 bytes in base64. Generated beside the data if not set.
    pub master_key: Option<Secret>,
    /// A file that holds the master key.
    pub master_key_file: Option<PathBuf>,
    /// The operator's key: 24 characters or more. Without one there is no operator.
    pub admin_key: Option<Secret>,
    /// A file that holds the admin key.
    pub admin_key_file: Option<PathBuf>,
}

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

/// Settings of shutting down.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long requests, sends and attempts under way may take to finish, in seconds.
    pub grace_seconds: u64,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { grace_seconds: 20 }
    }
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
            let own = name.strip_prefix(ENV_PREFIX).filter(|rest| name != ENV_CONFIG_FILE && !is_service_link(rest));
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
        let (rest, socket) = match upstream.environment {
            Environment::Production => ("https://spacesapis.avayacloud.com", "https://spacesapis-socket.avayacloud.com"),
            Environment::Staging => ("https://loganstagingapis.esna.com", "https://loganstagingapis-socket.esna.com"),
            Environment::Custom => ("", ""),
        };
        Ok(UpstreamUrls {
            rest: address("upstream.rest_url", upstream.rest_url.as_ref(), rest, &["http", "https"])?,
            socket: address("upstream.socket_url", upstream.socket_url.as_ref(), socket, &["http", "https", "ws", "wss"])?,
        })
    }

    fn read_secrets(&mut self) -> Result<(), ConfigError> {
        let security = &mut self.security;
        read_secret("security.master_key", &mut security.master_key, security.master_key_file.as_deref())?;
        read_secret("security.admin_key", &mut security.admin_key, security.admin_key_file.as_deref())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.upstream_urls()?;
        if let Some(url) = &self.upstream.accounts_url {
            address("upstream.accounts_url", Some(url), "", &["http", "https"])?;
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
        self.check_numbers()?;
        crate::telemetry::check_filter(&self.log.filter).map_err(|error| setting("log.filter", error))
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("http.max_body_bytes", self.http.max_body_bytes),
            ("http.max_requests", self.http.max_requests),
            ("upstream.max_event_bytes", self.upstream.max_event_bytes),
            ("upstream.emits_per_minute", self.upstream.emits_per_minute as usize),
            ("session.connects_per_second", self.session.connects_per_second as usize),
            ("session.max_sessions", self.session.max_sessions),
            ("webhooks.concurrency", self.webhooks.concurrency),
            ("webhooks.concurrency_per_webhook", self.webhooks.concurrency_per_webhook),
            ("webhooks.max_per_account", self.webhooks.max_per_account),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, number)| *number == 0) {
            return Err(setting(name, "must be 1 or more"));
        }
        let seconds = [
            ("http.request_timeout_seconds", self.http.request_timeout_seconds, 3600),
            ("upstream.rest_timeout_seconds", self.upstream.rest_timeout_seconds, 600),
            ("upstream.connect_timeout_seconds", self.upstream.connect_timeout_seconds, 600),
            ("session.idle_timeout_seconds", self.session.idle_timeout_seconds, 30 * 86_400),
            ("session.refusal_seconds", self.session.refusal_seconds, 86_400),
            ("webhooks.timeout_seconds", self.webhooks.timeout_seconds, 60),
            ("store.retention_days", self.store.retention_days, 36_500),
        ];
        match seconds.into_iter().find(|(_, number, most)| !(1..=*most).contains(number)) {
            Some((name, _, most)) => Err(setting(name, format!("must be between 1 and {most}"))),
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
    if name == "allow_networks" {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    }
    let numeric = [
        "_seconds",
        "_bytes",
        "_days",
        "_minute",
        "_second",
        "_sessions",
        "_requests",
        "_account",
        "concurrency",
        "_per_webhook",
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
            ("SPACES_BRIDGE_STORE__BACKEND", "postgres", "store.backend"),
            ("SPACES_BRIDGE_SECURITY__ADMIN_KEY", "short", "security.admin_key"),
            ("SPACES_BRIDGE_SECURITY__MASTER_KEY", "c2hvcnQ=", "security.master_key"),
            ("SPACES_BRIDGE_SECURITY__MASTER_KEY_FILE", "/does/not/exist", "security.master_key_file"),
            ("SPACES_BRIDGE_WEBHOOKS__ALLOW_NETWORKS", "10.0.0.0/8,x", "webhooks.allow_networks"),
            ("SPACES_BRIDGE_WEBHOOKS__TIMEOUT_SECONDS", "0", "webhooks.timeout_seconds"),
            ("SPACES_BRIDGE_WEBHOOKS__CONCURRENCY", "many", "webhooks.concurrency"),
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
        ]);
        let config = config.expect("a configuration");
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
