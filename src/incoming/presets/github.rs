//! GitHub's events.
//!
//! Source: <https://docs.github.com/en/webhooks/webhook-events-and-payloads>.

use serde_json::Value;

use super::{Posted, first_line, linked, list, shorten, text};
use crate::markup::Html;

/// Most commits of a push that are told one by one.
const MAX_COMMITS: usize = 5;

/// Longest text of a comment or release that is shown, in characters.
const MAX_TEXT: usize = 300;

pub(super) fn render(posted: Posted<'_>) -> Option<Html> {
    let body = posted.body;
    let event = posted.header("x-github-event").or_else(|| guess(body))?;
    let place = place(body);
    let who = text(body, "/sender/login").unwrap_or("someone");
    let action = text(body, "/action").unwrap_or_default();
    Some(match event {
        "push" => push(place, body, who),
        "pull_request" => pull_request(place, body, who, action),
        "issues" => numbered(place, body, "/issue", "issue", &format!("{who} {action}")),
        "issue_comment" => comment(place, body, "/issue", who, action),
        "commit_comment" | "pull_request_review_comment" => comment(place, body, "/pull_request", who, action),
        "pull_request_review" => {
            let state = text(body, "/review/state").unwrap_or("reviewed").replace('_', " ");
            numbered(place, body, "/pull_request", "pull request", &format!("{who} {state}"))
        }
        "release" => release(place, body, who, action),
        "workflow_run" => run(place, body, "/workflow_run", "workflow"),
        "check_run" => run(place, body, "/check_run", "check"),
        "check_suite" => run(place, body, "/check_suite", "check suite"),
        "workflow_job" => run(place, body, "/workflow_job", "job"),
        "create" | "delete" => {
            let (kind, name) = (text(body, "/ref_type").unwrap_or("reference"), text(body, "/ref").unwrap_or_default());
            place.text(&format!(" {who} {event}d {kind} ")).code(name)
        }
        "ping" => place.text(" is connected: ").italic(text(body, "/zen").unwrap_or("GitHub reaches this space")),
        other => {
            let what = format!("{} {action}", other.replace('_', " "));
            place.text(&format!(" {} by {who}", what.trim_end()))
        }
    })
}

/// Which event a body is of, for senders that leave the header away.
fn guess(body: &Value) -> Option<&'static str> {
    let known = ["pull_request", "workflow_run", "check_run", "check_suite", "release"];
    let has = |name: &str| body.get(name).is_some();
    if !has("repository") && !has("organization") {
        return None;
    }
    if has("commits") && has("ref") {
        return Some("push");
    }
    if has("issue") {
        return Some(if has("comment") { "issue_comment" } else { "issues" });
    }
    known.into_iter().find(|name| has(name)).or(Some("event"))
}

/// `[owner/name]`, the beginning of every line.
fn place(body: &Value) -> Html {
    let name = text(body, "/repository/full_name").or_else(|| text(body, "/organization/login")).unwrap_or("GitHub");
    linked(Html::new().text("["), body, "/repository/html_url", name).text("]")
}

fn push(place: Html, body: &Value, who: &str) -> Html {
    let reference = text(body, "/ref").unwrap_or_default();
    let (kind, name) = match reference.strip_prefix("refs/tags/") {
        Some(tag) => ("tag", tag),
        None => ("branch", reference.strip_prefix("refs/heads/").unwrap_or(reference)),
    };
    let is = |field: &str| body.get(field) == Some(&Value::Bool(true));
    if is("deleted") {
        return place.text(&format!(" {who} deleted {kind} ")).code(name);
    }
    let commits = list(body, "/commits");
    if commits.is_empty() {
        let verb = if is("created") { "created" } else { "moved" };
        return place.text(&format!(" {who} {verb} {kind} ")).code(name);
    }
    let (count, noun) = (commits.len(), if commits.len() == 1 { "commit" } else { "commits" });
    let forced = if is("forced") { "force-pushed" } else { "pushed" };
    let mut html =
        linked(place.text(&format!(" {who} {forced} ")), body, "/compare", &format!("{count} {noun}")).text(" to ").code(name);
    for commit in commits.iter().take(MAX_COMMITS) {
        let id = text(commit, "/id").map(|id| id.chars().take(7).collect::<String>()).unwrap_or_default();
        let message = first_line(text(commit, "/message").unwrap_or_default());
        let author = text(commit, "/author/name").map(|name| format!(" — {name}")).unwrap_or_default();
        html = linked(html.line(), commit, "/url", &id).text(&format!(" {message}{author}"));
    }
    if count > MAX_COMMITS { html.line().italic(&format!("… and {} more", count - MAX_COMMITS)) } else { html }
}

