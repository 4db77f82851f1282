//! Hostile templates: each is stopped, the service keeps its memory, and others' calls go on.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use fake_upstream::{FakeUpstream, Options, Space, Token, TokenKind};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::bridge::send;
use crate::support::process::{Service, command};
use crate::support::wait::eventually;

/// How much more memory the service may have used at its peak, in KiB. What the templates ask for is gigabytes.
const MOST_GROWTH: u64 = 48 << 10;

/// Sixty doublings of a list, which the engine's own budget does not see.
fn doubling() -> String {
    format!("{{% set x = [1] * 1000 %}}{}{{{{ x|length }}}}", "{% set x = x + x %}".repeat(60))
}

/// What `/proc` has on a process; nothing if it has ended.
fn about(process: &str, what: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{what}")).unwrap_or_default()
}

fn peak(service: &Service) -> u64 {
    let status = about(&service.process.id().to_string(), "status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A process that the service has started and that has confined itself.
async fn confined_child(service: &Service) -> String {
    let parent = format!("PPid:\t{}\n", service.process.id());
    eventually("a process that renders", async || {
        let all = fs::read_dir("/proc").expect("processes");
        let mut all = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        all.find(|process| about(process, "status").contains(&parent) && limit(process, "Max open files") == "0")
    })
    .await
}

/// A limit of a process.
fn limit(process: &str, name: &str) -> String {
    let limits = about(process, "limits");
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// What a process has open.
fn open_files(process: &str) -> Vec<String> {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.map(|target| target.to_string_lossy().into_owned()).collect()
}

/// The address of a new hook with this template.
async fn hook(service: &Service, token: &Token, space: &Space, source: &str) -> String {
    let hook = json!({"spaceId": space.as_ref(), "template": {"source": source}});
    let answer = service.post("/incoming-hooks", token, &hook).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["url"].as_str().expect("an address").to_owned()
}

async fn call(service: &Service, url: &str, body: &Value) -> Value {
    let answer = send(service.client.request(Method::POST, url).json(body)).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()
}

async fn texts(upstream: &FakeUpstream, space: &Space, count: usize) -> Vec<String> {
    eventually("the messages", async || {
        let texts = upstream.with_world(|world| {
            let messages = world.messages_in(space.as_ref());
            messages.into_iter().map(|message| message.text().to_owned()).collect::<Vec<_>>()
        });
        Some(texts).filter(|texts| texts.len() >= count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_the_engine_does_not_stop_is_stopped_by_its_process() {
    let upstream = FakeUpstream::start(Options::default()).await.expect("a fake upstream");
    let (ana, bo) = (upstream.user("Ana"), upstream.user("Bo"));
    let (anas, bos) = (upstream.token_for(&ana, TokenKind::Jwt), upstream.token_for(&bo, TokenKind::Jwt));
    let (hers, his) = (upstream.space("Hers", &[&ana]), upstream.space("His", &[&bo]));
    let service = Service::start(&upstream, &[]).await;
    let hostile = hook(&service, &anas, &hers, &doubling()).await;
    let good = hook(&service, &bos, &his, "disk {{ payload.free }}").await;
    call(&service, &good, &json!({"free": 0})).await;
    let before = peak(&service);

    let payload = json!({"a": 1});
    let attack = call(&service, &hostile, &payload);
    let meanwhile = async {
        let child = confined_child(&service).await;
        assert_eq!(about(&child, "environ"), "", "it knows nothing of the service");
        // What this test itself was started with is passed on to all.
        let own = open_files("self");
        let open: Vec<_> = open_files(&child).into_iter().filter(|file| !own.contains(file)).collect();
        assert!(open.len() <= 3 && open.iter().all(|file| file.starts_with("pipe:")), "{open:?}");
        let room: u64 = limit(&child, "Max address space").parse().expect("a limit");
        assert!(room < 1 << 30, "{room}");
        for name in ["Max processes", "Max core file size", "Max file size"] {
            assert_eq!(limit(&child, name), "0", "{name}");
        }
        for free in 1..4 {
            assert_eq!(call(&service, &good, &json!({"free": free})).await["understood"], true);
        }
    };
    let (stopped, ()) = tokio::join!(attack, meanwhile);
    assert_eq!(stopped["understood"], false);
    let told = texts(&upstream, &hers, 1).await.remove(0);
    assert!(told.starts_with("<i>Something came and the template takes more "), "{told}");
    assert!(told.ends_with("<code>{&quot;a&quot;:1}</code>"), "{told}");
    assert_eq!(texts(&upstream, &his, 4).await.len(), 4);
    let grown = peak(&service).saturating_sub(before);
    assert!(grown < MOST_GROWTH, "{grown} KiB");
}

/// Stopped, it uses no processor time, so that only the service's own clock can end it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stands_still_is_ended() {
    let upstream = FakeUpstream::start(Options::default()).await.expect("a fake upstream");
    let ana = upstream.user("Ana");
    let token = upstream.token_for(&ana, TokenKind::Jwt);
    let space = upstream.space("Hers", &[&ana]);
    let service = Service::start(&upstream, &[]).await;
    let url = hook(&service, &token, &space, &doubling()).await;
    let payload = json!({"a": 1});
    let halt = async {
        let child = confined_child(&service).await;
        let process = child.parse().ok().and_then(Pid::from_raw).expect("a process");
        kill_process(process, Signal::STOP).expect("it is there");
        child
    };
    let (stopped, child) = tokio::join!(call(&service, &url, &payload), halt);
    assert_eq!(stopped["understood"], false);
    assert_eq!(about(&child, "status"), "", "it is gone");
    let told = texts(&upstream, &space, 1).await.remove(0);
    assert!(told.starts_with("<i>Something came and the template takes more time "), "{told}");
}

#[test]
fn what_takes_too_much_memory_ends() {
    let payload = "[0],".repeat(1_500_000) + "[0]";
    let request = format!(
        "{{\"template\":{{\"source\":\"x\",\"output\":\"text\"}},\"sample\":{{\"payload\":[{payload}],\"event\":null}}}}"
    );
    let mut command = command(&["render"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(request.as_bytes()).expect("it reads");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.signal(), Some(Signal::ABORT.as_raw()), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(ended.stdout.is_empty());
}
