//! Alerts of Prometheus Alertmanager and of Grafana, whose bodies have the same bones.
//!
//! Sources: <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>,
//! <https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/>.

use serde_json::Value;

use super::{list, shorten, text};
use crate::markup::Html;

/// Most alerts that are told one by one.
const MAX_ALERTS: usize = 10;

/// Longest description that is shown, in characters.
const MAX_DESCRIPTION: usize = 500;

pub(super) fn alertmanager(body: &Value) -> Option<Html> {
    body.get("alerts")?.as_array()?;
    let title = text(body, "/commonLabels/alertname").or_else(|| text(body, "/groupLabels/alertname"));
    Some(group(body, title.unwrap_or("Alerts"), text(body, "/externalURL")))
}

pub(super) fn grafana(body: &Value) -> Option<Html> {
    if body.get("alerts").is_some_and(Value::is_array) {
        let title = text(body, "/commonLabels/alertname").or_else(|| text(body, "/groupLabels/alertname"));
        return Some(group(body, title.unwrap_or("Alerts"), text(body, "/externalURL")));
    }
    // The legacy alerts of Grafana before version 9.
    let title = text(body, "/title").or_else(|| text(body, "/ruleName"))?;
    let mut html = super::linked(Html::new().text(""), body, "/ruleUrl", title);
    if let Some(message) = text(body, "/message") {
        html = html.line().text(&shorten(message, MAX_DESCRIPTION));
    }
    for found in list(body, "/evalMatches").iter().take(MAX_ALERTS) {
        let value = found.get("value").filter(|value| !value.is_null()).map(ToString::to_string).unwrap_or_default();
        html = html.line().text(&format!("• {}: {value}", text(found, "/metric").unwrap_or("value")));
    }
    Some(html)
}

/// A group of alerts under one title.
fn group(body: &Value, title: &str, address: Option<&str>) -> Html {
    let alerts = list(body, "/alerts");
    let of = |status: &str| alerts.iter().filter(|alert| text(alert, "/status") == Some(status)).count();
    let (firing, resolved) = (of("firing"), of("resolved"));
    let state = match (firing, resolved) {
        (0, _) => format!("[RESOLVED:{resolved}]"),
        (_, 0) => format!("[FIRING:{firing}]"),
        _ => format!("[FIRING:{firing}, RESOLVED:{resolved}]"),
    };
    let mut html = Html::new().bold(&state).text(" ");
    html = match address {
        Some(address) => html.link(address, title),
        None => html.bold(title),
    };
    for alert in alerts.iter().take(MAX_ALERTS) {
        html = one(html.line(), alert, firing > 0 && resolved > 0);
    }
    let truncated = body.get("truncatedAlerts").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let left_out = alerts.len().saturating_sub(MAX_ALERTS).saturating_add(truncated.unwrap_or(0));
    if left_out > 0 { html.line().italic(&format!("… and {left_out} more")) } else { html }
}

fn one(mut html: Html, alert: &Value, mixed: bool) -> Html {
    html = html.text("• ");
    if mixed && let Some(status) = text(alert, "/status") {
        html = html.text(&format!("{status}: "));
    }
    let summary = text(alert, "/annotations/summary").or_else(|| text(alert, "/labels/alertname")).unwrap_or("alert");
    let address = ["/panelURL", "/dashboardURL", "/generatorURL"].iter().find_map(|pointer| text(alert, pointer));
    html = match address {
        Some(address) => html.link(address, summary),
        None => html.text(summary),
    };
    if let Some(severity) = text(alert, "/labels/severity") {
        html = html.text(&format!(" ({severity})"));
    }
    if let Some(place) = text(alert, "/labels/instance") {
        html = html.text(" ").code(place);
    }
    let description = text(alert, "/annotations/description").or_else(|| text(alert, "/annotations/message"));
    if let Some(description) = description {
        html = html.text(" — ").text(&shorten(description, MAX_DESCRIPTION));
    } else if let Some(values) = text(alert, "/valueString") {
        html = html.text(" — ").text(&shorten(values, MAX_DESCRIPTION));
    }
    match text(alert, "/silenceURL") {
        Some(address) if text(alert, "/status") == Some("firing") => html.text(" · ").link(address, "silence"),
        _ => html,
    }
}
