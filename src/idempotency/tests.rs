use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::store::MemoryStore;

const WAIT: Duration = Duration::from_secs(10);
const KEPT: Duration = Duration::from_hours(24);

#[derive(Debug, Default)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct Rig {
    clock: Arc<HandClock>,
    engine: Arc<dyn Engine>,
    keyring: Arc<Keyring>,
    idempotency: Arc<Idempotency>,
}

impl Rig {
    fn new() -> Self {
        let clock = Arc::<HandClock>::default();
        let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
        let keyring = Arc::new(Keyring::random());
        let idempotency = Arc::new(Idempotency::new(Arc::clone(&engine), Arc::clone(&keyring), Arc::clone(&clock) as _, KEPT));
        Self { clock, engine, keyring, idempotency }
    }

    /// The same store in the hands of the next process.
    fn restarted(self) -> Self {
        let Self { clock, engine, keyring, .. } = self;
        let idempotency = Arc::new(Idempotency::new(Arc::clone(&engine), Arc::clone(&keyring), Arc::clone(&clock) as _, KEPT));
        Self { clock, engine, keyring, idempotency }
    }

    async fn begin(&self, account: &str, key_text: &str, asked: &str) -> Result<Begun, IdempotencyError> {
        self.idempotency.begin(&scope(account, None), &key(key_text), &asking(asked), WAIT).await
    }

    async fn run(&self, account: &str, key_text: &str, asked: &str) -> Claim {
        claim(self.begin(account, key_text, asked).await)
    }
}

fn scope(account: &str, before: Option<&str>) -> Scope {
    let id = |text: &str| text.parse().expect("an id");
    Scope::Account { account: id(account), before: before.map(id) }
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::read(text.as_bytes()).expect("a key")
}

fn asking(what: &str) -> Fingerprint {
    Fingerprint::of(&[what.as_bytes()])
}

fn claim(begun: Result<Begun, IdempotencyError>) -> Claim {
    match begun {
        Ok(Begun::Run(claim)) => claim,
        other => panic!("it does not run: {other:?}"),
    }
}

fn answer(body: &str) -> Answer {
    Answer { status: 201, headers: vec![("location".to_owned(), "/x".to_owned())], body: body.to_owned() }
}

#[tokio::test]
async fn a_call_that_was_answered_is_answered_again_also_after_a_restart() {
    let rig = Rig::new();
    let first = rig.run("acc_1", "k", "a").await;
    assert!(!first.is_repeat());
    rig.idempotency.finish(first, &answer("whsec_hidden")).await;
    let rig = rig.restarted();
    match rig.begin("acc_1", "\"k\"", "a").await {
        Ok(Begun::Answered(found)) => assert_eq!(found, answer("whsec_hidden")),
        other => panic!("{other:?}"),
    }
    let record = rig.engine.doc_get(DocKind::Idempotency, &record_id("acc_1", &key("k"))).await.expect("read").expect("a record");
    assert!(!String::from_utf8_lossy(&record.body).contains("whsec_hidden"), "answers are sealed");
}

#[tokio::test]
async fn the_same_key_with_another_request_is_refused_also_while_nothing_is_answered() {
    let rig = Rig::new();
    drop(rig.run("acc_1", "k", "a").await);
    assert!(matches!(rig.begin("acc_1", "k", "b").await, Err(IdempotencyError::Reused)));
    let again = rig.run("acc_1", "k", "a").await;
    rig.idempotency.finish(again, &answer("done")).await;
    assert!(matches!(rig.begin("acc_1", "k", "b").await, Err(IdempotencyError::Reused)));
}

#[tokio::test]
async fn a_call_that_was_cut_short_runs_again_with_its_seed() {
    let rig = Rig::new();
    let first = rig.run("acc_1", "k", "a").await;
    let seed = first.seed().clone();
    drop(first);
    let rig = rig.restarted();
    let second = rig.run("acc_1", "k", "a").await;
    assert_eq!((second.seed(), second.is_repeat()), (&seed, true));
    let others = rig.run("acc_2", "k", "a").await;
    assert_ne!(others.seed(), &seed, "another account's key is another key");
    assert!(!others.is_repeat());
}

