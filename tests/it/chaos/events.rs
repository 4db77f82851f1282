//! What the service tells of messages: in its log, and to the receivers.

use std::collections::HashSet;

use serde_json::Value;

use super::account::Account;
use crate::support::process::Service;
use crate::support::receiver::Receiver;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MessageEvent {
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) text: String,
}

impl MessageEvent {
    fn read(event: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let message = &event["data"]["message"];
        Some(Self {
            kind: text(&event["type"])?,
            message: text(&message["id"])?,
            text: text(&message["text"]).unwrap_or_default(),
        })
    }
}

/// An event of the log.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) event: MessageEvent,
    pub(super) space: String,
    pub(super) is_recovered: bool,
}

/// All events about messages of the account's log, in its order.
pub(super) async fn logged(service: &Service, account: &Account) -> Vec<Logged> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = account.get(service, &format!("/events?type=message.*&limit=200{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let page = page.json();
        for event in page["data"].as_array().expect("a list") {
            all.push(Logged {
                event: MessageEvent::read(event).unwrap_or_else(|| panic!("an event of no message: {event}")),
                space: event["data"]["spaceId"].as_str().expect("an id").to_owned(),
                is_recovered: event["data"]["recovered"] == true,
            });
        }
        if page["hasMore"] != true {
            return all;
        }
        cursor = format!("&cursor={}", page["nextCursor"].as_str().expect("a cursor"));
    }
}

/// What came to a receiver about messages.
pub(super) fn received(receiver: &Receiver) -> HashSet<MessageEvent> {
    let bodies = receiver.recorded().into_iter().filter_map(|request| serde_json::from_slice::<Value>(&request.body).ok());
    bodies.filter_map(|body| MessageEvent::read(&body)).collect()
}
