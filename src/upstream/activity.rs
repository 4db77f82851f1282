//! Presence and media: what people do in a space beside writing. Sources:
//! <https://spaces.avayacloud.com/developers/docs/api/socket/presence_event_response> and
//! <https://app-docs-e8947.web.app/api/socket/media_session_response>.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::TopicType;
use super::event::{Circumstances, NoSpace, NormalisedEvent, NormalisedSender};
use super::message::{Sender, lenient, lenient_text};
use crate::domain::{AccountId, Envelope, EventId, EventType, SpaceId, Timestamp};

/// Under which name it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivityKind {
    /// `PRESENCE_EVENT_RESPONSE`.
    Presence,
    /// `MEDIA_SESSION_RESPONSE`.
    Media,
}

/// A received activity, read leniently.
#[derive(Debug, Deserialize)]
pub struct ReceivedActivity<'a> {
    #[serde(rename = "_id", borrow, default, deserialize_with = "lenient_text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    category: Option<Cow<'a, str>>,
    #[serde(rename = "topicId", borrow, default, deserialize_with = "lenient_text")]
    topic_id: Option<Cow<'a, str>>,
    #[serde(rename = "topicType", borrow, default, deserialize_with = "lenient_text")]
    topic_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    sender: Option<Sender<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    created: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    modified: Option<Cow<'a, str>>,
}

impl ReceivedActivity<'_> {
    /// The space, if it names one.
    pub fn space(&self) -> Result<SpaceId, NoSpace> {
        self.topic_id.as_deref().and_then(|id| id.parse().ok()).ok_or(NoSpace)
    }

    /// What happened.
    pub fn event_type(&self, kind: ActivityKind) -> EventType {
        match (kind, self.category.as_deref().unwrap_or_default()) {
            (ActivityKind::Presence, "app.event.presence.party.online") => EventType::PRESENCE_ONLINE,
            (ActivityKind::Presence, "app.event.presence.party.leaves") => EventType::PRESENCE_LEFT,
            (ActivityKind::Presence, "party.typing") => EventType::PRESENCE_TYPING,
            (ActivityKind::Presence, _) => EventType::PRESENCE_OTHER,
            (ActivityKind::Media, "app.event.meeting.started") => EventType::MEDIA_STARTED,
            (ActivityKind::Media, "app.event.meeting.ended") => EventType::MEDIA_ENDED,
            (ActivityKind::Media, _) => EventType::MEDIA_OTHER,
        }
    }

    /// Turns it into an event. `raw` is what was read.
    pub fn normalise(
        &self,
        kind: ActivityKind,
        raw: &RawValue,
        circumstances: Circumstances<'_>,
    ) -> Result<NormalisedEvent, NoSpace> {
        let Circumstances { account, received_at, .. } = circumstances;
        let space = self.space()?;
        let event_type = self.event_type(kind);
        let id = self.event_id(raw, account, received_at);
        let known = circumstances.direct.then_some(TopicType::Direct);
        let topic_kind = self.topic_kind().or(known);
        let time = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(Timestamp::parse);
        let occurred_at = time(&self.modified).or_else(|| time(&self.created)).unwrap_or(received_at);
        let envelope = Envelope {
            event_type: &event_type,
            timestamp: occurred_at,
            data: Data {
                event_id: &id,
                account,
                space_id: &space,
                space_type: topic_kind.map(TopicType::as_str),
                category: self.category.as_deref(),
                sender: self.sender.as_ref().map(NormalisedSender::from),
                upstream: raw,
            },
        };
        let body = envelope.to_body();
        Ok(NormalisedEvent { id, space, direct: topic_kind == Some(TopicType::Direct), event_type, occurred_at, body })
    }

    fn topic_kind(&self) -> Option<TopicType> {
        self.topic_type.as_deref().and_then(TopicType::parse)
    }

    /// An object with an id is the same event wherever it comes from. One without, as presence is, is told from the next by the
    /// time of its receipt alone: who comes, goes and comes again says the same thing twice.
    fn event_id(&self, raw: &RawValue, account: &AccountId, received_at: Timestamp) -> EventId {
        let mut hash = Sha256::new();
        hash.update(account.as_str());
        hash.update([0]);
        if self.id.is_none() {
            hash.update(received_at.as_millis().to_be_bytes());
        }
        hash.update(raw.get());
        let digest = hash.finalize();
        EventId::from_digest(*digest.first_chunk().expect("SHA-256 gives 32 bytes"))
    }
}

