//! `spaces-bridge demo`, as a new user would try it.

use std::process::Command;

use reqwest::Method;
use rustix::process::Signal;

use crate::support::bridge::send;
use crate::support::process::{Process, command};

/// The arguments of a command line, split by the shell that it is meant for.
fn arguments(line: &str) -> Vec<String> {
    let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}; {line}");
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    assert!(output.status.success(), "{line}");
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// The request that `curl` would make of these arguments.
fn request(client: &reqwest::Client, arguments: &[String]) -> reqwest::RequestBuilder {
    let (mut url, mut headers, mut body) = (None, Vec::new(), None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-s" => {}
            "-H" => headers.extend(arguments.next().and_then(|header| header.split_once(": "))),
            "-d" => body = arguments.next().cloned(),
            _ if argument.starts_with("http://") => url = Some(argument),
            _ => panic!("{argument:?} is new to this test"),
        }
    }
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = client.request(method, url.expect("an address"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    body.into_iter().fold(request, reqwest::RequestBuilder::body)
}

#[tokio::test]
async fn the_demo_shows_a_posted_message_coming_back_as_a_signed_webhook() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut command = command(&["demo", "--listen", "127.0.0.1:0"]);
    command.env("TMPDIR", temporary.path());
    let mut process = Process::spawn(command);
    process.line("Ctrl-C ends the demo").await;
    let welcome = process.line("Welcome to the demo!").await;
    assert!(welcome.contains("signature verified") && welcome.contains("Bo Lind"), "{welcome}");

    let printed = process.printed();
    let lines: Vec<_> = printed.lines().filter(|line| line.starts_with("curl ")).map(arguments).collect();
    assert!(lines.len() >= 4, "{printed}");
    let tls = socketio_client::TlsConfig::platform().expect("a TLS configuration");
    let client = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).no_proxy().build().expect("a client");
    for line in &lines {
        let answer = send(request(&client, line)).await;
        let makes = line.iter().any(|argument| argument == "-d") && !line.iter().any(|argument| argument.contains("/hooks/"));
        let expected = if makes { 201 } else { 200 };
        assert_eq!(answer.status, expected, "{line:?}: {}", answer.text);
    }
    for text in ["Hello from curl", "Hello from any system", "Hello Cleo"] {
        let line = process.line(&format!("from Ana Ruiz: {text:?}")).await;
        assert!(line.starts_with("<- webhook message.created (signature verified)"), "{line}");
    }
    assert!(!process.printed().contains("wrong signature"));

    process.signal(Signal::INT);
    assert_eq!(process.exit().await.code(), Some(0), "{}", process.printed());
    assert!(process.printed().contains("The demo has ended"));
    let left = std::fs::read_dir(temporary.path()).expect("a directory").count();
    assert_eq!(left, 0, "the demo left something behind");
}

#[tokio::test]
async fn the_demo_takes_another_port_if_its_own_is_taken() {
    // Whether or not the usual port is free here, one of the two demos has to move.
    let address = |line: String| line.split(' ').find(|word| word.starts_with("http://")).map(str::to_owned);
    let mut one = Process::spawn(command(&["demo"]));
    let first = address(one.line("spaces-bridge runs at").await);
    let mut other = Process::spawn(command(&["demo"]));
    let addresses = (first, address(other.line("spaces-bridge runs at").await));
    assert!(addresses.0.is_some() && addresses.0 != addresses.1, "{addresses:?}");
    for process in [&mut one, &mut other] {
        process.line("Ctrl-C ends the demo").await;
        process.signal(Signal::INT);
        assert_eq!(process.exit().await.code(), Some(0), "{}", process.printed());
    }
}
