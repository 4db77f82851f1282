//! The API as callers see it: the whole service in front of a fake Spaces, over HTTP.

use fake_upstream::{DemoWorld, EchoFault, FakeUpstream, Options, SendRefusal, TokenKind};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::{ADMIN_KEY, Bridge, send};
use crate::support::receiver::{Receiver, Reply};
use crate::support::wait::eventually;

/// The service, and Spaces behind it.
struct Service {
    upstream: FakeUpstream,
    world: DemoWorld,
    bridge: Bridge,
}

/// An answer with its body.
struct Answer {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let answer = send(request).await;
    Answer { status: answer.status, headers: answer.headers, body: serde_json::from_str(&answer.text).unwrap_or_default() }
}

impl Service {
    async fn start() -> Self {
        let upstream = FakeUpstream::start(Options::default()).await.expect("the fake upstream starts");
        let world = upstream.demo_world();
        let bridge = Bridge::start(&upstream).await;
        Self { upstream, world, bridge }
    }

    async fn stop(self) {
        self.bridge.stop().await;
        self.upstream.stop().await;
    }

    /// A call as Ana.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call_as(&self.world.token, method, path, body).await
    }

    async fn call_as(&self, token: impl AsRef<str>, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.bridge.request(method, path, token);
        answer(if let Some(body) = body { request.json(&body) } else { request }).await
    }

    /// Sends a message as Ana that waits so many seconds.
    async fn send_waiting(&self, seconds: u8, body: &Value) -> Answer {
        let request = self.bridge.request(Method::POST, &self.messages(), &self.world.token);
        answer(request.json(body).header("prefer", format!("wait={seconds}"))).await
    }

    /// A token of somebody else.
    fn token_of_bo(&self) -> fake_upstream::Token {
        self.upstream.token_for(&self.world.bo, TokenKind::Jwt)
    }

    fn messages(&self) -> String {
        format!("/spaces/{}/messages", self.world.operations.id)
    }
}

#[tokio::test]
async fn a_send_is_confirmed_with_the_id_that_spaces_gave() {
    let service = Service::start().await;
    let body = json!({"text": "a < b\n& \"c\""});
    let sent = service.send_waiting(20, &body).await;
    assert_eq!(sent.status, StatusCode::CREATED, "{}", sent.body);
    assert_eq!(sent.header("preference-applied"), "wait=20");
    assert_eq!(sent.body["status"], "confirmed");
    assert_eq!(sent.body["category"], "chat");
    assert_eq!(sent.body["id"], sent.body["message"]["_id"]);
    assert_eq!(sent.body["spaceId"], service.world.operations.id.as_str());
    let payload = service.upstream.seen(fake_upstream::Seen::sends).pop().expect("a send");
    assert_eq!(payload["content"]["bodyText"], "a &lt; b<br>&amp; &quot;c&quot;");
    assert_eq!(payload["loopbackMetadata"], json!({"bridge": "spaces-bridge", "ref": sent.body["ref"]}));
    let again = service.call(Method::GET, sent.header("location"), None).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &sent.body));
    service.stop().await;
}

#[tokio::test]
async fn every_form_of_a_message_reaches_spaces() {
    let service = Service::start().await;
    let attachment = json!({"fileId": "f1", "name": "n", "fileSize": 1, "fileType": "image", "providerFileType": "image/png"});
    let forms = [
        json!({"html": "<p onclick=x>a<script>b</script></p>", "replyTo": "650011223344556677889900"}),
        json!({"attachments": [attachment]}),
        json!({"category": "idea", "content": {"bodyText": "title", "description": "<p>d</p>", "more": 1}, "version": "1.1",
            "loopbackMetadata": {"mine": 1}}),
    ];
    for form in &forms {
        let sent = service.call(Method::POST, &service.messages(), Some(form.clone())).await;
        assert_eq!(sent.status, StatusCode::CREATED, "{}", sent.body);
    }
    let sends = service.upstream.seen(fake_upstream::Seen::sends);
    assert_eq!(sends[0]["content"]["bodyText"], "<p>a</p>");
    assert_eq!(sends[0]["parentMsg"]["_id"], "650011223344556677889900");
    assert_eq!(sends[1]["content"]["data"][0]["provider"], "native");
    assert_eq!((&sends[2]["category"], &sends[2]["content"]), (&json!("idea"), &forms[2]["content"]));
    assert_eq!((&sends[2]["version"], &sends[2]["loopbackMetadata"]["bridge"]), (&json!("1.1"), &json!("spaces-bridge")));
    service.stop().await;
}

