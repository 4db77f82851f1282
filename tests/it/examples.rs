//! The examples of request bodies in the `OpenAPI` document, posted to a live service as they stand there: each must be answered as
//! the document says. Only what names something outside of them (a space, a file on disk, a receiver, a time) is put in its place.

use std::collections::BTreeSet;
use std::time::Duration;

use fake_upstream::TokenKind;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use spaces_bridge::domain::{Clock, SystemClock};
use tempfile::TempDir;

use crate::support::bridge::{ADMIN_KEY, Answer, Bridge, Scene, send};
use crate::support::receiver::{Receiver, Reply};
use crate::support::suite_log::note_secret;

/// The space of the examples, a file of theirs, a receiver, and a time that is not too long ago.
const SPACE: &str = "64f0a1b2c3d4e5f601020304";
const TOKEN_FILE: &str = "/run/tokens/ana";
const RECEIVER: &str = "https://example.com/spaces-events";
const SINCE: &str = "2026-11-20T00:00:00Z";
/// What stands for a secret.
const SECRET: &str = "…";

/// A request of the document, with one of its examples.
struct Call {
    method: Method,
    path: String,
    media_type: String,
    example: Value,
    /// The successes that the document names, with the schema of their bodies.
    successes: Vec<(StatusCode, Value)>,
    for_operator: bool,
}

impl Call {
    fn name(&self) -> String {
        format!("{} {} ({})", self.method, self.path, self.media_type)
    }
}

/// The target of a reference, or the schema itself.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("a target"),
        None => schema,
    }
}

/// The examples of a schema: its own, else those of its choices.
fn examples_of(document: &Value, schema: &Value) -> Vec<Value> {
    let schema = resolved(document, schema);
    let own: Vec<_> = schema["examples"].as_array().into_iter().flatten().chain(schema.get("example")).cloned().collect();
    if !own.is_empty() {
        return own;
    }
    let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    choices.into_iter().flatten().flat_map(|choice| examples_of(document, choice)).collect()
}

/// Every call of the document with an example of a request body.
fn calls(document: &Value) -> Vec<Call> {
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("calls") {
            let successes = operation["responses"].as_object().into_iter().flatten().filter_map(|(status, answer)| {
                let status: StatusCode = status.parse().expect("a status");
                status.is_success().then(|| (status, answer["content"]["application/json"]["schema"].clone()))
            });
            let successes: Vec<_> = successes.collect();
            for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                let named = content["examples"].as_object().into_iter().flatten().map(|(_, example)| example["value"].clone());
                let mut examples: Vec<_> = content.get("example").cloned().into_iter().chain(named).collect();
                if examples.is_empty() {
                    examples = examples_of(document, &content["schema"]);
                }
                calls.extend(examples.into_iter().map(|example| Call {
                    method: method.to_uppercase().parse().expect("a method"),
                    path: path.clone(),
                    media_type: media_type.clone(),
                    example,
                    successes: successes.clone(),
                    for_operator: operation["security"].to_string().contains("adminKey"),
                }));
            }
        }
    }
    calls
}

