//! What happened in spaces before, page by page.
//!
//! Two calls tell of it. The record of activity knows changes and deletions too
//! (<https://spaces.avayacloud.com/developers/docs/api/messages/activitiesrecord_messages>); the query knows messages
//! (<https://spaces.avayacloud.com/developers/docs/api/spaces/spaces_spaceid_messages_query>). A token may be barred from either.
//! A third one tells of changes in several spaces at once
//! (<https://spaces.avayacloud.com/developers/docs/api/users/users_me_messages/>).

use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::rest::{RestClient, RestError, next_page};
use crate::domain::{Credential, SpaceId, Timestamp};
use crate::governor::RestClass;

/// Messages asked for per page (Avaya's documented maximum).
const PAGE_SIZE: &str = "50";

/// One page of a space's history, oldest first.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// The objects of the upstream as they came, in the shape of `MESSAGE_SENT`.
    pub messages: Vec<Box<RawValue>>,
    /// Where the next page is, relative to the upstream; `None` at the end.
    pub next: Option<String>,
}

/// What has changed in several spaces.
#[derive(Debug, Clone)]
pub struct ChangesPage {
    /// The objects of the upstream as they came, in the shape of `MESSAGE_SENT`.
    pub messages: Vec<Box<RawValue>>,
    /// Whether that is all.
    pub is_complete: bool,
}

impl RestClient {
    /// One page of what was added, changed or deleted in `space` after `after` (`GET /api/activitiesrecord/messages`); `next` is
    /// what the page before gave.
    pub async fn activity_page(
        &self,
        credential: &Credential,
        space: &SpaceId,
        after: Timestamp,
        next: Option<&str>,
    ) -> Result<HistoryPage, RestError> {
        let millis = after.as_millis().to_string();
        let query = [("spaceid", space.as_str()), ("after", &millis), ("size", PAGE_SIZE)];
        self.history(credential, &["api", "activitiesrecord", "messages"], &query, next).await
    }

    /// One page of the messages of `space` after `after` (`GET /api/spaces/{id}/messages/query`); `next` is what the page before
    /// gave.
    pub async fn messages_page(
        &self,
        credential: &Credential,
        space: &SpaceId,
        after: Timestamp,
        next: Option<&str>,
    ) -> Result<HistoryPage, RestError> {
        let time = after.to_string();
        let query = [("refTime", time.as_str()), ("direction", "after"), ("size", PAGE_SIZE)];
        self.history(credential, &["api", "spaces", space.as_str(), "messages", "query"], &query, next).await
    }

    /// What was added, changed or deleted in any of `spaces` after `after` (`GET /api/users/me/messages`), on `most_pages` at most.
    /// Avaya documents 15 spaces at a time.
    pub async fn changes(
        &self,
        credential: &Credential,
        spaces: &[SpaceId],
        after: Timestamp,
        most_pages: usize,
    ) -> Result<ChangesPage, RestError> {
        let list = spaces.iter().map(SpaceId::as_str).collect::<Vec<_>>().join(",");
        let millis = after.as_millis().to_string();
        let query = [("spacelist", list.as_str()), ("after", &millis), ("includedeleted", "true"), ("size", PAGE_SIZE)];
        let (mut messages, mut next) = (Vec::new(), None::<String>);
        for _ in 0..most_pages {
            let page = self.history(credential, &["api", "users", "me", "messages"], &query, next.as_deref()).await?;
            messages.extend(page.messages);
            if page.next.is_none() {
                return Ok(ChangesPage { messages, is_complete: true });
            }
            if page.next == next {
                return Err(RestError::Unreadable { detail: "a list that goes round in circles" });
            }
            next = page.next;
        }
        Ok(ChangesPage { messages, is_complete: false })
    }

    async fn history(
        &self,
        credential: &Credential,
        path: &[&str],
        query: &[(&str, &str)],
        next: Option<&str>,
    ) -> Result<HistoryPage, RestError> {
        let query = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let url = self.listing(path, query, next)?;
        let listing: Listing = self.call_for(RestClass::Background, credential, Method::GET, url).await?;
        let next = next_page(listing.next, listing.data.is_empty());
        Ok(HistoryPage { messages: listing.data, next })
    }
}

#[derive(Deserialize)]
struct Listing {
    data: Vec<Box<RawValue>>,
    #[serde(rename = "nextPageUrl", default)]
    next: Option<String>,
}
