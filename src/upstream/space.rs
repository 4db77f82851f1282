//! One space by its id.
//!
//! Source: <https://spaces.avayacloud.com/developers/docs/api/spaces/>. The answer may be the space itself or wrap it.

use reqwest::Method;
use serde::Deserialize;

use super::TopicType;
use super::rest::{RestClient, RestError};
use crate::domain::{Credential, SpaceId};

impl RestClient {
    /// What kind of space it is (`GET /api/spaces/{id}`); `None` if the upstream does not say.
    pub async fn space_kind(&self, credential: &Credential, space: &SpaceId) -> Result<Option<TopicType>, RestError> {
        let url = self.path(&["api", "spaces", space.as_str()]);
        let found: Found = self.call(credential, Method::GET, url).await?;
        let kind = found.kind.or_else(|| found.topic.and_then(|topic| topic.kind));
        Ok(kind.as_deref().and_then(TopicType::parse))
    }
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    topic: Option<Topic>,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}
