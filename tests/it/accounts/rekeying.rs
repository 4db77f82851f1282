//! A new master key: the old one opens nothing any more, and nothing else has changed.

use std::path::Path;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fake_upstream::TokenKind;
use serde_json::json;

use super::*;
use crate::support::process::{Killed, Service, command, run};
use crate::support::receiver::{Receiver, Reply};

fn rekey(data: &Path, key: &Path, more: &[&str]) -> Output {
    let (data, key) = (data.to_str().expect("a path"), key.to_str().expect("a path"));
    let arguments = [&["rekey", "--data", data, "--new-master-key-file", key], more].concat();
    let output = run(&arguments, &[]);
    if let Ok(text) = std::fs::read_to_string(key) {
        note_secret(text.trim());
    }
    output
}

#[track_caller]
fn assert_refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(words), "{said}");
}

/// What the service says that is started on the store as it is.
fn start_in_vain(killed: &Killed) -> Output {
    let mut command = command(&["serve"]);
    command.envs(killed.settings().iter().map(|(name, value)| (name, value)));
    command.env("SPACES_BRIDGE_STORE__PATH", killed.data());
    command.env("SPACES_BRIDGE_HTTP__LISTEN", "127.0.0.1:0").env("SPACES_BRIDGE_HTTP__INTERNAL_LISTEN", "127.0.0.1:0");
    command.output().expect("the program runs")
}

/// The webhook and the account go on as they were.
async fn goes_on(scene: &Scene, service: &Service, receiver: &Receiver, text: &str) {
    let listening = |seen: &Seen| {
        seen.connections().any(|connection| connection.closed_at.is_none() && connection.subscriptions.contains(&scene.space.id))
    };
    scene.upstream.wait_until(DEADLINE, listening).await.expect("a session listens");
    scene.upstream.post_as(&scene.bo, &scene.space, text).expect("Bo is a member");
    eventually("the message at the receiver", async || {
        let requests = receiver.recorded();
        requests.iter().any(|request| request.json()["data"]["message"]["text"] == text).then_some(())
    })
    .await;
    let renew = format!("{}/accounts/{}/renew", service.internal, scene.ana_account());
    let renewed = send(service.client.post(renew).header("authorization", format!("Bearer {ADMIN_KEY}"))).await;
    assert_eq!((renewed.status.as_u16(), &renewed.json()["state"]), (200, &json!("active")), "{}", renewed.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_and_everything_below_it_change_without_a_trace_of_the_old() {
    let scene = Scene::start().await;
    let receiver = Receiver::start(Reply::status(204)).await;
    let service = Service::start(&scene.upstream, &[]).await;
    let body = json!({"credential": scene.refresh_credential()});
    let accounts = service.client.post(format!("{}/accounts", service.internal)).json(&body);
    let created = send(accounts.header("authorization", format!("Bearer {ADMIN_KEY}"))).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let own = scene.upstream.token_for(&scene.ana, TokenKind::Jwt);
    let (webhook, secret) = service.register(&own, &receiver).await;
    goes_on(&scene, &service, &receiver, "before").await;
    let session = service.session().await["id"].clone();
    let sealed = |data: &Path| {
        let database = rusqlite::Connection::open(data.join("store.db")).expect("the database opens");
        let mut rows = database.prepare("SELECT body FROM docs WHERE kind = 'webhook'").expect("a query");
        rows.query_row([], |row| row.get::<_, Vec<u8>>(0)).expect("a webhook")
    };

    let first = scene.directory.path().join("first.key");
    assert_refused(&rekey(service.data(), &first, &[]), "stop it first");
    assert!(!first.exists());
    let mut killed = service.kill().await;
    let before = sealed(killed.data());

    // The master key alone: nothing below it moves.
    let done = rekey(killed.data(), &first, &[]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("security.master_key_file") && said.contains("master.key`"), "{said}");
    assert_eq!(sealed(killed.data()), before);
    assert_refused(&start_in_vain(&killed), "another master key");
    assert_refused(&rekey(killed.data(), &scene.directory.path().join("other.key"), &[]), "another master key");
    killed.set("SPACES_BRIDGE_SECURITY__MASTER_KEY_FILE", first.to_str().expect("a path"));
    let service = killed.start().await;
    goes_on(&scene, &service, &receiver, "with the first").await;
    assert_eq!(service.get(&format!("/webhooks/{webhook}/secret"), &own).await.json()["secret"], secret);

    // Everything.
    let mut killed = service.kill().await;
    let second = scene.directory.path().join("second.key");
    std::fs::write(&second, STANDARD.encode([9; 32])).expect("written");
    let setting = format!("security.master_key_file={}", first.display());
    let done = rekey(killed.data(), &second, &["--all", "--set", &setting]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("sealed anew"));
    assert_ne!(sealed(killed.data()), before);
    assert_refused(&start_in_vain(&killed), "another master key");
    killed.set("SPACES_BRIDGE_SECURITY__MASTER_KEY_FILE", second.to_str().expect("a path"));
    let service = killed.start().await;
    goes_on(&scene, &service, &receiver, "with the second").await;
    assert_eq!(service.get(&format!("/webhooks/{webhook}/secret"), &own).await.json()["secret"], secret);
    // The caller's token still names its session.
    assert_eq!(service.get("/me", &own).await.status, 200);
    let sessions = send(service.request(Method::GET, "/sessions", &format!("Bearer {ADMIN_KEY}"))).await.text;
    assert!(session.is_string() && sessions.contains("\"ses_"), "{sessions}");
}

#[test]
fn there_has_to_be_a_store_and_another_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("new.key");
    assert_refused(&rekey(directory.path(), &key, &[]), "`store.path`");
    std::fs::write(directory.path().join("store.db"), "").expect("written");
    assert_refused(&rekey(directory.path(), &key, &[]), "`security.master_key`");
    assert!(!key.exists());
}
