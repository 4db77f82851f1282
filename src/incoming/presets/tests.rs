use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Posted, Preset};
use crate::markup::Sanitizer;
use crate::upstream::plain_text;

macro_rules! cases {
    ($($preset:ident $(($header:literal: $value:literal))? $file:literal => $expected:expr,)*) => {
        [$((
            Preset::$preset,
            None::<(&'static str, &'static str)>$(.or(Some(($header, $value))))?,
            $file,
            include_str!(concat!("payloads/", $file, ".json")),
            $expected,
        )),*]
    };
}

fn headers(header: Option<(&'static str, &'static str)>) -> HeaderMap {
    header.into_iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
}

/// What people read.
fn words(html: &str) -> String {
    html.split("<br>").map(plain_text).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_product_makes_a_good_message() {
    let cases = cases! {
        Alertmanager "alertmanager" => "[FIRING:1, RESOLVED:1] HighErrorRate\n• firing: Errors above 5 % (critical) api-1:9100 — api-1 answers 7 % of its requests with <5xx>\n• resolved: HighErrorRate api-2:9100\n… and 1 more",
        Grafana "grafana" => "[RESOLVED:1] Disk full\n• Disk of db-1 below 5 % — [ var='B' labels={} value=4.2 ]",
        Grafana "grafana_legacy" => "[Alerting] Test notification\nSomeone should look at it\n• High value: 100",
        Github("x-github-event": "push") "github_push" => "[acme/rocket] ana pushed 1 commit to main\n59b20b8 Count down from ten — Ana Ruiz",
        Github "github_push" => "[acme/rocket] ana pushed 1 commit to main\n59b20b8 Count down from ten — Ana Ruiz",
        Github("x-github-event": "pull_request") "github_pull_request" => "[acme/rocket] ana merged pull request #12 Use <generics> (generics → main)",
        Github("x-github-event": "issues") "github_issues" => "[acme/rocket] ana opened issue #73 It does not fly",
        Github("x-github-event": "issue_comment") "github_issue_comment" => "[acme/rocket] ana commented on issue #73 It does not fly\n“Same here.”",
        Github("x-github-event": "release") "github_release" => "[acme/rocket] ana published release 1.2.0\nFlies higher.",
        Github("x-github-event": "workflow_run") "github_workflow_run" => "[acme/rocket] workflow CI: failure on main",
        Github("x-github-event": "check_run") "github_check_run" => "[acme/rocket] check lint: success on main",
        Github("x-github-event": "ping") "github_ping" => "[acme/rocket] is connected: Keep it logically awesome.",
        Github("x-github-event": "star") "github_ping" => "[acme/rocket] star by ana",
        Gitlab "gitlab_push" => "[acme/rocket] Bo Lind pushed 4 commits to main\nb6568db1 Paint it red\n… and 3 more",
        Gitlab "gitlab_merge_request" => "[acme/rocket] Bo Lind merged merge request !7 Paint it red",
        Gitlab "gitlab_pipeline" => "[acme/rocket] pipeline #31: failed on main",
        Gitlab "gitlab_note" => "[acme/rocket] Bo Lind commented on issue #17 Too heavy\n“Looks good”",
        Jenkins "jenkins" => "rocket build #18: failure on main after 1 min 15 s",
        Sentry("sentry-hook-resource": "issue") "sentry_issue" => "[rocket] issue ROCKET-1A created: ERROR TypeError: fuel is undefined\nlaunch(engine)",
        Sentry("sentry-hook-resource": "event_alert") "sentry_event_alert" => "FATAL ZeroDivisionError: division by zero (Very important alert)\nviews.index",
        Sentry("sentry-hook-resource": "metric_alert") "sentry_metric_alert" => "CRITICAL Critical: Too many errors\n1000 events in the last 10 minutes",
        Sentry "sentry_plugin" => "[Rocket] ERROR This is an example exception\nraven.scripts.runner in main",
        UptimeKuma "uptime_kuma_down" => "DOWN shop: connect ECONNREFUSED 10.0.0.4:443",
        UptimeKuma "uptime_kuma_up" => "UP database db-1",
        UptimeKuma "uptime_kuma_test" => "My webhook Testing",
    };
    for (preset, header, file, payload, expected) in cases {
        let (headers, body): (_, Value) = (headers(header), serde_json::from_str(payload).expect("a payload is JSON"));
        let html = preset.render(Posted { headers: &headers, body: &body }).unwrap_or_else(|| panic!("{file} is not known"));
        let html = html.into_string();
        assert_eq!(words(&html), expected, "{file}: {html}");
        let clean = Sanitizer::new().clean(&html).into_owned();
        assert_eq!(words(&clean), words(&html), "{file}: {html}");
        assert_eq!(clean.matches("<a href").count(), html.matches("<a href").count(), "{file}: every link stays");
    }
}

#[test]
fn what_is_not_the_products_is_not_taken_for_it() {
    let headers = HeaderMap::new();
    for preset in ALL {
        for body in [json!({}), json!({"text": "a"}), json!([1]), json!({"alerts": 3}), json!({"build": null})] {
            assert_eq!(preset.render(Posted { headers: &headers, body: &body }), None, "{preset:?} {body}");
        }
    }
}

const ALL: [Preset; 7] =
    [Preset::Grafana, Preset::Alertmanager, Preset::Github, Preset::Gitlab, Preset::Jenkins, Preset::Sentry, Preset::UptimeKuma];

/// A known payload in which one value somewhere is another one.
fn damaged() -> impl Strategy<Value = Value> {
    let payloads = [
        include_str!("payloads/alertmanager.json"),
        include_str!("payloads/github_push.json"),
        include_str!("payloads/github_pull_request.json"),
        include_str!("payloads/gitlab_push.json"),
        include_str!("payloads/jenkins.json"),
        include_str!("payloads/sentry_issue.json"),
        include_str!("payloads/uptime_kuma_down.json"),
    ];
    let other = prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!(-1)),
        "[<>&\"'a-z]{0,8}".prop_map(Value::from),
    ];
    (proptest::sample::select(payloads.to_vec()), any::<proptest::sample::Index>(), other).prop_map(|(payload, index, other)| {
        let mut body: Value = serde_json::from_str(payload).expect("a payload is JSON");
        let mut pointers = Vec::new();
        places(&body, String::new(), &mut pointers);
        *body.pointer_mut(&pointers[index.index(pointers.len())]).expect("the place is there") = other;
        body
    })
}

fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, format!("{at}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| places(item, format!("{at}/{index}"), found)),
        _ => {}
    }
    found.push(at);
}

proptest! {
    #[test]
    fn odd_values_break_nothing_and_make_no_element(body in damaged()) {
        let headers = HeaderMap::new();
        for preset in ALL {
            if let Some(html) = preset.render(Posted { headers: &headers, body: &body }) {
                let html = html.into_string();
                prop_assert_eq!(words(&Sanitizer::new().clean(&html)), words(&html));
            }
        }
    }
}
