//! [`EventView`]: an event as matching looks at it. Its body is read when a filter asks, and only once.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::{AccountId, EventType, MessageFacts, SpaceId};
use crate::store::StoredEvent;
use crate::upstream::{lenient, lenient_text, readable_text};

/// An event and what is known of it, borrowed from wherever it is.
#[derive(Debug)]
pub struct EventView<'a> {
    /// Whose event it is.
    pub account: &'a AccountId,
    /// What happened.
    pub event_type: &'a EventType,
    /// Where it happened.
    pub space: &'a SpaceId,
    /// Whether that is a direct space.
    pub direct: bool,
    /// Whether the account sent the message through the bridge.
    pub own: bool,
    body: &'a [u8],
    facts: OnceCell<MessageFacts<'a>>,
}

impl<'a> EventView<'a> {
    /// An event whose circumstances are known.
    pub fn new(
        account: &'a AccountId,
        event_type: &'a EventType,
        space: &'a SpaceId,
        (direct, own): (bool, bool),
        body: &'a [u8],
    ) -> Self {
        Self { account, event_type, space, direct, own, body, facts: OnceCell::new() }
    }

    /// An event of the log, whose body tells its circumstances.
    pub fn of_stored(event: &'a StoredEvent) -> Self {
        let envelope = Envelope::read(&event.body);
        Self {
            account: &event.account,
            event_type: &event.event_type,
            space: &event.space,
            direct: envelope.direct,
            own: envelope.own,
            body: &event.body,
            facts: OnceCell::from(envelope.into_facts(&event.account)),
        }
    }

    /// Whether the body has been read.
    #[cfg(test)]
    pub(super) fn is_read(&self) -> bool {
        self.facts.get().is_some()
    }

    /// What a filter looks at.
    pub(super) fn facts(&self) -> &MessageFacts<'a> {
        self.facts.get_or_init(|| Envelope::read(self.body).into_facts(self.account))
    }
}

/// The body of an event, as far as the bridge itself reads it again. Whatever is not as it should be is as if it were missing.
#[derive(Debug, Default)]
pub struct Envelope<'a> {
    /// Whether the account sent the message through the bridge.
    pub own: bool,
    /// Whether the space is a direct one.
    pub direct: bool,
    /// The space.
    pub space: Option<Cow<'a, str>>,
    /// The message's category.
    pub category: Option<Cow<'a, str>>,
    /// The message's id.
    pub message: Option<Cow<'a, str>>,
    /// What it says, as a reader sees it.
    pub text: Option<Cow<'a, str>>,
    /// The message that it comments on.
    pub reply_to: Option<Cow<'a, str>>,
    /// The sender's id.
    pub sender: Option<Cow<'a, str>>,
    username: Option<Cow<'a, str>>,
    html: Option<Cow<'a, str>>,
    description: Option<Cow<'a, str>>,
    upstream: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Body<'a>>(body) else { return Self::default() };
        let Some(data) = body.data else { return Self::default() };
        let message = data.message.unwrap_or_default();
        let sender = message.sender.or(data.sender).unwrap_or_default();
        Self {
            own: data.own.unwrap_or(false),
            direct: data.space_type.as_deref() == Some("direct"),
            space: data.space_id,
            category: data.category,
            message: message.id,
            text: message.text,
            reply_to: message.reply_to,
            sender: sender.id,
            username: sender.username,
            html: message.html,
            description: message.description,
            upstream: data.upstream,
        }
    }

    /// What a filter of `account` looks at.
    pub fn into_facts(self, account: &'a AccountId) -> MessageFacts<'a> {
        let mut text = self.text.unwrap_or_default();
        if let Some(description) = &self.description {
            let text = text.to_mut();
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&readable_text(description));
        }
        let mut mentions = self.upstream.map(listed_mentions).unwrap_or_default();
        for html in [self.html.as_deref(), self.description.as_deref()].into_iter().flatten() {
            mentions.extend(marked_mentions(html).map(|id| Cow::Owned(id.to_owned())));
        }
        let me = account.as_str().strip_prefix(AccountId::PREFIX).map(Cow::Borrowed);
        MessageFacts { category: self.category, sender: self.sender, username: self.username, mentions, me, text }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "lenient")]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(default, deserialize_with = "lenient")]
    own: Option<bool>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    space_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    space_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    category: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    message: Option<Message<'a>>,
    /// Whose doing it is, where it is no message.
    #[serde(borrow, default, deserialize_with = "lenient")]
    sender: Option<Sender<'a>>,
    #[serde(borrow, default)]
    upstream: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    html: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    description: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    sender: Option<Sender<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    reply_to: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Sender<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    username: Option<Cow<'a, str>>,
}

