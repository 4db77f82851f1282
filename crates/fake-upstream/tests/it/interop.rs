//! The workspace's own client against the fake upstream.

use std::time::Duration;

use fake_upstream::{Fault, Options, Refusal, Token, Who};
use serde_json::{Value, json};
use socketio_client::{ConnectError, ConnectOptions, Connection, Disconnect, Incoming, RefusedBy, connect};
use tokio::time::timeout;

use crate::support::{DEADLINE, Scene};

fn options(scene: &Scene, token: &Token) -> ConnectOptions {
    ConnectOptions::new(&scene.upstream.socket_url())
        .expect("a valid URL")
        .namespace("/chat")
        .expect("a valid namespace")
        .query("token", &token.value)
        .query("tokenType", token.kind.socket_type())
}

async fn event(connection: &mut Connection, name: &str) -> Value {
    match timeout(DEADLINE, connection.next()).await.expect("an event in time").expect("a connection") {
        Incoming::Event(event) if event.name() == name => event.args().parse(0).expect("JSON"),
        other => panic!("expected {name}, got {other:?}"),
    }
}

#[tokio::test]
async fn the_client_joins_subscribes_sends_and_stays() {
    let options_of_server = Options {
        ping_interval: Duration::from_millis(100),
        ping_timeout: Duration::from_secs(5),
        only_pings_count: true,
        ..Options::default()
    };
    let scene = Scene::with(options_of_server).await;
    let mut connection = connect(&options(&scene, &scene.anas)).await.expect("the client joins");
    let subscribe = json!({"channel": {"type": "topic", "_id": scene.ops.id}});
    connection.emit("SUBSCRIBE_CHANNEL", &subscribe.to_string()).expect("room");
    event(&mut connection, "CHANNEL_SUBSCRIBED").await;
    let chat = json!({"category": "chat", "topicId": scene.ops.id, "content": {"bodyText": "hi"}, "loopbackMetadata": 7});
    connection.emit("SEND_MESSAGE", &chat.to_string()).expect("room");
    assert_eq!(event(&mut connection, "MESSAGE_SENT").await["loopbackMetadata"], 7);

    let pinged = scene.upstream.wait_until(DEADLINE, |seen| seen.pings() >= 3);
    tokio::select! {
        pinged = pinged => pinged.expect("the client pings"),
        incoming = connection.next() => panic!("expected quiet, got {incoming:?}"),
    }
    scene.upstream.fault(&Who::Everybody, &Fault::Kick);
    let end = timeout(DEADLINE, connection.next()).await.expect("an end in time");
    assert!(matches!(end, Err(Disconnect::Kicked { whole: false })), "{end:?}");
}

#[tokio::test]
async fn the_client_reads_the_refusals_as_meant() {
    let scene = Scene::new().await;
    scene.upstream.script(|script| {
        script.refuse.next(1, Refusal::Text("no".to_owned())).next(1, Refusal::RootText("no".to_owned()));
        script.refuse.next(1, Refusal::http(401, "no")).next(1, Refusal::Kick);
    });
    for expected in [RefusedBy::Namespace, RefusedBy::Root, RefusedBy::Http { status: 401 }] {
        match connect(&options(&scene, &scene.anas)).await {
            Err(ConnectError::Refused(refusal)) => assert_eq!(refusal.by, expected),
            other => panic!("expected a refusal by {expected:?}, got {other:?}"),
        }
    }
    let kicked = connect(&options(&scene, &scene.anas)).await;
    assert!(matches!(kicked, Err(ConnectError::Kicked)), "{kicked:?}");
}
