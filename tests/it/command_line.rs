//! The program as a user meets it: commands, settings, exit codes and what it says.

mod events;
mod sending;
mod webhooks;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fake_upstream::{FakeUpstream, Options, TokenKind};
use rustix::process::Signal;

use crate::support::process::{Process, Service, addresses, command, run};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that the program gave up with one sentence that has all of `words` in it.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let sentence = said.lines().last().unwrap_or_default();
    assert!(sentence.starts_with("spaces-bridge: "), "{said}");
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in {sentence:?}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// `serve` in `directory` on free ports, with nothing else set.
fn serve_in(directory: &Path) -> Command {
    let mut command = command(&["serve"]);
    command.current_dir(directory);
    command.env("SPACES_BRIDGE_HTTP__LISTEN", "127.0.0.1:0").env("SPACES_BRIDGE_HTTP__INTERNAL_LISTEN", "127.0.0.1:0");
    command
}

#[test]
fn a_configuration_is_checked_and_what_is_wrong_is_named() {
    let fine = run(&["check-config"], &[]);
    assert!(fine.status.success(), "{}", stderr(&fine));
    assert!(stdout(&fine).contains("fine"));
    for (name, value, named) in [
        ("SPACES_BRIDGE_WEBHOOKS__TIMEOUT_SECONDS", "0", "`webhooks.timeout_seconds`"),
        ("SPACES_BRIDGE_HTTP__LISTEN", "everywhere", "`http.listen`"),
        ("SPACES_BRIDGE_UPSTREAM__ENVIRONMENT", "custom", "`upstream.rest_url`"),
        ("SPACES_BRIDGE_SECURITY__ADMIN_KEY", "short", "`security.admin_key`"),
        ("SPACES_BRIDGE_WEBHOKS__TIMEOUT_SECONDS", "5", "webhoks"),
        ("SPACES_BRIDGE_COLOUR", "red", "colour"),
    ] {
        assert_refused(&run(&["check-config"], &[(name, value)]), &[named]);
        assert_refused(&run(&["serve"], &[(name, value)]), &[named]);
    }
}

#[test]
fn the_environment_of_the_commands_does_not_stop_the_service() {
    let client = [
        ("SPACES_BRIDGE_URL", "http://bridge.example"),
        ("SPACES_BRIDGE_TOKEN", "a token"),
        ("SPACES_BRIDGE_TOKEN_FILE", "/a/token"),
        ("SPACES_BRIDGE_TOKEN_TYPE", "jwt"),
    ];
    let checked = run(&["check-config"], &client);
    assert!(checked.status.success(), "{}", stderr(&checked));
}

#[test]
fn shells_complete_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let printed = run(&["completions", shell], &[]);
        assert!(printed.status.success(), "{}", stderr(&printed));
        let script = stdout(&printed);
        assert!(script.contains("webhooks") && script.contains("idempotency-key"), "{shell}: {script}");
    }
    let script = run(&["completions", "bash"], &[]).stdout;
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("completions"), script).expect("written");
    let ask = r#". "$0"; COMP_WORDS=(spaces-bridge webhooks re); COMP_CWORD=2; _spaces__bridge spaces-bridge re webhooks; echo "${COMPREPLY[@]}""#;
    let asked = Command::new("bash").args(["-c", ask]).arg(directory.path().join("completions")).output().expect("bash runs");
    assert_eq!(stdout(&asked).trim(), "replay", "{}", stderr(&asked));
    assert_eq!(run(&["completions", "tcsh"], &[]).status.code(), Some(2));
}

#[test]
fn a_file_is_read_and_its_mistakes_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bridge.toml");
    let path = file.to_str().expect("a path");
    std::fs::write(&file, "[webhooks]\ntimeout_seconds = 5\n").expect("written");
    assert!(run(&["check-config", "--config", path], &[]).status.success());
    std::fs::write(&file, "[webhooks]\ntimeout = 5\n").expect("written");
    assert_refused(&run(&["check-config", "--config", path], &[]), &["webhooks", "timeout"]);
    std::fs::write(&file, "[webhooks\n").expect("written");
    assert_eq!(run(&["check-config", "--config", path], &[]).status.code(), Some(1));
    assert_refused(&run(&["check-config", "--config", "/nowhere/bridge.toml"], &[]), &["/nowhere/bridge.toml"]);
    assert_refused(&run(&["check-config", "--set", "log.format=xml"], &[]), &["`log.format`"]);
}

