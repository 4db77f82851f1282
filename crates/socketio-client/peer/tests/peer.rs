//! `rust_socketio` as an independent client of the same servers: what it sees, `socketio-client` sees.

use std::time::Duration;

use futures_util::FutureExt as _;
use rust_socketio::asynchronous::{Client, ClientBuilder};
use rust_socketio::{Payload, TransportType};
use serde_json::json;
use socketio_client::{ConnectOptions, Incoming, Protocol, connect};
use socketio_client_peer::server::Server;
use tokio::sync::mpsc;

#[tokio::test]
async fn both_clients_get_the_same_answers_from_a_server_on_our_codec() {
    let server = Server::start(None).await;
    let url = format!("http://127.0.0.1:{}", server.port);

    let (sender, mut answers) = mpsc::unbounded_channel();
    let theirs = ClientBuilder::new(&url)
        .transport_type(TransportType::Websocket)
        .reconnect(false)
        .on("done", move |payload: Payload, _: Client| {
            sender.send(format!("{payload:?}")).expect("a listener");
            async {}.boxed()
        })
        .connect()
        .await
        .expect("to connect");
    theirs
        .emit("done", json!({ "a": 1 }))
        .await
        .expect("to emit");
    let answer = tokio::time::timeout(Duration::from_secs(10), answers.recv())
        .await
        .expect("in time");
    assert!(answer.expect("an answer").contains("\"a\": Number(1)"));

    let options = ConnectOptions::new(&url)
        .expect("a URL")
        .protocol(Protocol::EngineIo4);
    let mut ours = connect(&options).await.expect("to join");
    ours.emit("done", r#"{"a":1}"#).expect("room");
    let answer = tokio::time::timeout(Duration::from_secs(10), ours.next())
        .await
        .expect("in time");
    let Ok(Incoming::Event(event)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((event.name(), event.arg(0)), ("done", Some(r#"{"a":1}"#)));
}
