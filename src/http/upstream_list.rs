//! Lists of Spaces in pages of the bridge's own size.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::page::PageQuery;

/// Longest text that is searched for.
const MAX_SEARCH: usize = 200;

/// Whether a text can be searched for.
pub(super) fn check_search(search: Option<&str>) -> Result<(), ApiError> {
    let is_one =
        |text: &str| !text.trim().is_empty() && text.chars().count() <= MAX_SEARCH && !text.chars().any(char::is_control);
    match search {
        Some(text) if !is_one(text) => {
            Err(ApiError::InvalidQuery { detail: "`search` is a text of 1 to 200 characters".to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Pages of the upstream that one call looks at; of what is on them, few may be for the caller.
const MAX_LOOKED_AT: usize = 10;

/// A place in a list of the upstream: one of its pages, and how many of that page's entries have been given.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct UpstreamPlace {
    page: Option<String>,
    given: usize,
}

/// A place in a filtered list. The upstream's own pages go on with the filter that the first was asked for with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FilteredPlace<F> {
    filter: F,
    place: UpstreamPlace,
}

impl<F: PartialEq + DeserializeOwned> FilteredPlace<F> {
    /// Where the list of `filter` goes on, as the caller's cursor says.
    pub(super) fn of(query: &PageQuery, filter: F) -> Result<Self, ApiError> {
        match query.place::<Self>()? {
            None => Ok(Self { filter, place: UpstreamPlace::default() }),
            Some(known) if known.filter == filter => Ok(known),
            Some(_) => Err(ApiError::InvalidQuery { detail: "`cursor` belongs to a list with other filters".to_owned() }),
        }
    }

    /// The place without its filter.
    pub(super) fn split(self) -> (F, UpstreamPlace) {
        (self.filter, self.place)
    }

    /// `place` of the same list.
    pub(super) fn new(filter: F, place: UpstreamPlace) -> Self {
        Self { filter, place }
    }
}

/// What is done with an entry of the list.
pub(super) enum Taken<T> {
    /// It is given.
    Given(T),
    /// It is left out.
    LeftOut,
    /// It and all after it are left out.
    End,
}

/// The entries of one answer while they are being gathered from pages of the upstream.
#[derive(Debug)]
pub(super) struct Gathering<T> {
    limit: usize,
    taken: Vec<T>,
    looked_at: usize,
    place: Option<UpstreamPlace>,
    is_complete: bool,
}

impl<T> Gathering<T> {
    /// `limit` entries from `place` on.
    pub(super) fn new(place: UpstreamPlace, limit: usize) -> Self {
        Self { limit, taken: Vec::new(), looked_at: 0, place: Some(place), is_complete: false }
    }

    /// Which page is to be added next: `Some(None)` the first one, `None` no more.
    #[expect(clippy::option_option, reason = "no page, the first page, and a page that Spaces named")]
    pub(super) fn wants(&self) -> Option<Option<String>> {
        let place = self.place.as_ref().filter(|_| !self.is_complete)?;
        Some(place.page.clone())
    }

    /// Adds the page that was wanted, after which comes `next`, as far as `take` gives its entries.
    pub(super) fn add<E>(&mut self, entries: Vec<E>, next: Option<String>, take: impl Fn(E) -> Taken<T>) {
        let Some(mut place) = self.place.take() else { return };
        let length = entries.len();
        for (index, entry) in entries.into_iter().enumerate().skip(place.given) {
            if self.taken.len() == self.limit {
                place.given = index;
                (self.place, self.is_complete) = (Some(place), true);
                return;
            }
            match take(entry) {
                Taken::Given(entry) => self.taken.push(entry),
                Taken::LeftOut => {}
                Taken::End => return,
            }
        }
        self.looked_at += 1;
        self.is_complete = self.taken.len() == self.limit || self.looked_at == MAX_LOOKED_AT;
        self.place = next.filter(|_| length > 0).map(|next| UpstreamPlace { page: Some(next), given: 0 });
    }

    /// What was gathered, and where to go on.
    pub(super) fn end(self) -> (Vec<T>, Option<UpstreamPlace>) {
        (self.taken, self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a reader gets who follows the cursors, over pages of the upstream as they are given.
    fn read(pages: &[&[u32]], limit: usize) -> Vec<u32> {
        let (mut all, mut place) = (Vec::new(), Some(UpstreamPlace::default()));
        while let Some(from) = place {
            let mut gathering = Gathering::new(from, limit);
            while let Some(page) = gathering.wants() {
                let index: usize = page.map_or(0, |page| page.parse().expect("a number"));
                let next = (index + 1 < pages.len()).then(|| (index + 1).to_string());
                gathering.add(pages[index].to_vec(), next, |entry| match entry {
                    0 => Taken::LeftOut,
                    999 => Taken::End,
                    entry => Taken::Given(entry),
                });
            }
            let (taken, next) = gathering.end();
            assert!(taken.len() <= limit);
            all.extend(taken);
            place = next;
        }
        all
    }

    #[test]
    fn nothing_is_lost_or_given_twice_whatever_the_sizes() {
        for limit in 1..9 {
            assert_eq!(read(&[&[1, 2, 3], &[0, 0], &[4], &[0, 5, 6, 7]], limit), [1, 2, 3, 4, 5, 6, 7], "{limit}");
            assert_eq!(read(&[&[1, 2], &[3, 999, 4], &[5]], limit), [1, 2, 3], "{limit}");
            assert_eq!(read(&[&[]], limit), [0_u32; 0], "{limit}");
            assert_eq!(read(&[&[1], &[], &[2]], limit), [1], "an empty page is the end");
            let many: Vec<Vec<u32>> = (1..40).map(|number| vec![0, number]).collect();
            let pages: Vec<&[u32]> = many.iter().map(Vec::as_slice).collect();
            assert_eq!(read(&pages, limit), (1..40).collect::<Vec<_>>(), "{limit}");
        }
    }
}
