//! Sentry: the webhooks of its integration platform and of the older plugin.
//!
//! Source: <https://docs.sentry.io/organization/integrations/integration-platform/webhooks/>.

use serde_json::Value;

use super::{Posted, linked, shorten, text};
use crate::markup::Html;

/// Longest culprit or description that is shown, in characters.
const MAX_TEXT: usize = 300;

pub(super) fn render(posted: Posted<'_>) -> Option<Html> {
    let body = posted.body;
    let action = text(body, "/action").unwrap_or("triggered");
    if body.pointer("/data/metric_alert").is_some() {
        let title = text(body, "/data/description_title").unwrap_or("metric alert");
        let html = linked(Html::new().bold(&action.to_uppercase()).text(" "), body, "/data/web_url", title);
        return Some(described(html, text(body, "/data/description_text")));
    }
    if let Some(event) = body.pointer("/data/event") {
        let rule = text(body, "/data/triggered_rule").map(|rule| format!(" ({rule})")).unwrap_or_default();
        let html = issue(event, &["/web_url", "/issue_url", "/url"]).text(&rule);
        return Some(described(html, text(event, "/culprit")));
    }
    if let Some(issue_data) = body.pointer("/data/issue") {
        let id = text(issue_data, "/shortId").map(|id| format!("{id} ")).unwrap_or_default();
        let place = text(issue_data, "/project/slug").map(|slug| format!("[{slug}] ")).unwrap_or_default();
        let html =
            Html::new().text(&format!("{place}issue {id}{action}: ")).html(&issue(issue_data, &["/web_url", "/permalink"]));
        return Some(described(html, text(issue_data, "/culprit")));
    }
    if let Some(error) = body.pointer("/data/error") {
        return Some(described(issue(error, &["/web_url", "/url"]), text(error, "/culprit")));
    }
    if posted.header("sentry-hook-resource").is_some() {
        let resource = posted.header("sentry-hook-resource").unwrap_or_default();
        return Some(Html::new().text(&format!("Sentry: {resource} {action}")));
    }
    // The older plugin puts everything at the top.
    let message = text(body, "/message").or_else(|| text(body, "/event/title"))?;
    let project = text(body, "/project_name").or_else(|| text(body, "/project"))?;
    let html = linked(level(Html::new().text(&format!("[{project}] ")), body), body, "/url", message);
    Some(described(html, text(body, "/culprit")))
}

fn issue(value: &Value, addresses: &[&str]) -> Html {
    let title = text(value, "/title").or_else(|| text(value, "/message")).unwrap_or("error");
    let html = level(Html::new(), value);
    match addresses.iter().find_map(|pointer| text(value, pointer)) {
        Some(address) => html.link(address, title),
        None => html.bold(title),
    }
}

fn level(html: Html, value: &Value) -> Html {
    match text(value, "/level") {
        Some(level) => html.bold(&level.to_uppercase()).text(" "),
        None => html,
    }
}

fn described(html: Html, words: Option<&str>) -> Html {
    match words {
        Some(words) => html.line().text(&shorten(words, MAX_TEXT)),
        None => html,
    }
}
