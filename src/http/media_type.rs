//! What a file is: its media type, by what its sender says, its name, or its first bytes; and the upstream's word for its kind.

use super::message_body::FileType;

/// What is said of a file of which nothing is known.
pub(super) const UNKNOWN: &str = "application/octet-stream";

/// Longest media type that is believed.
const MAX_MEDIA_TYPE: usize = 128;

/// The media type of a file: what its sender says if it says something, else by its name, else by its first bytes.
pub(super) fn media_type(said: Option<&str>, name: &str, beginning: &[u8]) -> String {
    let said = said.map(|text| text.trim().to_ascii_lowercase());
    if let Some(said) = said.filter(|said| is_media_type(said) && !says_nothing(said)) {
        return said;
    }
    if let Some(guess) = mime_guess::from_path(name).first_raw() {
        return guess.to_owned();
    }
    if let Some(kind) = infer::get(beginning) {
        return kind.mime_type().to_owned();
    }
    let is_text = !beginning.is_empty() && !beginning.contains(&0) && is_utf8(beginning);
    if is_text { "text/plain" } else { UNKNOWN }.to_owned()
}

/// The upstream's word for the kind of file.
pub(super) fn file_type(media_type: &str) -> FileType {
    match media_type.split('/').next() {
        Some("image") => FileType::Image,
        Some("video") => FileType::Video,
        Some("audio") => FileType::Audio,
        _ => FileType::Document,
    }
}

/// What clients say who know no better: the second is what `curl` says of any body.
fn says_nothing(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    matches!(essence, UNKNOWN | "application/x-www-form-urlencoded" | "binary/octet-stream")
}

fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_token =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte));
    let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    text.len() <= MAX_MEDIA_TYPE
        && is_printable
        && essence.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub))
}

/// Whether this is text, perhaps cut off within a character.
fn is_utf8(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    }
}

/// Longest name of a file, in characters, as attachments may have it.
const MAX_NAME: usize = 256;

/// The name of a file without the directories that some clients send along, and without what no name has.
pub(super) fn clean_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|character| !character.is_control()).collect();
    let clean = clean.trim();
    let length = clean.chars().count();
    match clean {
        "" | "." | ".." => "file".to_owned(),
        // The end says what it is.
        _ => clean.chars().skip(length.saturating_sub(MAX_NAME)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sender_the_name_and_the_content_tell_what_a_file_is_in_this_order() {
        const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        for (said, name, beginning, expected) in [
            (Some("image/webp"), "a.txt", PNG, "image/webp"),
            (Some(" Text/Plain; charset=UTF-8 "), "a.png", PNG, "text/plain; charset=utf-8"),
            (Some("application/octet-stream"), "report.PDF", PNG, "application/pdf"),
            (Some("application/x-www-form-urlencoded"), "a.csv", b"", "text/csv"),
            (None, "a", PNG, "image/png"),
            (None, "a.unheard-of", PNG, "image/png"),
            (Some("nonsense"), "a", b"hello", "text/plain"),
            (Some("a/b\r\nX: y"), "a", "grün".as_bytes(), "text/plain"),
            (None, "a", b"a\0b", UNKNOWN),
            (None, "a", b"\xff\xfe\xfd\xfc", UNKNOWN),
            (None, "a", b"", UNKNOWN),
            (Some(""), "movie.mp4", b"", "video/mp4"),
        ] {
            assert_eq!(media_type(said, name, beginning), expected, "{said:?} {name}");
        }
    }

    #[test]
    fn a_kind_is_one_of_four() {
        for (media_type, expected) in [
            ("image/png", "\"image\""),
            ("video/mp4", "\"video\""),
            ("audio/ogg", "\"audio\""),
            ("application/pdf", "\"document\""),
            ("text/plain; charset=utf-8", "\"document\""),
            ("", "\"document\""),
        ] {
            assert_eq!(serde_json::to_string(&file_type(media_type)).expect("a word"), expected, "{media_type}");
        }
    }

    #[test]
    fn a_name_is_cleaned() {
        let long = format!("{}.txt", "ä".repeat(300));
        for (name, expected) in [
            ("report.pdf", "report.pdf"),
            ("/etc/passwd", "passwd"),
            (r"C:\Users\a\b c.txt", "b c.txt"),
            ("../..", "file"),
            ("", "file"),
            ("a\r\nb\0.txt", "ab.txt"),
            (&long, &format!("{}.txt", "ä".repeat(252))),
        ] {
            assert_eq!(clean_name(name), expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_can_always_be_announced(
            said in proptest::option::of(".{0,40}"),
            name in ".{0,300}",
            beginning in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let name = clean_name(&name);
            prop_assert!((1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(['/', '\\']));
            let media_type = media_type(said.as_deref(), &name, &beginning);
            prop_assert!(http::HeaderValue::from_str(&media_type).is_ok() && media_type.contains('/'));
        }
    }
}