#[tokio::test(start_paused = true)]
async fn of_calls_at_the_same_time_one_runs_and_the_others_get_its_answer() {
    let rig = Rig::new();
    let first = rig.run("acc_1", "k", "a").await;
    let others: Vec<_> = (0..5)
        .map(|_| {
            let idempotency = Arc::clone(&rig.idempotency);
            tokio::spawn(async move { idempotency.begin(&scope("acc_1", None), &key("k"), &asking("a"), WAIT).await })
        })
        .collect();
    tokio::task::yield_now().await;
    rig.idempotency.finish(first, &answer("once")).await;
    for other in others {
        match other.await.expect("no panic") {
            Ok(Begun::Answered(found)) => assert_eq!(found.body, "once"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_another_call_has_an_end() {
    let rig = Rig::new();
    let _first = rig.run("acc_1", "k", "a").await;
    assert!(matches!(rig.begin("acc_1", "k", "a").await, Err(IdempotencyError::InProgress)));
}

#[tokio::test]
async fn a_key_ends_with_its_time() {
    let rig = Rig::new();
    let first = rig.run("acc_1", "k", "a").await;
    let seed = first.seed().clone();
    rig.idempotency.finish(first, &answer("done")).await;
    rig.clock.0.fetch_add(i64::try_from(KEPT.as_millis()).expect("a day") - 1, Ordering::Relaxed);
    assert!(matches!(rig.begin("acc_1", "k", "a").await, Ok(Begun::Answered(_))));
    rig.clock.0.fetch_add(1, Ordering::Relaxed);
    let anew = rig.run("acc_1", "k", "b").await;
    assert!(anew.seed() != &seed && !anew.is_repeat());
}

#[tokio::test]
async fn what_was_begun_before_the_user_was_known_is_found_afterwards() {
    let rig = Rig::new();
    let before = rig.run("acc_ses_1", "k", "a").await;
    let seed = before.seed().clone();
    drop(before);
    let scope = scope("acc_1", Some("acc_ses_1"));
    let begun = rig.idempotency.begin(&scope, &key("k"), &asking("a"), WAIT).await;
    assert_eq!(claim(begun).seed(), &seed);
    let fresh = claim(rig.idempotency.begin(&scope, &key("l"), &asking("a"), WAIT).await);
    let seed = fresh.seed().clone();
    drop(fresh);
    assert_eq!(rig.run("acc_1", "l", "a").await.seed(), &seed, "new records lie under the account itself");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_made_again_with_the_same_seed() {
    let rig = Rig::new();
    let first = rig.run("acc_1", "k", "a").await;
    let seed = first.seed().clone();
    rig.idempotency.finish(first, &answer(&"x".repeat(MAX_ANSWER))).await;
    assert_eq!(rig.run("acc_1", "k", "a").await.seed(), &seed);
}

#[test]
fn parts_of_a_request_do_not_run_into_each_other() {
    let parts: [&[&[u8]]; 4] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""]];
    for (index, one) in parts.iter().enumerate() {
        for other in &parts[index + 1..] {
            assert_ne!(Fingerprint::of(one), Fingerprint::of(other));
        }
    }
}

/// What happens to calls with one of three keys, each of which comes with one of two requests.
#[derive(Debug, Clone)]
enum Happening {
    /// A call that succeeds.
    Succeeds(u8, bool),
    /// A call that ends without an answer.
    Fails(u8, bool),
    /// A call that is made while another one with the key is being done.
    Overlaps(u8, bool),
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    let call = || (0..3_u8, any::<bool>());
    prop_oneof![
        call().prop_map(|(key, asked)| Happening::Succeeds(key, asked)),
        call().prop_map(|(key, asked)| Happening::Fails(key, asked)),
        call().prop_map(|(key, asked)| Happening::Overlaps(key, asked)),
        Just(Happening::Restart),
    ]
}

/// What is known of a key.
struct Known {
    asked: bool,
    seed: Seed,
    answered: bool,
}

proptest! {
    #[test]
    fn a_key_has_one_request_one_seed_and_one_success(happenings in proptest::collection::vec(happening(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let (mut rig, mut keys) = (Rig::new(), HashMap::<u8, Known>::new());
            for happening in happenings {
                let (number, asked) = match happening {
                    Happening::Succeeds(key, asked) | Happening::Fails(key, asked) | Happening::Overlaps(key, asked) => (key, asked),
                    Happening::Restart => {
                        rig = rig.restarted();
                        continue;
                    }
                };
                let (name, request) = (format!("k{number}"), format!("{asked}"));
                let known = keys.get(&number);
                match rig.begin("acc_1", &name, &request).await {
                    Err(IdempotencyError::Reused) => prop_assert!(known.is_some_and(|known| known.asked != asked)),
                    Ok(Begun::Answered(found)) => {
                        let known = known.expect("it was begun");
                        prop_assert!(known.answered && known.asked == asked && found.body == known.seed.as_str());
                    }
                    Ok(Begun::Run(claim)) => {
                        prop_assert!(known.is_none_or(|known| !known.answered && known.asked == asked && known.seed == *claim.seed()));
                        prop_assert_eq!(claim.is_repeat(), known.is_some());
                        let seed = claim.seed().clone();
                        if matches!(happening, Happening::Overlaps(..)) {
                            let meanwhile = rig.begin("acc_1", &name, &request).await;
                            prop_assert!(matches!(meanwhile, Err(IdempotencyError::InProgress)));
                        }
                        let answered = matches!(happening, Happening::Succeeds(..));
                        if answered {
                            rig.idempotency.finish(claim, &answer(seed.as_str())).await;
                        }
                        keys.insert(number, Known { asked, seed, answered });
                    }
                    Err(error) => prop_assert!(false, "{error}"),
                }
            }
            Ok(())
        })?;
    }
}
