//! Lists in pages, in both styles.

use serde_json::{Value, json};
use socketio_client::codec::{decode_query, encode_query};

use crate::script::{EndOfList, Pagination};
use crate::state::State;

/// The largest page.
const MAX_SIZE: usize = 50;

/// One request for a part of a list.
#[derive(Debug)]
pub(super) struct ListRequest {
    path: String,
    pairs: Vec<(String, String)>,
    size: usize,
    style: Pagination,
    end: EndOfList,
}

impl ListRequest {
    /// Reads the request; `size` and `style` are those of the endpoint where nothing else is asked or scripted.
    pub(super) fn new(state: &mut State, token: &str, uri: &http::Uri, size: usize, style: Pagination) -> Self {
        let pairs = decode_query(uri.query().unwrap_or_default());
        let scripted = state.scripts.take(token, |script| &mut script.pagination);
        let asked = pairs.iter().find_map(|(name, _)| match name.as_str() {
            "page" => Some(Pagination::Page),
            "pageToken" | "nextRefObjId" | "prevRefObjId" => Some(Pagination::Cursor),
            _ => None,
        });
        let end = state.scripts.take(token, |script| &mut script.end_of_list).unwrap_or(EndOfList::Missing);
        let mut request = Self { path: uri.path().to_owned(), pairs, size, style: asked.or(scripted).unwrap_or(style), end };
        request.size = request.get("size").and_then(|size| size.parse().ok()).unwrap_or(size).clamp(1, MAX_SIZE);
        request
    }

    /// A parameter of the query.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The part of the list that was asked for.
    pub(super) fn answer<T>(&self, items: &[T], id: impl Fn(&T) -> &str, render: impl Fn(&T) -> Value) -> Value {
        let start = self.start(items, &id).min(items.len());
        let end = (start + self.size).min(items.len());
        let data: Vec<Value> = items[start..end].iter().map(render).collect();
        let (next, previous) = match self.style {
            Pagination::Page => {
                let page = start / self.size;
                (("page", (page + 1).to_string()), page.checked_sub(1).map(|page| ("page", page.to_string())))
            }
            Pagination::Cursor => {
                let last = items[start..end].last().map(&id).unwrap_or_default();
                let first = items.get(start).filter(|_| start > 0).map(&id);
                (("pageToken", last.to_owned()), first.map(|first| ("prevRefObjId", first.to_owned())))
            }
        };
        let mut answer = match self.style {
            Pagination::Page => {
                json!({"from": start, "to": end, "total": items.len(), "data": data})
            }
            Pagination::Cursor => json!({"total": data.len(), "data": data}),
        };
        if end < items.len() || (self.end == EndOfList::EmptyPage && start < end) {
            answer["nextPageUrl"] = self.link(next.0, &next.1).into();
        } else {
            match self.end {
                EndOfList::Missing | EndOfList::EmptyPage => {}
                EndOfList::Empty => answer["nextPageUrl"] = "".into(),
                EndOfList::End => answer["nextPageUrl"] = "end".into(),
            }
        }
        if let Some((name, value)) = previous {
            let link = Value::from(self.link(name, &value));
            // The two names under which the documents know it.
            answer["prevPageUrl"] = link.clone();
            answer["previousPageUrl"] = link;
        }
        answer
    }

    /// Where the page begins.
    fn start<T>(&self, items: &[T], id: &impl Fn(&T) -> &str) -> usize {
        let position = |wanted: &str| items.iter().position(|item| id(item) == wanted).unwrap_or(items.len());
        if let Some(last) = self.get("pageToken").or_else(|| self.get("nextRefObjId")) {
            return position(last) + 1;
        }
        if let Some(first) = self.get("prevRefObjId") {
            return position(first).saturating_sub(self.size);
        }
        let page = self.get("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(0);
        page.saturating_mul(self.size)
    }

    /// The host-relative path of another page of the same list.
    fn link(&self, name: &str, value: &str) -> String {
        let kept = self
            .pairs
            .iter()
            .filter(|(known, _)| !matches!(known.as_str(), "page" | "pageToken" | "nextRefObjId" | "prevRefObjId"));
        let pairs = kept.map(|(name, value)| (name.as_str(), value.as_str())).chain([(name, value)]);
        format!("{}?{}", self.path, encode_query(pairs))
    }
}
