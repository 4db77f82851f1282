//! `webhooks`: who gets which events where.

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

use super::connection::{ConnectionArgs, random_key};
use super::outcome::{CommandError, Exit, plain, say};
use crate::client::{Answer, Body, Call, Client};

/// What to do with webhooks.
#[derive(Debug, Args)]
pub(super) struct WebhooksArgs {
    #[command(subcommand)]
    command: WebhooksCommand,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// List the account's webhooks.
    List,
    /// Register a webhook, and show its signing secret this once.
    Add(Addition),
    /// Show a webhook and how its endpoint is.
    Get(Named),
    /// Forget a webhook.
    Delete(Named),
    /// Send a webhook a `webhook.test` event.
    Test(Named),
    /// Deliver everything since a time once more.
    Replay(Replay),
    /// List the newest deliveries of a webhook.
    Deliveries(Deliveries),
}

#[derive(Debug, Args)]
struct Named {
    /// The webhook, `wh_…`.
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Args)]
struct Addition {
    /// Where deliveries go.
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// An event type it wants, such as message.created or message.*; may be given several times.
    #[arg(long = "event", value_name = "TYPE")]
    events: Vec<String>,
    /// A space it wants: an id, `*` for all group spaces, `direct` for all direct ones; may be given several times.
    #[arg(long = "space", value_name = "ID")]
    spaces: Vec<String>,
    /// How deliveries follow each other.
    #[arg(long)]
    ordering: Option<Ordering>,
    /// The format of their bodies.
    #[arg(long)]
    format: Option<Format>,
    /// Leave out what this account sends through the bridge.
    #[arg(long)]
    ignore_own: bool,
    /// A note.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// What makes this webhook the same one when the command is run again; random if not given.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ordering {
    Parallel,
    Space,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Standard,
    Cloudevents,
    Raw,
}

#[derive(Debug, Args)]
struct Replay {
    #[command(flatten)]
    webhook: Named,
    /// Events that were stored at this time (RFC 3339) or later.
    #[arg(long, value_name = "TIME")]
    since: String,
    /// Events that were stored before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only count them.
    #[arg(long)]
    dry_run: bool,
    /// Most deliveries a second.
    #[arg(long, value_name = "NUMBER")]
    rate: Option<u32>,
}

#[derive(Debug, Args)]
struct Deliveries {
    #[command(flatten)]
    webhook: Named,
    /// Most of them, 200 at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Only those in this state: waiting, `in_flight`, delivered or dead.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
}

/// Does what is asked of webhooks.
pub(super) fn run(arguments: &WebhooksArgs) -> Result<Exit, CommandError> {
    let as_json = arguments.connection.json();
    arguments.connection.run(async |client| {
        match &arguments.command {
            WebhooksCommand::List => list(client, as_json).await?,
            WebhooksCommand::Add(addition) => add(client, addition, as_json).await?,
            WebhooksCommand::Get(Named { id }) => {
                let answer = client.call(&Call::new(Method::GET, &["webhooks", id])).await?;
                show(&answer.body, as_json, describe)?;
            }
            WebhooksCommand::Delete(Named { id }) => {
                client.call(&Call::new(Method::DELETE, &["webhooks", id])).await?;
                show(&json!({ "id": id, "deleted": true }), as_json, |_| format!("{id} is forgotten"))?;
            }
            WebhooksCommand::Test(Named { id }) => {
                let answer = act(client, &["webhooks", id, "test"], Body::Empty, &random_key()).await?;
                show(&answer.body, as_json, |told| format!("the event {} is on its way to {id}", text(&told["eventId"])))?;
            }
            WebhooksCommand::Replay(asked) => replay(client, asked, as_json).await?,
            WebhooksCommand::Deliveries(asked) => deliveries(client, asked, as_json).await?,
        }
        Ok(Exit::Done)
    })
}

