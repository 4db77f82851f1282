//! kill -9 of a real process that writes: what it was told is durable is there afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use spaces_bridge::domain::{DeliveryId, DeliveryState, SystemClock};
use spaces_bridge::store::{EmbeddedSettings, EmbeddedStore, Engine, Query, Rows, Settled, Verdict};

use super::harness::{TTL, event_for, event_id, fence, request, seconds, settlement};

/// Names the directory in which the child writes.
const CHILD: &str = "STORE_CONTRACT_CRASH_DIRECTORY";

const ROUNDS: u32 = 10;

/// Events of one round have numbers of their own.
const ROUND: u32 = 1_000_000;

#[derive(Debug, Default)]
struct Told {
    appended: Vec<u32>,
    settled: BTreeMap<i64, String>,
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let mut told = Told::default();
    for round in 1..=ROUNDS {
        let mut child = start_child(directory.path(), round);
        // Killed at another moment each time: between any two steps of its work.
        read_until_killed(&mut child, 40 + round * 13, &mut told);
        check_integrity(directory.path());
        check_contents(directory.path(), &told).await;
    }
    assert!(told.appended.len() > 100 && told.settled.len() > 10, "the child did too little: {told:?}");
}

fn start_child(directory: &Path, round: u32) -> Child {
    let this = std::env::current_exe().expect("the test knows its own program");
    Command::new(this)
        .args(["--exact", "store_contract::crash::the_child_that_is_killed", "--nocapture", "--test-threads", "1"])
        .env(CHILD, directory)
        .env("STORE_CONTRACT_CRASH_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the child starts")
}

/// Notes what the child says that it was told, kills it after `lines` of that, and reads what it had said before it died.
fn read_until_killed(child: &mut Child, lines: u32, told: &mut Told) {
    let output = BufReader::new(child.stdout.take().expect("the child's output is piped"));
    let mut seen = 0;
    for line in output.lines() {
        let Ok(line) = line else { break };
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["appended", number] => told.appended.push(number.parse().expect("a number")),
            ["settled", delivery, verdict] => {
                told.settled.insert(delivery.parse().expect("a number"), verdict.to_owned());
            }
            _ => continue,
        }
        seen += 1;
        if seen == lines {
            child.kill().expect("the child can be killed");
        }
    }
    assert!(seen >= lines, "the child ended by itself after {seen} lines");
    child.wait().expect("the child ends");
}

fn check_integrity(directory: &Path) {
    let database = rusqlite::Connection::open(directory.join("store.db")).expect("the database opens");
    let verdict: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("the database can be checked");
    assert_eq!(verdict, "ok");
    let orphans = database.prepare("PRAGMA foreign_key_check").and_then(|mut check| check.exists([]));
    assert_eq!(orphans, Ok(false));
}

async fn check_contents(directory: &Path, told: &Told) {
    let store = EmbeddedStore::open(EmbeddedSettings::new(directory), Arc::new(SystemClock)).expect("the store opens");
    for number in &told.appended {
        let page = store.query(Query::Event(event_id(*number))).await.expect("reading works");
        assert!(matches!(page.rows, Rows::Events(rows) if rows.len() == 1), "event {number} was lost");
    }
    for (delivery, verdict) in &told.settled {
        let page = store.query(Query::Delivery(DeliveryId::from_number(*delivery))).await.expect("reading works");
        let Rows::Deliveries(rows) = page.rows else { panic!("deliveries were asked for") };
        match verdict.as_str() {
            "delivered" => assert_eq!(rows[0].state, DeliveryState::Delivered, "delivery {delivery}"),
            _ => assert!(matches!(rows[0].state, DeliveryState::Waiting(_)), "the retry of {delivery} was lost: {rows:?}"),
        }
    }
    store.close().await;
}

/// Does nothing unless it was started by the test above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_that_is_killed() {
    let (Ok(directory), Ok(round)) = (std::env::var(CHILD), std::env::var("STORE_CONTRACT_CRASH_ROUND")) else { return };
    let first = round.parse::<u32>().expect("a number") * ROUND;
    let store = EmbeddedStore::open(EmbeddedSettings::new(directory), Arc::new(SystemClock)).expect("the store opens");
    let store = Arc::new(store);
    let member = store.join("http://child.internal", TTL).await.expect("joining works");
    let right = fence(&*store, member.incarnation).await;
    for writer in 0..4 {
        let (store, right) = (Arc::clone(&store), right.clone());
        tokio::spawn(async move {
            for number in (first + writer..).step_by(4) {
                store.append(right.clone(), vec![event_for(number, "a")]).await.expect("appending works");
                println!("appended {number}");
            }
        });
    }
    loop {
        let claims = store.claim(request(member.incarnation, 3, 8)).await.expect("claiming works");
        for claim in claims {
            let (verdict, name) = match claim.delivery.number() % 3 {
                // Far enough away that no later round takes it up again.
                0 => (Verdict::Retry(seconds(86_400)), "retry"),
                _ => (Verdict::Delivered, "delivered"),
            };
            let settled = store.settle(vec![settlement(&claim, verdict)]).await.expect("settling works");
            assert!(settled.into_iter().all(Settled::counted));
            println!("settled {} {name}", claim.delivery.number());
        }
    }
}
