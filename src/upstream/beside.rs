//! What a post or task says beside its title, by which it is told from others of the same title.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::text::plain_text;
use crate::domain::Timestamp;

/// What a post or task says beside its title and files, in a form in which it compares.
#[derive(Debug, Default)]
pub struct Beside {
    /// As a reader sees it.
    description: Option<String>,
    /// In no order.
    assignees: Option<Vec<String>>,
    due_date: Option<Timestamp>,
}

/// The content of a message. What has another shape says nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Content {
    #[serde(deserialize_with = "if_readable")]
    description: Option<String>,
    #[serde(deserialize_with = "if_readable")]
    assignees: Option<Vec<Assignee>>,
    #[serde(rename = "dueDate", deserialize_with = "if_readable")]
    due_date: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Assignee {
    Id(String),
    Whole {
        #[serde(rename = "_id")]
        id: String,
    },
}

impl Beside {
    /// What a message says, be it the argument of `SEND_MESSAGE` or what Spaces shows.
    pub fn of(message: &str) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Message {
            content: Content,
        }
        let Content { description, assignees, due_date } = serde_json::from_str::<Message>(message).unwrap_or_default().content;
        let id = |assignee| match assignee {
            Assignee::Id(id) | Assignee::Whole { id } => id,
        };
        let assignees = assignees.map(|assignees| {
            let mut ids: Vec<_> = assignees.into_iter().map(id).collect();
            ids.sort();
            ids
        });
        let description = description.map(|html| plain_text(&html));
        Self { description, assignees, due_date: due_date.as_deref().and_then(Timestamp::parse) }
    }

    /// Whether what Spaces shows may be this. What it does not say speaks for it.
    pub fn may_be(&self, shown: &Self) -> bool {
        let same_people = |shown: &Vec<String>| shown.is_empty() || self.assignees.as_ref() == Some(shown);
        let same_words = |shown: &String| shown.is_empty() || self.description.as_ref() == Some(shown);
        let same_date = |shown: &Timestamp| self.due_date.as_ref() == Some(shown);
        shown.description.as_ref().is_none_or(same_words)
            && shown.assignees.as_ref().is_none_or(same_people)
            && shown.due_date.as_ref().is_none_or(same_date)
    }
}

fn if_readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_or_task_is_known_by_what_it_says_beside_its_title() {
        let asked = r#"{"content":{"bodyText":"Rotate keys","description":"<p>before   Friday</p>","assignees":[{"_id":"b"},{"_id":"a"}],
            "dueDate":"2031-03-14T09:26:53.589Z"}}"#;
        let may_be = |content: &str| Beside::of(asked).may_be(&Beside::of(&format!(r#"{{"content":{content}}}"#)));
        let it = r#"{"description":"before Friday","assignees":[{"_id":"a","displayname":"Ana"},{"_id":"b"}],"dueDate":"2031-03-14T09:26:53.589Z"}"#;
        assert!(may_be(it) && may_be("{}") && may_be("7"));
        assert!(may_be(r#"{"description":"","assignees":[],"dueDate":null}"#), "what is not said speaks for it");
        assert!(may_be(r#"{"description":7,"assignees":"x","dueDate":"soon"}"#), "so does what nobody can read");
        assert!(may_be(&it.replace(r#"{"_id":"b"}"#, r#""b""#)));
        for (from, to) in
            [("Friday", "Monday"), (r#"{"_id":"b"}"#, r#"{"_id":"c"}"#), (r#",{"_id":"b"}"#, ""), (":53.589", ":54.589")]
        {
            assert!(!may_be(&it.replace(from, to)), "{to}");
        }
    }
}
