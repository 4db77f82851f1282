//! Server-sent events.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::{Talk, text};
use crate::support::bridge::{Bridge, Scene};

/// Far more than anything takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// One event of a stream.
#[derive(Debug, PartialEq)]
struct Received {
    id: String,
    event: String,
    data: Value,
}

/// A reader of a stream.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    async fn open(talk: &Talk, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = talk.bridge.request(Method::GET, &format!("/events?{query}"), &talk.scene.token);
        request = request.header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Received> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (received, rest) = (parse(block), rest.to_owned());
                self.text = rest;
                if received.is_some() {
                    return received;
                }
                continue;
            }
            let chunk = tokio::time::timeout(DEADLINE, self.response.chunk()).await.expect("something comes");
            self.text.push_str(std::str::from_utf8(&chunk.expect("a whole stream")?).expect("a text"));
        }
    }

    /// The messages of the next events.
    async fn messages(&mut self, count: usize) -> Vec<String> {
        let mut messages = Vec::new();
        for _ in 0..count {
            messages.push(message(&self.next().await.expect("an event")));
        }
        messages
    }
}

fn message(received: &Received) -> String {
    text(&received.data["data"]["message"]["id"])
}

/// Reads the fields of an event; `None` for what is only comments or settings.
fn parse(block: &str) -> Option<Received> {
    let field = |name: &str| {
        let lines: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    };
    let data = serde_json::from_str(&field("data")?).expect("JSON");
    Some(Received { id: field("id")?, event: field("event")?, data })
}

#[tokio::test]
async fn a_stream_that_broke_off_goes_on_without_loss_or_repeat() {
    let talk = Talk::start().await;
    let mut stream = Stream::open(&talk, "since=now&type=message.*", None).await;
    let mut said: Vec<String> = (0..5).map(|number| talk.bo_says(&number.to_string())).collect();
    let first = stream.next().await.expect("an event");
    let second = stream.next().await.expect("an event");
    assert_eq!((first.event.as_str(), &first.data["type"]), ("message.created", &first.event.clone().into()));
    drop(stream);
    talk.listeners(0).await;
    said.extend((5..8).map(|number| talk.bo_says(&number.to_string())));
    // As a browser does it: the same address again, with the id of the last event.
    let mut stream = Stream::open(&talk, "since=now&type=message.*", Some(&second.id)).await;
    let mut seen = vec![message(&first), message(&second)];
    seen.extend(stream.messages(6).await);
    assert_eq!(seen, said);
    // The same place serves pages too.
    assert_eq!(super::messages(&talk.events(&format!("type=message.*&cursor={}", second.id)).await), said[2..]);
    drop(stream);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_stream_goes_on_over_a_restart() {
    let talk = Talk::start().await;
    let mut stream = Stream::open(&talk, "since=now&type=message.*", None).await;
    let before = talk.bo_says("before");
    let last = stream.next().await.expect("an event");
    assert_eq!(message(&last), before);
    let (bridge, end) = tokio::join!(talk.bridge.restart(), stream.next());
    assert_eq!(end, None, "a stop ends the stream in good order");
    let talk = Talk::on(talk.scene, bridge).await;
    let mut stream = Stream::open(&talk, "type=message.*", Some(&last.id)).await;
    let after = talk.bo_says("after");
    assert_eq!(stream.messages(1).await, [after]);
    drop(stream);
    talk.bridge.stop().await;
}

#[tokio::test]
async fn many_readers_of_an_account_get_everything() {
    let talk = Talk::start().await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(Stream::open(&talk, "since=now&type=message.*", None).await);
    }
    let said: Vec<String> = (0..20).map(|number| talk.bo_says(&number.to_string())).collect();
    for stream in &mut streams {
        assert_eq!(stream.messages(20).await, said);
    }
    drop(streams);
    talk.listeners(0).await;
    talk.bridge.stop().await;
}

#[tokio::test]
async fn an_odd_last_event_id_is_refused() {
    let talk = Talk::start().await;
    for id in ["x", "LTE", "bnVsbA"] {
        let request = talk.bridge.request(Method::GET, "/events", &talk.scene.token);
        let request = request.header("accept", "text/event-stream").header("last-event-id", id);
        crate::support::bridge::send(request).await.assert_problem(400, "invalid_query");
    }
    talk.bridge.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_and_loses_nothing() {
    // Together more than the kernel keeps for a connection.
    const EVENTS: usize = 60;
    let scene = Scene::with(fake_upstream::Options { limits: fake_upstream::Limits::none(), ..Default::default() }).await;
    let bridge = Bridge::start_with(&scene.upstream, |config| config.http.write_timeout_seconds = 1).await;
    let talk = Talk::on(scene, bridge).await;
    let cursor = talk.now().await;
    let address = talk.bridge.api.trim_start_matches("http://").parse().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut connection = socket.connect(address).await.expect("a connection");
    let head = format!(
        "GET /events?cursor={cursor}&type=message.* HTTP/1.1\r\nhost: x\r\nauthorization: jwt {}\r\naccept: text/event-stream\r\n\r\n",
        talk.scene.token.as_ref()
    );
    connection.write_all(head.as_bytes()).await.expect("sent");
    talk.listeners(1).await;
    let long = "x".repeat(200_000);
    let said: Vec<String> = (0..EVENTS).map(|_| talk.bo_says(&long)).collect();
    // The reader still holds its end, and its place is free again.
    talk.listeners(0).await;
    let mut got = Vec::new();
    // How the connection ends is up to the system.
    let _ = connection.read_to_end(&mut got).await;
    let got = String::from_utf8_lossy(&got);
    let id = got.rmatch_indices("\n\n").find_map(|(end, _)| {
        let block = &got[..end];
        block.rfind("id: ").map(|start| block[start + 4..].lines().next().unwrap_or_default().to_owned())
    });
    let last = id.unwrap_or(cursor);
    let before = said.len() - remaining(&talk, &last).await.len();
    assert!(before < EVENTS, "it did not get everything");
    assert_eq!(remaining(&talk, &last).await, said[before..], "what is left is what it had not got");
    talk.bridge.stop().await;
}

/// The messages after `cursor`, to the end.
async fn remaining(talk: &Talk, cursor: &str) -> Vec<String> {
    let (mut cursor, mut seen) = (cursor.to_owned(), Vec::new());
    loop {
        let page = talk.events(&format!("type=message.*&cursor={cursor}")).await;
        seen.extend(super::messages(&page));
        if page["hasMore"] == false {
            return seen;
        }
        cursor = text(&page["nextCursor"]);
    }
}
