//! Whatever ends a connection leaves no connection, no task and no timer behind.

use std::time::Duration;

use socketio_client::{Client, ConnectError, Disconnect, Protocol, connect};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Peer, Server, soon};

/// How a script leaves the server's side.
type Left = Option<Peer>;

/// Tasks of this test's own runtime; the scripted server has none.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until the last task has ended, which tells of its end a moment before.
async fn no_task_is_left(ending: &str) {
    let ended = async {
        while tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(crate::support::DEADLINE, ended).await.is_ok(), "{ending}: {} tasks are left", tasks());
}

/// Ends a client's connection by a script for the server, and sees what is left.
async fn ends(ending: &str, times: (u64, u64), script: impl AsyncFnOnce(Peer) -> Left) -> Disconnect {
    let server = Server::start().await;
    let (connection, peer) = server.join(Protocol::EngineIo3, times.0, times.1).await;
    assert_eq!(tasks(), 0, "a connection has no task of its own");
    let (client, mut events) = Client::spawn(connection, 4);
    assert_eq!(tasks(), 1, "a client has one");
    let left = script(peer).await;
    let end = soon(events.next()).await.expect_err("the end");
    if let Some(mut peer) = left {
        peer.until_closed().await;
    }
    // While both handles still live.
    no_task_is_left(ending).await;
    drop((client, events));
    end
}

const CALM: (u64, u64) = (25_000, 60_000);

#[tokio::test]
async fn no_task_is_left_after_any_end_that_the_server_makes() {
    let packets: [(&str, &[&str]); 5] = [
        ("a kick from the namespace", &["41/chat,"]),
        ("a kick from the server", &["41", "41/chat,"]),
        ("a refusal", &[r#"44/chat,"expired""#]),
        ("a close packet", &["1"]),
        ("a broken protocol", &["9"]),
    ];
    for (ending, packets) in packets {
        ends(ending, CALM, async |mut peer| {
            peer.send_together(packets).await;
            Some(peer)
        })
        .await;
    }
    let end = ends("a close frame", CALM, async |mut peer| {
        peer.send_message(Message::Close(None)).await;
        Some(peer)
    })
    .await;
    assert!(matches!(end, Disconnect::ServerClosed { .. }), "{end:?}");
    let end = ends("a loss", CALM, async |peer| {
        drop(peer);
        None
    })
    .await;
    assert!(matches!(end, Disconnect::Lost(_)), "{end:?}");
    let end = ends("no frames", CALM, async |peer| {
        peer.into_stream().write_all(&[0xFF; 8]).await.expect("to write");
        None
    })
    .await;
    assert!(matches!(end, Disconnect::Protocol(_)), "{end:?}");
    let end = ends("silence", (20, 20), async |peer| Some(peer)).await;
    assert!(matches!(end, Disconnect::HeartbeatTimeout), "{end:?}");
}

#[tokio::test]
async fn no_task_is_left_after_any_end_that_the_owner_makes() {
    let server = Server::start().await;
    for ending in ["closed", "dropped", "dropped while its events wait"] {
        let (connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
        let (client, events) = Client::spawn(connection, 1);
        match ending {
            "closed" => {
                let closing = async {
                    client.close().await;
                    drop(client);
                };
                soon(async { tokio::join!(closing, peer.until_closed()) }).await;
                drop(events);
            }
            "dropped" => {
                drop((client, events));
                peer.until_closed().await;
            }
            _ => {
                for _ in 0..8 {
                    peer.send(r#"42/chat,["unread"]"#).await;
                }
                drop(client);
                peer.until_closed().await;
                drop(events);
            }
        }
        no_task_is_left(ending).await;
    }
}

#[tokio::test]
async fn no_task_is_left_after_any_attempt_that_fails() {
    let refusals: [(&str, &str); 4] =
        [("refused", r#"44/chat,"no""#), ("kicked", "41/chat,"), ("closed", "1"), ("no packet", "9")];
    for (ending, packet) in refusals {
        let server = Server::start().await;
        server
            .refuse(Protocol::EngineIo3, async |mut peer| {
                peer.send(packet).await;
                peer.until_closed().await;
            })
            .await;
        assert_eq!(tasks(), 0, "{ending}");
    }
    let server = Server::start().await;
    for status in ["401 Unauthorized", "503 Service Unavailable"] {
        let options = server.options(Protocol::EngineIo3);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let (result, ()) = soon(async { tokio::join!(connect(&options), server.answer_raw(&answer)) }).await;
        result.expect_err("no connection");
        assert_eq!(tasks(), 0, "{status}");
    }
    let hasty = server.options(Protocol::EngineIo3).connect_timeout(Duration::from_millis(20));
    let (result, _stream) = soon(async { tokio::join!(connect(&hasty), server.accept_tcp()) }).await;
    assert!(matches!(result, Err(ConnectError::Timeout { .. })), "{result:?}");
    assert_eq!(tasks(), 0, "silence");
}