/// Most mentions of one message that are looked at.
const MAX_MENTIONS: usize = 256;

/// The users that the upstream's object lists as mentioned, by their ids or as objects with one.
fn listed_mentions(upstream: &RawValue) -> Vec<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow, default)]
        mentions: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Mentioned<'a> {
        #[serde(borrow, default, deserialize_with = "lenient_text")]
        id: Option<Cow<'a, str>>,
        #[serde(rename = "_id", borrow, default, deserialize_with = "lenient_text")]
        upstream_id: Option<Cow<'a, str>>,
    }
    let object = serde_json::from_str::<Object<'_>>(upstream.get()).ok();
    let list = object.and_then(|object| serde_json::from_str::<Vec<&RawValue>>(object.mentions?.get()).ok());
    let id = |entry: &'_ RawValue| -> Option<String> {
        match serde_json::from_str::<Mentioned<'_>>(entry.get()) {
            Ok(mentioned) => mentioned.id.or(mentioned.upstream_id).map(Cow::into_owned),
            Err(_) => serde_json::from_str(entry.get()).ok(),
        }
    };
    list.unwrap_or_default().into_iter().take(MAX_MENTIONS).filter_map(id).map(Cow::Owned).collect()
}

/// The users that `<mention id="…">` elements name.
fn marked_mentions(html: &str) -> impl Iterator<Item = &str> {
    let marked = html.split("<mention").skip(1).take(MAX_MENTIONS);
    marked.filter_map(|rest| {
        let tag = &rest[..rest.find('>').unwrap_or(rest.len())];
        let value = &tag[tag.find(" id=")? + " id=".len()..];
        let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        value[1..].split(quote).next()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn facts(body: &serde_json::Value) -> (Vec<String>, String) {
        let body = body.to_string();
        let account: AccountId = "acc_u1".parse().expect("an id");
        let facts = Envelope::read(body.as_bytes()).into_facts(&account);
        assert_eq!(facts.me.as_deref(), Some("u1"));
        (facts.mentions.iter().map(|id| id.clone().into_owned()).collect(), facts.text.into_owned())
    }

    #[test]
    fn mentions_are_found_in_the_list_and_in_the_markup() {
        let html = r#"hi <mention data-x="1" id="u4" type='user' value="Ana">Ana</mention><mention id='u5'/><mention>"#;
        let body = json!({"data": {
            "message": {"text": "hi", "html": html},
            "upstream": {"mentions": ["u1", {"id": "u2", "type": "user"}, {"_id": "u3"}, 7, null, [], {}]},
        }});
        assert_eq!(facts(&body).0, ["u1", "u2", "u3", "u4", "u5"]);
    }

    #[test]
    fn the_text_of_a_post_is_its_title_and_what_stands_below() {
        let message = json!({"text": "Release 41", "description": "<p>What is <b>new</b></p>"});
        assert_eq!(facts(&json!({"data": {"message": message}})).1, "Release 41\nWhat is new");
    }

    #[test]
    fn what_is_odd_is_as_if_it_were_missing() {
        for body in [
            json!(null),
            json!([]),
            json!({"data": 7}),
            json!({"data": {"message": [], "upstream": 7, "own": "yes", "category": {}}}),
            json!({"data": {"message": {"sender": "x", "text": 1}, "upstream": {"mentions": "u1"}}}),
        ] {
            assert_eq!(facts(&body), (Vec::new(), String::new()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_and_no_markup_is_too_odd_to_read(body in "\\PC{0,80}", html in "[<mention id='\"=>x/ ]{0,60}") {
            let _ = Envelope::read(body.as_bytes());
            let _ = marked_mentions(&html).count();
            facts(&json!({"data": {"message": {"html": html, "text": body}}}));
        }
    }
}
