//! One space by its id, and who is in it.
//!
//! Source: <https://spaces.avayacloud.com/developers/docs/api/spaces/>. The answer may be the space itself or wrap it.

use reqwest::Method;
use serde::Deserialize;

use super::TopicType;
use super::reading::InSpace;
use super::rest::{RestClient, RestError, next_page};
use crate::domain::{Credential, SpaceId};

/// A space, as far as everyone in it may know it: `settings` has what opens its conference, and stays out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceDetails {
    /// Its title.
    pub title: Option<String>,
    /// Its description as HTML.
    pub description: Option<String>,
    /// What kind of space it is.
    pub kind: Option<TopicType>,
    /// Who made it.
    pub owner: Option<String>,
    /// What guests and members may not do, in the upstream's words.
    pub restrictions: Vec<String>,
    /// When it was made, as the upstream says it.
    pub created: Option<String>,
}

/// Someone in a space, or someone found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's id.
    pub id: String,
    /// `user` or `anonymous`.
    pub kind: Option<String>,
    /// The login name.
    pub username: Option<String>,
    /// The name shown.
    pub display_name: Option<String>,
    /// `admin`, `member` or `guest`, of members.
    pub role: Option<String>,
}

/// A page of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeoplePage {
    /// The people.
    pub people: Vec<Person>,
    /// Where the next page is; `None` at the end.
    pub next: Option<String>,
}

impl RestClient {
    /// What kind of space it is (`GET /api/spaces/{id}`); `None` if the upstream does not say.
    pub async fn space_kind(&self, credential: &Credential, space: &SpaceId) -> Result<Option<TopicType>, RestError> {
        let url = self.path(&["api", "spaces", space.as_str()]);
        let found: Found = self.call(credential, Method::GET, url).await?;
        Ok(found.into_topic().kind())
    }

    /// A space (`GET /api/spaces/{id}`).
    pub async fn space(&self, at: InSpace<'_>) -> Result<SpaceDetails, RestError> {
        let url = self.path(&["api", "spaces", at.space.as_str()]);
        let found: Found = self.read_in(at, url).await?;
        let topic = found.into_topic();
        if topic.id.as_deref() != Some(at.space.as_str()) {
            return Err(RestError::Unreadable { detail: "another space in the answer" });
        }
        let kind = topic.kind();
        let Topic { title, description, owner, restrictions, created, .. } = topic;
        let restrictions = restrictions.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect();
        Ok(SpaceDetails { title, description, kind, owner, restrictions, created })
    }

    /// One page of the members of a space (`GET /api/spaces/{id}/members`); `next` is what the page before gave.
    pub async fn members_page(&self, at: InSpace<'_>, search: Option<&str>, next: Option<&str>) -> Result<PeoplePage, RestError> {
        let url = self.listing(&["api", "spaces", at.space.as_str(), "members"], page_query(search), next)?;
        self.read_in::<PeopleListing>(at, url).await.map(PeoplePage::from)
    }

    /// One page of the people whom the user may know and whose names have `search` in them
    /// (`GET /api/users/me/colleagues`); `next` is what the page before gave.
    pub async fn colleagues_page(
        &self,
        credential: &Credential,
        search: &str,
        next: Option<&str>,
    ) -> Result<PeoplePage, RestError> {
        let url = self.listing(&["api", "users", "me", "colleagues"], page_query(Some(search)), next)?;
        let listing: PeopleListing = self.call(credential, Method::GET, url).await?;
        Ok(listing.into())
    }
}

/// Entries asked for per page (Avaya's documented maximum).
const PAGE_SIZE: &str = "50";

fn page_query(search: Option<&str>) -> Vec<(&'static str, String)> {
    let search = search.map(|search| ("search", search.to_owned()));
    [("size", PAGE_SIZE.to_owned()), ("page", "0".to_owned())].into_iter().chain(search).collect()
}

#[derive(Deserialize)]
struct Found {
    #[serde(flatten)]
    bare: Topic,
    #[serde(default)]
    topic: Option<Topic>,
}

impl Found {
    fn into_topic(self) -> Topic {
        match self.topic {
            Some(topic) if self.bare.id.is_none() => topic,
            Some(_) | None => self.bare,
        }
    }
}

#[derive(Deserialize)]
struct Topic {
    #[serde(rename = "_id", default)]
    id: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(rename = "cid", default)]
    owner: Option<String>,
    #[serde(rename = "restrict", default)]
    restrictions: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    created: Option<String>,
}

impl Topic {
    fn kind(&self) -> Option<TopicType> {
        self.kind.as_deref().and_then(TopicType::parse)
    }
}

#[derive(Deserialize)]
struct PeopleListing {
    data: Vec<ListedPerson>,
    #[serde(rename = "nextPageUrl", default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct ListedPerson {
    /// The user of a membership, which has an `_id` of its own.
    #[serde(default)]
    member: Option<String>,
    #[serde(rename = "_id", default)]
    id: Option<String>,
    #[serde(rename = "memberType", default)]
    member_type: Option<String>,
    #[serde(rename = "aType", default)]
    user_type: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    displayname: Option<String>,
    #[serde(default)]
    role: Option<String>,
}

impl From<PeopleListing> for PeoplePage {
    fn from(listing: PeopleListing) -> Self {
        let next = next_page(listing.next, listing.data.is_empty());
        let people = listing.data.into_iter().filter_map(|person| {
            let ListedPerson { member, id, member_type, user_type, username, displayname, role } = person;
            Some(Person { id: member.or(id)?, kind: member_type.or(user_type), username, display_name: displayname, role })
        });
        Self { people: people.collect(), next }
    }
}
