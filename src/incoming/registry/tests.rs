use http::HeaderMap;

use super::*;
use crate::domain::SystemClock;
use crate::incoming::DEFAULT_RATE;
use crate::store::MemoryStore;

fn new_hook() -> NewHook {
    let space = "s1".parse().expect("an id");
    NewHook {
        name: None,
        space,
        direct: None,
        recipe: Recipe::default(),
        check: None,
        rate: DEFAULT_RATE,
        expires_at: None,
        enabled: true,
    }
}

async fn registry() -> (HookRegistry, Arc<dyn Engine>, Arc<Keyring>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
    let keyring = Arc::new(Keyring::random());
    let registry = HookRegistry::load(Arc::clone(&engine), Arc::clone(&keyring), clock).await.expect("loaded");
    (registry, engine, keyring)
}

fn call_of(registry: &HookRegistry, secret: &str, headers: &HeaderMap) -> Result<Arc<IncomingHook>, CallError> {
    let (hook, activity) = registry.find(secret)?;
    registry.admit(&hook, &activity)?;
    registry.prove(&hook, headers, b"")?;
    Ok(hook)
}

fn ana() -> AccountId {
    "acc_ana".parse().expect("an id")
}

#[tokio::test]
async fn a_hook_is_found_by_its_secret_alone_and_survives_a_restart() {
    let (registry, engine, keyring) = registry().await;
    let check = Some((CheckKind::Gitlab, Secret::new("a-long-token")));
    let (hook, secret) = registry.create(ana(), NewHook { check, ..new_hook() }, &Seed::random()).await.expect("created");
    let again = HookRegistry::load(engine, keyring, Arc::new(SystemClock)).await.expect("loaded");
    let mut headers = HeaderMap::new();
    assert!(matches!(call_of(&again, secret.expose(), &headers), Err(CallError::Unproven(_))));
    headers.insert("x-gitlab-token", http::HeaderValue::from_static("a-long-token"));
    assert_eq!(call_of(&again, secret.expose(), &headers).expect("known"), hook);
    assert!(matches!(call_of(&again, "x", &headers), Err(CallError::Unknown)));
    assert!(matches!(call_of(&again, hook.id.as_str(), &headers), Err(CallError::Unknown)));
}

#[tokio::test]
async fn what_has_ended_or_is_off_is_unknown() {
    let (registry, _, _) = registry().await;
    let (hook, secret) = registry.create(ana(), new_hook(), &Seed::random()).await.expect("created");
    let call = || call_of(&registry, secret.expose(), &HeaderMap::new());
    let change = async |patch| registry.update(&ana(), &hook.id, patch).await.expect("changed");
    change(HookPatch { enabled: Some(false), ..HookPatch::default() }).await;
    assert!(matches!(call(), Err(CallError::Unknown)));
    assert!(registry.interest(&ana()).is_empty());
    change(HookPatch { enabled: Some(true), ..HookPatch::default() }).await;
    assert!(call().is_ok());
    change(HookPatch { expires_at: Some(Some(Timestamp::from_millis(1))), ..HookPatch::default() }).await;
    assert!(matches!(call(), Err(CallError::Unknown)));
    change(HookPatch { expires_at: Some(None), ..HookPatch::default() }).await;
    registry.delete(&ana(), &hook.id).await.expect("deleted");
    assert!(matches!(call(), Err(CallError::Unknown)));
}

#[tokio::test]
async fn a_rotated_secret_goes_on_for_its_overlap() {
    let (registry, _, _) = registry().await;
    let (hook, first) = registry.create(ana(), new_hook(), &Seed::random()).await.expect("created");
    let call = |secret: &Secret| call_of(&registry, secret.expose(), &HeaderMap::new()).is_ok();
    let (_, second) = registry.rotate(&ana(), &hook.id, (Duration::from_hours(1), &Seed::random())).await.expect("rotated");
    assert!(call(&first) && call(&second));
    let (_, third) = registry.rotate(&ana(), &hook.id, (Duration::ZERO, &Seed::random())).await.expect("rotated");
    assert!(!call(&first) && !call(&second) && call(&third));
}

#[tokio::test]
async fn others_see_nothing_and_nobody_calls_too_often() {
    let (registry, _, _) = registry().await;
    let rate = RateLimit { count: 1, per_seconds: 3600 };
    let (hook, secret) = registry.create(ana(), NewHook { rate, ..new_hook() }, &Seed::random()).await.expect("created");
    let bo: AccountId = "acc_bo".parse().expect("an id");
    assert!(registry.get(&bo, &hook.id).is_none() && registry.of_account(&bo).is_empty());
    assert!(matches!(registry.delete(&bo, &hook.id).await, Err(HookError::NotFound)));
    assert!(call_of(&registry, secret.expose(), &HeaderMap::new()).is_ok());
    let refused = call_of(&registry, secret.expose(), &HeaderMap::new());
    assert!(matches!(refused, Err(CallError::TooOften { retry_after }) if retry_after > Duration::from_mins(59)));
}

#[tokio::test]
async fn the_same_call_makes_one_hook_and_one_secret() {
    let (registry, _, _) = registry().await;
    let (seed, rotation) = (Seed::random(), Seed::random());
    let (hook, secret) = registry.create(ana(), new_hook(), &seed).await.expect("created");
    let (again, same) = registry.create(ana(), new_hook(), &seed).await.expect("found");
    assert_eq!((&hook, &secret, registry.of_account(&ana()).len()), (&again, &same, 1));
    let rotate = async |seed: &Seed| registry.rotate(&ana(), &hook.id, (Duration::from_hours(1), seed)).await;
    let (once, second) = rotate(&rotation).await.expect("rotated");
    let (twice, same) = rotate(&rotation).await.expect("rotated before");
    assert_eq!((once, second), (twice, same));
    for _ in 2..MAX_SECRETS {
        rotate(&Seed::random()).await.expect("room");
    }
    assert!(matches!(rotate(&Seed::random()).await, Err(HookError::TooManySecrets)));
    assert!(call_of(&registry, secret.expose(), &HeaderMap::new()).is_ok());
}
