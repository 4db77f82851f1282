//! `spaces-bridge send` and `message`.

use std::net::TcpListener;

use fake_upstream::{EchoFault, FileContent};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Scene};
use crate::support::cli::{Cli, end};
use crate::support::process::command;
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

async fn scene() -> (Scene, Bridge, Cli) {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let cli = Cli::new(&bridge.api, &scene.token);
    (scene, bridge, cli)
}

/// A bridge that answers as told.
async fn told(replies: impl IntoIterator<Item = Reply>, then: Reply) -> (Receiver, Cli) {
    let receiver = Receiver::start(then).await;
    receiver.script(replies);
    let cli = Cli::new(&format!("http://{}/", receiver.address()), "a-token-of-nobody-in-particular");
    (receiver, cli)
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::Answer(status, vec![("content-type", "application/json".to_owned())], body.to_string().into_bytes())
}

fn confirmed() -> Reply {
    json_reply(201, &json!({"id": "m1", "ref": "ref_1", "status": "confirmed"}))
}

fn problem(status: u16, code: &str, retry_after: Option<u32>) -> Reply {
    json_reply(status, &json!({"code": code, "title": "A title", "detail": "what happened", "retryAfter": retry_after}))
}

#[tokio::test]
async fn a_text_is_sent_and_its_id_is_told() {
    let (scene, _bridge, cli) = scene().await;
    let space = scene.space.as_ref();
    let sent = cli.run(&["send", "--space", space, "build 41 is green"]).await;
    sent.assert_code(0);
    let id = scene.upstream.with_world(|world| world.messages_in(space)[0].id.clone());
    assert!(sent.out.starts_with(&format!("confirmed {id} (ref_")), "{sent:?}");
    assert_eq!(sent.errors, "");
    let told = cli.run(&["send", "--json", "--space", space, "and 42"]).await.assert_code(0).json_lines().remove(0);
    assert_eq!((told["status"].as_str(), told["message"]["content"]["bodyText"].as_str()), (Some("confirmed"), Some("and 42")));
    let reference = told["ref"].as_str().expect("a reference");
    let again = cli.run(&["message", reference, "--json"]).await;
    assert_eq!(again.assert_code(0).json_lines()[0]["id"], told["id"]);
    assert_eq!(scene.texts(), ["build 41 is green", "and 42"]);
}

#[tokio::test]
async fn words_come_from_standard_input_too_and_in_each_form() {
    let (scene, _bridge, cli) = scene().await;
    let space = scene.space.as_ref();
    cli.run_with(&["send", "--space", space, "-"], "one\n").await.assert_code(0);
    cli.run_with(&["send", "--space", space, "--markdown"], "**two**\r\n").await.assert_code(0);
    cli.run(&["send", "--space", space, "--html", "<b>three</b>"]).await.assert_code(0);
    assert_eq!(scene.texts(), ["one", "<p><strong>two</strong></p>\n", "<b>three</b>"].map(|text| text.trim_end().to_owned()));
    let user = scene.bo.as_ref();
    let direct = cli.run(&["send", "--user", user, "--json", "four"]).await.assert_code(0).json_lines().remove(0);
    assert_ne!(direct["spaceId"], space);
}

#[tokio::test]
async fn the_same_key_sends_once() {
    let (scene, _bridge, cli) = scene().await;
    let send = ["send", "--space", scene.space.as_ref(), "--json", "--idempotency-key", "build-41", "green"];
    let (first, second) = (cli.run(&send).await, cli.run(&send).await);
    assert_eq!(first.assert_code(0).json_lines()[0]["id"], second.assert_code(0).json_lines()[0]["id"]);
    assert_eq!(scene.texts(), ["green"]);
}

