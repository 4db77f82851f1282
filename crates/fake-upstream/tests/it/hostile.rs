//! Input of every kind never brings the fake upstream down.

use http::Method;
use serde_json::json;

use crate::support::{Client, DEADLINE, Scene, call, call_with};

/// Numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

#[tokio::test]
async fn any_frames_end_a_connection_at_worst() {
    let scene = Scene::new().await;
    let parts = [
        "4",
        "2",
        "0",
        "1",
        "/chat",
        ",",
        "[",
        "]",
        "\"SEND_MESSAGE\"",
        "\"SUBSCRIBE_CHANNEL\"",
        "{\"channel\":",
        "{\"topicId\":",
        "}",
        "null",
        "\u{1F980}",
        "?token=%",
        "9999999999999999999999",
        "-",
        "\"",
        "\\u0000",
        "51-",
        "{}",
        "\"UNSUBSCRIBE_CHANNEL\"",
        "7",
    ];
    let mut noise = Noise(1);
    for _ in 0..60 {
        let mut client = Client::open(&scene.upstream, &scene.anas).await;
        client.join(&scene.anas).await;
        for _ in 0..40 {
            let mut frame = ["42/chat,[", "42/chat,", "40/chat", "4", ""][noise.below(5)].to_owned();
            for _ in 0..noise.below(8) {
                frame.push_str(parts[noise.below(parts.len())]);
            }
            if !client.try_send(&frame).await {
                break;
            }
        }
        drop(client);
        scene.upstream.wait_until(DEADLINE, |seen| seen.open_now() == 0).await.expect("no task is stuck");
    }
    scene.subscribe(&scene.anas).await;
}

#[tokio::test]
async fn any_calls_are_answered_without_a_server_error() {
    let scene = Scene::new().await;
    let id = &scene.ops.id;
    let paths = [
        format!("/api/spaces/{id}/messages/query?refTime=99999999999999999999&size=-1"),
        format!("/api/spaces/{id}/messages/query?pageToken=%FF&size=0"),
        format!("/api/spaces/{id}/messages/query?refTime=9223372036854775807&direction=before&page=18446744073709551615"),
        format!("/api/activitiesrecord/messages?spaceid={id}&before=-9223372036854775808"),
        "/api/users/me/spaces?search=%5B(&after=x&page=x".to_owned(),
        "/api/users/meetingroom/%00%FF".to_owned(),
        "/api/spaces/%2e%2e/join".to_owned(),
        "/api/files/getdownloadurl?fileKeys[]=x".to_owned(),
        "/storage/x?X-Signature=".to_owned(),
    ];
    for path in &paths {
        let status = call(&scene.upstream, &scene.anas, Method::GET, path, None).await.status;
        assert!(status < 500, "{status} for {path}");
    }
    let bodies =
        [json!(null), json!([]), json!("x"), json!({}), json!({"content": 1, "topic": 1, "files": [1], "parentMsg": {"_id": 1}})];
    let posts = [
        "/api/spaces/invite",
        "/api/messages/deletemessages",
        "/api/messages/x",
        "/api/files/getuploadurl",
        "/api/anonymous/auth",
        "/oauth2/access_token",
    ];
    let chats = [format!("/api/spaces/{id}/chats"), format!("/api/spaces/{id}/tasks")];
    for path in posts.into_iter().chain(chats.iter().map(String::as_str)) {
        for body in &bodies {
            let status = call(&scene.upstream, &scene.anas, Method::POST, path, Some(body.clone())).await.status;
            assert!(status < 500, "{status} for {path} with {body}");
        }
        let headers = [("authorization", scene.anas.authorization())];
        let status = call_with(&scene.upstream, Method::POST, path, &headers, vec![0xff, 0xfe, b'{']).await.status;
        assert!(status < 500, "{status} for {path} with bytes");
    }
}
