//! Live deliveries to receivers in JavaScript and Python that verify with the official libraries.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::bridge::{Bridge, Scene, send};
use crate::support::tools::{Tool, servers};
use crate::support::wait::eventually;

/// How long a receiver may take to say something.
const DEADLINE: Duration = Duration::from_secs(30);

/// The only secret that the receivers know.
const KNOWN: &str = "whsec_YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCAzMiBieXRlcy4=";

/// A running receiver; it ends when this is dropped.
struct Verifier {
    url: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Verifier {
    /// Starts a receiver that knows `key`, or explains why there is none.
    async fn start(tool: Tool, key: &str) -> Option<Self> {
        let (program, script, probe) = match tool {
            Tool::Node => ("node", "webhook-receiver.js", ["-e", "require('standardwebhooks')"]),
            Tool::Python => ("python3", "webhook_receiver.py", ["-c", "import standardwebhooks"]),
            other => panic!("there is no receiver in {}", other.name()),
        };
        if !tool.offers(program, &probe, "the official library's view of live deliveries") {
            return None;
        }
        let mut command = Command::new(program);
        command.arg(servers().join(script)).arg(key).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program answered a moment ago");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut verifier = Self { url: String::new(), lines, _child: child };
        let port = verifier.line().await["port"].as_u64().expect("a port");
        verifier.url = format!("http://127.0.0.1:{port}/hook");
        Some(verifier)
    }

    /// What the receiver says next.
    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(DEADLINE, self.lines.next_line()).await.expect("a line in time");
        serde_json::from_str(&line.expect("to read").expect("a receiver that lives")).expect("JSON")
    }

    /// Waits for a request that was accepted, and answers it.
    async fn accepted(&mut self) -> Value {
        let request = self.line().await;
        assert_eq!(request["accepted"], true, "{request}");
        request
    }
}

fn entries(request: &Value) -> usize {
    request["headers"]["webhook-signature"].as_str().expect("signatures").split(' ').count()
}

/// Registers a webhook and answers its path.
async fn register(bridge: &Bridge, scene: &Scene, body: Value) -> String {
    let created = bridge.post("/webhooks", &scene.token, &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    format!("/webhooks/{}", created.json()["id"].as_str().expect("an id"))
}

async fn rotate(bridge: &Bridge, scene: &Scene, webhook: &str, rotation: Value) {
    let rotated = bridge.post(&format!("{webhook}/rotate-secret"), &scene.token, &rotation).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
}

/// Asks for a test event.
async fn deliver(bridge: &Bridge, scene: &Scene, webhook: &str) {
    let asked = bridge.post(&format!("{webhook}/test"), &scene.token, &json!({})).await;
    assert_eq!(asked.status, 202, "{}", asked.text);
}

/// Sends the request that the receiver got again, with this body.
async fn send_again(bridge: &Bridge, verifier: &Verifier, request: &Value, body: Vec<u8>) -> u16 {
    let mut again = bridge.plain(Method::POST, &verifier.url).body(body);
    for name in ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"] {
        again = again.header(name, request["headers"][name].as_str().expect("a header"));
    }
    send(again).await.status.as_u16()
}

async fn verifies_a_rotation(tool: Tool) {
    let Some(mut verifier) = Verifier::start(tool, KNOWN).await else { return };
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let webhook = register(&bridge, &scene, json!({"url": verifier.url})).await;

    // The known secret is the newer of two, and then the older.
    rotate(&bridge, &scene, &webhook, json!({"secret": KNOWN, "overlapSeconds": 3600})).await;
    deliver(&bridge, &scene, &webhook).await;
    assert_eq!(entries(&verifier.accepted().await), 2);
    rotate(&bridge, &scene, &webhook, json!({})).await;
    for format in ["standard", "cloudevents", "raw"] {
        let changed = bridge.patch(&webhook, &scene.token, &json!({"format": format})).await;
        assert_eq!(changed.json()["format"], format, "{}", changed.text);
        deliver(&bridge, &scene, &webhook).await;
        let request = verifier.accepted().await;
        assert_eq!(entries(&request), 3, "{format}");

        // The same once more is accepted, and nothing else is.
        let body = STANDARD.decode(request["body"].as_str().expect("a body")).expect("base64");
        assert_eq!(send_again(&bridge, &verifier, &request, body.clone()).await, 204);
        verifier.accepted().await;
        let tampered = String::from_utf8(body).expect("UTF-8").replace("webhook.test", "webhook.best").into_bytes();
        assert_eq!(send_again(&bridge, &verifier, &request, tampered).await, 401);
        assert_eq!(verifier.line().await["accepted"], false);
    }

    // Once the known secret is gone, the receiver refuses.
    rotate(&bridge, &scene, &webhook, json!({"overlapSeconds": 0})).await;
    deliver(&bridge, &scene, &webhook).await;
    assert_eq!(verifier.line().await["accepted"], false);
    let id = webhook.strip_prefix("/webhooks/").expect("a path");
    eventually("the refusal in the log", async || {
        let newest = bridge.deliveries(&scene.token, id).await.into_iter().next()?;
        let path = format!("/deliveries/{}", newest["id"].as_str()?);
        let attempts = bridge.get(&path, &scene.token).await.json()["attempts"].clone();
        (attempts[0]["status"] == 401).then_some(())
    })
    .await;
    bridge.stop().await;
}

#[tokio::test]
async fn the_official_library_for_javascript_verifies_live_deliveries() {
    verifies_a_rotation(Tool::Node).await;
}

#[tokio::test]
async fn the_official_library_for_python_verifies_live_deliveries() {
    verifies_a_rotation(Tool::Python).await;
}

/// The official libraries know `v1` only; Node's own ed25519 stands in for them.
#[tokio::test]
async fn ed25519_is_verified_by_an_independent_implementation() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let registered = json!({"url": "http://127.0.0.1:9999/", "signing": "ed25519"});
    let webhook = register(&bridge, &scene, registered).await;
    let public_key = bridge.get(&format!("{webhook}/secret"), &scene.token).await.json()["publicKey"].clone();
    let Some(mut verifier) = Verifier::start(Tool::Node, public_key.as_str().expect("a key")).await else { return };
    bridge.patch(&webhook, &scene.token, &json!({"url": verifier.url})).await;
    deliver(&bridge, &scene, &webhook).await;
    assert_eq!(entries(&verifier.accepted().await), 1);
    rotate(&bridge, &scene, &webhook, json!({})).await;
    deliver(&bridge, &scene, &webhook).await;
    let request = verifier.accepted().await;
    assert_eq!(entries(&request), 2);
    assert_eq!(send_again(&bridge, &verifier, &request, b"{}".to_vec()).await, 401);
    assert_eq!(verifier.line().await["accepted"], false);
    bridge.stop().await;
}
