//! The storm of `tests/it/chaos` as far as it is one of the socket, on the real server: cut, kicked, refused, killed, and the service killed.

use std::collections::{HashMap, HashSet};

use fake_upstream::{Limits, Options};
use tokio::task::JoinHandle;

use super::*;
use crate::support::process::Service;
use crate::support::receiver::Recorded;

const ROUNDS: usize = 100;

/// So that the service is quick to give up and quick to try again.
const SETTINGS: [(&str, &str); 6] = [
    ("SPACES_BRIDGE_UPSTREAM__CONNECT_TIMEOUT_SECONDS", "1"),
    ("SPACES_BRIDGE_UPSTREAM__REST_FALLBACK_SECONDS", "0"),
    ("SPACES_BRIDGE_SESSION__REFUSAL_SECONDS", "1"),
    ("SPACES_BRIDGE_SESSION__LONGEST_WAIT_SECONDS", "1"),
    ("SPACES_BRIDGE_OUTBOX__CONFIRM_SECONDS", "1"),
    ("SPACES_BRIDGE_SHUTDOWN__GRACE_SECONDS", "1"),
];

/// A server whose every line is kept.
struct Watched {
    port: u16,
    stdin: ChildStdin,
    child: Child,
    reader: JoinHandle<Vec<Value>>,
}

impl Watched {
    async fn start(port: u16) -> Option<Self> {
        let options = json!({"port": port, "pingInterval": 300, "pingTimeout": 3000, "tellMessages": true});
        let NodeServer { port, stdin, mut lines, child } = NodeServer::start(options).await?;
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            while let Some(line) = lines.next_line().await.expect("to read") {
                read.push(serde_json::from_str(&line).expect("JSON"));
            }
            read
        });
        Some(Self { port, stdin, child, reader })
    }

    async fn command(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.expect("to write");
    }

    /// Kills the process and answers all that it has said.
    async fn kill(mut self) -> Vec<Value> {
        self.child.kill().await.expect("to kill the server");
        self.reader.await.expect("no panic")
    }
}

/// What a server said that did not live on: the messages that it took, and the most connections of the token that it had at once.
fn heard(lines: &[Value]) -> (Vec<String>, usize) {
    let (mut stored, mut open, mut most) = (Vec::new(), HashSet::new(), 0);
    for line in lines {
        match line["event"].as_str() {
            Some("message") => stored.push(line["text"].as_str().expect("a text").to_owned()),
            Some("connect") => _ = open.insert(line["id"].as_str().expect("an id")),
            Some("disconnect") => _ = open.remove(line["id"].as_str().expect("an id")),
            _ => {}
        }
        most = most.max(open.len());
    }
    (stored, most)
}

/// Lets Bo say something: it is in the history, and whoever listens hears it. Answers its id.
async fn bo_says(scene: &Scene, server: &mut Watched, text: &str) -> String {
    let now = SystemClock.now().as_millis();
    let message = scene.upstream.backdate_as(&scene.bo, &scene.space, text, now).expect("Bo is a member");
    server.command(&format!("say {message}")).await;
    message["_id"].as_str().expect("an id").to_owned()
}

/// How often the log tells of each message, by id and text.
async fn logged(service: &Service, scene: &Scene) -> HashMap<(String, String), usize> {
    let (mut counts, mut cursor) = (HashMap::new(), String::new());
    loop {
        let page = service.get(&format!("/events?type=message.*&limit=200{cursor}"), &scene.token).await.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for event in page["data"].as_array().expect("a list") {
            let message = &event["data"]["message"];
            *counts.entry((text(&message["id"]), text(&message["text"]))).or_default() += 1;
        }
        if page["hasMore"] != true {
            return counts;
        }
        cursor = format!("&cursor={}", text(&page["nextCursor"]));
    }
}

fn is_about(request: &Recorded, message: &str) -> bool {
    serde_json::from_slice::<Value>(&request.body).is_ok_and(|body| body["data"]["message"]["id"] == message)
}

