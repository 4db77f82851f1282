//! Jenkins with the Notification plugin: <https://plugins.jenkins.io/notification/>.

use serde_json::Value;

use super::{linked, shown, text};
use crate::markup::Html;

pub(super) fn render(body: &Value) -> Option<Html> {
    body.get("build")?.as_object()?;
    let name = text(body, "/display_name").or_else(|| text(body, "/name"))?;
    let number = shown(body, "/build/number").map(|number| format!(" #{number}")).unwrap_or_default();
    let mut html = linked(Html::new(), body, "/build/full_url", &format!("{name}{number}")).text(": ");
    html = match (text(body, "/build/phase"), text(body, "/build/status")) {
        (_, Some(status)) => html.bold(&status.to_lowercase().replace('_', " ")),
        (Some(phase), None) => html.text(&phase.to_lowercase()),
        (None, None) => html.text("unknown"),
    };
    if let Some(branch) = text(body, "/build/scm/branch") {
        html = html.text(" on ").code(branch.strip_prefix("origin/").unwrap_or(branch));
    }
    if let Some(duration) = body.pointer("/build/duration").and_then(Value::as_u64).filter(|millis| *millis > 0) {
        html = html.text(&format!(" after {}", spoken(duration / 1000)));
    }
    match text(body, "/build/notes") {
        Some(notes) => Some(html.line().text(notes)),
        None => Some(html),
    }
}

/// Seconds as people say them.
fn spoken(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
