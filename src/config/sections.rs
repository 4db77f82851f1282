//! The settings by section, and their defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use crate::domain::Secret;
use crate::telemetry::LogConfig;

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
    /// Accounts whose tokens the bridge gets by itself.
    pub accounts: AccountsConfig,
    /// Keys.
    pub security: SecurityConfig,
    /// The log.
    pub log: LogConfig,
    /// Shutting down.
    pub shutdown: ShutdownConfig,
    /// The outbox.
    pub outbox: OutboxConfig,
    /// Files.
    pub files: FilesConfig,
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
    /// Most event streams and long polls of an account at a time.
    pub max_listeners_per_account: usize,
    /// How long a caller may take nothing of its answer, in seconds.
    pub write_timeout_seconds: u64,
    /// How long a call with an idempotency key is remembered, in hours.
    pub idempotency_hours: u64,
    /// The address under which callers reach the API.
    pub public_url: Option<Url>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            internal_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            max_body_bytes: 1 << 20,
            request_timeout_seconds: 30,
            max_requests: 10_000,
            max_listeners_per_account: 10,
            write_timeout_seconds: 30,
            idempotency_hours: 24,
            public_url: None,
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
    /// Most Socket.IO events of a user per minute, if that is to be less than Spaces allows.
    pub emits_per_minute: Option<u32>,
    /// Largest Socket.IO event in bytes, if that is to be less than Spaces takes.
    pub max_event_bytes: Option<usize>,
    /// How long a session may be away before messages that REST can carry go over it, in seconds; 0 for ever.
    pub rest_fallback_seconds: u64,
    /// The `accept-version` of REST calls; not sent if not set. Avaya's newer examples have `1.2`.
    pub accept_version: Option<String>,
    /// The scheme word of REST calls with tokens of service applications.
    pub service_app_scheme: String,
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
            emits_per_minute: None,
            max_event_bytes: None,
            rest_fallback_seconds: 5,
            accept_version: None,
            service_app_scheme: "service_app".to_owned(),
        }
    }
}

/// What becomes of messages of unknown categories, of which Avaya gives no full list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownCategories {
    /// They are events of the type `message.other`.
    Forward,
    /// They are left out.
    Drop,
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
    /// How long a session waits to try again when Spaces lets its user have no further connection, unless Spaces says how long.
    pub limit_retry_seconds: u64,
    /// After how long without a word from Spaces a session is asked for a sign of life, in seconds; 0 for never.
    pub probe_seconds: u64,
    /// How often what a session heard is compared with the history of one of its spaces, in seconds; 0 for never.
    pub compare_seconds: u64,
    /// So many seconds before the last known event the history is read again after a gap.
    pub recovery_overlap_seconds: u64,
    /// How far back the history is read at most, in hours.
    pub recovery_limit_hours: u64,
    /// How long live events wait at most for the history before them, in seconds.
    pub recovery_hold_seconds: u64,
    /// How long the history may fail until that is told as a gap, in seconds.
    pub gap_after_seconds: u64,
    /// The longest wait between two attempts to connect, or to read a history, in seconds.
    pub longest_wait_seconds: u64,
    /// How long after a gap was closed the end of its history is read again, in seconds; 0 for not at all.
    pub second_look_seconds: u64,
    /// What becomes of messages whose category the service does not know.
    pub unknown_categories: UnknownCategories,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            idle_timeout_seconds: 600,
            refusal_seconds: 60,
            connects_per_second: 50,
            max_sessions: 20_000,
            limit_retry_seconds: 300,
            probe_seconds: 300,
            compare_seconds: 600,
            recovery_overlap_seconds: 120,
            recovery_limit_hours: 168,
            recovery_hold_seconds: 60,
            gap_after_seconds: 600,
            longest_wait_seconds: 60,
            second_look_seconds: 60,
            unknown_categories: UnknownCategories::Forward,
        }
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
    /// Bytes of the store beyond which the oldest events go before their time; unlimited if not set.
    pub retention_bytes: Option<u64>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            backend: Backend::Embedded,
            path: PathBuf::from("./data"),
            max_bytes: None,
            retention_days: 30,
            retention_bytes: None,
        }
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
    /// Hours of nothing but failures after which a webhook is switched off; 0 for never.
    pub disable_after_hours: u64,
    /// Webhooks with a label of their own in metrics; all others share one.
    pub metric_labels: usize,
    /// Most answers of receivers that are posted per space and minute.
    pub replies_per_minute: usize,
    /// What this service calls itself towards receivers of `CloudEvents`: a host name.
    pub origin: String,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            allow_networks: Vec::new(),
            timeout_seconds: 30,
            concurrency: 256,
            concurrency_per_webhook: 16,
            max_per_account: 100,
            disable_after_hours: 120,
            metric_labels: 100,
            replies_per_minute: 20,
            origin: "spaces-bridge".to_owned(),
        }
    }
}

/// Settings of managed accounts.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsConfig {
    /// Whether the operator may give commands of this machine as credentials.
    pub allow_commands: bool,
    /// The directories below which credentials may be files.
    pub token_directories: Vec<PathBuf>,
    /// How often such files are looked at for another token, in seconds.
    pub file_check_seconds: u64,
    /// Most accounts.
    pub max_accounts: usize,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self { allow_commands: false, token_directories: Vec::new(), file_check_seconds: 5, max_accounts: 10_000 }
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

/// Settings of the outbox.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxConfig {
    /// Most messages of an account that wait.
    pub max_per_account: usize,
    /// How long a message is tried while nothing of it has left, in hours.
    pub max_age_hours: u64,
    /// How long one try waits for the confirmation, in seconds.
    pub confirm_seconds: u64,
    /// How long after the end of its connection a message may still appear in Spaces, in seconds.
    pub settle_seconds: u64,
    /// How long a connection that is still there may keep a message from Spaces, in seconds.
    pub silence_seconds: u64,
    /// How long a message in doubt is looked for, in seconds.
    pub doubt_seconds: u64,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            max_per_account: 1_000,
            max_age_hours: 24,
            confirm_seconds: 20,
            settle_seconds: 10,
            silence_seconds: 90,
            doubt_seconds: 600,
        }
    }
}

/// Settings of files that callers send and get.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesConfig {
    /// Most files of one message.
    pub max_per_message: usize,
    /// Files of one message that are uploaded at a time.
    pub concurrency_per_message: usize,
    /// Most calls that send or get files at a time.
    pub concurrency: usize,
    /// Most time for a call that sends files, in seconds.
    pub timeout_seconds: u64,
    /// Where files wait until they are in Spaces; below the store's directory if not set.
    pub path: Option<PathBuf>,
    /// Most bytes of the files that wait there.
    pub max_waiting_bytes: u64,
}

impl Default for FilesConfig {
    fn default() -> Self {
        Self {
            max_per_message: 10,
            concurrency_per_message: 3,
            concurrency: 32,
            timeout_seconds: 3_600,
            path: None,
            max_waiting_bytes: 4 << 30,
        }
    }
}
