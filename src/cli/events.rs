//! `events`: a page of the event log, or everything from now on, also over cuts and restarts of the bridge.

use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::NAME;
use super::connection::ConnectionArgs;
use super::outcome::{CommandError, Exit, plain, say};
use crate::client::{Call, Client, ClientError, EventStream};

/// The first pause before a stream is opened again; each one after it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Which events to show.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Go on with what happens, until interrupted; begins now if neither --since nor --cursor says otherwise.
    #[arg(long, short)]
    follow: bool,
    /// Begin at this time (RFC 3339), or `now`; with the oldest if not said.
    #[arg(long, value_name = "TIME", conflicts_with = "cursor")]
    since: Option<String>,
    /// Begin after this place, as an earlier page told it.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Only this type, such as message.created or message.*; may be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only of this space.
    #[arg(long, value_name = "ID")]
    space: Option<String>,
    /// Leave out what this account sent through the bridge.
    #[arg(long)]
    ignore_own: bool,
    /// Most events of a page, 200 at most.
    #[arg(long, value_name = "NUMBER", conflicts_with = "follow", value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: Option<u32>,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}

/// Shows events.
pub(super) fn run(arguments: &EventsArgs) -> Result<Exit, CommandError> {
    arguments.connection.run(async |client| {
        if arguments.follow { Follower::new(arguments).follow(client).await } else { show_page(arguments, client).await }
    })
}

impl EventsArgs {
    /// What is asked for, but for the place to begin at.
    fn selection(&self) -> Vec<(&'static str, String)> {
        let types = (!self.types.is_empty()).then(|| ("type", self.types.join(",")));
        let space = self.space.clone().map(|space| ("space", space));
        let ignore_own = self.ignore_own.then(|| ("ignoreOwn", "true".to_owned()));
        types.into_iter().chain(space).chain(ignore_own).collect()
    }

    fn show(&self, event: &Value, text: &str) -> Result<(), CommandError> {
        if self.connection.json() { say(text) } else { say(&plain(&in_words(event))) }
    }
}

async fn show_page(arguments: &EventsArgs, client: &Client) -> Result<Exit, CommandError> {
    let mut query = arguments.selection();
    query.extend(arguments.since.clone().map(|since| ("since", since)));
    query.extend(arguments.cursor.clone().map(|cursor| ("cursor", cursor)));
    query.extend(arguments.limit.map(|limit| ("limit", limit.to_string())));
    let answer = client.call(&Call { query, ..Call::new(Method::GET, &["events"]) }).await?;
    for event in answer.body["data"].as_array().ok_or(CommandError::Odd("data"))? {
        arguments.show(event, &event.to_string())?;
    }
    let (next, more) = (&answer.body["nextCursor"], answer.body["hasMore"] == true);
    if arguments.connection.json() {
        eprintln!("{}", serde_json::json!({ "nextCursor": next, "hasMore": more }));
    } else if let Some(next) = next.as_str() {
        let rest = if more { "There is more" } else { "That is all for now" };
        eprintln!("{rest}; go on with --cursor {}", plain(next));
    }
    Ok(Exit::Done)
}

/// Follows the log: remembers how far it has come, and goes on there when the stream ends.
struct Follower<'a> {
    arguments: &'a EventsArgs,
    /// The id of the last event that was shown.
    last: Option<String>,
    pause: Duration,
}

impl<'a> Follower<'a> {
    fn new(arguments: &'a EventsArgs) -> Self {
        Self { arguments, last: arguments.cursor.clone(), pause: FIRST_PAUSE }
    }

    async fn follow(&mut self, client: &Client) -> Result<Exit, CommandError> {
        let begins_now = matches!(self.arguments.since.as_deref(), Some("now") | None);
        if self.last.is_none() && begins_now {
            // A place to come back to, also if the first stream ends before its first event.
            let query = vec![("since", "now".to_owned()), ("limit", "1".to_owned())];
            let answer = client.call(&Call { query, ..Call::new(Method::GET, &["events"]) }).await?;
            self.last = Some(answer.body["nextCursor"].as_str().ok_or(CommandError::Odd("nextCursor"))?.to_owned());
        } else {
            // The first call of all: it fails as others do if the bridge cannot be reached.
            client.call(&Call { query: vec![("limit", "1".to_owned())], ..Call::new(Method::GET, &["events"]) }).await?;
        }
        loop {
            match self.open(client).await {
                Ok(mut stream) => self.copy(&mut stream).await?,
                Err(error) if is_final(&error) => return Err(error.into()),
                Err(error) => self.note(&error),
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open(&self, client: &Client) -> Result<EventStream, ClientError> {
        let mut query = self.arguments.selection();
        if self.last.is_none() {
            query.extend(self.arguments.since.clone().map(|since| ("since", since)));
        }
        client.events(&query, self.last.as_deref()).await
    }

    /// Shows what the stream has until it ends.
    async fn copy(&mut self, stream: &mut EventStream) -> Result<(), CommandError> {
        loop {
            let event = match stream.next().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.note(&error);
                    return Ok(());
                }
            };
            let read: Value = serde_json::from_str(&event.data).map_err(|_| CommandError::Odd("event in its stream"))?;
            self.arguments.show(&read, &read.to_string())?;
            self.last = Some(event.id);
            self.pause = FIRST_PAUSE;
        }
    }

    fn note(&self, error: &ClientError) {
        if !self.arguments.connection.json() {
            eprintln!("{NAME}: the stream broke off ({}); going on where it was", plain(&error.in_words()));
        }
    }
}

/// Whether there is no use in asking again.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::Problem(problem) => problem.status() < 500 && !matches!(problem.status(), 408 | 429),
        ClientError::NoBridge { status } => *status < 500,
        ClientError::Unreachable(_) | ClientError::Broken(_) | ClientError::Silent => false,
        ClientError::Address(_)
        | ClientError::Token(_)
        | ClientError::Tls(_)
        | ClientError::NoStream
        | ClientError::File { .. }
        | ClientError::InDoubt(_) => true,
    }
}

/// An event in a line: when, what, where, who and what was said.
fn in_words(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (data, message) = (&event["data"], &event["data"]["message"]);
    let parts = [text(&event["timestamp"]), text(&event["type"]), text(&data["spaceId"])];
    let head = parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("  ");
    let sender = message["sender"]["name"].as_str().or(message["sender"]["id"].as_str());
    match (sender, message["text"].as_str()) {
        (Some(sender), Some(words)) => format!("{head}  {sender}: {words}"),
        (None, Some(words)) => format!("{head}  {words}"),
        (_, None) => head,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let message = json!({"sender": {"id": "u1", "name": "Ana"}, "text": "it is down"});
        let event = json!({"type": "message.created", "timestamp": "T", "data": {"spaceId": "s1", "message": message}});
        assert_eq!(in_words(&event), "T  message.created  s1  Ana: it is down");
        assert_eq!(in_words(&json!({"type": "session.connected", "timestamp": "T", "data": {}})), "T  session.connected");
    }
}
