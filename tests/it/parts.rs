//! Texts that are too long for one message, in several.

mod broken;

use std::fmt::Write as _;

use fake_upstream::{Seen, TokenKind};
use reqwest::Method;
use serde_json::{Value, json};
use spaces_bridge::config::Config;

use crate::support::bridge::{Answer, Bridge, Scene, send};
use crate::support::cli::Cli;
use crate::support::wait::eventually;

/// Largest event of these tests.
const LARGEST: usize = 1_000;

/// Small messages, and waits that are as short as they can be.
fn small(config: &mut Config) {
    config.upstream.max_event_bytes = Some(LARGEST);
    config.outbox.confirm_seconds = 10;
    config.outbox.settle_seconds = 1;
    config.outbox.silence_seconds = 1;
}

fn messages(scene: &Scene) -> String {
    format!("/spaces/{}/messages", scene.space.as_ref())
}

/// That many lines, of which one message holds one and no two.
fn lines(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("line {number} {}", "word ".repeat(100).trim_end())).collect()
}

/// Says something long, in whatever form, with further headers.
async fn say(bridge: &Bridge, scene: &Scene, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut request = bridge.request(Method::POST, &messages(scene), &scene.token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.json(body)).await
}

/// What a field says in each of the parts.
fn of_parts<'a>(message: &'a Value, field: &str) -> Vec<&'a str> {
    let parts = message["parts"].as_array().unwrap_or_else(|| panic!("no parts: {message}"));
    parts.iter().map(|part| part[field].as_str().unwrap_or_default()).collect()
}

/// The ids of the messages in the space, in order.
fn ids(scene: &Scene) -> Vec<String> {
    scene.upstream.with_world(|world| world.messages_in(scene.space.as_ref()).iter().map(|message| message.id.clone()).collect())
}

#[tokio::test]
async fn a_long_text_becomes_several_messages_in_order_and_one_answer_names_all() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    let lines = lines(3);
    say(&bridge, &scene, &json!({"text": lines.join("\n")}), &[]).await.assert_problem(413, "message_too_large");
    let answer = say(&bridge, &scene, &json!({"text": lines.join("\n"), "split": true}), &[]).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(scene.texts(), lines);
    let message = answer.json();
    assert_eq!(
        (of_parts(&message, "status"), of_parts(&message, "id")),
        (vec!["confirmed"; 3], ids(&scene).iter().map(String::as_str).collect())
    );
    assert_eq!(
        (&message["id"], &message["ref"], &message["status"]),
        (&message["parts"][0]["id"], &message["parts"][0]["ref"], &json!("confirmed"))
    );
    assert_eq!(answer.header("location"), format!("/messages/{}", message["ref"].as_str().expect("a reference")));
    let state = bridge.get(answer.header("location"), &scene.token).await.json();
    assert_eq!((&state["parts"], &state["status"]), (&message["parts"], &json!("confirmed")));
    let second = bridge.get(&format!("/messages/{}", of_parts(&message, "ref")[1]), &scene.token).await.json();
    assert_eq!((&second["partOf"], &second["id"]), (&message["ref"], &message["parts"][1]["id"]));
    assert_eq!(second["message"]["content"]["bodyText"], lines[1].as_str());
    // What is short enough is one message as ever.
    let short = say(&bridge, &scene, &json!({"text": "short", "split": true}), &[]).await;
    assert_eq!((short.status.as_u16(), &short.json()["parts"]), (201, &Value::Null));
    bridge.stop().await;
}

#[tokio::test]
async fn a_call_that_is_made_again_posts_nothing_again() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    let body = json!({"text": lines(3).join("\n"), "split": true});
    let first = say(&bridge, &scene, &body, &[("idempotency-key", "long")]).await;
    let bridge = bridge.restart().await;
    let again = say(&bridge, &scene, &body, &[("idempotency-key", "long")]).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16(), again.header("idempotency-replayed")), (201, 201, "true"));
    assert_eq!((first.json()["parts"].as_array().map(Vec::len), first.json()), (Some(3), again.json()));
    assert_eq!(scene.texts(), lines(3));
    bridge.stop().await;
}

#[tokio::test]
async fn nobody_has_to_wait_for_the_parts() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    let body = json!({"text": lines(4).join("\n\n"), "split": true});
    let answer = say(&bridge, &scene, &body, &[("prefer", "respond-async")]).await;
    assert_eq!((answer.status.as_u16(), of_parts(&answer.json(), "ref").len()), (202, 4), "{}", answer.text);
    let state = eventually("a message that is confirmed", async || {
        let state = bridge.get(answer.header("location"), &scene.token).await.json();
        (state["status"] == "confirmed").then_some(state)
    })
    .await;
    assert_eq!(of_parts(&state, "id"), ids(&scene));
    assert_eq!(scene.texts(), lines(4));
    bridge.stop().await;
}

