//! The registry on the in-memory store.

use std::sync::Arc;

use super::{EventView, NewWebhook, WebhookError, WebhookPatch, WebhookRegistry, WebhookUrl};
use crate::delivery::AddressGuard;
use crate::domain::{AccountId, EventType, Ordering, SpaceSelector, SystemClock, Webhook, WebhookStatus};
use crate::seal::Keyring;
use crate::store::{Engine, Lane, MemoryStore};

struct Shared {
    engine: Arc<dyn Engine>,
    keyring: Arc<Keyring>,
}

impl Shared {
    fn new() -> Self {
        Self { engine: Arc::new(MemoryStore::new(Arc::new(SystemClock))), keyring: Arc::new(Keyring::random()) }
    }

    async fn registry(&self) -> WebhookRegistry {
        let (engine, keyring) = (Arc::clone(&self.engine), Arc::clone(&self.keyring));
        WebhookRegistry::load(engine, keyring, Arc::new(SystemClock)).await.expect("loaded")
    }
}

fn account(text: &str) -> AccountId {
    text.parse().expect("an id")
}

fn url(text: &str) -> WebhookUrl {
    WebhookUrl::parse(text, &AddressGuard::default()).expect("a URL")
}

fn selectors(spaces: &[&str]) -> Vec<SpaceSelector> {
    spaces.iter().map(|space| SpaceSelector::try_from((*space).to_owned()).expect("a selector")).collect()
}

fn new(spaces: &[&str]) -> NewWebhook {
    NewWebhook {
        url: url("https://receiver.example/"),
        events: vec!["message.*".parse().expect("a pattern")],
        spaces: selectors(spaces),
        filter: None,
        ordering: Ordering::Parallel,
        ignore_own: false,
        reply: false,
        description: None,
        enabled: true,
    }
}

fn targets(registry: &WebhookRegistry, space: &str, direct: bool) -> Vec<(String, Lane)> {
    let (account, space) = (account("acc_1"), space.parse().expect("an id"));
    let event = EventView::new(&account, &EventType::MESSAGE_CREATED, &space, (direct, false), b"{}");
    let targets = registry.candidates(&event).targets(&event);
    targets.into_iter().map(|target| (target.webhook.to_string(), target.lane)).collect()
}

fn names(webhooks: &[&Webhook]) -> Vec<(String, Lane)> {
    let mut names: Vec<_> = webhooks.iter().map(|webhook| (webhook.id.to_string(), Lane::Parallel)).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_registered_is_found_again_after_a_restart() {
    let shared = Shared::new();
    let registry = shared.registry().await;
    let (webhook, secret) = registry.create(account("acc_1"), new(&["*"])).await.expect("created");
    assert!(secret.expose().starts_with("whsec_"));

    let restarted = shared.registry().await;
    assert_eq!(restarted.get(&webhook.id), Some(Arc::clone(&webhook)));
    assert_eq!(restarted.of_account(&account("acc_1")), [Arc::clone(&webhook)]);
    assert_eq!(restarted.accounts().into_iter().collect::<Vec<_>>(), [account("acc_1")]);
    assert_eq!(restarted.secret(&webhook), Ok(secret));
}

#[tokio::test]
async fn more_webhooks_than_one_page_are_loaded() {
    let shared = Shared::new();
    let registry = shared.registry().await.with_limit(2000);
    for _ in 0..1100 {
        registry.create(account("acc_1"), new(&["*"])).await.expect("created");
    }
    assert_eq!(shared.registry().await.of_account(&account("acc_1")).len(), 1100);
}

#[tokio::test]
async fn each_webhook_has_its_own_secret() {
    let registry = Shared::new().registry().await;
    let (_, one) = registry.create(account("acc_1"), new(&["*"])).await.expect("created");
    let (_, other) = registry.create(account("acc_1"), new(&["*"])).await.expect("created");
    assert_ne!(one, other);
}

#[tokio::test]
async fn an_account_has_a_limit_even_for_calls_at_once() {
    let registry = Shared::new().registry().await.with_limit(3);
    let calls = (0..10).map(|_| registry.create(account("acc_1"), new(&["*"])));
    let results = futures_util::future::join_all(calls).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().map_or_else(|error| matches!(error, WebhookError::TooMany { limit: 3 }), |_| true))
    );
    registry.create(account("acc_2"), new(&["*"])).await.expect("another account has its own limit");
}