async fn list(client: &Client, as_json: bool) -> Result<(), CommandError> {
    let mut cursor = None;
    loop {
        let query = [("limit", "200".to_owned())].into_iter().chain(cursor.map(|cursor| ("cursor", cursor))).collect();
        let page = client.call(&Call { query, ..Call::new(Method::GET, &["webhooks"]) }).await?.body;
        for webhook in page["data"].as_array().ok_or(CommandError::Odd("data"))? {
            show(webhook, as_json, |webhook| {
                let events = webhook["events"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(",");
                format!("{}  {}  {}  {events}", text(&webhook["id"]), text(&webhook["status"]), text(&webhook["url"]))
            })?;
        }
        let Some(next) = page["nextCursor"].as_str() else { return Ok(()) };
        cursor = Some(next.to_owned());
    }
}

async fn add(client: &Client, addition: &Addition, as_json: bool) -> Result<(), CommandError> {
    let key = addition.idempotency_key.clone().unwrap_or_else(random_key);
    let answer = act(client, &["webhooks"], Body::Json(addition.body()), &key).await?;
    show(&answer.body, as_json, |webhook| format!("{} is registered", text(&webhook["id"])))?;
    match answer.body["secret"].as_str().filter(|_| !as_json) {
        Some(secret) => say(&plain(&format!("secret: {secret}"))),
        None => Ok(()),
    }
}

impl Addition {
    fn body(&self) -> Value {
        let mut body = Map::from_iter([("url".to_owned(), self.address.clone().into())]);
        let ordering = self.ordering.map(|ordering| match ordering {
            Ordering::Parallel => "parallel",
            Ordering::Space => "space",
        });
        let format = self.format.map(|format| match format {
            Format::Standard => "standard",
            Format::Cloudevents => "cloudevents",
            Format::Raw => "raw",
        });
        let texts = [("ordering", ordering), ("format", format), ("description", self.description.as_deref())];
        body.extend(texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        let lists = [("events", &self.events), ("spaces", &self.spaces)];
        let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
        body.extend(given.map(|(name, list)| (name.to_owned(), list.clone().into())));
        if self.ignore_own {
            body.insert("ignoreOwn".to_owned(), true.into());
        }
        Value::Object(body)
    }
}

/// Replays to the end, however many calls that takes.
async fn replay(client: &Client, asked: &Replay, as_json: bool) -> Result<(), CommandError> {
    let mut body = json!({ "since": asked.since, "dryRun": asked.dry_run });
    if let Some(until) = &asked.until {
        body["until"] = until.as_str().into();
    }
    if let Some(rate) = asked.rate {
        body["rate"] = rate.into();
    }
    let mut count = 0;
    let last = loop {
        let path = ["webhooks", &asked.webhook.id, "replay"];
        let answer = act(client, &path, Body::Json(body.clone()), &random_key()).await?.body;
        count += answer["count"].as_u64().ok_or(CommandError::Odd("count"))?;
        match answer["nextCursor"].as_str() {
            Some(next) => body["cursor"] = next.into(),
            None => break answer,
        }
    };
    let told = json!({ "count": count, "dryRun": asked.dry_run, "replayableSince": last["replayableSince"] });
    let deliveries = if count == 1 { "delivery" } else { "deliveries" };
    show(&told, as_json, |_| {
        if asked.dry_run { format!("{count} {deliveries} would be made") } else { format!("{count} {deliveries} due") }
    })
}

async fn deliveries(client: &Client, asked: &Deliveries, as_json: bool) -> Result<(), CommandError> {
    let mut query = vec![("limit", asked.limit.to_string())];
    query.extend(asked.state.clone().map(|state| ("state", state)));
    let page = client.call(&Call { query, ..Call::new(Method::GET, &["webhooks", &asked.webhook.id, "deliveries"]) }).await?.body;
    for delivery in page["data"].as_array().ok_or(CommandError::Odd("data"))? {
        show(delivery, as_json, |delivery| {
            let parts = ["createdAt", "id", "state", "eventId", "eventType"].map(|name| text(&delivery[name]));
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
        })?;
    }
    Ok(())
}

/// A call that acts, and does so once.
async fn act(client: &Client, path: &[&str], body: Body, key: &str) -> Result<Answer, CommandError> {
    Ok(client.call(&Call { body, key: Some(key), ..Call::new(Method::POST, path) }).await?)
}

fn show(value: &Value, as_json: bool, in_words: impl FnOnce(&Value) -> String) -> Result<(), CommandError> {
    if as_json { say(&value.to_string()) } else { say(&plain(&in_words(value))) }
}

/// The fields of a webhook that say something.
fn describe(webhook: &Value) -> String {
    let fields = webhook.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let shown = |(name, value): (&String, &Value)| match name.as_str() {
        "health" => format!("{name}={}", text(&value["state"])),
        _ => format!("{name}={}", text(value)),
    };
    fields.map(shown).collect::<Vec<_>>().join("  ")
}

/// A value in words: a text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
