//! A file that is much larger than what the process may keep of it.

use fake_upstream::{FakeUpstream, FileContent, Options, TokenKind};
use serde_json::Value;

use super::rig::RawCall;
use crate::support::process::Service;

/// The size of the file.
const SIZE: usize = 200 << 20;

/// How much more memory the process may have used at its peak, in KiB.
const MOST_GROWTH: u64 = 32 << 10;

const PIECE: usize = 1 << 20;

/// The file, piece by piece; no two pieces are alike.
fn pieces() -> impl Iterator<Item = Vec<u8>> {
    (0..SIZE / PIECE).map(|number| {
        let mut piece = vec![b'x'; PIECE];
        piece[..8].copy_from_slice(&(number as u64).to_be_bytes());
        piece
    })
}

/// The most memory that the process has used, in KiB.
fn peak(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process.id())).expect("its state");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_while_200_mib_go_through() {
    let upstream = FakeUpstream::start(Options::default()).await.expect("a fake upstream");
    let ana = upstream.user("Ana");
    let (token, space) = (upstream.token_for(&ana, TokenKind::Jwt), upstream.space("Ops", &[&ana]));
    let service = Service::start(&upstream, &[]).await;
    assert_eq!(service.say(&token, &space, "warm-up").await.status, 201);
    let expected = pieces().fold(FileContent::of(&[]), |mut content, piece| {
        content.add(&piece);
        content
    });
    let authorization = format!("jwt {}", token.as_ref());
    let before = peak(&service);

    let path = format!("/spaces/{}/files?name=large.bin", space.as_ref());
    let mut call = RawCall::begin(&service.api, &path, &authorization, &format!("Content-Length: {SIZE}")).await;
    for piece in pieces() {
        call.write(&piece).await.expect("it is taken");
    }
    let (status, body) = call.answer().await;
    assert_eq!(status, 201, "{body}");
    let uploaded: Value = serde_json::from_str(&body).expect("JSON");
    let id = uploaded["attachments"][0]["fileId"].as_str().expect("an id").to_owned();
    assert_eq!(upstream.with_world(|world| world.uploaded(&id).cloned()), Some(expected.clone()));
    let after_body = peak(&service);

    let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"large.bin\"\r\n\r\n";
    let length = head.len() + SIZE + "\r\n--b--\r\n".len();
    let headers = format!("Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}");
    let path = format!("/spaces/{}/messages", space.as_ref());
    let mut call = RawCall::begin(&service.api, &path, &authorization, &headers).await;
    call.write(head.as_bytes()).await.expect("it is taken");
    for piece in pieces() {
        call.write(&piece).await.expect("it is taken");
    }
    call.write(b"\r\n--b--\r\n").await.expect("it is taken");
    let (status, body) = call.answer().await;
    assert_eq!(status, 201, "{body}");
    let sent: Value = serde_json::from_str(&body).expect("JSON");
    let id = sent["message"]["content"]["data"][0]["fileId"].as_str().expect("an id").to_owned();
    assert_eq!(upstream.with_world(|world| world.uploaded(&id).cloned()), Some(expected));
    let after_form = peak(&service);

    println!("peak memory: {before} KiB before, {after_body} KiB after a body, {after_form} KiB after a form");
    assert!(after_form - before < MOST_GROWTH, "{before} KiB, {after_body} KiB after a body, {after_form} KiB after a form");
}