#[tokio::test]
async fn a_send_without_an_echo_is_unconfirmed_until_the_echo_comes() {
    let service = Service::start().await;
    service.upstream.script(|script| {
        script.echo.next(1, EchoFault::Missing);
    });
    let sent = service.send_waiting(1, &json!({"text": "a"})).await;
    assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.body);
    assert_eq!(sent.body["status"], "unconfirmed");
    let location = sent.header("location").to_owned();
    let state = service.call(Method::GET, &location, None).await;
    assert_eq!((state.status, &state.body["ref"]), (StatusCode::OK, &sent.body["ref"]));
    let foreign = service.call_as(service.token_of_bo(), Method::GET, &location, None).await;
    assert_eq!((foreign.status, &foreign.body["code"]), (StatusCode::NOT_FOUND, &json!("message_not_found")));
    service.stop().await;
}

#[tokio::test]
async fn what_spaces_refuses_is_told_with_its_code() {
    let service = Service::start().await;
    let space = service.messages();
    service.upstream.script(|script| {
        script.send_refusal.next(1, SendRefusal::policy());
        script.send_refusal.next(1, SendRefusal::Object { code: "too.odd".to_owned(), message: "too odd".to_owned() });
    });
    for (path, status, code, upstream_code) in [
        (space.as_str(), 403, "message_forbidden", json!("not.authorized.by.topic.policy")),
        (space.as_str(), 422, "message_refused", json!("too.odd")),
    ] {
        let answer = service.call(Method::POST, path, Some(json!({"text": "a"}))).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (status, &json!(code)), "{}", answer.body);
        assert_eq!(answer.body["upstreamCode"], upstream_code);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let unknown = service.call(Method::POST, "/spaces/64f0a1b2c3d4e5f601020399/messages", Some(json!({"text": "a"}))).await;
    assert!([403, 404, 409].contains(&unknown.status.as_u16()), "{}", unknown.body);
    let stranger = service.call_as("aaa.bbb.ccc", Method::GET, "/me", None).await;
    assert_eq!((stranger.status.as_u16(), &stranger.body["code"]), (401, &json!("token_refused")), "{}", stranger.body);
    assert!(stranger.header("www-authenticate").contains("invalid_token"));
    service.stop().await;
}

