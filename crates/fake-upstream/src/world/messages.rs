//! Writing to the world: new messages, edits, deletions.

use serde_json::{Map, Value, json};

use super::{Message, User, World};
use crate::clock;

/// A message on its way into a space.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) space: String,
    pub(crate) sender: String,
    /// What the client sent; what the server decides is overwritten.
    pub(crate) payload: Map<String, Value>,
    pub(crate) created_ms: i64,
}

impl Draft {
    pub(crate) fn chat(space: &str, sender: &str, html: &str) -> Self {
        let mut payload = Map::new();
        payload.insert("category".to_owned(), "chat".into());
        payload.insert("content".to_owned(), json!({"bodyText": html, "data": []}));
        Self { space: space.to_owned(), sender: sender.to_owned(), payload, created_ms: clock::now_ms() }
    }
}

impl World {
    /// Stores the draft and answers the message, or nothing if the space or the sender does not exist.
    pub(crate) fn store(&mut self, draft: Draft) -> Option<&Message> {
        let sender = self.users.get(&draft.sender)?.as_sender();
        let id = self.ids.message(draft.created_ms);
        let parent = self.parent_of(&draft.payload);
        let space = self.spaces.get_mut(&draft.space)?;
        let category = draft.payload.get("category").and_then(Value::as_str).unwrap_or("chat").to_owned();

        let mut body = draft.payload;
        for decided in ["loopbackMetadata", "created", "modified"] {
            body.remove(decided);
        }
        body.insert("_id".to_owned(), id.clone().into());
        body.insert("category".to_owned(), category.clone().into());
        body.insert("topicId".to_owned(), space.id.clone().into());
        body.insert("topicTitle".to_owned(), space.title.clone().into());
        body.insert("topicType".to_owned(), space.kind.as_str().into());
        body.insert("sender".to_owned(), sender);
        body.insert("chatCount".to_owned(), 0.into());
        if let Some(content) = body.entry("content").or_insert_with(|| json!({})).as_object_mut() {
            content.entry("bodyText").or_insert_with(|| "".into());
            content.entry("description").or_insert_with(|| "".into());
            content.entry("data").or_insert_with(|| json!([]));
            if category != "chat" {
                content.entry("status").or_insert_with(|| "pending".into());
                content.insert("cid".to_owned(), draft.sender.clone().into());
            }
        }
        if category != "chat" {
            body.insert("chatMessages".to_owned(), json!({"messages": [], "previousPageUrl": "", "nextPageUrl": "end"}));
        }
        if let Some(parent) = parent {
            body.insert("parentMsg".to_owned(), parent);
        }

        self.last_modified_ms = self.last_modified_ms.max(draft.created_ms);
        space.active_ms = space.active_ms.max(draft.created_ms);
        let log = &space.log;
        let messages = &self.messages;
        let created_at = |id: &String| messages.get(id).map_or(i64::MIN, |message| message.created_ms);
        let position = match log.back() {
            Some(last) if created_at(last) > draft.created_ms => log.partition_point(|id| created_at(id) <= draft.created_ms),
            _ => log.len(),
        };
        space.log.insert(position, id.clone());
        if space.log.len() > self.history_limit
            && let Some(oldest) = space.log.pop_front()
        {
            self.messages.remove(&oldest);
        }
        let message = Message {
            id: id.clone(),
            space: draft.space,
            category,
            sender: draft.sender,
            deleted: false,
            created_ms: draft.created_ms,
            modified_ms: draft.created_ms,
            body,
        };
        Some(self.messages.entry(id).insert_entry(message).into_mut())
    }

    /// Replaces the fields of `content` that are given and stamps the message as modified.
    pub(crate) fn edit(&mut self, message_id: &str, content: &Map<String, Value>, now_ms: i64) -> Option<&Message> {
        let modified_ms = self.next_modification(now_ms);
        let message = self.messages.get_mut(message_id).filter(|message| !message.deleted)?;
        if let Some(stored) = message.body.get_mut("content").and_then(Value::as_object_mut) {
            for (name, value) in content {
                stored.insert(name.clone(), value.clone());
            }
        }
        message.modified_ms = modified_ms;
        Some(message)
    }

