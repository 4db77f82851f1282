//! What has to be true once all is quiet again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::account::{Account, secrets_of};
use super::events::{Logged, MessageEvent, logged, received};
use super::scene::{Posted, Scene};
use super::senders::{Manner, Sent, Told};
use crate::support::bridge::{ADMIN_KEY, send};
use crate::support::process::Service;
use crate::support::suite_log::note_secret;

/// How long the service may take to put everything in order.
pub(super) const DEADLINE: Duration = Duration::from_mins(2);

/// Asks again and again until there is nothing left to say against it.
async fn settles(what: &str, mut complaint: impl AsyncFnMut() -> Option<String>) {
    let deadline = Instant::now() + DEADLINE;
    while let Some(words) = complaint().await {
        assert!(Instant::now() < deadline, "{what}: {words}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Every account has one session that listens to all its spaces again, however it was treated.
pub(super) async fn sessions_come_back(scene: &Scene, service: &Service) {
    settles("every session is back", async || {
        for account in &scene.accounts {
            // A refused token is tried again when its holder calls.
            let me = account.get(service, "/me").await;
            if me.status != 200 {
                return Some(me.text);
            }
            if !scene.upstream.seen(|seen| account.listens(seen)) {
                return Some(sessions(service).await);
            }
        }
        None
    })
    .await;
}

async fn sessions(service: &Service) -> String {
    send(service.request(Method::GET, "/sessions", &format!("Bearer {ADMIN_KEY}"))).await.text
}

/// How each message of Bo's stands now is in the log, and came to the webhook: that it was written, what it was changed to, or that it was
/// deleted.
pub(super) async fn nothing_is_lost(scene: &Scene, service: &Service) {
    let missing = |account: &Account, known: &HashSet<MessageEvent>| {
        let last = scene.posted_for(account).map(Posted::last_event);
        last.filter(|event| !known.contains(event)).collect::<Vec<_>>()
    };
    settles("what Bo wrote is in the event log", async || {
        for (number, account) in scene.accounts.iter().enumerate() {
            let known = logged(service, account).await.into_iter().map(|logged| logged.event).collect();
            let missing = missing(account, &known);
            if !missing.is_empty() {
                let sessions = sessions(service).await;
                return Some(format!("account {number} lacks {} of them: {missing:?}; {sessions}", missing.len()));
            }
        }
        None
    })
    .await;
    settles("what Bo wrote came to the webhook", async || {
        scene.accounts.iter().enumerate().find_map(|(number, account)| {
            let missing = missing(account, &received(&account.receiver));
            (!missing.is_empty()).then(|| format!("the receiver of account {number} lacks {missing:?}"))
        })
    })
    .await;
}

/// Nothing stands more than once in an account's log, and all that it tells of Bo's messages was so. In each space, what was heard of those
/// that were never changed stands in the order in which Bo wrote them, and so does what was read afterwards. A session that ends while it
/// reads lets go of what it has heard meanwhile, so between the two there is none. The history shows a message where it was changed last.
pub(super) async fn nothing_is_repeated(scene: &Scene, service: &Service) {
    let bos: HashMap<_, _> = scene.posted.iter().enumerate().map(|(place, posted)| (posted.id.as_str(), place)).collect();
    for (number, account) in scene.accounts.iter().enumerate() {
        let events = logged(service, account).await;
        let mut counts = HashMap::<_, usize>::new();
        for Logged { event, .. } in &events {
            *counts.entry(event).or_default() += 1;
        }
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "account {number} has more than one event of {twice:?}");

        let mut last = HashMap::new();
        for logged in &events {
            let Some(place) = bos.get(logged.event.message.as_str()) else { continue };
            let posted = &scene.posted[*place];
            assert!(posted.has_been(&logged.event), "account {number}: {logged:?} of {posted:?}");
            if posted.is_deleted || posted.texts.len() > 1 {
                continue;
            }
            let before = last.insert((logged.space.as_str(), logged.is_recovered), place);
            let ordered = before.is_none_or(|before| before < place);
            assert!(ordered, "account {number}: {logged:?} comes after {:?}", before.map(|before| &scene.posted[*before]));
        }
    }
}

/// No text stands twice in Spaces; what was confirmed stands there, what was refused does not, and nothing is left open.
pub(super) async fn sends_are_true(scene: &Scene, service: &Service, sent: &[Sent]) -> BTreeMap<String, usize> {
    let mut outcomes = BTreeMap::new();
    for sent in sent {
        let outcome = match &sent.told {
            Told::Confirmed(id) => expect_upstream(scene, sent, Some(id)),
            Told::Refused(status, code) => {
                expect_none_upstream(scene, sent);
                format!("refused with {status} {code}")
            }
            Told::Nothing => {
                assert_eq!(sent.manner, Manner::Once, "a caller gave up: {sent:?}");
                "never answered".to_owned()
            }
            Told::Accepted(reference) => {
                let record = final_record(scene, service, sent, reference).await;
                match record["status"].as_str().unwrap_or_default() {
                    "confirmed" => expect_upstream(scene, sent, record["id"].as_str()),
                    "failed" => {
                        expect_none_upstream(scene, sent);
                        "failed".to_owned()
                    }
                    "unconfirmed" => {
                        assert!(record["reason"].is_string(), "{record}");
                        "unconfirmed".to_owned()
                    }
                    _ => panic!("{sent:?} is left open: {record}"),
                }
            }
        };
        *outcomes.entry(format!("{:?} {outcome}", sent.manner)).or_default() += 1;
    }
    let twice: Vec<_> = scene.texts_upstream().into_iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(twice.is_empty(), "these stand more than once in Spaces: {twice:?}");
    outcomes
}

fn expect_upstream(scene: &Scene, sent: &Sent, id: Option<&str>) -> String {
    let texts = scene.texts_upstream();
    let ids = texts.get(&sent.text).map_or(&[][..], Vec::as_slice);
    assert!(ids.len() == 1 && Some(ids[0].as_str()) == id, "{sent:?} is to be {id:?} in Spaces, which has {ids:?}");
    "confirmed".to_owned()
}

fn expect_none_upstream(scene: &Scene, sent: &Sent) {
    let texts = scene.texts_upstream();
    assert_eq!(texts.get(&sent.text), None, "{sent:?} stands in Spaces all the same");
}

/// What became of a message, once that is known or will never be.
async fn final_record(scene: &Scene, service: &Service, sent: &Sent, reference: &str) -> Value {
    let (account, mut record) = (&scene.accounts[sent.account], Value::Null);
    settles("every send has an end", async || {
        let answer = account.get(service, &format!("/messages/{reference}")).await;
        if answer.status != 200 {
            return Some(format!("{sent:?}: {}", answer.text));
        }
        record = answer.json();
        let is_open = match record["status"].as_str() {
            Some("queued" | "sent") => true,
            // The history can be read again, and decides: what is there is confirmed, what is not is sent again if that was promised.
            Some("unconfirmed") => sent.manner != Manner::Once || scene.texts_upstream().contains_key(&sent.text),
            _ => false,
        };
        is_open.then(|| format!("{sent:?}: {record}"))
    })
    .await;
    record
}

/// Nothing secret in what the service wrote.
pub(super) fn no_secret_in(scene: &Scene, written: &str) {
    for secret in secrets_of(&scene.accounts, &scene.upstream) {
        note_secret(&secret);
        assert!(!written.contains(&secret), "a secret was written");
    }
    // Without this the look would find nothing in an empty log either.
    assert!(written.contains("is online"), "the log was not kept");
}