#[tokio::test]
async fn the_caller_and_the_spaces_are_told_in_pages() {
    let service = Service::start().await;
    let me = service.call(Method::GET, "/me", None).await;
    assert_eq!(me.status, StatusCode::OK, "{}", me.body);
    assert_eq!(me.body["userId"], service.world.ana.id.as_str());
    let mut seen = Vec::new();
    let mut path = "/spaces?limit=2".to_owned();
    loop {
        let page = service.call(Method::GET, &path, None).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        seen.extend(page.body["data"].as_array().expect("a page").iter().map(|space| space["id"].clone()));
        let Some(cursor) = page.body["nextCursor"].as_str() else { break };
        path = format!("/spaces?limit=2&cursor={cursor}");
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_direct_message_finds_its_space_once() {
    let service = Service::start().await;
    let path = format!("/direct/user/{}", service.world.cleo.id);
    for _ in 0..2 {
        let sent = service.call(Method::POST, &path, Some(json!({"text": "a"}))).await;
        assert_eq!(sent.status, StatusCode::CREATED, "{}", sent.body);
        assert_eq!(sent.body["spaceId"], service.world.direct.id.as_str());
    }
    let unknown = service.call(Method::POST, "/direct/user/5a0b1c2d3e4f506172830000", Some(json!({"text": "a"}))).await;
    assert!(unknown.status.is_client_error(), "{}", unknown.body);
    service.stop().await;
}

#[tokio::test]
async fn subscriptions_and_sessions_are_seen_by_their_account_and_the_operator() {
    let service = Service::start().await;
    let path = format!("/spaces/{}/subscription", service.world.lounge.id);
    for _ in 0..2 {
        let put = service.call(Method::PUT, &path, None).await;
        assert_eq!((put.status, &put.body["state"]), (StatusCode::OK, &json!("subscribed")), "{}", put.body);
    }
    let list = service.call(Method::GET, "/subscriptions", None).await;
    assert_eq!(list.body["data"], json!([{"spaceId": service.world.lounge.id, "state": "subscribed"}]));
    let sessions = service.call(Method::GET, "/sessions", None).await;
    let session = &sessions.body["data"][0];
    assert_eq!((&session["state"], &session["durable"]), (&json!("online"), &json!(true)), "{session}");
    let path_of_session = format!("/sessions/{}", session["id"].as_str().expect("an id"));
    let bo = service.token_of_bo();
    let foreign = service.call_as(&bo, Method::GET, &path_of_session, None).await;
    assert_eq!(foreign.body["code"], "session_not_found");
    let list = service.bridge.plain(Method::GET, &format!("{}/sessions", service.bridge.api));
    let all = answer(list.header("authorization", format!("Bearer {ADMIN_KEY}"))).await;
    assert_eq!(all.body["data"].as_array().map(Vec::len), Some(2));
    for status in [204, 404] {
        assert_eq!(service.call(Method::DELETE, &path, None).await.status.as_u16(), status);
    }
    assert_eq!(service.call(Method::DELETE, &path_of_session, None).await.status, StatusCode::NO_CONTENT);
    service.stop().await;
}

#[tokio::test]
async fn a_webhook_is_registered_tried_changed_and_deleted() {
    let service = Service::start().await;
    let receiver = Receiver::start(Reply::status(200)).await;
    let body = json!({"url": receiver.url(), "description": "mine"});
    let created = service.call(Method::POST, "/webhooks", Some(body)).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
    assert_eq!((&created.body["events"], &created.body["spaces"]), (&json!(["message.*"]), &json!(["*", "direct"])));
    let path = created.header("location").to_owned();
    let shown = service.call(Method::GET, &path, None).await;
    assert_eq!(shown.body.get("secret"), None);
    let secret = service.call(Method::GET, &format!("{path}/secret"), None).await;
    assert_eq!(secret.body["secret"], created.body["secret"]);
    assert_eq!(secret.header("cache-control"), "no-store");

    let tried = service.call(Method::POST, &format!("{path}/test"), None).await;
    assert_eq!(tried.status, StatusCode::ACCEPTED, "{}", tried.body);
    let deliveries = format!("{path}/deliveries?state=delivered");
    let delivery = eventually("the test delivery", async || {
        let page = service.call(Method::GET, &deliveries, None).await;
        page.body["data"].get(0).cloned()
    })
    .await;
    assert_eq!(delivery["eventId"], tried.body["eventId"]);
    let detail = format!("/deliveries/{}", delivery["id"].as_str().expect("an id"));
    let detail = service.call(Method::GET, &detail, None).await;
    assert_eq!(detail.body["attempts"][0]["status"], 200, "{}", detail.body);

    let off = service.call(Method::PATCH, &path, Some(json!({"enabled": false, "description": null}))).await;
    assert_eq!((&off.body["status"], &off.body["description"]), (&json!("disabled"), &Value::Null));
    let tried = service.call(Method::POST, &format!("{path}/test"), None).await;
    assert_eq!((tried.status.as_u16(), &tried.body["code"]), (409, &json!("webhook_not_enabled")));
    let wrong = service.call(Method::PATCH, &path, Some(json!({"enabled": null}))).await;
    assert_eq!(wrong.body["errors"][0]["pointer"], "/enabled");

    let bo = service.token_of_bo();
    for (method, suffix) in [(Method::GET, ""), (Method::DELETE, ""), (Method::GET, "/secret"), (Method::GET, "/deliveries")] {
        let foreign = service.call_as(&bo, method, &format!("{path}{suffix}"), None).await;
        assert_eq!(foreign.body["code"], "webhook_not_found", "{suffix}");
    }
    assert_eq!(service.call(Method::DELETE, &path, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(service.call(Method::GET, &path, None).await.status, StatusCode::NOT_FOUND);
    service.stop().await;
}
