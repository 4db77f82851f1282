//! A message that is too long for one event, in several: its words cut, and each part with what belongs to it.
//!
//! Whom the words of a part mention the part mentions; whom nothing in the words names, the first part does. Files go with the last part,
//! below the words, or after it if it has no room for them. All parts are comments on the same, if the message is one.

use serde_json::value::RawValue;

use super::compose::{OwnPrepared, Said};
use crate::domain::SpaceId;
use crate::markup::{MAX_PARTS, Room, mentioned_in, split_html};
use crate::session::OutgoingMessage;
use crate::upstream::{OutgoingMention, plain_text};

/// The bytes by which the reference of a part is longer than that of a message in one piece: a hyphen and the number.
const NUMBER: usize = "-20".len();

/// The bytes that a list of mentions takes beside its entries.
const LIST: usize = ",\"mentions\":[]".len();

impl OwnPrepared {
    /// The message in parts that take `limit` bytes at most each. None if it cannot be had in so few and so small ones.
    pub(super) fn compose_in_parts(&self, limit: usize, space: &SpaceId) -> Option<Vec<OutgoingMessage>> {
        let compose = |html: &str, mentions: &[OutgoingMention], attachments: &[Box<RawValue>]| {
            let plain = plain_text(html);
            self.compose(&[], space.clone(), Said { html, plain: &plain, mentions, attachments })
        };
        let limit = limit.checked_sub(NUMBER)?;
        let named: Vec<_> = mentioned_in(&self.html).collect();
        let unnamed = self.mentions.iter().filter(|mention| !named.contains(&mention.id.as_str()));
        let unnamed: Vec<_> = unnamed.cloned().collect();
        let beside = if self.mentions.is_empty() { 0 } else { LIST };
        let others = limit.checked_sub(compose("", &[], &[]).payload.len() + beside)?;
        let first = others.checked_sub(unnamed.iter().map(entry).sum::<usize>())?;
        let mention = |id: &str| self.mentions.iter().find(|mention| mention.id == id).map_or(0, entry);
        let pieces = split_html(&self.html, &Room { first, others, mention: &mention })?;
        let pieces: Vec<_> = pieces.into_iter().filter(|piece| !plain_text(piece).is_empty()).collect();
        if pieces.is_empty() {
            return None;
        }
        let mut parts: Vec<_> = pieces
            .iter()
            .enumerate()
            .map(|(index, piece)| {
                let named: Vec<_> = mentioned_in(piece).collect();
                let own = self.mentions.iter().filter(|mention| named.contains(&mention.id.as_str()));
                let mentions: Vec<_> =
                    if index == 0 { unnamed.iter().chain(own).cloned().collect() } else { own.cloned().collect() };
                (piece.as_str(), mentions)
            })
            .collect();
        let Some((last, mentions)) = parts.pop_if(|_| !self.attachments.is_empty()) else {
            return Some(parts.iter().map(|(piece, mentions)| compose(piece, mentions, &[])).collect());
        };
        let mut messages: Vec<_> = parts.iter().map(|(piece, mentions)| compose(piece, mentions, &[])).collect();
        let with_files = compose(last, &mentions, &self.attachments);
        if with_files.payload.len() <= limit {
            messages.push(with_files);
        } else {
            messages.extend([compose(last, &mentions, &[]), compose("", &[], &self.attachments)]);
        }
        let fit = messages.len() <= MAX_PARTS && messages.iter().all(|message| message.payload.len() <= limit);
        fit.then_some(messages)
    }
}

/// The bytes that a mention takes in the list.
fn entry(mention: &OutgoingMention) -> usize {
    serde_json::to_string(mention).expect("a mention of texts serialises").len() + ",".len()
}
