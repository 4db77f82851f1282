//! Everything that can break breaks, again and again, while three accounts send, the tokens of two of them run out and are renewed, and
//! someone else writes, changes and deletes: nothing is lost, nothing is there twice, and nobody was told anything that is not so.
//!
//! What happens follows from a seed; when exactly it happens does not. `CHAOS_SEED` and `CHAOS_ROUNDS` choose; a failure shows the seed.

mod account;
mod blows;
mod chance;
mod connections;
mod events;
mod scene;
mod senders;
mod verdict;

use std::time::Duration;

use rustix::process::Signal;
use spaces_bridge::domain::{Clock as _, SystemClock, Timestamp};

use self::blows::{Blow, heal};
use self::chance::Chance;
use self::scene::Scene;
use self::senders::{Manner, Senders, Wish};
use self::verdict::DEADLINE;
use crate::support::process::Service;

/// Rounds and seed unless the environment says otherwise.
const ROUNDS: u64 = 400;
const SEED: u64 = 20_260_708;

/// Rounds between two looks at the accounts whose refresh token is taken no more.
const MENDING: u64 = 10;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// What happened, for the reader of a failure.
#[derive(Debug, Default)]
struct Tally {
    blows: std::collections::BTreeMap<Blow, usize>,
    kills: usize,
    stops: usize,
    outages: usize,
    lost_tokens: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_nothing_is_lost_or_doubled_and_every_answer_is_true() {
    let (seed, rounds) = (setting("CHAOS_SEED", SEED), setting("CHAOS_ROUNDS", ROUNDS));
    // Shown if the test fails.
    println!("CHAOS_SEED={seed} CHAOS_ROUNDS={rounds}");
    let mut chance = Chance::new(seed);
    let (mut scene, service) = Scene::start(seed).await;
    let senders = Senders::new(service.client.clone(), &service.api);
    let mut chaos = Chaos { senders, service, written: String::new(), killed_at: None };
    let mut tally = Tally::default();
    for round in 0..rounds {
        for _ in 0..chance.below(4) {
            scene.bo_posts(&mut chance);
        }
        if chance.once_in(2) {
            scene.bo_changes(&mut chance);
        }
        for number in 0..chance.below(3) {
            chaos.senders.send(wish(&scene, &mut chance, &format!("message {number} of round {round}")));
        }
        match chance.below(100) {
            0..=3 => {
                chaos.restart(&scene, Signal::KILL).await;
                tally.kills += 1;
            }
            4..=5 => {
                chaos.restart(&scene, Signal::TERM).await;
                tally.stops += 1;
            }
            6..=7 => {
                scene.upstream.stop().await;
                pause(&mut chance, 600).await;
                scene.upstream.restart().await.expect("the same port is free");
                tally.outages += 1;
            }
            8..=60 => {
                let blow = Blow::draw(&mut chance);
                blow.strike(&scene, &mut chance);
                *tally.blows.entry(blow).or_default() += 1;
            }
            _ => {}
        }
        if round % MENDING == 0 {
            tally.lost_tokens += chaos.mend(&scene).await;
        }
        pause(&mut chance, 150).await;
    }
    println!("{tally:?}, {} messages of Bo's", scene.posted.len());

    heal(&scene);
    tally.lost_tokens += chaos.mend(&scene).await;
    println!("{} refresh tokens lost", tally.lost_tokens);
    let Chaos { senders, mut service, mut written, .. } = chaos;
    let sent = senders.all_told(DEADLINE).await;
    verdict::sessions_come_back(&scene, &service).await;
    verdict::nothing_is_lost(&scene, &service).await;
    let outcomes = verdict::sends_are_true(&scene, &service, &sent).await;
    println!("{outcomes:#?}");
    verdict::nothing_is_repeated(&scene, &service).await;
    let connections = scene.upstream.seen(|seen| connections::one_for_each_token(&scene, seen));
    println!("{connections}");
    service.process.signal(Signal::TERM);
    assert_eq!(service.process.exit().await.code(), Some(0), "the service does not end in order");
    written.push_str(&service.process.printed());
    verdict::no_secret_in(&scene, &written);
}

/// Lets time pass, so that what was begun gets more or less far.
async fn pause(chance: &mut Chance, most_millis: usize) {
    let millis = u64::try_from(chance.below(most_millis)).expect("a small number");
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Someone who wants to send this, in some way, somewhere.
fn wish(scene: &Scene, chance: &mut Chance, text: &str) -> Wish {
    let account = chance.below(scene.accounts.len());
    let from = &scene.accounts[account];
    Wish {
        account,
        authorization: from.authorization.clone(),
        space: chance.pick(&from.spaces).as_ref().to_owned(),
        text: text.to_owned(),
        manner: *chance.pick(&[Manner::Once, Manner::Keyed, Manner::Keyed, Manner::Queued]),
        repeats: chance.once_in(4),
    }
}

/// The service and those who call it.
struct Chaos {
    senders: Senders,
    service: Service,
    /// What processes that have ended wrote.
    written: String,
    /// When a process was killed last.
    killed_at: Option<Timestamp>,
}

impl Chaos {
    /// Ends the process and starts it again on the same store.
    async fn restart(&mut self, scene: &Scene, signal: Signal) {
        self.service.process.signal(signal);
        self.service.process.exit().await;
        if signal == Signal::KILL {
            self.killed_at = Some(SystemClock.now());
        }
        self.written.push_str(&self.service.process.printed());
        let gone = scene.upstream.wait_until(DEADLINE, |seen| seen.open_now() == 0);
        gone.await.expect("a process that has ended has no connections");
        self.service.start_again().await;
        self.senders.moved_to(&self.service.api);
    }
    /// Gives accounts another refresh token whose last one is used up: each use ends it, and what comes for it is lost if the process is
    /// killed just then, but never otherwise. Answers how many.
    async fn mend(&self, scene: &Scene) -> usize {
        let mut mended = 0;
        for account in scene.accounts.iter().filter(|account| account.is_managed()) {
            let Some(since) = account.is_locked_out_since(&self.service).await else { continue };
            assert!(
                self.killed_at.is_some_and(|at| at > since),
                "a refresh token of {since} was lost, and no process was killed"
            );
            mended += usize::from(account.is_mended(&scene.upstream, &self.service).await);
        }
        mended
    }
}