fn pull_request(place: Html, body: &Value, who: &str, action: &str) -> Html {
    let merged = body.pointer("/pull_request/merged") == Some(&Value::Bool(true));
    let verb = match action {
        "closed" if merged => "merged",
        "synchronize" => "updated",
        "review_requested" => "asked for a review of",
        "ready_for_review" => "marked as ready",
        other => other,
    };
    let html = numbered(place, body, "/pull_request", "pull request", &format!("{who} {}", verb.replace('_', " ")));
    match (text(body, "/pull_request/head/ref"), text(body, "/pull_request/base/ref")) {
        (Some(head), Some(base)) if matches!(action, "opened" | "closed" | "reopened") => {
            html.text(" (").code(head).text(" → ").code(base).text(")")
        }
        _ => html,
    }
}

/// `who did noun #7 title`.
fn numbered(place: Html, body: &Value, at: &str, noun: &str, deed: &str) -> Html {
    let number = super::shown(body, &format!("{at}/number")).map(|number| format!(" #{number}")).unwrap_or_default();
    let title = text(body, &format!("{at}/title")).unwrap_or_default();
    let words = format!("{noun}{number}");
    linked(place.text(&format!(" {deed} ")), body, &format!("{at}/html_url"), &words).text(&format!(" {title}"))
}

fn comment(place: Html, body: &Value, at: &str, who: &str, action: &str) -> Html {
    let verb = if action == "created" || action.is_empty() { "commented on" } else { "changed a comment on" };
    let noun = if body.pointer("/issue/pull_request").is_some() || at == "/pull_request" { "pull request" } else { "issue" };
    let html = numbered(place, body, at, noun, &format!("{who} {verb}"));
    match text(body, "/comment/body") {
        Some(words) => linked(html.line(), body, "/comment/html_url", "“").text(&shorten(words, MAX_TEXT)).text("”"),
        None => html,
    }
}

fn release(place: Html, body: &Value, who: &str, action: &str) -> Html {
    let name = text(body, "/release/name").or_else(|| text(body, "/release/tag_name")).unwrap_or("a release");
    let html = linked(place.text(&format!(" {who} {action} release ")), body, "/release/html_url", name);
    match text(body, "/release/body") {
        Some(words) if action == "published" => html.line().text(&shorten(words, MAX_TEXT)),
        _ => html,
    }
}

fn run(place: Html, body: &Value, at: &str, noun: &str) -> Html {
    let field = |name: &str| text(body, &format!("{at}/{name}"));
    let name = field("name").or_else(|| text(body, "/check_suite/app/name")).unwrap_or(noun);
    let outcome = field("conclusion").or_else(|| field("status")).unwrap_or("unknown").replace('_', " ");
    let address = if field("html_url").is_some() { format!("{at}/html_url") } else { "/repository/html_url".to_owned() };
    let html = linked(place.text(&format!(" {noun} ")), body, &address, name).text(": ").bold(&outcome);
    match field("head_branch").or_else(|| text(body, &format!("{at}/check_suite/head_branch"))) {
        Some(branch) => html.text(" on ").code(branch),
        None => html,
    }
}