#[test]
fn the_openapi_document_is_the_committed_one() {
    let printed = run(&["openapi"], &[]);
    assert!(printed.status.success(), "{}", stderr(&printed));
    let committed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json")).expect("the document");
    let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
    assert_eq!(read(&printed.stdout), read(&committed));
}

#[test]
fn the_version_is_told() {
    let printed = run(&["--version"], &[]);
    assert!(printed.status.success());
    assert_eq!(stdout(&printed).trim(), concat!("spaces-bridge ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_command_is_refused_with_help() {
    let output = run(&["fly"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("fly"));
}

#[tokio::test]
async fn without_any_setting_it_serves_from_a_directory_that_it_makes() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut process = Process::spawn(serve_in(directory.path()));
    let (api, _) = addresses(&process).await;
    process.line("ready").await;
    let key = directory.path().join("data/master.key");
    assert_eq!(std::fs::metadata(&key).expect("a key file").permissions().mode() & 0o777, 0o600);
    let warning = process.line("master key was generated").await;
    assert!(warning.contains("WARN") && warning.contains("master.key"), "{warning}");
    let address = api.to_string();
    let healthy = run(&["healthcheck"], &[("SPACES_BRIDGE_HTTP__LISTEN", &address)]);
    assert!(healthy.status.success(), "{}", stderr(&healthy));
    process.signal(Signal::TERM);
    assert_eq!(process.exit().await.code(), Some(0), "{}", process.printed());
    assert!(!process.printed().contains(std::fs::read_to_string(&key).expect("a key").trim()), "the key was printed");
    assert_refused(&run(&["healthcheck"], &[("SPACES_BRIDGE_HTTP__LISTEN", &address)]), &[&address]);
}

#[tokio::test]
async fn a_master_key_that_did_not_seal_the_store_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut process = Process::spawn(serve_in(directory.path()));
    process.line("ready").await;
    process.signal(Signal::TERM);
    assert!(process.exit().await.success());
    let mut other = serve_in(directory.path());
    other.env("SPACES_BRIDGE_SECURITY__MASTER_KEY", STANDARD.encode([7; 32]));
    assert_refused(&other.output().expect("the program runs"), &["`security.master_key`", "another master key"]);
    std::fs::write(directory.path().join("data/master.key"), "damaged").expect("written");
    assert_refused(&serve_in(directory.path()).output().expect("the program runs"), &["master.key"]);
}

#[tokio::test]
async fn a_store_in_use_and_a_port_in_use_stop_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let process = Process::spawn(serve_in(directory.path()));
    let (api, internal) = addresses(&process).await;
    let second = serve_in(directory.path()).output().expect("the program runs");
    assert_refused(&second, &["`store.path`", "in use by another process"]);
    let elsewhere = tempfile::tempdir().expect("a directory");
    let mut same_port = serve_in(elsewhere.path());
    same_port.env("SPACES_BRIDGE_HTTP__LISTEN", api.to_string());
    assert_refused(&same_port.output().expect("the program runs"), &["`http.listen`", &api.to_string()]);
    let mut same_port = serve_in(elsewhere.path());
    same_port.env("SPACES_BRIDGE_HTTP__INTERNAL_LISTEN", internal.to_string());
    assert_refused(&same_port.output().expect("the program runs"), &["`http.internal_listen`", &internal.to_string()]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("data"), "a file in the way").expect("written");
    assert_refused(&serve_in(directory.path()).output().expect("the program runs"), &["`store.path`"]);
}

#[tokio::test]
async fn log_lines_are_json_on_request() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = serve_in(directory.path());
    command.env("SPACES_BRIDGE_LOG__FORMAT", "json");
    let mut process = Process::spawn(command);
    process.line("\"ready\"").await;
    process.signal(Signal::INT);
    assert_eq!(process.exit().await.code(), Some(0));
    for line in process.printed().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn lines_of_a_session_name_it_and_not_the_request_that_opened_it() {
    let upstream = FakeUpstream::start(Options::default()).await.expect("a fake upstream");
    let ana = upstream.user("Ana");
    let token = upstream.token_for(&ana, TokenKind::Jwt);
    let mut service = Service::start(&upstream, &[]).await;
    assert_eq!(service.get("/me", &token).await.status, 200);
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit().await.code(), Some(0));
    let printed = service.process.printed();
    let closing = printed.lines().find(|line| line.contains("closes")).expect("the session's last line");
    assert!(closing.contains("session.id=ses_") && !closing.contains("request.id"), "{closing}");
    assert_eq!(printed.matches("asked to stop").count(), 1, "{printed}");
}