/// The argument of `SEND_PRESENCE_EVENT` that tells a space that the user is typing. What others show of it goes away by itself after
/// about two seconds.
pub fn typing(space: &SpaceId, user: Option<&str>, now: Timestamp) -> String {
    let user = user.map(|id| TypingUser { id, kind: "user" });
    let content = TypingContent { subscribe_time: now, media_session: NoMedia {} };
    let user_id = user.as_ref().map(|user| user.id);
    let typing = Typing { category: "party.typing", topic_id: space, user_id, sender: user, content, version: "1.1" };
    serde_json::to_string(&typing).expect("an event of texts serialises")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing<'a> {
    category: &'static str,
    topic_id: &'a SpaceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<TypingUser<'a>>,
    content: TypingContent,
    version: &'static str,
}

#[derive(Serialize)]
struct TypingUser<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypingContent {
    subscribe_time: Timestamp,
    media_session: NoMedia,
}

#[derive(Serialize)]
struct NoMedia {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    event_id: &'a EventId,
    account: &'a AccountId,
    space_id: &'a SpaceId,
    space_type: Option<&'static str>,
    category: Option<&'a str>,
    sender: Option<NormalisedSender<'a>>,
    upstream: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: ActivityKind, json: &str, received_at: i64) -> NormalisedEvent {
        let raw = RawValue::from_string(json.to_owned()).expect("JSON");
        let activity: ReceivedActivity<'_> = serde_json::from_str(raw.get()).expect("an object");
        let account = "acc_u1".parse().expect("an id");
        let received_at = Timestamp::from_millis(received_at);
        let circumstances = Circumstances { account: &account, own: false, recovered: false, direct: true, received_at };
        activity.normalise(kind, &raw, circumstances).expect("an event")
    }

    #[test]
    fn categories_have_their_types_and_the_rest_is_other() {
        for (kind, category, expected) in [
            (ActivityKind::Presence, "app.event.presence.party.online", EventType::PRESENCE_ONLINE),
            (ActivityKind::Presence, "app.event.presence.party.leaves", EventType::PRESENCE_LEFT),
            (ActivityKind::Presence, "party.typing", EventType::PRESENCE_TYPING),
            (ActivityKind::Presence, "app.event.presence.request.parties", EventType::PRESENCE_OTHER),
            (ActivityKind::Media, "app.event.meeting.started", EventType::MEDIA_STARTED),
            (ActivityKind::Media, "app.event.meeting.ended", EventType::MEDIA_ENDED),
            (ActivityKind::Media, "tracksstatus", EventType::MEDIA_OTHER),
        ] {
            let json = format!(r#"{{"category":"{category}","topicId":"s1","sender":{{"_id":"u2"}}}}"#);
            let event = event(kind, &json, 1);
            assert_eq!(event.event_type, expected, "{category}");
            let body: serde_json::Value = serde_json::from_slice(&event.body).expect("JSON");
            assert_eq!(body["data"]["upstream"]["category"], category);
            assert_eq!((event.direct, &body["data"]["spaceType"]), (true, &"direct".into()));
            assert_eq!((&body["data"]["category"], &body["data"]["sender"]["id"]), (&category.into(), &"u2".into()));
        }
    }

    #[test]
    fn typing_is_told_as_clients_tell_it() {
        let space: SpaceId = "s1".parse().expect("an id");
        let told =
            |user| serde_json::from_str::<serde_json::Value>(&typing(&space, user, Timestamp::from_millis(0))).expect("JSON");
        let content = serde_json::json!({"subscribeTime": "1970-01-01T00:00:00.000Z", "mediaSession": {}});
        let expected = serde_json::json!({"category": "party.typing", "topicId": "s1", "userId": "u1",
            "sender": {"_id": "u1", "type": "user"}, "content": content, "version": "1.1"});
        assert_eq!(told(Some("u1")), expected);
        assert_eq!(told(None).get("sender"), None);
    }

    #[test]
    fn coming_twice_is_two_events_and_a_copy_of_a_meeting_is_one() {
        let online = r#"{"category":"app.event.presence.party.online","topicId":"s1"}"#;
        assert_ne!(event(ActivityKind::Presence, online, 1).id, event(ActivityKind::Presence, online, 2).id);
        let meeting = r#"{"_id":"m1","category":"app.event.meeting.started","topicId":"s1"}"#;
        assert_eq!(event(ActivityKind::Media, meeting, 1).id, event(ActivityKind::Media, meeting, 2).id);
    }
}