#[tokio::test]
async fn what_is_refused_is_told_with_its_reason_and_a_code() {
    let (scene, _bridge, cli) = scene().await;
    let space = scene.space.as_ref();
    let empty = cli.run(&["send", "--space", space, ""]).await;
    empty.assert_code(3);
    assert!(empty.errors.contains("(invalid_body)") && empty.errors.contains("\n  /text: "), "{empty:?}");
    assert_eq!(empty.out, "");
    let failure = cli.run(&["send", "--json", "--space", space, ""]).await.assert_code(3).failure();
    assert_eq!((failure["code"].as_str(), failure["exitCode"].as_u64()), (Some("invalid_body"), Some(3)));
    assert_eq!(failure["errors"][0]["pointer"], "/text");
    let nowhere = cli.run(&["send", "--json", "--space", "64f0a1b2c3d4e5f601020399", "hi"]).await.assert_code(5).failure();
    assert_eq!(nowhere["code"], "space_not_found");
    cli.run(&["message", "ref_nothing"]).await.assert_code(5);
    assert_eq!(scene.texts(), [] as [&str; 0]);
}

#[tokio::test]
async fn tokens_come_from_the_environment_or_a_file_and_are_never_shown() {
    let (scene, bridge, cli) = scene().await;
    let (space, token) = (scene.space.as_ref(), scene.token.as_ref());
    let directory = tempfile::tempdir().expect("a directory");
    let (good, bad) = (directory.path().join("good"), directory.path().join("bad"));
    std::fs::write(&good, format!("{token}\n")).expect("written");
    std::fs::write(&bad, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2ln").expect("written");
    let send = ["send", "--url", &bridge.api, "--space", space, "hi"];
    let mut from_file = command(&send);
    from_file.env("SPACES_BRIDGE_TOKEN_FILE", &good);
    end(from_file, None).await.assert_code(0);
    let refused = cli.run(&["send", "--space", space, "hi", "--token-file", bad.to_str().expect("a path")]).await;
    assert!(refused.assert_code(4).errors.contains("(token_refused)"), "{refused:?}");
    let mut both = command(&send);
    both.env("SPACES_BRIDGE_TOKEN_FILE", &good).env("SPACES_BRIDGE_TOKEN", token);
    end(both, None).await.assert_code(2);
    let none = end(command(&send), None).await;
    assert!(none.assert_code(4).errors.contains("SPACES_BRIDGE_TOKEN_FILE"), "{none:?}");
    let missing = cli.run(&["send", "--space", space, "hi", "--token-file", "/nowhere"]).await;
    assert!(missing.assert_code(1).errors.contains("/nowhere"), "{missing:?}");
    for ended in [refused, none, missing] {
        assert!(!ended.errors.contains(token) && !ended.out.contains(token));
    }
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_sends_nothing() {
    let (receiver, cli) = told([], confirmed()).await;
    for arguments in [
        &["send", "hi"][..],
        &["send", "--space", "a", "--user", "b", "hi"],
        &["send", "--space", "a", "--markdown", "--html", "hi"],
        &["send", "--space", "a", "--wait", "61", "hi"],
        &["send", "--space", "a", "--wait", "1", "--no-wait", "hi"],
        &["send", "--space", "a", "--url", "bridge", "hi"],
        &["send", "--space", "a", "--url", "ftp://bridge", "hi"],
        &["send", "--space", "a", "--token", "secret", "hi"],
        &["events", "--follow", "--limit", "3"],
        &["webhooks"],
    ] {
        cli.run(arguments).await.assert_code(2);
    }
    let missing = cli.run(&["send", "--space", "a", "--file", "/nowhere.pdf"]).await;
    assert!(missing.assert_code(1).errors.contains("/nowhere.pdf"), "{missing:?}");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_message_without_confirmation_is_neither_success_nor_failure() {
    let (scene, _bridge, cli) = scene().await;
    scene.upstream.script(|script| {
        script.echo.always(EchoFault::Held);
    });
    let space = scene.space.as_ref();
    let waited = cli.run(&["send", "--space", space, "--wait", "1", "--json", "slow"]).await;
    let told = waited.assert_code(6).json_lines().remove(0);
    assert_ne!(told["status"], "confirmed");
    cli.run(&["message", told["ref"].as_str().expect("a reference")]).await.assert_code(6);
    let left = cli.run(&["send", "--space", space, "--no-wait", "later"]).await;
    assert!(left.assert_code(0).out.starts_with("queued (ref_") || left.out.starts_with("sent (ref_"), "{left:?}");
}

#[tokio::test]
async fn attempts_that_end_without_an_answer_are_made_again_with_the_same_key() {
    let replies = [Reply::Close, problem(503, "not_ready", Some(1)), problem(429, "key_rate_limited", Some(1))];
    let (receiver, cli) = told(replies, confirmed()).await;
    let sent = cli.run(&["send", "--space", "s1", "--wait", "7", "hi"]).await;
    assert_eq!(sent.assert_code(0).out, "confirmed m1 (ref_1)\n");
    let recorded = receiver.recorded();
    assert_eq!(recorded.len(), 4);
    for request in &recorded {
        assert_eq!(request.line, "POST /spaces/s1/messages HTTP/1.1");
        assert_eq!(request.header("idempotency-key"), recorded[0].header("idempotency-key"));
        assert_eq!(request.header("prefer"), "wait=7");
        assert_eq!(request.header("authorization"), "Bearer a-token-of-nobody-in-particular");
        assert_eq!(request.json(), json!({"text": "hi"}));
    }
    assert!(recorded[0].header("idempotency-key").len() > 20);
}

#[tokio::test]
async fn each_way_to_fail_has_its_code() {
    let bad_gateway = Reply::Answer(502, Vec::new(), b"<html>".to_vec());
    let redirect = Reply::Answer(302, vec![("location", "http://127.0.0.1:1/".to_owned())], Vec::new());
    for (reply, code) in [
        (problem(422, "message_refused", None), 3),
        (problem(409, "message_cancelled", None), 3),
        (problem(413, "message_too_large", None), 3),
        (problem(403, "space_not_in_key", None), 4),
        (problem(404, "space_not_found", None), 5),
        (problem(409, "idempotency_in_progress", Some(1)), 6),
        (problem(503, "not_connected", Some(5)), 7),
        (problem(429, "outbox_full", Some(5)), 8),
        (problem(500, "internal", None), 1),
        (bad_gateway, 6),
        (redirect, 1),
        (Reply::Nonsense, 6),
        (Reply::Close, 6),
        (Reply::BreakInBody, 6),
    ] {
        let (receiver, cli) = told([], reply.clone()).await;
        let ended = cli.run(&["send", "--space", "s1", "--retry-for", "0", "--json", "hi"]).await;
        ended.assert_code(code);
        assert_eq!(ended.failure()["exitCode"], code, "{reply:?}");
        assert_eq!(receiver.count(), 1, "{reply:?}: without patience there is one attempt");
    }
}

#[tokio::test]
async fn doubt_stays_doubt_when_the_bridge_goes_away_afterwards() {
    let (receiver, cli) = told([Reply::Close], problem(503, "not_ready", Some(60))).await;
    let ended = cli.run(&["send", "--space", "s1", "--retry-for", "5", "hi"]).await;
    ended.assert_code(6);
    let key = receiver.recorded()[0].header("idempotency-key").to_owned();
    assert!(ended.errors.contains(&format!("--idempotency-key {key}")), "{ended:?}");
    let (_receiver, cli) = told([Reply::Close], problem(422, "invalid_body", None)).await;
    cli.run(&["send", "--space", "s1", "--retry-for", "5", "hi"]).await.assert_code(3);
}

#[tokio::test]
async fn a_bridge_that_is_not_there_yet_is_waited_for() {
    let scene = Scene::new().await;
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let cli = Cli::new(&format!("http://{address}"), &scene.token);
    let gone = cli.run(&["send", "--space", scene.space.as_ref(), "--retry-for", "0", "hi"]).await;
    assert!(gone.assert_code(7).errors.contains("cannot be reached"), "{gone:?}");
    let (patient, space) = (cli.clone(), scene.space.as_ref().to_owned());
    let sending = tokio::spawn(async move { patient.run(&["send", "--space", &space, "--retry-for", "60", "hi"]).await });
    let _bridge = Bridge::start_with(&scene.upstream, |config| config.http.listen = address).await;
    sending.await.expect("no panic").assert_code(0);
    eventually("the message", async || (scene.texts() == ["hi"]).then_some(())).await;
}

#[tokio::test]
async fn files_go_as_a_form_that_is_the_same_in_each_attempt() {
    let directory = tempfile::tempdir().expect("a directory");
    let (report, notes) = (directory.path().join("report.bin"), directory.path().join("notes.txt"));
    let content: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(&report, &content).expect("written");
    std::fs::write(&notes, "a note").expect("written");
    let (receiver, cli) = told([problem(503, "not_ready", Some(1))], confirmed()).await;
    let [report, notes] = [&report, &notes].map(|path| path.to_str().expect("a path"));
    let sent = cli.run(&["send", "--space", "s1", "--file", report, "--file", notes, "two files"]).await;
    sent.assert_code(0);
    assert_eq!(sent.errors, "", "no progress where nobody looks");
    let recorded = receiver.recorded();
    assert_eq!((recorded.len(), &recorded[0].body), (2, &recorded[1].body));
    let request = &recorded[0];
    let boundary = request.header("content-type").strip_prefix("multipart/form-data; boundary=").expect("a form").to_owned();
    let parts: Vec<Vec<u8>> = split(&request.body, format!("--{boundary}").as_bytes());
    assert_eq!(parts.len(), 5, "nothing, three parts, and the end");
    assert!(parts[1].ends_with(b"\r\n\r\n{\"text\":\"two files\"}\r\n"));
    assert!(String::from_utf8_lossy(&parts[2]).contains("name=\"file\"; filename=\"report.bin\""));
    assert!(parts[2].ends_with(&[b"\r\n\r\n", content.as_slice(), b"\r\n"].concat()));
    assert!(parts[3].ends_with(b"\r\n\r\na note\r\n"));
    assert_eq!(parts[4], b"--\r\n");
}

/// The pieces of `bytes` between each `at`.
fn split(bytes: &[u8], at: &[u8]) -> Vec<Vec<u8>> {
    let (mut pieces, mut piece, mut rest) = (Vec::new(), Vec::new(), bytes);
    while let Some((first, others)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(at) {
            pieces.push(std::mem::take(&mut piece));
            rest = after;
        } else {
            piece.push(*first);
            rest = others;
        }
    }
    pieces.push(piece);
    pieces
}

#[tokio::test]
async fn files_reach_the_space_with_their_message_and_once() {
    let (scene, _bridge, cli) = scene().await;
    let directory = tempfile::tempdir().expect("a directory");
    let report = directory.path().join("report.csv");
    let content: Vec<u8> = (0..1_500_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(&report, &content).expect("written");
    let path = report.to_str().expect("a path");
    let send =
        ["send", "--space", scene.space.as_ref(), "--idempotency-key", "report-41", "--json", "--file", path, "the report"];
    let first = cli.run(&send).await.assert_code(0).json_lines().remove(0);
    let file = &first["message"]["content"]["data"][0];
    assert_eq!((file["name"].as_str(), file["fileSize"].as_u64()), (Some("report.csv"), Some(content.len() as u64)));
    let id = file["fileId"].as_str().expect("an id").to_owned();
    let stored = scene.upstream.with_world(|world| world.uploaded(&id).cloned());
    assert_eq!(stored, Some(FileContent::of(&content)));
    let second = cli.run(&send).await.assert_code(0).json_lines().remove(0);
    assert_eq!(second["id"], first["id"]);
    assert_eq!(scene.texts(), ["the report"]);
    std::fs::write(&report, "another").expect("written");
    let other = cli.run(&send).await;
    assert_eq!(other.assert_code(3).failure()["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn posts_and_tasks_are_sent_too() {
    let (scene, _bridge, cli) = scene().await;
    let space = scene.space.as_ref();
    let post = ["send", "--space", space, "--json", "--category", "post", "--title", "Release 41", "it is out"];
    let post = cli.run(&post).await.assert_code(0).json_lines().remove(0);
    assert_eq!(post["message"]["content"]["bodyText"], "Release 41");
    let task =
        ["send", "--space", space, "--json", "--category", "task", "--title", "Rotate keys", "--assignee", scene.bo.as_ref()];
    let due = ["--due", "2031-03-14T17:00:00Z"];
    let task = cli.run(&[&task[..], &due[..]].concat()).await.assert_code(0).json_lines().remove(0);
    assert_eq!(task["category"], "task");
    let refused = cli.run(&["send", "--space", space, "--category", "post", "no title"]).await;
    assert!(refused.assert_code(3).errors.contains("/title"), "{refused:?}");
}
