//! Reading a space for someone who asks: its history newest first, the comments on a post or task, and one message by its id.
//!
//! Sources: <https://spaces.avayacloud.com/developers/docs/api/spaces/spaces_spaceid_messages_query>,
//! <https://spaces.avayacloud.com/developers/docs/api/messages/tasks_taskid_messages> and its like for posts.

use std::time::Duration;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use super::history::HistoryPage;
use super::message::ReceivedMessage;
use super::rest::{Ask, RestClient, RestError, next_page, read_json};
use crate::domain::{Credential, Secret, SpaceId, Timestamp};
use crate::governor::RestClass;

/// Entries asked for per page (Avaya's documented maximum).
const PAGE_SIZE: &str = "50";

/// The first digits of a message's id are the time of its creation in seconds, as ids of this length are made in Spaces' store. The
/// clocks of those who make ids and times need not agree to the second.
const ID_DIGITS: usize = 24;
const TIME_DIGITS: usize = 8;
const SLACK: Duration = Duration::from_secs(5);

/// Until how long after the time in its id a message is looked for.
const LOOKED_FOR: Duration = Duration::from_mins(1);

/// Pages on which a message is looked for.
const MAX_PAGES: usize = 4;

/// A space, who asks for it, and its password if it has one.
#[derive(Clone, Copy)]
pub struct InSpace<'a> {
    /// With whose token.
    pub credential: &'a Credential,
    /// The space.
    pub space: &'a SpaceId,
    /// What opens it, if it is protected.
    pub password: Option<&'a Secret>,
}

/// Which messages are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryFilter {
    /// Of this category, in the upstream's word.
    pub category: Option<String>,
    /// With these words.
    pub search: Option<String>,
    /// Only such with files.
    pub files: bool,
    /// Created before this time.
    pub before: Option<Timestamp>,
}

impl RestClient {
    /// One page of the messages of a space, newest first (`GET /api/spaces/{id}/messages/query`); `next` is what the page before gave.
    pub async fn messages_before(
        &self,
        at: InSpace<'_>,
        filter: &HistoryFilter,
        next: Option<&str>,
    ) -> Result<HistoryPage, RestError> {
        let mut query = vec![("direction", "before".to_owned()), ("size", PAGE_SIZE.to_owned())];
        query.extend(filter.before.map(|before| ("refTime", before.to_string())));
        query.extend(filter.category.clone().map(|category| ("category", category)));
        query.extend(filter.search.clone().map(|search| ("searchstring", search)));
        query.extend(filter.files.then(|| ("file_only", "true".to_owned())));
        self.list(at, &["api", "spaces", at.space.as_str(), "messages", "query"], query, next).await
    }

    /// One page of the comments on a post (`idea`) or task (`GET /api/ideas|tasks/{id}/messages`), in the order of the upstream.
    pub async fn comments_page(
        &self,
        at: InSpace<'_>,
        (category, parent): (&str, &str),
        next: Option<&str>,
    ) -> Result<HistoryPage, RestError> {
        let kind = if category == "task" { "tasks" } else { "ideas" };
        let query = vec![("size", PAGE_SIZE.to_owned())];
        self.list(at, &["api", kind, parent, "messages"], query, next).await
    }

    /// The message `id` of a space, if its history has it. Spaces has no call for one message: the history is read around the time
    /// that the id tells, or from its newest end.
    pub async fn find_message(&self, at: InSpace<'_>, id: &str) -> Result<Option<Box<RawValue>>, RestError> {
        let Some(created) = time_of(id) else { return self.find_among_newest(at, id, MAX_PAGES).await };
        let query = || {
            vec![
                ("refTime", created.saturating_sub(SLACK).to_string()),
                ("direction", "after".to_owned()),
                ("size", PAGE_SIZE.to_owned()),
            ]
        };
        let path = ["api", "spaces", at.space.as_str(), "messages", "query"];
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let page = self.list(at, &path, query(), next.as_deref()).await?;
            if let Some(found) = page.messages.iter().find(|raw| is_message(raw, id)) {
                return Ok(Some(found.clone()));
            }
            let is_past =
                page.messages.iter().filter_map(|raw| created_at(raw)).any(|at| at > created.saturating_add(LOOKED_FOR));
            next = page.next.filter(|_| !is_past);
            if next.is_none() {
                break;
            }
        }
        self.find_among_newest(at, id, 1).await
    }

    async fn find_among_newest(&self, at: InSpace<'_>, id: &str, pages: usize) -> Result<Option<Box<RawValue>>, RestError> {
        let mut next = None;
        for _ in 0..pages {
            let page = self.messages_before(at, &HistoryFilter::default(), next.as_deref()).await?;
            if let Some(found) = page.messages.iter().find(|raw| is_message(raw, id)) {
                return Ok(Some(found.clone()));
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(None)
    }

    async fn list(
        &self,
        at: InSpace<'_>,
        path: &[&str],
        query: Vec<(&str, String)>,
        next: Option<&str>,
    ) -> Result<HistoryPage, RestError> {
        let listing: Listing = self.read_in(at, self.listing(path, query, next)?).await?;
        let next = next_page(listing.next, listing.data.is_empty());
        Ok(HistoryPage { messages: listing.data, next })
    }

    /// The address of a page of the list at `path`.
    pub(super) fn listing(&self, path: &[&str], query: Vec<(&str, String)>, next: Option<&str>) -> Result<Url, RestError> {
        let Some(next) = next else {
            let mut url = self.path(path);
            url.query_pairs_mut().extend_pairs(query);
            return Ok(url);
        };
        self.page(path, next)
    }

    /// Reads something of a space that someone waits for.
    pub(super) async fn read_in<T: DeserializeOwned>(&self, at: InSpace<'_>, url: Url) -> Result<T, RestError> {
        let ask = Ask { class: RestClass::Interactive, credential: at.credential, password: at.password };
        read_json(&self.ask(ask, Method::GET, url, None).await?)
    }
}

/// When a message was created, if its id tells.
fn time_of(id: &str) -> Option<Timestamp> {
    if id.len() != ID_DIGITS || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let seconds = i64::from_str_radix(&id[..TIME_DIGITS], 16).ok()?;
    Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
}

fn is_message(raw: &RawValue, id: &str) -> bool {
    serde_json::from_str::<ReceivedMessage<'_>>(raw.get()).is_ok_and(|message| message.id.as_deref() == Some(id))
}

fn created_at(raw: &RawValue) -> Option<Timestamp> {
    let message: ReceivedMessage<'_> = serde_json::from_str(raw.get()).ok()?;
    Timestamp::parse(message.created.as_deref()?)
}

#[derive(Deserialize)]
struct Listing {
    data: Vec<Box<RawValue>>,
    #[serde(rename = "nextPageUrl", default)]
    next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_the_usual_form_tells_its_time() {
        assert_eq!(time_of("650a0b0c0d0e0f1011121314").map(Timestamp::as_seconds), Some(0x650a_0b0c));
        for id in ["", "650a0b0c", "650a0b0c0d0e0f101112131g", "650a0b0c0d0e0f10111213145", "äääääääääääää"] {
            assert_eq!(time_of(id), None, "{id}");
        }
    }
}
