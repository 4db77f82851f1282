//! The service against the real Socket.IO 2.0.4 server that Spaces documents; only the REST side is the fake's.
//!
//! Needs Node.js and `npm ci` in `tests/servers`. Where that is missing each test says so and passes, unless
//! `REQUIRE_NODE=1` makes it a failure.

mod storm;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fake_upstream::{RestFault, TokenKind};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use spaces_bridge::domain::{Clock as _, SystemClock};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::bridge::{Bridge, Scene, send};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// How long the server may take to say something.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running server; it ends when this is dropped.
struct NodeServer {
    port: u16,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl NodeServer {
    /// Starts a server, or explains why there is none.
    async fn start(options: Value) -> Option<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
        if !directory.join("node_modules").is_dir() {
            return Self::skip("run `npm ci` in tests/servers first");
        }
        let spawned = Command::new("node")
            .arg(directory.join("server.js"))
            .args(["2.0", &options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let Ok(mut child) = spawned else {
            return Self::skip("Node.js is not installed");
        };
        let stdin = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut server = Self { port: 0, stdin, lines, child };
        let port = server.line().await["port"].as_u64();
        server.port = port.and_then(|port| u16::try_from(port).ok()).expect("a port");
        Some(server)
    }

    fn skip(reason: &str) -> Option<Self> {
        let required = std::env::var_os("REQUIRE_NODE").is_some_and(|value| value == "1");
        assert!(!required, "{reason}");
        // Not by `eprintln!`, which the test harness keeps to itself when a test passes.
        std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes()).expect("standard error takes a line");
        None
    }

    /// The next line that the server prints.
    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(DEADLINE, self.lines.next_line()).await.expect("a line in time");
        serde_json::from_str(&line.expect("to read").expect("a server that lives")).expect("JSON")
    }

    /// Waits for a line about this.
    async fn event(&mut self, event: &str) -> Value {
        loop {
            let line = self.line().await;
            if line["event"] == event {
                return line;
            }
        }
    }

    /// Lets the server close every connection in order, as on a shutdown.
    async fn close(&mut self) {
        self.command("close").await;
    }

    /// Kills the process, as a crash does.
    async fn kill(mut self) -> u16 {
        self.child.kill().await.expect("to kill the server");
        self.port
    }

    /// Kills the process and answers its port and the texts of all messages that it took and nobody has read yet.
    async fn kill_and_read(mut self) -> (u16, Vec<String>) {
        self.child.kill().await.expect("to kill the server");
        let mut texts = Vec::new();
        while let Some(line) = self.lines.next_line().await.expect("to read") {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if line["event"] == "message" {
                texts.push(line["text"].as_str().expect("a text").to_owned());
            }
        }
        (self.port, texts)
    }

    /// Tells the server to do something.
    async fn command(&mut self, word: &str) {
        self.stdin.write_all(format!("{word}\n").as_bytes()).await.expect("to write");
    }

    /// The service in front of this server.
    async fn bridge(&self, scene: &Scene) -> Bridge {
        let url = format!("http://127.0.0.1:{}", self.port).parse().expect("an address");
        Bridge::start_with(&scene.upstream, |config| config.upstream.socket_url = Some(url)).await
    }
}

#[tokio::test]
async fn a_send_is_confirmed_by_the_real_server() {
    let scene = Scene::new().await;
    let Some(mut server) = NodeServer::start(json!({})).await else { return };
    let bridge = server.bridge(&scene).await;
    let answer = bridge.say(&scene.token, &scene.space, "it's <real>").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["message"]["content"]["bodyText"], "it&#x27;s &lt;real&gt;");
    assert_eq!(server.event("connect").await["urlToken"], scene.token.as_ref());
    for number in 0..50 {
        let answer = bridge.say(&scene.token, &scene.space, &format!("message {number}")).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    }
    assert_eq!(bridge.session().await["reconnects"], 0);
    bridge.stop().await;
    assert_eq!(server.event("disconnect").await["reason"], "client namespace disconnect");
}