    /// Marks the message as deleted and takes its text away.
    pub(crate) fn delete(&mut self, message_id: &str, now_ms: i64) -> Option<&Message> {
        let modified_ms = self.next_modification(now_ms);
        let message = self.messages.get_mut(message_id).filter(|message| !message.deleted)?;
        message.deleted = true;
        if let Some(stored) = message.body.get_mut("content").and_then(Value::as_object_mut) {
            stored.insert("bodyText".to_owned(), "".into());
            stored.insert("description".to_owned(), "".into());
            stored.insert("data".to_owned(), json!([]));
        }
        message.modified_ms = modified_ms;
        Some(message)
    }

    /// No two modifications share a time, so that lists of changes have one order.
    fn next_modification(&mut self, now_ms: i64) -> i64 {
        self.last_modified_ms = now_ms.max(self.last_modified_ms.saturating_add(1));
        self.last_modified_ms
    }

    /// The short form of the post or task that a comment belongs to.
    fn parent_of(&mut self, payload: &Map<String, Value>) -> Option<Value> {
        let id = payload.get("parentMsg")?.get("_id")?.as_str()?;
        let parent = self.messages.get_mut(id)?;
        let comments = parent.body.get("chatCount").and_then(Value::as_u64).unwrap_or(0);
        parent.body.insert("chatCount".to_owned(), (comments + 1).into());
        Some(json!({"_id": parent.id, "bodyText": parent.text(), "category": parent.category}))
    }
}

/// The payload of a refused send, with the sender filled in as the server does it.
pub(crate) fn completed_sender(payload: &Map<String, Value>, sender: &User) -> Map<String, Value> {
    let mut completed = payload.clone();
    completed.insert("sender".to_owned(), sender.as_sender());
    completed.entry("mentions").or_insert_with(|| json!([]));
    completed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::TokenKind;

    fn world_with_space() -> (World, String, String) {
        let mut world = World::new(1, 3);
        let ana = world.user("Ana");
        world.token_for(&ana, TokenKind::Jwt);
        let space = world.space("Ops", &[&ana]);
        (world, ana.id, space.id)
    }

    #[test]
    fn a_stored_message_is_complete() {
        let (mut world, ana, space) = world_with_space();
        let message = world.store(Draft::chat(&space, &ana, "hi")).expect("the space exists").to_json();
        assert_eq!(message["topicTitle"], "Ops");
        assert_eq!(message["topicType"], "group");
        assert_eq!(message["sender"]["displayname"], "Ana");
        assert_eq!(message["content"]["bodyText"], "hi");
        assert!(message["created"].is_string());
        assert!(message.get("modified").is_none());
    }

    #[test]
    fn history_is_ordered_by_creation_and_bounded() {
        let (mut world, ana, space) = world_with_space();
        for created_ms in [10, 30, 20, 40] {
            let draft = Draft { created_ms, ..Draft::chat(&space, &ana, &created_ms.to_string()) };
            world.store(draft).expect("the space exists");
        }
        let texts: Vec<_> = world.messages_in(&space).iter().map(|message| message.text().to_owned()).collect();
        assert_eq!(texts, ["20", "30", "40"]);
        assert_eq!(world.messages.len(), 3);
    }

    #[test]
    fn edits_and_deletions_keep_the_id_and_move_modified() {
        let (mut world, ana, space) = world_with_space();
        let id = world.store(Draft::chat(&space, &ana, "hi")).expect("the space exists").id.clone();
        let content = json!({"bodyText": "ho"});
        let edited = world.edit(&id, content.as_object().expect("an object"), 0).expect("the message exists").to_json();
        assert_eq!(edited["_id"], id.as_str());
        assert!(edited["modified"].as_str() > edited["created"].as_str());
        let deleted = world.delete(&id, 0).expect("the message exists").to_json();
        assert!(deleted["modified"].as_str() > edited["modified"].as_str());
        assert!(world.delete(&id, 0).is_none());
        assert!(world.messages_in(&space).is_empty());
    }
}
