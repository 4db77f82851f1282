//! GitLab's events.
//!
//! Source: <https://docs.gitlab.com/user/project/integrations/webhook_events/>.

use serde_json::Value;

use super::{first_line, linked, list, shorten, shown, text};
use crate::markup::Html;

/// Most commits of a push that are told one by one.
const MAX_COMMITS: usize = 5;

/// Longest comment that is shown, in characters.
const MAX_TEXT: usize = 300;

pub(super) fn render(body: &Value) -> Option<Html> {
    let kind = text(body, "/object_kind").or_else(|| text(body, "/event_name"))?;
    let place = place(body);
    let who = text(body, "/user/name")
        .or_else(|| text(body, "/user_name"))
        .or_else(|| text(body, "/user/username"))
        .unwrap_or("someone");
    let action = text(body, "/object_attributes/action").unwrap_or("changed");
    Some(match kind {
        "push" => push(place, body, who, "branch"),
        "tag_push" => push(place, body, who, "tag"),
        "issue" | "work_item" => numbered(place, body, "/object_attributes", "issue #", &format!("{who} {}", past(action))),
        "merge_request" => numbered(place, body, "/object_attributes", "merge request !", &format!("{who} {}", past(action))),
        "note" => note(place, body, who),
        "pipeline" => {
            let id = shown(body, "/object_attributes/id").unwrap_or_default();
            let address =
                if text(body, "/object_attributes/url").is_some() { "/object_attributes/url" } else { "/project/web_url" };
            let html = linked(place.text(" pipeline "), body, address, &format!("#{id}"));
            outcome(html, body, "/object_attributes/status", "/object_attributes/ref")
        }
        "build" => {
            let html = place.text(&format!(" job {}", text(body, "/build_name").unwrap_or_default()));
            outcome(html, body, "/build_status", "/ref")
        }
        "deployment" => {
            let to = text(body, "/environment").map(|name| format!(" to {name}")).unwrap_or_default();
            let html = linked(place.text(" "), body, "/deployable_url", &format!("deployment{to}"));
            outcome(html, body, "/status", "/ref")
        }
        "release" => {
            let name = text(body, "/name").or_else(|| text(body, "/tag")).unwrap_or("a release");
            let verb = past(text(body, "/action").unwrap_or("create"));
            linked(place.text(&format!(" {verb} release ")), body, "/url", name)
        }
        other => place.text(&format!(" {} by {who}", other.replace('_', " "))),
    })
}

fn place(body: &Value) -> Html {
    let name = text(body, "/project/path_with_namespace").or_else(|| text(body, "/project_name")).unwrap_or("GitLab");
    linked(Html::new().text("["), body, "/project/web_url", name).text("]")
}

fn past(action: &str) -> String {
    match action {
        "open" => "opened".to_owned(),
        "approved" | "unapproved" | "changed" => action.to_owned(),
        other if other.ends_with('e') => format!("{other}d"),
        other => format!("{other}ed"),
    }
}

fn push(place: Html, body: &Value, who: &str, kind: &str) -> Html {
    let reference = text(body, "/ref").unwrap_or_default();
    let name = reference.strip_prefix("refs/heads/").or_else(|| reference.strip_prefix("refs/tags/")).unwrap_or(reference);
    let zero = |pointer: &str| text(body, pointer).is_some_and(|id| id.bytes().all(|byte| byte == b'0'));
    if zero("/after") {
        return place.text(&format!(" {who} deleted {kind} ")).code(name);
    }
    let commits = list(body, "/commits");
    if kind == "tag" || commits.is_empty() {
        let verb = if zero("/before") { "created" } else { "moved" };
        return place.text(&format!(" {who} {verb} {kind} ")).code(name);
    }
    // GitLab lists twenty commits at most and tells how many there are.
    let told = body.get("total_commits_count").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let count = told.unwrap_or(commits.len()).max(commits.len());
    let noun = if count == 1 { "commit" } else { "commits" };
    let mut html = place.text(&format!(" {who} pushed {count} {noun} to ")).code(name);
    for commit in commits.iter().take(MAX_COMMITS) {
        let id: String = text(commit, "/id").unwrap_or_default().chars().take(8).collect();
        let message = first_line(text(commit, "/title").or_else(|| text(commit, "/message")).unwrap_or_default());
        html = linked(html.line(), commit, "/url", &id).text(&format!(" {message}"));
    }
    let left_out = count.saturating_sub(commits.len().min(MAX_COMMITS));
    if left_out > 0 { html.line().italic(&format!("… and {left_out} more")) } else { html }
}

fn numbered(place: Html, body: &Value, at: &str, noun: &str, deed: &str) -> Html {
    let number = shown(body, &format!("{at}/iid")).unwrap_or_default();
    let title = text(body, &format!("{at}/title")).unwrap_or_default();
    linked(place.text(&format!(" {deed} ")), body, &format!("{at}/url"), &format!("{noun}{number}")).text(&format!(" {title}"))
}

fn note(place: Html, body: &Value, who: &str) -> Html {
    let on = [("/merge_request", "merge request !"), ("/issue", "issue #")];
    let deed = format!("{who} commented on");
    let html = match on.into_iter().find(|(at, _)| body.pointer(at).is_some()) {
        Some((at, noun)) => numbered(place, body, at, noun, &deed),
        None => linked(place.text(&format!(" {deed} ")), body, "/object_attributes/url", "a commit"),
    };
    match text(body, "/object_attributes/note") {
        Some(words) => linked(html.line(), body, "/object_attributes/url", "“").text(&shorten(words, MAX_TEXT)).text("”"),
        None => html,
    }
}

fn outcome(html: Html, body: &Value, status: &str, branch: &str) -> Html {
    let html = html.text(": ").bold(&text(body, status).unwrap_or("unknown").replace('_', " "));
    match text(body, branch) {
        Some(branch) => html.text(" on ").code(branch),
        None => html,
    }
}
