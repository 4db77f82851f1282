//! What posts to incoming hooks: shell, and products with what they post by themselves.

use std::process::{Command, Stdio};

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Block, Kitchen, block, cook};
use crate::support::bridge::send;
use crate::support::hex;
use crate::support::process::Process;
use crate::support::tools::Tool;
use crate::support::wait::eventually;

/// The recipes that this file runs.
pub(super) const RUN: &[&str] =
    &["hook", "hook-words", "alertmanager", "grafana", "github-step", "github-hook", "github-webhook", "jenkins"];

/// The address that stands in the page for that of a hook.
const ADDRESS: &str = "https://bridge.example/hooks/SECRET";

const GITHUB_SECRET: &str = "a-secret-between-two";

impl Kitchen {
    /// Makes a hook of this format as the API says. Answers its address.
    async fn hook(&self, format: &str) -> String {
        let body = json!({"spaceId": self.scene.space.as_ref(), "format": format});
        let made = self.bridge.post("/incoming-hooks", &self.scene.token, &body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["url"].as_str().expect("an address").to_owned()
    }

    /// The texts in the space, as soon as there is one.
    async fn first_texts(&self) -> Vec<String> {
        eventually("a message in the space", async || Some(self.scene.texts()).filter(|texts| !texts.is_empty())).await
    }

    /// Posts the body that a product posts.
    async fn post_payload(&self, url: &str, file: &str, headers: &[(&str, &str)]) -> u16 {
        let body = payload(file);
        let mut request = self.bridge.plain(Method::POST, url).header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(request).await.status.as_u16()
    }
}

/// What a product posts by itself, as the presets are tested with it.
fn payload(file: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/incoming/presets/payloads").join(file);
    std::fs::read(path).expect("a payload")
}

/// The script within a block: what follows the line `from`, less indented by as much as its first line is, up to `end` or the end.
fn script(code: &str, from: &str, end: &str) -> String {
    let (_, rest) = code.split_once(from).expect("the beginning of the script");
    let rest = rest.split_once('\n').expect("a script").1;
    let script = if end.is_empty() { rest } else { rest.split_once(end).expect("the end of the script").0 };
    let indent = script.len() - script.trim_start().len();
    script.lines().flat_map(|line| [line.get(indent..).unwrap_or_default(), "\n"]).collect()
}

#[tokio::test]
async fn an_address_is_made_and_takes_words() {
    if !Tool::Curl.is_here("the recipes for incoming hooks") {
        return;
    }
    let kitchen = Kitchen::open().await;
    let (succeeded, printed) = cook(&block("hook"), kitchen.environment()).await;
    assert!(succeeded && printed.starts_with("http"), "{printed}");
    let mut environment = kitchen.environment();
    environment.push(("HOOK", printed.trim().to_owned()));
    let (succeeded, printed) = cook(&block("hook-words"), environment).await;
    assert!(succeeded, "{printed}");
    let texts = kitchen.first_texts().await;
    assert!(texts[0].starts_with("disk ") && texts[0].ends_with("% full"), "{texts:?}");
}

#[tokio::test]
async fn alertmanager_runs_with_the_recipe() {
    if !Tool::Alertmanager.is_here("the recipe for Alertmanager") {
        return;
    }
    let kitchen = Kitchen::open().await;
    let hook = kitchen.hook("alertmanager").await;
    let recipe = block("alertmanager").code;
    assert!(recipe.contains(ADDRESS) && recipe.contains("group_wait: 10s"), "{recipe}");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("alertmanager.yml");
    std::fs::write(&file, recipe.replace(ADDRESS, &hook).replace("group_wait: 10s", "group_wait: 0s")).expect("written");
    let mut command = Command::new("prometheus-alertmanager");
    command.arg(format!("--config.file={}", file.display())).arg(format!("--storage.path={}", directory.path().display()));
    command.args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address=", "--log.format=json"]).stdin(Stdio::null());
    command.env("NO_PROXY", "*");
    let alertmanager = Process::spawn(command);
    let listening: Value = serde_json::from_str(&alertmanager.line("\"Listening on\"").await).expect("a line of JSON");
    let url = format!("http://{}/api/v2/alerts", listening["address"].as_str().expect("an address"));
    let alert = json!([{
        "labels": {"alertname": "DiskFull", "severity": "critical", "cluster": "blue"},
        "annotations": {"summary": "the disk of db1 is full"},
    }]);
    let taken = send(kitchen.bridge.plain(Method::POST, &url).json(&alert)).await;
    assert_eq!(taken.status, 200, "{}", taken.text);
    let texts = kitchen.first_texts().await;
    assert!(texts[0].contains("DiskFull") && texts[0].contains("the disk of db1 is full"), "{texts:?}");
}

#[tokio::test]
async fn what_grafana_posts_becomes_a_message_at_the_address_of_the_recipe() {
    let kitchen = Kitchen::open().await;
    let recipe = block("grafana").code;
    assert!(recipe.contains(&format!("          url: {ADDRESS}\n")), "{recipe}");
    assert!(recipe.contains("        type: webhook\n") && recipe.contains("          httpMethod: POST\n"), "{recipe}");
    let hook = kitchen.hook("grafana").await;
    assert_same_shape(&hook);
    assert!((200..300).contains(&kitchen.post_payload(&hook, "grafana.json", &[]).await));
    let name = &serde_json::from_slice::<Value>(&payload("grafana.json")).expect("JSON")["alerts"][0]["labels"]["alertname"];
    let texts = kitchen.first_texts().await;
    assert!(texts[0].contains(name.as_str().expect("a name")), "{texts:?}");
}

/// The address in the page has the shape of those that the bridge gives.
fn assert_same_shape(hook: &str) {
    let path = |url: &str| url::Url::parse(url).expect("an address").path_segments().expect("a path").count();
    assert_eq!(path(hook), path(ADDRESS), "{hook}");
    assert!(hook.contains("/hooks/"), "{hook}");
}

#[tokio::test]
async fn the_step_for_github_workflows_works() {
    if !Tool::Curl.is_here("the recipe for GitHub's workflows") {
        return;
    }
    let kitchen = Kitchen::open().await;
    let step = block("github-step").code;
    assert!(step.contains("    HOOK: ${{ secrets.SPACES_HOOK }}\n"), "{step}");
    let code = script(&step, "  run: |", "");
    assert!(!code.contains("${{"), "expressions within a script would be a way to inject commands");
    let run = Block { language: "bash".to_owned(), name: "github-step".to_owned(), code };
    let hook = kitchen.hook("auto").await;
    let environment = || {
        let given = [
            ("GITHUB_RUN_ID", "41"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_WORKFLOW", "Build & \"test\""),
            ("GITHUB_REPOSITORY", "acme/rocket"),
            ("GITHUB_SERVER_URL", "https://github.example"),
            ("HOOK", &hook),
        ];
        given.map(|(name, value)| (name, value.to_owned())).to_vec()
    };
    for _ in 0..2 {
        let (succeeded, printed) = cook(&run, environment()).await;
        assert!(succeeded, "{printed}");
    }
    let texts = kitchen.first_texts().await;
    assert_eq!(texts.len(), 1, "the same run tells once: {texts:?}");
    assert!(texts[0].starts_with("Build &amp; &quot;test&quot; failed in acme/rocket: "), "{texts:?}");
    assert!(texts[0].contains("https://github.example/acme/rocket/actions/runs/41"), "{texts:?}");
}

#[tokio::test]
async fn a_webhook_of_a_repository_is_believed_by_its_signature() {
    if !Tool::Curl.is_here("the recipe for GitHub's webhooks") {
        return;
    }
    let kitchen = Kitchen::open().await;
    let mut environment = kitchen.environment();
    environment.push(("GITHUB_SECRET", GITHUB_SECRET.to_owned()));
    let (succeeded, printed) = cook(&block("github-hook"), environment).await;
    assert!(succeeded, "{printed}");
    let hook = printed.trim();
    let webhook: Value = serde_json::from_str(&block("github-webhook").code).expect("JSON");
    assert_eq!((&webhook["config"]["url"], &webhook["config"]["content_type"]), (&json!(ADDRESS), &json!("json")));
    let mut mac = Hmac::<Sha256>::new_from_slice(GITHUB_SECRET.as_bytes()).expect("any key");
    mac.update(&payload("github_push.json"));
    let digest = hex(&mac.finalize().into_bytes());
    let signature = format!("sha256={digest}");
    let event = ("x-github-event", "push");
    assert_eq!(kitchen.post_payload(hook, "github_push.json", &[event]).await, 403);
    let signed = [event, ("x-hub-signature-256", signature.as_str()), ("x-github-delivery", "d-1")];
    assert_eq!(kitchen.post_payload(hook, "github_push.json", &signed).await, 202);
    let texts = kitchen.first_texts().await;
    assert!(texts.len() == 1 && texts[0].contains("acme/rocket"), "{texts:?}");
    for (event, file) in [
        ("pull_request", "github_pull_request.json"),
        ("issues", "github_issues.json"),
        ("issue_comment", "github_issue_comment.json"),
        ("release", "github_release.json"),
        ("workflow_run", "github_workflow_run.json"),
    ] {
        assert!(webhook["events"].as_array().expect("a list").contains(&json!(event)), "{event} ({file})");
    }
}

#[tokio::test]
async fn the_step_for_jenkins_works() {
    if !Tool::Curl.is_here("the recipe for Jenkins") {
        return;
    }
    let kitchen = Kitchen::open().await;
    // In Groovy, as in the shell, a backslash at the end of a line goes on with the next one; there is no other in it.
    let code = script(&block("jenkins").code, "sh '''", "'''");
    assert_eq!(code.matches('\\').count(), code.matches("\\\n").count(), "{code}");
    let code = code.replace("\\\n", "");
    let run = Block { language: "sh".to_owned(), name: "jenkins".to_owned(), code };
    let given = [
        ("BUILD_TAG", "jenkins-rocket-41".to_owned()),
        ("JOB_NAME", "rocket/main".to_owned()),
        ("BUILD_NUMBER", "41".to_owned()),
        ("BUILD_URL", "https://jenkins.example/job/rocket/41/".to_owned()),
        ("HOOK", kitchen.hook("auto").await),
    ];
    let (succeeded, printed) = cook(&run, given.to_vec()).await;
    assert!(succeeded, "{printed}");
    let texts = kitchen.first_texts().await;
    assert!(
        texts[0].starts_with("rocket/main #41 failed: ") && texts[0].contains("https://jenkins.example/job/rocket/41/"),
        "{texts:?}"
    );
    let plugin = kitchen.hook("jenkins").await;
    assert_eq!(kitchen.post_payload(&plugin, "jenkins.json", &[]).await, 202);
}