#[tokio::test]
async fn an_event_goes_to_the_webhooks_that_want_its_space() {
    let registry = Shared::new().registry().await;
    let (all, _) = registry.create(account("acc_1"), new(&["*"])).await.expect("created");
    let (direct, _) = registry.create(account("acc_1"), new(&["direct"])).await.expect("created");
    let (one, _) = registry.create(account("acc_1"), new(&["space1"])).await.expect("created");
    registry.create(account("acc_2"), new(&["*", "direct"])).await.expect("created");
    assert_eq!(targets(&registry, "space1", false), names(&[&all, &one]));
    assert_eq!(targets(&registry, "space2", false), names(&[&all]));
    assert_eq!(targets(&registry, "space3", true), names(&[&direct]));

    let space1 = "space1".parse().expect("an id");
    let wanted = crate::domain::Interest { all: true, direct: true, spaces: [space1].into() };
    assert_eq!(registry.interest(&account("acc_1")), wanted);
    assert!(registry.interest(&account("acc_3")).is_empty());
}

#[tokio::test]
async fn a_change_shows_in_matching_and_in_the_store() {
    let shared = Shared::new();
    let registry = shared.registry().await;
    let (webhook, _) = registry.create(account("acc_1"), new(&["*"])).await.expect("created");
    let patch = WebhookPatch {
        url: Some(url("https://other.example/")),
        spaces: Some(selectors(&["space2"])),
        ordering: Some(Ordering::Space),
        description: Some(Some("why".to_owned())),
        ..WebhookPatch::default()
    };
    let changed = registry.update(&webhook.id, patch).await.expect("updated");
    assert_eq!((changed.url.as_str(), changed.description.as_deref()), ("https://other.example/", Some("why")));
    assert_eq!(targets(&registry, "space1", false), []);
    let lane = Lane::Ordered("space2".parse().expect("an id"));
    assert_eq!(targets(&registry, "space2", false), [(webhook.id.to_string(), lane)]);
    assert_eq!(shared.registry().await.get(&webhook.id), Some(changed));
}

#[tokio::test]
async fn a_webhook_that_is_off_gets_no_events_and_wants_no_spaces() {
    let registry = Shared::new().registry().await;
    let (webhook, _) = registry.create(account("acc_1"), new(&["*"])).await.expect("created");
    let switch = |on| WebhookPatch { enabled: Some(on), ..WebhookPatch::default() };
    registry.update(&webhook.id, switch(false)).await.expect("updated");
    assert_eq!(targets(&registry, "space1", false), []);
    assert!(registry.interest(&account("acc_1")).is_empty());
    registry.update(&webhook.id, switch(true)).await.expect("updated");
    assert_eq!(targets(&registry, "space1", false), names(&[&webhook]));
    registry.mark_gone(&webhook.id).await.expect("updated");
    assert_eq!(registry.update(&webhook.id, switch(false)).await.expect("updated").status, WebhookStatus::Gone);
    assert_eq!(registry.update(&webhook.id, switch(true)).await.expect("updated").status, WebhookStatus::Enabled);
}

#[tokio::test]
async fn changes_at_once_are_all_kept() {
    let shared = Shared::new();
    let (one, other) = (shared.registry().await, shared.registry().await);
    let (webhook, _) = one.create(account("acc_1"), new(&["*"])).await.expect("created");
    // The other registry read the store before and has yet to learn of the webhook; a third knows an old version of it.
    assert!(matches!(other.update(&webhook.id, WebhookPatch::default()).await, Err(WebhookError::NotFound)));
    let third = shared.registry().await;
    let note = WebhookPatch { description: Some(Some("why".to_owned())), ..WebhookPatch::default() };
    let own = WebhookPatch { ignore_own: Some(true), ..WebhookPatch::default() };
    one.update(&webhook.id, note).await.expect("updated");
    let changed = third.update(&webhook.id, own).await.expect("updated on the newest state");
    assert_eq!((changed.description.as_deref(), changed.ignore_own), (Some("why"), true));
}

#[tokio::test]
async fn a_deleted_webhook_is_gone_everywhere() {
    let shared = Shared::new();
    let registry = shared.registry().await;
    let (webhook, _) = registry.create(account("acc_1"), new(&["*"])).await.expect("created");
    let other = shared.registry().await;
    registry.delete(&webhook.id).await.expect("deleted");
    assert_eq!((registry.get(&webhook.id), registry.accounts().len()), (None, 0));
    assert!(matches!(registry.delete(&webhook.id).await, Err(WebhookError::NotFound)));
    assert!(matches!(other.mark_gone(&webhook.id).await, Err(WebhookError::NotFound)));
    assert_eq!(other.get(&webhook.id), None);
    assert!(shared.registry().await.accounts().is_empty());
}
