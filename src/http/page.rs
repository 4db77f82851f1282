//! Lists in pages: `limit` and `cursor` in, `data` and `nextCursor` out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;

/// Entries of a page if the caller says nothing.
const DEFAULT_LIMIT: usize = 50;

/// Most entries of a page.
const MAX_LIMIT: u16 = 200;

/// Which page of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Most entries of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<Limit>,
    /// Where to go on: `nextCursor` of the page before. Its content means nothing outside the service.
    #[param(max_length = 4096, nullable = false)]
    cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn new(limit: Option<Limit>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    /// Most entries of the page.
    pub(super) fn limit(&self) -> usize {
        self.limit.map_or(DEFAULT_LIMIT, |limit| usize::from(limit.0))
    }

    /// The place that the cursor stands for.
    pub(super) fn place<T: DeserializeOwned>(&self) -> Result<Option<T>, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        decode(cursor).map(Some).ok_or_else(|| ApiError::InvalidQuery {
            detail: "`cursor` is not one that this list gave as `nextCursor`".to_owned(),
        })
    }
}

/// A number of entries, 1 to 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub(super) struct Limit(u16);

impl TryFrom<u16> for Limit {
    type Error = &'static str;

    fn try_from(number: u16) -> Result<Self, Self::Error> {
        if (1..=MAX_LIMIT).contains(&number) { Ok(Self(number)) } else { Err("`limit` is a number from 1 to 200") }
    }
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The entries.
    pub data: Vec<T>,
    /// `cursor` of the next page; `null` at the end.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page that goes on at `next`.
    pub(super) fn new(data: Vec<T>, next: Option<impl Serialize>) -> Self {
        Self { data, next_cursor: next.map(|place| encode(&place)) }
    }

    /// The page of `all`, which is in the order of `key`, that `query` asks for.
    pub(super) fn cut(mut all: Vec<T>, query: &PageQuery, key: impl Fn(&T) -> &str) -> Result<Self, ApiError> {
        if let Some(after) = query.place::<String>()? {
            all.retain(|entry| key(entry) > after.as_str());
        }
        let more = all.len() > query.limit();
        all.truncate(query.limit());
        let next = all.last().filter(|_| more).map(|last| key(last).to_owned());
        Ok(Self::new(all, next))
    }
}

/// The cursor that stands for `place`.
pub(super) fn encode(place: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).expect("a place is plain data"))
}

/// The place that `cursor` stands for, if it is a cursor.
pub(super) fn decode<T: DeserializeOwned>(cursor: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let all: Vec<String> = (0..7).map(|number| format!("id{number}")).collect();
        let mut query = PageQuery::new(Some(Limit(3)), None);
        let mut seen = Vec::new();
        loop {
            let page = Page::cut(all.clone(), &query, String::as_str).expect("a page");
            seen.extend(page.data);
            match page.next_cursor {
                Some(cursor) => query = PageQuery::new(Some(Limit(3)), Some(cursor)),
                None => break,
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        for cursor in ["", "x", "!", "bnVsbCBudWxs"] {
            let query = PageQuery::new(None, Some(cursor.to_owned()));
            assert!(query.place::<String>().is_err(), "{cursor}");
        }
    }
}
