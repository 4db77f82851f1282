//! `spaces-bridge events`.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::bridge::{Bridge, Scene};
use crate::support::cli::Cli;
use crate::support::process::Process;
use crate::support::wait::eventually;

/// A bridge that listens to the scene's space.
async fn listening() -> (Scene, Bridge) {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let path = format!("/spaces/{}/subscription", scene.space.as_ref());
    assert!(bridge.put(&path, &scene.token).await.status.is_success());
    (scene, bridge)
}

#[tokio::test]
async fn a_page_tells_where_to_go_on() {
    let (scene, bridge) = listening().await;
    let cli = Cli::new(&bridge.api, &scene.token);
    for text in ["one", "two\nlines", "three"] {
        assert_eq!(bridge.say(&scene.token, &scene.space, text).await.status, 201);
    }
    let only = ["events", "--type", "message.*", "--space", scene.space.as_ref()];
    let page = cli.run(&[&only[..], &["--limit", "2"]].concat()).await;
    let lines: Vec<_> = page.assert_code(0).out.lines().collect();
    assert_eq!(lines.len(), 2, "{page:?}");
    assert!(lines[0].ends_with(": one") && lines[1].ends_with(": two lines"), "{page:?}");
    let cursor = page.errors.trim().rsplit(' ').next().expect("a cursor").to_owned();
    assert!(page.errors.starts_with("There is more"), "{page:?}");
    let rest = cli.run(&[&only[..], &["--cursor", &cursor, "--json"]].concat()).await;
    let events = rest.assert_code(0).json_lines();
    assert_eq!((events.len(), events[0]["data"]["message"]["text"].as_str()), (1, Some("three")));
    let next = rest.failure();
    assert_eq!((next["hasMore"].as_bool(), next["nextCursor"].is_string()), (Some(false), true));
    assert_eq!(cli.run(&[&only[..], &["--since", "now"]].concat()).await.assert_code(0).out, "");
    let wrong = cli.run(&["events", "--since", "yesterday"]).await;
    assert!(wrong.assert_code(3).errors.contains("(invalid_query)"), "{wrong:?}");
}

/// Passes connections on to a bridge until they are cut.
struct Line {
    address: SocketAddr,
    cuts: Arc<watch::Sender<u32>>,
}

impl Line {
    async fn to(api: &str) -> Self {
        let target: SocketAddr = api.strip_prefix("http://").and_then(|address| address.parse().ok()).expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let cuts = Arc::new(watch::Sender::new(0));
        let all = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cut = all.subscribe();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await.expect("the bridge is there");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts }
    }

    /// Cuts all connections that there are; new ones are passed on.
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// The texts of the messages that a follower has printed as JSON.
fn texts(follower: &Process) -> Vec<String> {
    let read = |line: &str| serde_json::from_str::<Value>(line).ok();
    let events: Vec<_> = follower.printed().lines().filter_map(read).collect();
    events.iter().map(|event| event["data"]["message"]["text"].as_str().expect("a text").to_owned()).collect()
}

#[tokio::test]
async fn following_goes_on_after_cuts_without_loss_or_repeat() {
    let (scene, bridge) = listening().await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "before").await.status, 201);
    let line = Line::to(&bridge.api).await;
    let cli = Cli::new(&format!("http://{}", line.address), &scene.token);
    let follower = Process::spawn(cli.command(&["events", "--follow", "--json", "--type", "message.created"]));
    eventually("the stream", async || (bridge.metric("spaces_bridge_event_listeners").await >= 1.0).then_some(())).await;
    let mut expected = Vec::new();
    for number in 0..6 {
        if number % 2 == 0 {
            line.cut();
        }
        let text = format!("message {number}");
        assert_eq!(bridge.say(&scene.token, &scene.space, &text).await.status, 201);
        expected.push(text);
        eventually("the message", async || (texts(&follower).len() >= expected.len()).then_some(())).await;
    }
    assert_eq!(texts(&follower), expected);
}

#[tokio::test]
async fn following_from_the_beginning_shows_what_is_there_and_ends_with_the_token() {
    let (scene, bridge) = listening().await;
    assert_eq!(bridge.say(&scene.token, &scene.space, "before").await.status, 201);
    let cli = Cli::new(&bridge.api, &scene.token);
    let follow = ["events", "--follow", "--since", "2020-01-01T00:00:00Z", "--space", scene.space.as_ref()];
    let follower = Process::spawn(cli.command(&follow));
    follower.line(": before").await;
    drop(follower);
    let stranger = Cli::new(&bridge.api, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2ln");
    stranger.run(&follow).await.assert_code(4);
}

#[tokio::test]
async fn a_reader_who_has_had_enough_is_no_failure() {
    let (scene, bridge) = listening().await;
    for number in 0..3 {
        assert_eq!(bridge.say(&scene.token, &scene.space, &format!("message {number}")).await.status, 201);
    }
    let cli = Cli::new(&bridge.api, &scene.token);
    let mut follower = cli.command(&["events", "--follow", "--since", "2020-01-01T00:00:00Z"]);
    follower.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = follower.spawn().expect("the program starts");
    drop(child.stdout.take());
    let status = eventually("the end", async || child.try_wait().expect("the state of a child")).await;
    assert_eq!(status.code(), Some(0));
}
