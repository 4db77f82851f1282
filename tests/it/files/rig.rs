//! Forms as clients write them, and calls that are cut off in the middle.

use fake_upstream::FileContent;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::bridge::{Answer, Bridge, Scene, send};

/// A form under construction.
#[derive(Debug, Clone)]
pub(super) struct Form {
    boundary: &'static str,
    bytes: Vec<u8>,
}

impl Form {
    pub(super) fn new() -> Self {
        Self::with_boundary("----boundary-of-a-test")
    }

    pub(super) fn with_boundary(boundary: &'static str) -> Self {
        Self { boundary, bytes: Vec::new() }
    }

    pub(super) fn field(self, name: &str, value: &str) -> Self {
        self.part(&format!("Content-Disposition: form-data; name=\"{name}\""), value.as_bytes())
    }

    pub(super) fn file(self, name: &str, media_type: &str, content: &[u8]) -> Self {
        let head = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {media_type}");
        self.part(&head, content)
    }

    pub(super) fn part(mut self, head: &str, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(format!("--{}\r\n{head}\r\n\r\n", self.boundary).as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    pub(super) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The whole form.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        self.bytes
    }

    /// The form without its end.
    pub(super) fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}

/// Where messages of the scene's space go.
pub(super) fn messages(scene: &Scene) -> String {
    format!("/spaces/{}/messages", scene.space.as_ref())
}

/// Where files for the scene's space go.
pub(super) fn files(scene: &Scene) -> String {
    format!("/spaces/{}/files", scene.space.as_ref())
}

/// A request with a form.
pub(super) fn form_request(bridge: &Bridge, scene: &Scene, path: &str, form: Form) -> RequestBuilder {
    let request = bridge.request(Method::POST, path, &scene.token).header("content-type", form.content_type());
    request.body(form.end())
}

pub(super) async fn post_form(bridge: &Bridge, scene: &Scene, path: &str, form: Form) -> Answer {
    send(form_request(bridge, scene, path, form)).await
}

/// The attachments of a message as Spaces has it.
pub(super) fn attachments(scene: &Scene, id: &str) -> Vec<Value> {
    let content =
        scene.upstream.with_world(|world| world.find_message(id).cloned()).expect("the upstream has it").to_json()["content"]
            .clone();
    content["data"].as_array().cloned().unwrap_or_default()
}

/// The bytes of a file as Spaces has them.
pub(super) fn stored(scene: &Scene, file: &Value) -> Option<FileContent> {
    let id = file["fileId"].as_str().expect("an id");
    scene.upstream.with_world(|world| world.uploaded(id).cloned())
}

/// How often an upload address was asked for.
pub(super) fn announcements(scene: &Scene) -> usize {
    scene.upstream.seen(|seen| seen.rest_count("POST", "/api/files/getuploadurl"))
}

/// A call over a connection of its own, of which only a part need be written.
pub(super) struct RawCall(TcpStream);

impl RawCall {
    /// Begins a `POST` with these headers besides the usual ones.
    pub(super) async fn begin(api: &str, path: &str, authorization: &str, headers: &str) -> Self {
        let address = api.strip_prefix("http://").expect("an address");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {authorization}\r\nConnection: close\r\n{headers}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the head is taken");
        Self(stream)
    }

    /// Writes a piece of the body.
    pub(super) async fn write(&mut self, piece: &[u8]) -> std::io::Result<()> {
        self.0.write_all(piece).await
    }

    /// The whole answer: its status and its body.
    pub(super) async fn answer(mut self) -> (u16, String) {
        let mut answer = Vec::new();
        // What was sent and not read may end the connection behind the answer.
        let _ = self.0.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), body.to_owned())
    }
}
