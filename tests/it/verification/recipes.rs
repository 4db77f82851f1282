//! The recipes of `docs/verify.md`, each run on the same table of good and bad deliveries.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::recipe;
use crate::support::tools::Tool;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const BODY: &str = r#"{"text":"Grüße 👋"}"#;

/// A delivery, and whether it should be accepted.
struct Case {
    what: &'static str,
    key: String,
    timestamp: u64,
    signatures: String,
    body: &'static str,
    accepted: bool,
}

/// Signs `BODY` both ways.
fn signed(secret: &str, timestamp: u64) -> String {
    let timestamp = i64::try_from(timestamp).expect("seconds");
    standardwebhooks::Webhook::new(secret).and_then(|key| key.sign("evt_1", timestamp, BODY.as_bytes())).expect("a signature")
}

fn cases() -> Vec<Case> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let other = format!("whsec_{}", STANDARD.encode([9; 24]));
    let (good, foreign) = (signed(SECRET, now), signed(&other, now));
    let case = |what, timestamp, signatures: &str, body, accepted| {
        let (key, signatures) = (SECRET.to_owned(), signatures.to_owned());
        Case { what, key, timestamp, signatures, body, accepted }
    };
    let mut cases = vec![
        case("a good one", now, &good, BODY, true),
        case("the second of two", now, &format!("{foreign} {good}"), BODY, true),
        case("beside an unknown version", now, &format!("v2,abcd {good}"), BODY, true),
        case("a foreign one", now, &foreign, BODY, false),
        case("another body", now, &good, r#"{"text":"Grüße"}"#, false),
        case("another time", now + 1, &good, BODY, false),
        case("an old one", now - 400, &signed(SECRET, now - 400), BODY, false),
        case("one of the future", now + 400, &signed(SECRET, now + 400), BODY, false),
        case("nothing after the version", now, "v1,", BODY, false),
        case("a piece", now, &good[..good.len() - 4], BODY, false),
    ];
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
    let public_key = format!("whpk_{}", STANDARD.encode(pair.public_key()));
    let message = format!("evt_1.{now}.{BODY}");
    let entry = format!("v1a,{}", STANDARD.encode(pair.sign(message.as_bytes())));
    for (what, signatures, body, accepted) in [
        ("ed25519", entry.clone(), BODY, true),
        ("ed25519, the second of two", format!("{good} {entry}"), BODY, true),
        ("ed25519, another body", entry.clone(), "{}", false),
        ("ed25519, foreign", good, BODY, false),
    ] {
        cases.push(Case { key: public_key.clone(), ..case(what, now, &signatures, body, accepted) });
    }
    cases
}

/// The block of code in `language` that `docs/verify.md` has under its recipes.
fn block(language: &str) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.md")).expect("the page");
    let (_, recipes) = page.split_once("## Recipes").expect("recipes");
    let (_, code) = recipes.split_once(&format!("```{language}\n")).expect(language);
    code.split_once("\n```").expect("the end of the block").0.to_owned()
}

/// Runs `command` with one case a line on its standard input; it answers `true` or `false` for each.
fn check(mut command: Command, cases: &[&Case]) {
    let mut input = String::new();
    for case in cases {
        let body = STANDARD.encode(case.body);
        writeln!(input, "{}\tevt_1\t{}\t{}\t{body}", case.key, case.timestamp, case.signatures).expect("memory");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("to write");
    let output = child.wait_with_output().expect("the program ends");
    let answers = String::from_utf8(output.stdout).expect("text");
    let answers: Vec<_> = answers.lines().map(|line| line.trim() == "true").collect();
    assert_eq!(answers.len(), cases.len(), "{command:?}");
    for (case, accepted) in cases.iter().zip(answers) {
        assert_eq!(accepted, case.accepted, "{command:?}: {}", case.what);
    }
}

/// A directory with these files.
fn directory(files: &[(&str, String)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("to write");
    }
    directory
}

#[test]
fn the_recipe_for_rust_is_the_one_that_is_tested() {
    let (_, tested) = include_str!("recipe.rs").split_once("\n\n").expect("a first line about the file");
    assert_eq!(block("rust"), tested.trim_end());
    for case in cases() {
        let timestamp = case.timestamp.to_string();
        let accepted = recipe::verify(&case.key, "evt_1", &timestamp, &case.signatures, case.body.as_bytes());
        assert_eq!(accepted, case.accepted, "{}", case.what);
    }
    let late = Duration::from_secs(1);
    assert!(!recipe::verify(SECRET, "evt_1", "soon", &signed(SECRET, late.as_secs()), BODY.as_bytes()));
}

#[test]
fn the_recipe_for_javascript_works() {
    if !Tool::Node.is_here("the recipe for JavaScript") {
        return;
    }
    let main = r#"
require("node:fs").readFileSync(0, "utf8").trimEnd().split("\n").forEach((line) => {
  const [key, id, timestamp, signature, body] = line.split("\t");
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature };
  console.log(verify(key, headers, Buffer.from(body, "base64")));
});
"#;
    let directory = directory(&[("recipe.js", block("javascript") + main)]);
    let mut command = Command::new("node");
    command.arg(directory.path().join("recipe.js"));
    check(command, &cases().iter().collect::<Vec<_>>());
}

