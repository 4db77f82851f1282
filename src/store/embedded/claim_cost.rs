//! Tests that the cost of a claim depends on what it takes, not on what waits. They count the steps of `SQLite`'s virtual machine,
//! so they say the same on every machine.

use std::time::Duration;

use rusqlite::{Connection, StatementStatus};

use super::EmbeddedSettings;
use super::claim::{DUE, MARK_READY, READY, TAKE};
use super::queries::NEXT_DUE;
use super::schema::Files;
use super::settle::LOST;
use super::transaction::{Numbers, Work};
use crate::domain::{EventType, Timestamp};
use crate::store::{Claim, ClaimRequest, Fence, Incarnation, Lane, NewEvent, Settlement, Target, Verdict, Wanted};

const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// A database with `waiting` deliveries for each of `webhooks` webhooks, due at `due`.
fn database(directory: &tempfile::TempDir, webhooks: usize, waiting: usize, due: Timestamp) -> (Connection, Numbers) {
    let (files, _lock) = Files::prepare(EmbeddedSettings::new(directory.path())).expect("the directory is free");
    let connection = files.open_writer().expect("the database opens");
    let mut numbers = Numbers::load(&connection).expect("the database is readable");
    transact(&connection, &mut numbers, due, |work| {
        let incarnation = work.join("http://here", Duration::from_secs(15))?.incarnation;
        let mut taken = work.acquire(incarnation, &Wanted::Session("ses_a".parse().expect("an id")))?;
        let fence = Fence { incarnation, ownership: taken.pop().expect("the session is free") };
        let target =
            |webhook: usize| Target { webhook: format!("wh_{webhook:05}").parse().expect("an id"), lane: Lane::Parallel };
        let event = |number: usize| NewEvent {
            id: format!("evt_{number}").parse().expect("an id"),
            account: "acc_a".parse().expect("an id"),
            space: "general".parse().expect("an id"),
            event_type: EventType::MESSAGE_CREATED,
            occurred_at: NOW,
            body: bytes::Bytes::from_static(b"{}"),
            targets: (0..webhooks).map(target).collect(),
        };
        work.append(&fence, &(0..waiting).map(event).collect::<Vec<_>>())
    });
    (connection, numbers)
}

fn transact<T>(
    connection: &Connection,
    numbers: &mut Numbers,
    now: Timestamp,
    run: impl FnOnce(&mut Work<'_>) -> rusqlite::Result<T>,
) -> T {
    connection.execute_batch("BEGIN IMMEDIATE").expect("a transaction begins");
    let mut work = Work::new(connection, now, numbers);
    let result = run(&mut work).and_then(|result| work.refresh().map(|()| result));
    connection.execute_batch("COMMIT").expect("a transaction ends");
    result.expect("the statements are right")
}

/// Makes a claim and answers it with the steps that its statements took.
fn claim(connection: &Connection, numbers: &mut Numbers, max: usize, per_webhook: usize) -> (Vec<Claim>, i32) {
    for sql in [LOST, MARK_READY, READY, DUE, TAKE] {
        connection.prepare_cached(sql).expect("the statement is right").reset_status(StatementStatus::VmStep);
    }
    let request = ClaimRequest { incarnation: Incarnation(1), max, per_webhook, lease: Duration::from_mins(1) };
    let claims = transact(connection, numbers, NOW, |work| work.claim(&request));
    let steps = [LOST, MARK_READY, READY, DUE, TAKE]
        .map(|sql| connection.prepare_cached(sql).expect("the statement is right").get_status(StatementStatus::VmStep));
    (claims, steps.iter().sum())
}

/// The steps of the second of two claims that find nothing.
fn empty_claim(webhooks: usize, waiting: usize) -> i32 {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let later = NOW.saturating_add(Duration::from_hours(1));
    let (connection, mut numbers) = database(&directory, webhooks, waiting, later);
    claim(&connection, &mut numbers, 64, 8);
    let (claims, steps) = claim(&connection, &mut numbers, 64, 8);
    assert_eq!(claims, []);
    steps
}

#[test]
fn an_empty_claim_costs_the_same_however_much_waits() {
    let few = empty_claim(10, 100);
    assert!(empty_claim(10, 10_000) <= few, "waiting deliveries are looked at");
    assert!(empty_claim(10_000, 10) <= few, "waiting webhooks are looked at");
}

/// The steps of a claim that finds nothing because every webhook is at its limit.
fn saturated_claim(webhooks: usize, waiting: usize) -> i32 {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let (connection, mut numbers) = database(&directory, webhooks, waiting, NOW);
    let (claims, _) = claim(&connection, &mut numbers, usize::MAX >> 1, 2);
    assert_eq!(claims.len(), webhooks * 2);
    let (claims, steps) = claim(&connection, &mut numbers, 64, 2);
    assert_eq!(claims, []);
    steps
}

#[test]
fn webhooks_at_their_limit_are_not_looked_at() {
    let few = saturated_claim(1, 10);
    assert!(saturated_claim(1, 10_000) <= few, "a backlog is looked at");
    assert!(saturated_claim(1_000, 5) <= few, "webhooks at their limit are looked at");
}

#[test]
fn a_claim_out_of_a_backlog_costs_what_it_takes() {
    let cost = |waiting| {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let (connection, mut numbers) = database(&directory, 3, waiting, NOW);
        let (claims, _) = claim(&connection, &mut numbers, 6, 8);
        let settlements: Vec<_> = claims.iter().map(delivered).collect();
        transact(&connection, &mut numbers, NOW, |work| work.settle(&settlements));
        let (claims, steps) = claim(&connection, &mut numbers, 6, 8);
        assert_eq!(claims.len(), 6);
        steps
    };
    let (few, many) = (cost(10), cost(10_000));
    assert!(many <= few + few / 4, "{few} steps with a few waiting and {many} with many");
}

fn delivered(claim: &Claim) -> Settlement {
    let outcome = crate::store::work::lost_attempt();
    Settlement { delivery: claim.delivery, claim_no: claim.claim_no, verdict: Verdict::Delivered, outcome, hold: None }
}

#[test]
fn what_claims_ask_is_answered_by_indexes() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let (connection, _) = database(&directory, 1, 1, NOW);
    let cases = [
        (MARK_READY, vec!["flows_due"]),
        (READY, vec!["flows_turn"]),
        (DUE, vec!["deliveries_due"]),
        (TAKE, vec!["INTEGER PRIMARY KEY"]),
        (LOST, vec!["deliveries_in_flight"]),
        (NEXT_DUE, vec!["COVERING INDEX flows_due", "COVERING INDEX deliveries_in_flight"]),
    ];
    for (sql, indexes) in cases {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("the statement is right");
        let parameters = vec![rusqlite::types::Value::Integer(1); explain.parameter_count()];
        let lines = explain
            .query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .expect("the plan is readable");
        let plan = lines.join("\n");
        for index in indexes {
            assert!(plan.contains(index), "{sql}\n{plan}");
        }
        assert!(!plan.contains("TEMP B-TREE FOR ORDER BY") || sql == LOST, "{sql}\n{plan}");
    }
}
