//! `send`: a message through the bridge, once however often the command tries. `message`: what became of one.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use http::Method;
use serde_json::{Map, Value};

use super::connection::{ConnectionArgs, random_key};
use super::outcome::{CommandError, Exit, plain, say};
use super::progress;
use crate::client::{Answer, Body, Call, Form, Upload};

/// Most bytes that are read from standard input; far more than any message has.
const MAX_INPUT: u64 = 16 << 20;

/// How much longer than asked to wait the bridge may take before it counts as silent.
const MARGIN: Duration = Duration::from_secs(35);

/// What to send, and where.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(group = ArgGroup::new("target").required(true))]
pub(super) struct SendArgs {
    /// What to say; `-`, or nothing where standard input is no terminal, reads it from there.
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Into this space.
    #[arg(long, value_name = "ID", group = "target")]
    space: Option<String>,
    /// To this user, in the direct space.
    #[arg(long, value_name = "ID", group = "target")]
    user: Option<String>,
    /// To the user with this e-mail address, in the direct space.
    #[arg(long, value_name = "ADDRESS", group = "target")]
    email: Option<String>,
    /// The text is Markdown.
    #[arg(long, conflicts_with = "html")]
    markdown: bool,
    /// The text is HTML; what Spaces does not show is removed.
    #[arg(long)]
    html: bool,
    /// What it is; a chat message if not said.
    #[arg(long, value_name = "CATEGORY")]
    category: Option<Category>,
    /// The title of a post or task; the text describes it.
    #[arg(long, value_name = "TITLE")]
    title: Option<String>,
    /// Who is to do the task: a user's id or e-mail address; may be given several times.
    #[arg(long = "assignee", value_name = "ID")]
    assignees: Vec<String>,
    /// Until when the task is to be done (RFC 3339).
    #[arg(long, value_name = "TIME")]
    due: Option<String>,
    /// Comment on this post or task.
    #[arg(long, value_name = "ID")]
    reply_to: Option<String>,
    /// Send several messages, in order, if the text is too long for one.
    #[arg(long)]
    split: bool,
    /// Send this file too; may be given several times.
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// How long to wait until Spaces has confirmed it, 60 at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=60))]
    wait: u32,
    /// Do not wait: it is done when the bridge has the message on its disk.
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// What makes this message the same one when the command is run again; random if not given.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}

/// What a message can be.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Category {
    Chat,
    Post,
    Task,
}

/// Which message to tell of.
#[derive(Debug, Args)]
pub(super) struct MessageArgs {
    /// Its reference, `ref_…`.
    #[arg(value_name = "REF")]
    reference: String,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}

/// Sends a message.
pub(super) fn run(arguments: &SendArgs) -> Result<Exit, CommandError> {
    let message = arguments.message()?;
    let files = arguments.files.iter().map(|path| Upload::new(path)).collect::<Result<Vec<_>, _>>()?;
    let key = arguments.idempotency_key.clone().unwrap_or_else(random_key);
    let body = if files.is_empty() { Body::Json(message) } else { Body::Form(Form::new(&key, &message, files)) };
    let wait = Duration::from_secs(if arguments.no_wait { 0 } else { arguments.wait.into() });
    let call = Call {
        body,
        key: Some(&key),
        prefer: Some(if arguments.no_wait { "respond-async".to_owned() } else { format!("wait={}", wait.as_secs()) }),
        longest: wait + MARGIN,
        ..Call::new(Method::POST, &arguments.path())
    };
    arguments.connection.run(async |client| {
        let answer = match &call.body {
            Body::Form(form) => progress::shown(form.progress(), client.call(&call)).await,
            Body::Json(_) | Body::Empty => client.call(&call).await,
        };
        let answer = answer.inspect_err(|error| {
            if error.leaves_doubt() && !arguments.connection.json() {
                eprintln!("The message may have been sent. The same command with --idempotency-key {key} sends it once.");
            }
        })?;
        show_answer(&answer, arguments.connection.json(), arguments.no_wait)
    })
}

/// Tells what became of a message.
pub(super) fn show(arguments: &MessageArgs) -> Result<Exit, CommandError> {
    arguments.connection.run(async |client| {
        let answer = client.call(&Call::new(Method::GET, &["messages", &arguments.reference])).await?;
        show_answer(&answer, arguments.connection.json(), false)
    })
}

impl SendArgs {
    fn path(&self) -> Vec<&str> {
        match (&self.space, &self.user, &self.email) {
            (Some(space), _, _) => vec!["spaces", space, "messages"],
            (None, Some(user), _) => vec!["direct", "user", user],
            (None, None, Some(address)) => vec!["direct", "email", address],
            (None, None, None) => unreachable!("the command line asks for one of them"),
        }
    }

    /// The body as the API takes it.
    fn message(&self) -> Result<Value, CommandError> {
        let mut message = Map::new();
        let form = if self.markdown {
            "markdown"
        } else if self.html {
            "html"
        } else {
            "text"
        };
        if let Some(text) = self.words()? {
            message.insert(form.to_owned(), text.into());
        }
        let category = self.category.map(|category| match category {
            Category::Chat => "chat",
            Category::Post => "post",
            Category::Task => "task",
        });
        let (title, due, reply_to) = (self.title.as_deref(), self.due.as_deref(), self.reply_to.as_deref());
        let others = [("category", category), ("title", title), ("dueDate", due), ("replyTo", reply_to)];
        message.extend(others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        if !self.assignees.is_empty() {
            message.insert("assignees".to_owned(), self.assignees.clone().into());
        }
        if self.split {
            message.insert("split".to_owned(), true.into());
        }
        Ok(Value::Object(message))
    }

    /// The text, wherever it comes from; none if files or a title say it all.
    fn words(&self) -> Result<Option<String>, CommandError> {
        match self.text.as_deref() {
            Some("-") => read_input().map(Some),
            Some(text) => Ok(Some(text.to_owned())),
            None if !self.files.is_empty() || self.title.is_some() => Ok(None),
            None if std::io::stdin().is_terminal() => {
                Err(CommandError::Usage("there is nothing to say: give a text, `-` to read it, or --file".to_owned()))
            }
            None => read_input().map(Some),
        }
    }
}

/// All of standard input, without the line end at its end.
fn read_input() -> Result<String, CommandError> {
    let failed = |source| CommandError::Input { what: "standard input".to_owned(), source };
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > MAX_INPUT {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is longer than any message")));
    }
    let trimmed = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(trimmed.map(str::to_owned).unwrap_or(text))
}

fn show_answer(answer: &Answer, as_json: bool, queued_will_do: bool) -> Result<Exit, CommandError> {
    let status = answer.body["status"].as_str().ok_or(CommandError::Odd("status"))?;
    let reference = answer.body["ref"].as_str().unwrap_or_default();
    let exit = match status {
        "confirmed" => Exit::Done,
        "failed" | "cancelled" => Exit::Refused,
        _ if queued_will_do => Exit::Done,
        _ => Exit::Unconfirmed,
    };
    if as_json {
        say(&answer.body.to_string())?;
        return Ok(exit);
    }
    let id = answer.body["id"].as_str().map(|id| format!(" {id}")).unwrap_or_default();
    let reason = answer.body["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    say(&plain(&format!("{status}{id} ({reference}){reason}")))?;
    for part in answer.body["parts"].as_array().into_iter().flatten().skip(1) {
        let text = |name: &str| part[name].as_str().unwrap_or_default();
        let id = part["id"].as_str().map(|id| format!(" {id}")).unwrap_or_default();
        say(&plain(&format!("{}{id} ({})", text("status"), text("ref"))))?;
    }
    Ok(exit)
}