/// A service in which everything is that the examples take for granted.
struct Stage {
    scene: Scene,
    bridge: Bridge,
    receiver: Receiver,
    directory: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let directory = tempfile::tempdir().expect("a directory");
        let token = scene.upstream.token_for(&scene.ana, TokenKind::Jwt).value;
        note_secret(&token);
        std::fs::write(directory.path().join("ana"), token).expect("written");
        let directories = vec![directory.path().to_owned()];
        let bridge = Bridge::start_with(&scene.upstream, |config| config.accounts.token_directories = directories).await;
        Self { scene, bridge, receiver: Receiver::start(Reply::status(204)).await, directory }
    }

    /// An example with what it names put in its place.
    fn placed(&self, call: &Call) -> Value {
        let mut body = call.example.clone();
        self.place(&mut body);
        body
    }

    fn place(&self, value: &mut Value) {
        match value {
            Value::String(text) => match text.as_str() {
                SPACE => text.clone_from(&self.scene.space.id),
                TOKEN_FILE => *text = self.directory.path().join("ana").display().to_string(),
                RECEIVER => *text = self.receiver.url(),
                SINCE => *text = an_hour_ago(),
                SECRET => {
                    *text = self.scene.upstream.with_world(|world| world.refresh_token_for(&self.scene.ana));
                    note_secret(text);
                }
                _ => {}
            },
            Value::Array(values) => {
                for value in values {
                    self.place(value);
                }
            }
            Value::Object(fields) => {
                for value in fields.values_mut() {
                    self.place(value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The id of something that is made for a call.
    async fn made(&self, path: &str, body: Value) -> Value {
        let answer = self.bridge.post(path, &self.scene.token, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{path}: {}", answer.text);
        answer.json()
    }

    /// The address of a call, with what it is about made for it.
    async fn address(&self, call: &Call) -> String {
        let (space, path) = (&self.scene.space.id, &call.path);
        let id = |made: &Value| made["id"].as_str().expect("an id").to_owned();
        let hook = async || self.made("/incoming-hooks", json!({"spaceId": space, "name": "CI"})).await;
        let address = path.replace("{spaceId}", space).replace("{type}", "user").replace("{name}", "nightly-report");
        match path.split('/').nth(1).expect("a path") {
            "accounts" if path.contains("{id}") => {
                let credential = json!({"kind": "token", "token": self.scene.token.as_ref()});
                let request = self.bridge.plain(Method::POST, &format!("{}/accounts", self.bridge.api));
                let request = request.header("authorization", format!("Bearer {ADMIN_KEY}"));
                let answer = send(request.json(&json!({"name": "Ana", "credential": credential}))).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
                address.replace("{id}", &id(&answer.json()))
            }
            "consumers" => {
                // It stands where the example says that it stands.
                let stands = json!({"cursor": call.example["from"]});
                let answer = send(self.bridge.request(Method::PUT, &address, &self.scene.token).json(&stands)).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
                address
            }
            "direct" => address.replace("{id}", &self.scene.bo.id),
            "hooks" => {
                let url = hook().await["url"].as_str().expect("an address").to_owned();
                address.replace("{secret}", url.rsplit('/').next().expect("a secret"))
            }
            "incoming-hooks" if path.contains("{id}") => address.replace("{id}", &id(&hook().await)),
            "spaces" if path.contains("{messageId}") => {
                let message = self.made(&format!("/spaces/{space}/messages"), json!({"text": "build 41 is green"})).await;
                address.replace("{messageId}", &id(&message))
            }
            "webhooks" if path.contains("{id}") => {
                address.replace("{id}", &id(&self.made("/webhooks", json!({"url": self.receiver.url()})).await))
            }
            _ => address,
        }
    }

    async fn make(&self, call: &Call) -> Answer {
        let address = self.address(call).await;
        let body = self.placed(call);
        let request = if call.for_operator {
            let request = self.bridge.plain(call.method.clone(), &format!("{}{address}", self.bridge.api));
            request.header("authorization", format!("Bearer {ADMIN_KEY}"))
        } else {
            self.bridge.request(call.method.clone(), &address, &self.scene.token)
        };
        let (media_type, bytes) = match call.media_type.as_str() {
            "application/json" => ("application/json", body.to_string()),
            "text/plain" => ("text/plain", body.as_str().expect("a text").to_owned()),
            "multipart/form-data" => ("multipart/form-data; boundary=example", form(&body)),
            other => panic!("an example of {other} is new to this test"),
        };
        send(request.header("content-type", media_type).body(bytes)).await
    }
}

fn an_hour_ago() -> String {
    SystemClock.now().saturating_sub(Duration::from_hours(1)).to_string()
}

/// A form of texts.
fn form(body: &Value) -> String {
    let field = |(name, value): (&String, &Value)| {
        let text = value.as_str().expect("a text");
        format!("--example\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    body.as_object().expect("fields").iter().map(field).collect::<String>() + "--example--\r\n"
}

/// What is wrong with a body by its schema.
fn errors(document: &Value, schema: &Value, body: &Value) -> Vec<String> {
    let mut rules = document.clone();
    rules.as_object_mut().expect("an object").extend(schema.as_object().cloned().unwrap_or_default());
    let rules = jsonschema::options().should_validate_formats(true).build(&rules).expect("a schema");
    rules.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[tokio::test]
async fn every_example_of_a_request_is_answered_as_the_document_says() {
    let document: Value = serde_json::from_str(&spaces_bridge::http::openapi_json()).expect("JSON");
    let calls = calls(&document);
    let paths: BTreeSet<_> = calls.iter().map(|call| (call.method.as_str(), call.path.as_str())).collect();
    assert!(paths.len() >= 20, "only these have an example: {paths:?}");
    for call in calls {
        let stage = Stage::new().await;
        let answer = stage.make(&call).await;
        let name = format!("{} with {}", call.name(), call.example);
        let success = call.successes.iter().find(|(status, _)| *status == answer.status);
        let Some((_, schema)) = success else { panic!("{name}: {} {}", answer.status, answer.text) };
        if schema.is_object() && answer.header("content-type").starts_with("application/json") {
            let errors = errors(&document, schema, &answer.json());
            assert!(errors.is_empty(), "{name}: {errors:?} in {}", answer.text);
        }
        stage.bridge.stop().await;
    }
}
