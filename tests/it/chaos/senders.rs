//! Callers that send as real clients do, and what they were promised.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How long a caller waits for an answer before it takes the connection for dead.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a caller waits before it tries again.
const AGAIN: Duration = Duration::from_millis(100);

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Once, and never again whatever comes of it.
    Once,
    /// With an idempotency key, again and again until there is an answer.
    Keyed,
    /// The same, and the answer is wanted as soon as the message is on disk.
    Queued,
}

/// What a caller was told in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// `201` with this id.
    Confirmed(String),
    /// `202`, and the reference to ask with.
    Accepted(String),
    /// A problem with this status and code.
    Refused(u16, String),
    /// Nothing: the connection broke.
    Nothing,
}

/// A message that was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) account: usize,
    pub(super) text: String,
    pub(super) manner: Manner,
    pub(super) told: Told,
}

/// A message to be sent.
pub(super) struct Wish {
    pub(super) account: usize,
    pub(super) authorization: String,
    pub(super) space: String,
    pub(super) text: String,
    pub(super) manner: Manner,
    /// Whether the caller makes its call once more after it has succeeded, as one does that lost the answer.
    pub(super) repeats: bool,
}

/// All callers.
pub(super) struct Senders {
    client: reqwest::Client,
    api: Arc<Mutex<String>>,
    tasks: Vec<JoinHandle<Sent>>,
    /// What those who still wait for an answer that counts were told last, by what they want to send.
    open: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Senders {
    pub(super) fn new(client: reqwest::Client, api: &str) -> Self {
        Self { client, api: Arc::new(Mutex::new(api.to_owned())), tasks: Vec::new(), open: Arc::default() }
    }

    /// The service answers at another address from now on.
    pub(super) fn moved_to(&self, api: &str) {
        api.clone_into(&mut self.api.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn send(&mut self, wish: Wish) {
        let caller = Caller { client: self.client.clone(), api: Arc::clone(&self.api), wish, open: Arc::clone(&self.open) };
        self.tasks.push(tokio::spawn(caller.run()));
    }

    /// Waits until every caller has its answer.
    pub(super) async fn all_told(self, deadline: Duration) -> Vec<Sent> {
        let all = futures_util::future::join_all(self.tasks);
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = tokio::time::timeout(deadline, all).await.unwrap_or_else(|_| panic!("no answer in time to: {:#?}", open()));
        sent.into_iter().map(|sent| sent.expect("no caller panics")).collect()
    }
}

struct Caller {
    client: reqwest::Client,
    api: Arc<Mutex<String>>,
    wish: Wish,
    open: Arc<Mutex<BTreeMap<String, String>>>,
}

/// An answer: its status, its headers and its body.
type Answer = (u16, HeaderMap, Value);

impl Caller {
    async fn run(self) -> Sent {
        self.note("no answer yet".to_owned());
        let told = match self.wish.manner {
            Manner::Once => told(self.ask().await),
            Manner::Keyed | Manner::Queued => self.insist().await,
        };
        if self.wish.repeats && self.wish.manner != Manner::Once {
            self.repeat(&told).await;
        }
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.wish.text);
        let Wish { account, text, manner, .. } = self.wish;
        Sent { account, text, manner, told }
    }

    /// Makes the call until its answer says that there is no use in making it again.
    async fn insist(&self) -> Told {
        loop {
            let answer = self.ask().await;
            // It was sent as often as a message is: with the same key that is the answer from now on.
            let is_final = answer.as_ref().is_some_and(|(.., body)| body["code"] == "message_not_taken");
            match answer {
                answer @ (Some((401 | 408 | 409 | 429 | 500..=599, ..)) | None) if !is_final => {
                    self.note(format!("account {}: {answer:?}", self.wish.account));
                    tokio::time::sleep(AGAIN).await;
                }
                answer => return told(answer),
            }
        }
    }

    fn note(&self, last: String) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(self.wish.text.clone(), last);
    }

    /// Makes the call once more: it has to be answered as before, or with what became of the message since.
    async fn repeat(&self, before: &Told) {
        let again = self.insist().await;
        match (before, &again) {
            (Told::Accepted(_), Told::Confirmed(_) | Told::Refused(..)) => {}
            _ => assert_eq!(before, &again, "the same call was answered differently: {}", self.wish.text),
        }
    }

    async fn ask(&self) -> Option<Answer> {
        let api = self.api.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Wish { authorization, space, text, manner, .. } = &self.wish;
        let mut request = self.client.post(format!("{api}/spaces/{space}/messages")).timeout(PATIENCE);
        request = request.header("authorization", authorization).json(&json!({ "text": text }));
        request = match manner {
            Manner::Once => request.header("prefer", "wait=2"),
            Manner::Keyed => request.header("prefer", "wait=2").header("idempotency-key", text.replace(' ', "-")),
            Manner::Queued => request.header("prefer", "respond-async").header("idempotency-key", text.replace(' ', "-")),
        };
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Some((status, headers, answer.json().await.ok()?))
    }
}

fn told(answer: Option<Answer>) -> Told {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match answer {
        None => Told::Nothing,
        Some((201, _, body)) => Told::Confirmed(text(&body["id"])),
        Some((202, _, body)) => Told::Accepted(text(&body["ref"])),
        Some((status, _, body)) => Told::Refused(status, text(&body["code"])),
    }
}