#[test]
fn the_recipe_for_python_works() {
    if !Tool::Python.is_here("the recipe for Python") {
        return;
    }
    let main = r#"

import sys

for line in sys.stdin:
    key, id, timestamp, signature, body = line.rstrip("\n").split("\t")
    headers = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    print(str(verify(key, headers, base64.b64decode(body))).lower())
"#;
    let directory = directory(&[("recipe.py", block("python") + main)]);
    let mut command = Command::new("python3");
    command.arg(directory.path().join("recipe.py"));
    let cases = cases();
    check(command, &cases.iter().filter(|case| case.key == SECRET).collect::<Vec<_>>());
}

#[test]
fn the_recipe_for_java_works() {
    if !Tool::Java.is_here("the recipe for Java") {
        return;
    }
    let main = r#"
import java.io.*;
import java.util.*;

public class Main {
    public static void main(String[] arguments) throws Exception {
        for (String line : (Iterable<String>) new BufferedReader(new InputStreamReader(System.in)).lines()::iterator) {
            String[] parts = line.split("\t", -1);
            var headers = Map.of("webhook-id", parts[1], "webhook-timestamp", parts[2], "webhook-signature", parts[3]);
            System.out.println(Webhooks.verify(parts[0], headers, Base64.getDecoder().decode(parts[4])));
        }
    }
}
"#;
    let directory = directory(&[("Webhooks.java", block("java")), ("Main.java", main.to_owned())]);
    let mut compiler = Command::new("javac");
    compiler.args(["-encoding", "UTF-8", "Webhooks.java", "Main.java"]).current_dir(directory.path());
    assert!(compiler.status().expect("javac runs").success());
    let mut command = Command::new("java");
    command.arg("-cp").arg(directory.path()).arg("Main");
    check(command, &cases().iter().collect::<Vec<_>>());
}

#[test]
fn the_recipe_for_go_works() {
    if !Tool::Go.is_here("the recipe for Go") {
        return;
    }
    let main = r#"
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"recipe/webhooks"
)

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		parts := strings.Split(lines.Text(), "\t")
		headers := map[string]string{"webhook-id": parts[1], "webhook-timestamp": parts[2], "webhook-signature": parts[3]}
		body, _ := base64.StdEncoding.DecodeString(parts[4])
		fmt.Println(webhooks.Verify(parts[0], headers, body))
	}
}
"#;
    let directory = directory(&[("go.mod", "module recipe\n\ngo 1.19\n".to_owned()), ("main.go", main.to_owned())]);
    std::fs::create_dir(directory.path().join("webhooks")).expect("a directory");
    std::fs::write(directory.path().join("webhooks/webhooks.go"), block("go")).expect("to write");
    let mut command = Command::new("go");
    command.args(["run", "."]).current_dir(directory.path()).env("GOFLAGS", "-mod=mod").env("GOTOOLCHAIN", "local");
    command.env("GOCACHE", directory.path().join("cache")).env("GOPATH", directory.path().join("path"));
    check(command, &cases().iter().collect::<Vec<_>>());
}
