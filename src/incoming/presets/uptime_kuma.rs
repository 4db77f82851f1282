//! Uptime Kuma: <https://github.com/louislam/uptime-kuma/wiki/Notification-Methods>.

use serde_json::Value;

use super::text;
use crate::markup::Html;

pub(super) fn render(body: &Value) -> Option<Html> {
    let message = text(body, "/msg");
    let Some(status) = body.pointer("/heartbeat/status").and_then(Value::as_i64) else {
        // A test, or news of a certificate: words alone.
        return message
            .filter(|_| body.get("heartbeat").is_some() || body.get("monitor").is_some())
            .map(|words| Html::new().text(words));
    };
    let state = match status {
        0 => "DOWN",
        1 => "UP",
        2 => "PENDING",
        3 => "MAINTENANCE",
        _ => "UNKNOWN",
    };
    let name = text(body, "/monitor/name").unwrap_or("monitor");
    let mut html = Html::new().bold(state).text(" ");
    html = match text(body, "/monitor/url").filter(|address| *address != "https://" && *address != "http://") {
        Some(address) => html.link(address, name),
        None => match text(body, "/monitor/hostname") {
            Some(host) => html.text(name).text(" ").code(host),
            None => html.text(name),
        },
    };
    match text(body, "/heartbeat/msg") {
        Some(words) => Some(html.text(": ").text(words)),
        None => Some(html),
    }
}