#[tokio::test]
async fn posts_tasks_comments_and_mentions_are_confirmed_by_the_real_server() {
    let scene = Scene::new().await;
    let Some(server) = NodeServer::start(json!({})).await else { return };
    let bridge = server.bridge(&scene).await;
    let path = format!("/spaces/{}/messages", scene.space.as_ref());
    let send = async |body: Value| {
        let answer = bridge.post(&path, &scene.token, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{body}: {}", answer.text);
        answer.json()
    };
    let post = send(json!({"category": "post", "title": "Release 41", "text": "faster\nsmaller"})).await;
    assert_eq!((&post["category"], &post["message"]["category"]), (&json!("post"), &json!("idea")));
    assert_eq!(post["message"]["content"]["description"], "faster<br>smaller");
    let task = send(json!({"category": "task", "title": "Rotate keys", "assignees": [scene.bo.id]})).await;
    assert_eq!(task["message"]["content"]["assignees"], json!([{"_id": scene.bo.id}]));
    let comment = send(json!({"text": "done", "replyTo": task["id"]})).await;
    assert_eq!(comment["message"]["parentMsg"]["_id"], task["id"]);
    let mention = send(json!({"text": format!("ask @[Bo]({})", scene.bo.id)})).await;
    assert_eq!(mention["message"]["mentions"], json!([{"id": scene.bo.id, "type": "user", "title": "Bo"}]));
    bridge.stop().await;
}

#[tokio::test]
async fn a_message_of_someone_else_reaches_the_webhook() {
    let scene = Scene::new().await;
    let Some(server) = NodeServer::start(json!({})).await else { return };
    let bridge = server.bridge(&scene).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    bridge.register(&scene.token, &receiver).await;
    eventually("the subscription", async || {
        let listed = bridge.session().await["spaces"].clone();
        (listed == json!([{"spaceId": scene.space.id, "state": "subscribed"}])).then_some(())
    })
    .await;
    let answer = bridge.say(scene.bos_token(), &scene.space, "hello").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    eventually("the delivery", async || (receiver.count() == 1).then_some(())).await;
    let body: Value = serde_json::from_slice(&receiver.recorded()[0].body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["message"]["text"]), (&json!("message.created"), &json!("hello")), "{body}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_refused_token_is_refused_by_the_real_server() {
    for refuse in ["string", "object", "root", "http"] {
        let scene = Scene::new().await;
        let Some(server) = NodeServer::start(json!({"token": "another", "refuse": refuse})).await else { return };
        let bridge = server.bridge(&scene).await;
        bridge.say(&scene.token, &scene.space, "let me in").await.assert_problem(401, "token_refused");
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_fresher_token_takes_over_on_the_real_server_without_loss() {
    let scene = Scene::new().await;
    let Some(mut server) = NodeServer::start(json!({})).await else { return };
    let bridge = server.bridge(&scene).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let (bo, ends) = (scene.bos_token(), SystemClock.now().as_millis() + 48 * 3_600_000);
    let fresher = scene.upstream.with_world(|world| world.token_until(&scene.ana, TokenKind::Jwt, ends));
    bridge.register(&scene.token, &receiver).await;
    eventually("the subscription", async || {
        let listed = bridge.session().await["spaces"].clone();
        (listed == json!([{"spaceId": scene.space.id, "state": "subscribed"}])).then_some(())
    })
    .await;
    assert_eq!(bridge.get("/me", &fresher).await.status, StatusCode::OK);
    let mut said = 0;
    eventually("the end of the old session", async || {
        let answer = bridge.say(&bo, &scene.space, &format!("during {said}")).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        said += 1;
        let sessions = bridge.operator(Method::GET, "/sessions").await.json()["data"].clone();
        let closed = |session: &Value| session["state"] == "closed";
        sessions.as_array().expect("a list").iter().any(closed).then_some(())
    })
    .await;
    let answer = bridge.say(&bo, &scene.space, "after").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    eventually("every delivery", async || (receiver.count() > said).then_some(())).await;
    let mut texts: Vec<_> =
        receiver.recorded().iter().map(|request| request.json()["data"]["message"]["text"].to_string()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), receiver.count()), (said + 1, said + 1), "each once");
    assert_eq!(server.event("disconnect").await["reason"], "client namespace disconnect");
    bridge.stop().await;
}

#[tokio::test]
async fn a_session_outlives_the_heartbeats_and_a_restart_of_the_real_server() {
    let scene = Scene::new().await;
    let options = |port: u16| json!({"port": port, "pingInterval": 300, "pingTimeout": 3000});
    let Some(mut server) = NodeServer::start(options(0)).await else { return };
    let bridge = server.bridge(&scene).await;
    let answer = bridge.say(&scene.token, &scene.space, "one").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    server.event("connect").await;

    server.close().await;
    server.event("disconnect").await;
    let port = server.kill().await;
    let mut server = NodeServer::start(options(port)).await.expect("it started before");
    server.event("connect").await;
    let answer = bridge.say_within(60, &scene.token, &scene.space, "two").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(bridge.session().await["reconnects"], 1);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_with_keys_stand_once_on_the_real_server_whatever_happens_to_its_connections() {
    const SENDS: usize = 60;
    let scene = Scene::new().await;
    // The history is closed, so what is in doubt stays in doubt and is not sent again.
    scene.upstream.script(|script| {
        for history in ["/api/activitiesrecord/messages", "/api/spaces/*/messages/query"] {
            script.rest.on(history).always(RestFault::status(403, "forbidden", "not for you"));
        }
    });
    let options = |port: u16| json!({"port": port, "pingInterval": 300, "pingTimeout": 3000, "tellMessages": true});
    let Some(mut server) = NodeServer::start(options(0)).await else { return };
    let url = format!("http://127.0.0.1:{}", server.port).parse().expect("an address");
    let bridge = Bridge::start_with(&scene.upstream, |config| {
        config.upstream.socket_url = Some(url);
        config.upstream.rest_fallback_seconds = 0;
        config.session.longest_wait_seconds = 1;
        config.outbox.confirm_seconds = 1;
        config.outbox.settle_seconds = 1;
        config.outbox.silence_seconds = 2;
        config.outbox.doubt_seconds = 2;
    })
    .await;
    let (mut calls, mut stored) = (Vec::new(), Vec::new());
    for number in 0..SENDS {
        let path = format!("/spaces/{}/messages", scene.space.as_ref());
        let request = bridge.request(Method::POST, &path, &scene.token).header("prefer", "wait=60");
        let request =
            request.header("idempotency-key", format!("key-{number}")).json(&json!({"text": format!("message {number}")}));
        calls.push(tokio::spawn(send(request)));
        match number % 15 {
            4 => server.command("cut").await,
            9 => server.command("kick").await,
            14 => {
                let (port, messages) = server.kill_and_read().await;
                stored.extend(messages);
                server = NodeServer::start(options(port)).await.expect("it started before");
            }
            // So that the blows fall on messages at every step of their way.
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    let mut confirmed = Vec::new();
    for (number, call) in calls.into_iter().enumerate() {
        let answer = call.await.expect("an answer");
        match answer.status {
            StatusCode::CREATED => confirmed.push(format!("message {number}")),
            StatusCode::ACCEPTED => {}
            _ => panic!("{}", answer.text),
        }
    }
    assert_eq!(bridge.session().await["state"], "online");
    bridge.stop().await;
    stored.extend(server.kill_and_read().await.1);
    let times = |text: &String| stored.iter().filter(|stored| *stored == text).count();
    assert!(stored.iter().all(|text| times(text) == 1), "a message stands twice: {stored:?}");
    assert!(
        !confirmed.is_empty() && confirmed.iter().all(|text| times(text) == 1),
        "{confirmed:?} are confirmed, stored: {stored:?}"
    );
}
