//! Opening, joining, refusals, heartbeat.

use crate::support::{Client, Scene};

#[tokio::test]
async fn a_client_opens_joins_and_pings() {
    let scene = Scene::new().await;
    let mut client = Client::open(&scene.upstream, &scene.anas).await;
    let open = client.frame().await;
    assert!(open.starts_with(r#"0{"sid":""#), "{open}");
    assert!(open.ends_with(r#""upgrades":[],"pingInterval":25000,"pingTimeout":60000}"#), "{open}");
    assert_eq!(client.frame().await, "40");
    client.ask_to_join(&scene.anas).await;
    assert_eq!(client.frame().await, "40/chat,");
    client.nothing_came().await;
}
