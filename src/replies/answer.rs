//! What an answer's body says: `{"text": …}`, also with the fields that Mattermost and Slack have around it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::record::Dropped;
use crate::upstream::lenient_text;

/// Longest text that is posted, in bytes.
pub(super) const MAX_TEXT: usize = 8 << 10;

/// What a receiver wants said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// Nothing.
    Silent,
    /// These words.
    Words {
        text: Cow<'a, str>,
        /// As a comment on what was delivered, if that can be commented on.
        comment: bool,
    },
    /// Something that is not posted.
    Refused(Dropped),
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    response_type: Option<Cow<'a, str>>,
}

/// Reads the body of an answer. Most receivers say something like `ok`, which is no answer in words.
pub(super) fn read(body: &[u8]) -> Answer<'_> {
    // serde would take a list for a structure.
    let object = serde_json::from_slice::<&RawValue>(body).ok().filter(|raw| raw.get().starts_with('{'));
    let Some(body) = object.and_then(|raw| serde_json::from_str::<Body<'_>>(raw.get()).ok()) else { return Answer::Silent };
    let Some(text) = body.text.filter(|text| !text.trim().is_empty()) else { return Answer::Silent };
    match body.response_type.as_deref() {
        // For one pair of eyes only, which Spaces does not have; everyone would read it.
        Some("ephemeral") => Answer::Refused(Dropped::Ephemeral),
        _ if text.len() > MAX_TEXT => Answer::Refused(Dropped::TooLong),
        kind => Answer::Words { comment: kind == Some("comment"), text },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str, comment: bool) -> Answer<'_> {
        Answer::Words { text: text.into(), comment }
    }

    #[test]
    fn an_answer_is_read_in_every_shape_that_is_known() {
        let long = format!(r#"{{"text":"{}"}}"#, "a".repeat(MAX_TEXT + 1));
        for (body, expected) in [
            (r#"{"text":"on it"}"#, words("on it", false)),
            (r#" {"text": "two\nlines", "username": "bot", "icon_url": "x", "attachments": []}"#, words("two\nlines", false)),
            (r#"{"text":"here","response_type":"in_channel"}"#, words("here", false)),
            (r#"{"text":"below","response_type":"comment"}"#, words("below", true)),
            (r#"{"text":"here","response_type":7}"#, words("here", false)),
            (r#"{"text":"psst","response_type":"ephemeral"}"#, Answer::Refused(Dropped::Ephemeral)),
            (&long, Answer::Refused(Dropped::TooLong)),
            (r#"{"text":" \n"}"#, Answer::Silent),
            (r#"{"text":""}"#, Answer::Silent),
            (r#"{"text":7}"#, Answer::Silent),
            (r#"{"ok":true}"#, Answer::Silent),
            (r#"["on it"]"#, Answer::Silent),
            (r#""on it""#, Answer::Silent),
            ("on it", Answer::Silent),
            ("", Answer::Silent),
            (r#"{"text":"cut off"#, Answer::Silent),
            (r#"{"text":"one"} {"text":"two"}"#, Answer::Silent),
        ] {
            assert_eq!(read(body.as_bytes()), expected, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd_to_read(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body);
        }
    }
}