fn message(service: &Service, scene: &Scene, text: &str) -> reqwest::RequestBuilder {
    let path = format!("/spaces/{}/messages", scene.space.as_ref());
    let request = service.request(Method::POST, &path, &format!("jwt {}", scene.token.as_ref()));
    request.header("prefer", "wait=2").json(&json!({ "text": text }))
}

/// Waits until the session listens to the space.
async fn is_back(service: &Service, scene: &Scene) {
    let listens = json!([{"spaceId": scene.space.id, "state": "subscribed"}]);
    eventually("the session", async || {
        // A refused token is tried again when its holder calls.
        let is_known = service.get("/me", &scene.token).await.status == StatusCode::OK;
        (is_known && service.session().await["spaces"] == listens).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_told_and_what_is_sent_stands_once_whatever_breaks_on_the_real_server() {
    let scene = Scene::with(Options { limits: Limits::none(), ..Options::default() }).await;
    let Some(mut server) = Watched::start(0).await else { return };
    let url = format!("http://127.0.0.1:{}", server.port);
    let settings = [&SETTINGS[..], &[("SPACES_BRIDGE_UPSTREAM__SOCKET_URL", &url)]].concat();
    let mut service = Service::start(&scene.upstream, &settings).await;
    let receiver = Receiver::start(Reply::status(204)).await;
    service.register(&scene.token, &receiver).await;

    let (mut said, mut calls, mut outcomes, mut stored, mut most) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        // Each blow is to fall on a session that has come back from the one before.
        if matches!(round % 20, 0 | 4 | 7 | 10 | 13 | 18) {
            is_back(&service, &scene).await;
            for attempt in 1.. {
                let text = format!("message {round} in attempt {attempt}");
                let answer = send(message(&service, &scene, &text)).await;
                outcomes.push((text, answer.status));
                if answer.status == StatusCode::CREATED {
                    break;
                }
            }
        }
        said.push(bo_says(&scene, &mut server, &format!("Bo's message {round}")).await);
        calls.push(tokio::spawn(message(&service, &scene, &format!("message {round}")).send()));
        match round % 20 {
            2 | 8 => server.command("cut").await,
            5 => server.command("kick").await,
            11 => {
                server.command("refuse").await;
                server.command("cut").await;
            }
            15 => service = service.kill().await.start().await,
            19 => {
                let port = server.port;
                let (messages, connections) = heard(&server.kill().await);
                stored.extend(messages);
                most = most.max(connections);
                server = Watched::start(port).await.expect("it started before");
            }
            // So that the blows fall on messages at every step of their way.
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }

    for (round, call) in calls.into_iter().enumerate() {
        // No answer came if the service was killed meanwhile.
        let Ok(answer) = call.await.expect("no panic") else { continue };
        outcomes.push((format!("message {round}"), answer.status()));
    }
    is_back(&service, &scene).await;
    eventually("all that Bo said", async || {
        let counts = logged(&service, &scene).await;
        let is_there = |(round, id): (usize, &String)| counts.contains_key(&(id.clone(), format!("Bo's message {round}")));
        said.iter().enumerate().all(is_there).then_some(())
    })
    .await;
    eventually("all of it at the webhook", async || {
        let requests = receiver.recorded();
        said.iter().all(|id| requests.iter().any(|request| is_about(request, id))).then_some(())
    })
    .await;
    let twice: Vec<_> = logged(&service, &scene).await.into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "more than one event of {twice:?}");

    let (messages, connections) = heard(&server.kill().await);
    stored.extend(messages);
    assert_eq!(most.max(connections), 1, "connections of one token at the same time");
    for (text, status) in outcomes {
        let times = stored.iter().filter(|stored| **stored == text).count();
        match status {
            StatusCode::CREATED => assert_eq!(times, 1, "{text} was confirmed"),
            // Whether it stands there is not known.
            StatusCode::ACCEPTED => assert!(times <= 1, "{text} stands {times} times"),
            _ => assert_eq!(times, 0, "{text} was refused with {status}"),
        }
    }
    let known: HashSet<_> = stored.iter().collect();
    assert_eq!(known.len(), stored.len(), "a message stands twice: {stored:?}");
}