#[tokio::test]
async fn each_part_has_what_belongs_to_it() {
    let scene = Scene::new().await;
    let post = scene.upstream.send_as(&scene.bo, &scene.space, &json!({"category": "idea", "content": {"bodyText": "Plan"}}));
    let post = post.expect("a post");
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    let attachment = json!({"fileId": "0b7f3c7e", "name": "report.pdf", "fileSize": 20480, "fileType": "document",
        "providerFileType": "application/pdf"});
    let words = format!("{}word", "word ".repeat(90));
    let body = json!({
        "markdown": format!("- **{words}**\n- ask @[Ana Ruiz](u1) {words}"), "split": true,
        "replyTo": post["_id"], "mentions": [{"id": "u2", "name": "Bo"}], "attachments": [attachment],
    });
    let answer = say(&bridge, &scene, &body, &[]).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let sent = scene.upstream.seen(Seen::sends);
    let [first, second] = &sent[..] else { panic!("{} parts", sent.len()) };
    let text = |part: &Value| part["content"]["bodyText"].as_str().expect("a text").to_owned();
    assert!(text(first).starts_with("<ul><li><strong>word word") && text(first).ends_with("word</strong></li></ul>"), "{first}");
    assert!(text(second).starts_with("<ul><li>ask <mention id=\"u1\""), "{second}");
    let mentioned =
        |part: &Value| part["mentions"].as_array().expect("mentions").iter().map(|who| who["id"].clone()).collect::<Vec<_>>();
    assert_eq!((mentioned(first), mentioned(second)), (vec![json!("u2")], vec![json!("u1")]));
    assert_eq!((&first["parentMsg"]["_id"], &second["parentMsg"]["_id"]), (&post["_id"], &post["_id"]));
    assert_eq!((&first["content"]["data"], &second["content"]["data"][0]["fileId"]), (&json!([]), &json!("0b7f3c7e")));
    bridge.stop().await;
}

#[tokio::test]
async fn people_forms_and_keys_take_long_texts_too() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    let lines = lines(2);
    let direct = format!("/direct/user/{}", scene.bo.id);
    let answer = bridge.post(&direct, &scene.token, &json!({"text": lines.join("\n"), "split": true})).await;
    assert_eq!((answer.status.as_u16(), of_parts(&answer.json(), "status")), (201, vec!["confirmed"; 2]));
    let mut form = String::new();
    for (head, value) in
        [("name=\"text\"", lines.join("\n").as_str()), ("name=\"split\"", "true"), ("name=\"f\"; filename=\"a.txt\"", "x")]
    {
        write!(form, "--cut\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n").expect("a text grows");
    }
    form.push_str("--cut--\r\n");
    let request = bridge.request(Method::POST, &messages(&scene), &scene.token);
    let answer = send(request.header("content-type", "multipart/form-data; boundary=cut").body(form)).await;
    assert_eq!((answer.status.as_u16(), of_parts(&answer.json(), "status")), (201, vec!["confirmed"; 2]), "{}", answer.text);
    assert_eq!(scene.texts(), lines);
    let last = scene.upstream.seen(Seen::sends).pop().expect("a part");
    assert_eq!(last["content"]["data"][0]["name"], "a.txt");
    bridge.stop().await;
}

#[tokio::test]
async fn what_cannot_be_split_is_refused_and_says_why() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    let too_much = say(&bridge, &scene, &json!({"text": lines(45).join("\n"), "split": true}), &[]).await;
    too_much.assert_problem(413, "message_too_large");
    let link = format!("<a href=\"https://e.example/{}\">x</a>", "x".repeat(LARGEST));
    say(&bridge, &scene, &json!({"html": link, "split": true}), &[]).await.assert_problem(413, "message_too_large");
    for body in [
        json!({"category": "post", "title": "t", "text": "a", "split": true}),
        json!({"text": "a", "split": "yes"}),
        json!({"content": {"bodyText": "a"}, "split": true}),
    ] {
        let answer = say(&bridge, &scene, &body, &[]).await;
        answer.assert_problem(422, "invalid_body");
        assert_eq!(answer.json()["errors"][0]["pointer"], "/split", "{}", answer.text);
    }
    assert_eq!(scene.upstream.seen(|seen| seen.sends().len()), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn the_command_line_splits_too() {
    let scene = Scene::new().await;
    let bridge = Bridge::start_with(&scene.upstream, small).await;
    let cli = Cli::new(&bridge.api, scene.upstream.token_for(&scene.ana, TokenKind::Jwt));
    let text = lines(2).join("\n");
    cli.run(&["send", "--space", scene.space.as_ref(), &text]).await.assert_code(3);
    let sent = cli.run(&["send", "--split", "--space", scene.space.as_ref(), &text]).await;
    sent.assert_code(0);
    let told: Vec<_> = sent.out.lines().collect();
    let ids = ids(&scene);
    assert_eq!((told.len(), scene.texts()), (2, lines(2)));
    assert!(told.iter().zip(&ids).all(|(line, id)| line.starts_with(&format!("confirmed {id} (ref_"))), "{sent:?}");
    bridge.stop().await;
}
