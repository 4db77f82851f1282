//! `spaces-bridge webhooks`.

use serde_json::json;

use crate::support::bridge::{Bridge, Scene};
use crate::support::cli::Cli;
use crate::support::receiver::{Receiver, Reply};
use crate::support::suite_log;
use crate::support::wait::eventually;

#[tokio::test]
async fn a_webhook_is_added_tried_replayed_and_forgotten() {
    let scene = Scene::new().await;
    let bridge = Bridge::start(&scene.upstream).await;
    let cli = Cli::new(&bridge.api, &scene.token);
    let receiver = Receiver::start(Reply::status(204)).await;
    let url = receiver.url();
    let add = ["webhooks", "add", &url, "--event", "message.created", "--space", "*", "--description", "ours"];
    let added = cli.run(&[&add[..], &["--idempotency-key", "ours"]].concat()).await;
    added.assert_code(0);
    suite_log::note_signing_secrets(&added.out);
    let (id, rest) = added.out.split_once(" is registered\n").expect("an id");
    assert!(id.starts_with("wh_") && rest.starts_with("secret: whsec_"), "{id}");
    let again = cli.run(&[&add[..], &["--idempotency-key", "ours", "--json"]].concat()).await;
    let again = again.assert_code(0).json_lines().remove(0);
    assert_eq!((again["id"].as_str(), &again["events"]), (Some(id), &json!(["message.created"])));

    let listed = cli.run(&["webhooks", "list"]).await;
    assert_eq!(listed.assert_code(0).out, format!("{id}  enabled  {url}  message.created\n"));
    let listed = cli.run(&["webhooks", "list", "--json"]).await.json_lines();
    assert_eq!((listed.len(), listed[0]["description"].as_str()), (1, Some("ours")));
    let shown = cli.run(&["webhooks", "get", id]).await;
    assert!(shown.assert_code(0).out.contains("health=healthy"), "{shown:?}");

    let tried = cli.run(&["webhooks", "test", id, "--json"]).await.assert_code(0).json_lines().remove(0);
    eventually("the test event", async || (receiver.count() == 1).then_some(())).await;
    assert_eq!(receiver.recorded()[0].header("webhook-id"), tried["eventId"]);

    cli.run(&["send", "--space", scene.space.as_ref(), "hello"]).await.assert_code(0);
    eventually("the message", async || (receiver.count() == 2).then_some(())).await;
    eventually("its end", async || {
        let delivered = cli.run(&["webhooks", "deliveries", id, "--state", "delivered", "--json"]).await.json_lines();
        (delivered.len() == 2).then_some(())
    })
    .await;
    let replay = ["webhooks", "replay", id, "--since", "2020-01-01T00:00:00Z"];
    let counted = cli.run(&[&replay[..], &["--dry-run"]].concat()).await;
    assert_eq!(counted.assert_code(0).out, "1 delivery would be made\n");
    assert_eq!(cli.run(&[&replay[..], &["--json"]].concat()).await.assert_code(0).json_lines()[0]["count"], 1);
    eventually("the message again", async || (receiver.count() == 3).then_some(())).await;

    assert_eq!(cli.run(&["webhooks", "delete", id]).await.assert_code(0).out, format!("{id} is forgotten\n"));
    assert_eq!(cli.run(&["webhooks", "list"]).await.assert_code(0).out, "");
    let gone = cli.run(&["webhooks", "test", id, "--json"]).await.assert_code(5).failure();
    assert_eq!(gone["code"], "webhook_not_found");
    let wrong = cli.run(&["webhooks", "add", "ftp://x"]).await;
    assert!(wrong.assert_code(3).errors.contains("  /url: "), "{wrong:?}");
}
