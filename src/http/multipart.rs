//! [`FormReader`]: reads `multipart/form-data` (RFC 7578) piece by piece, in memory that does not grow with what is sent.
//!
//! What it holds is one piece of the body and the head of one part, whatever the form is like. It knows nothing of messages.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use super::error::ApiError;

/// Largest head of a part, in bytes.
const MAX_PART_HEAD: usize = 8 << 10;

/// Most headers of a part.
const MAX_PART_HEADERS: usize = 16;

/// Most bytes before the first part, and between a boundary and the end of its line.
const MAX_FILLER: usize = 4 << 10;

/// Longest boundary, by RFC 2046.
const MAX_BOUNDARY: usize = 70;

/// Gives a body piece by piece.
pub(super) trait Pieces: Send {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, ApiError>> + Send;
}

/// What stands at the head of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartHead {
    /// The field's name.
    pub(super) name: String,
    /// The file's name, if the part is a file.
    pub(super) file_name: Option<String>,
    /// The part's media type, if it says one.
    pub(super) media_type: Option<String>,
}

/// Where in the form the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first boundary.
    Preamble,
    /// Behind a boundary.
    Boundary,
    /// In the content of a part.
    Content,
    /// Behind the last boundary.
    End,
}

/// A form that is being read.
pub(super) struct FormReader<P> {
    pieces: P,
    buffer: BytesMut,
    /// What ends a part: a line break and the boundary.
    delimiter: Finder<'static>,
    place: Place,
}

impl<P: Pieces> FormReader<P> {
    /// A form whose parts are divided by `boundary`.
    pub(super) fn new(pieces: P, boundary: &str) -> Self {
        let delimiter = Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        // The first boundary need not follow a line.
        Self { pieces, buffer: BytesMut::from(&b"\r\n"[..]), delimiter, place: Place::Preamble }
    }

    /// Where the pieces come from.
    pub(super) fn into_pieces(self) -> P {
        self.pieces
    }

    /// The head of the next part; what is left of the one before is skipped.
    pub(super) async fn next_part(&mut self) -> Result<Option<PartHead>, ApiError> {
        let mut skipped = 0;
        while matches!(self.place, Place::Preamble | Place::Content) {
            let is_preamble = self.place == Place::Preamble;
            while let Some(piece) = self.until_delimiter().await? {
                skipped += piece.len();
                if is_preamble && skipped > MAX_FILLER {
                    return Err(ApiError::MalformedForm("it does not begin with its boundary"));
                }
            }
        }
        if self.place == Place::End || self.is_last_boundary().await? {
            self.place = Place::End;
            return Ok(None);
        }
        let head = self.read_head().await?;
        self.place = Place::Content;
        Ok(Some(head))
    }

    /// The next piece of the part's content; `None` at its end.
    pub(super) async fn next_piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        if self.place == Place::Content { self.until_delimiter().await } else { Ok(None) }
    }

    /// The next piece before the delimiter. Takes the delimiter away and answers `None` when it is reached.
    async fn until_delimiter(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let length = self.delimiter.needle().len();
            match self.delimiter.find(&self.buffer) {
                Some(0) => {
                    let _ = self.buffer.split_to(length);
                    self.place = Place::Boundary;
                    return Ok(None);
                }
                Some(end) => return Ok(Some(self.buffer.split_to(end).freeze())),
                // The delimiter may have begun in what is kept.
                None if self.buffer.len() >= length => {
                    let certain = self.buffer.len() - (length - 1);
                    return Ok(Some(self.buffer.split_to(certain).freeze()));
                }
                None => self.read_more().await?,
            }
        }
    }

    /// Whether the boundary was the last one; otherwise it takes the rest of its line away, all but the line break.
    async fn is_last_boundary(&mut self) -> Result<bool, ApiError> {
        while self.buffer.len() < 2 {
            self.read_more().await?;
        }
        if self.buffer.starts_with(b"--") {
            return Ok(true);
        }
        loop {
            let filler = self.buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let _ = self.buffer.split_to(filler);
            match self.buffer.first_chunk() {
                Some(b"\r\n") => return Ok(false),
                Some(_) => return Err(ApiError::MalformedForm("there is something behind a boundary")),
                None if filler > MAX_FILLER => return Err(ApiError::MalformedForm("there is something behind a boundary")),
                None => self.read_more().await?,
            }
        }
    }

    /// Reads the head. The buffer begins with the line break before it, so that a part without any header has a head as well.
    async fn read_head(&mut self) -> Result<PartHead, ApiError> {
        let mut searched = 0;
        let end = loop {
            if let Some(found) = memchr::memmem::find(&self.buffer[searched..], b"\r\n\r\n") {
                break searched + found + 4;
            }
            if self.buffer.len() > MAX_PART_HEAD {
                return Err(ApiError::MalformedForm("a part's headers are too long"));
            }
            searched = self.buffer.len().saturating_sub(3);
            self.read_more().await?;
        };
        if end > MAX_PART_HEAD {
            return Err(ApiError::MalformedForm("a part's headers are too long"));
        }
        let head = self.buffer.split_to(end);
        parse_head(&head[2..])
    }

    async fn read_more(&mut self) -> Result<(), ApiError> {
        let piece = self.pieces.next().await?.ok_or(ApiError::MalformedForm("it ends before its last boundary"))?;
        self.buffer.extend_from_slice(&piece);
        Ok(())
    }
}

/// The boundary that a media type names, if it is that of a form.
pub(super) fn boundary(media_type: &str) -> Option<Result<String, ApiError>> {
    let (essence, parameters) = media_type.split_once(';').unwrap_or((media_type, ""));
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary").filter(|boundary| {
        (1..=MAX_BOUNDARY).contains(&boundary.len()) && boundary.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    });
    Some(boundary.ok_or(ApiError::MalformedForm("`Content-Type` names no boundary")))
}

fn parse_head(bytes: &[u8]) -> Result<PartHead, ApiError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_PART_HEADERS];
    let parsed = httparse::parse_headers(bytes, &mut headers);
    let Ok(httparse::Status::Complete((_, headers))) = parsed else {
        return Err(ApiError::MalformedForm("a part's headers are none"));
    };
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    let disposition = header("content-disposition").unwrap_or_default();
    let (kind, parameters) = disposition.split_once(';').unwrap_or((&disposition, ""));
    let name = parameter(parameters, "name").filter(|_| kind.trim().eq_ignore_ascii_case("form-data"));
    Ok(PartHead {
        name: name.ok_or(ApiError::MalformedForm("a part has no name"))?,
        file_name: parameter(parameters, "filename"),
        media_type: header("content-type"),
    })
}

/// The value of a parameter: a word, or a text in quotes, in which browsers write a quote as `%22` and others as `\"`.
fn parameter(mut parameters: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, rest) = parameters.split_once('=')?;
        let (value, rest) = match rest.trim_start().strip_prefix('"') {
            Some(quoted) => quoted_text(quoted)?,
            None => {
                let (word, rest) = rest.split_once(';').unwrap_or((rest, ""));
                (word.trim().to_owned(), rest)
            }
        };
        if name.trim_matches([' ', '\t', ';']).eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        parameters = rest;
    }
}

/// The text up to the closing quote, and what follows it.
fn quoted_text(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((text.replace("%22", "\""), &quoted[place + 1..])),
            // A backslash before anything else is one: Windows writes paths with them.
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => text.push(escaped),
                None => text.push('\\'),
            },
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    struct Given(VecDeque<Bytes>);

    impl Given {
        fn cut(bytes: &[u8], size: usize) -> Self {
            Self(bytes.chunks(size.max(1)).map(Bytes::copy_from_slice).collect())
        }
    }

    impl Pieces for Given {
        async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
            Ok(self.0.pop_front())
        }
    }

    /// The parts of a form, read in pieces of `size` bytes.
    fn read(bytes: &[u8], boundary: &str, size: usize) -> Result<Vec<(PartHead, Vec<u8>)>, ApiError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut form = FormReader::new(Given::cut(bytes, size), boundary);
            let mut parts = Vec::new();
            while let Some(head) = form.next_part().await? {
                let mut content = Vec::new();
                while let Some(piece) = form.next_piece().await? {
                    assert!(!piece.is_empty());
                    content.extend_from_slice(&piece);
                    assert!(form.buffer.len() <= size + MAX_PART_HEAD + 100, "what is held does not grow");
                }
                parts.push((head, content));
            }
            assert!(form.next_part().await?.is_none(), "the end stays the end");
            Ok(parts)
        })
    }

    fn field(name: &str) -> PartHead {
        PartHead { name: name.to_owned(), ..PartHead::default() }
    }

    fn file(name: &str, file_name: &str, media_type: &str) -> PartHead {
        PartHead { file_name: Some(file_name.to_owned()), media_type: Some(media_type.to_owned()), ..field(name) }
    }

    /// A form as clients write it.
    fn written(parts: &[(PartHead, Vec<u8>)], boundary: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (head, content) in parts {
            bytes.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", head.name).as_bytes());
            if let Some(name) = &head.file_name {
                bytes.extend_from_slice(format!("; filename=\"{name}\"").as_bytes());
            }
            if let Some(media_type) = &head.media_type {
                bytes.extend_from_slice(format!("\r\nContent-Type: {media_type}").as_bytes());
            }
            bytes.extend_from_slice(b"\r\n\r\n");
            bytes.extend_from_slice(content);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        bytes
    }

    #[test]
    fn a_form_is_read_whatever_its_pieces() {
        let parts = vec![
            (field("text"), "see \r\n--x and -- \r\n".as_bytes().to_vec()),
            (file("file", "a.bin", "application/octet-stream"), vec![0, 13, 10, 45, 45, 13, 10, 45]),
            (field("empty"), Vec::new()),
        ];
        let bytes = written(&parts, "xyz");
        for size in 1..=bytes.len() {
            assert_eq!(read(&bytes, "xyz", size).expect("a form"), parts, "pieces of {size}");
        }
        assert_eq!(read(b"--xyz--", "xyz", 3).expect("a form of nothing"), []);
    }

    #[test]
    fn what_clients_write_differently_is_understood() {
        for (head, expected) in [
            ("content-disposition: form-data; name=a", field("a")),
            ("Content-Disposition: FORM-DATA;name=\"a\" ; x=y", field("a")),
            (
                "Content-Disposition: form-data; filename=\"n\"; name=\"a\"\r\nContent-Type: text/plain",
                file("a", "n", "text/plain"),
            ),
            (r#"Content-Disposition: form-data; name="a"; filename="1 \"2\" %22;3".txt"#, file("a", "1 \"2\" \";3", "")),
            (r#"Content-Disposition: form-data; name="a"; filename="C:\new\table""#, file("a", r"C:\new\table", "")),
            ("Content-Disposition: form-data; name=\"ä\"; filename=\"ö.txt\"", file("ä", "ö.txt", "")),
            ("Content-Disposition: form-data; name=\"\"; filename=\"\"", file("", "", "")),
        ] {
            let bytes = format!("filler\r\n--b \t\r\n{head}\r\n\r\nx\r\n--b--filler");
            let mut parts = read(bytes.as_bytes(), "b", 7).expect(head);
            let (mut found, content) = parts.pop().expect("a part");
            if expected.media_type.as_deref() == Some("") {
                found.media_type = Some(String::new());
            }
            assert_eq!((found, content.as_slice()), (expected, &b"x"[..]), "{head}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let endless_head = format!("--b\r\nContent-Disposition: form-data; name=\"{}", "a".repeat(100_000));
        let many_headers = format!("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n{}\r\n\r\n--b--", "X: y\r\n".repeat(50));
        let endless_filler = format!("--b{}", " ".repeat(100_000));
        for form in [
            "",
            "text",
            "--b",
            "--b\r\n",
            "--bb\r\n",
            "--b\r\n\r\n\r\n--b--",
            "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n--b--",
            "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx",
            "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b",
            "--b\r\nno header\r\n\r\nx\r\n--b--",
            &endless_head,
            &many_headers,
            &endless_filler,
            &"x".repeat(100_000),
        ] {
            for size in [1_000, 7] {
                let error = read(form.as_bytes(), "b", size).expect_err(&form[..form.len().min(80)]);
                assert_eq!((error.status().as_u16(), error.code()), (400, "malformed_form"));
            }
        }
    }

    #[test]
    fn a_media_type_tells_the_boundary() {
        for (media_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data;charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data;boundary=----WebKitFormBoundary7", Some("----WebKitFormBoundary7")),
        ] {
            assert_eq!(boundary(media_type).expect("a form").ok().as_deref(), expected, "{media_type}");
        }
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        for media_type in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=ä", &long] {
            assert!(boundary(media_type).expect("a form").is_err(), "{media_type}");
        }
        for media_type in ["application/json", "multipart/mixed; boundary=a", ""] {
            assert!(boundary(media_type).is_none(), "{media_type}");
        }
    }

    fn part() -> impl Strategy<Value = (PartHead, Vec<u8>)> {
        let content = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            // Much that looks like a boundary and is none.
            proptest::collection::vec(proptest::sample::select(b"\r\n-b".to_vec()), 0..60),
        ];
        let head = ("[a-z]{1,8}", proptest::option::of("[a-zA-Z0-9 ._-]{0,12}"), proptest::option::of("[a-z]{1,5}/[a-z]{1,5}"));
        (head, content).prop_map(|((name, file_name, media_type), content)| (PartHead { name, file_name, media_type }, content))
    }

    proptest! {
        #[test]
        fn every_form_is_read_as_it_was_written(parts in proptest::collection::vec(part(), 0..5), size in 1_usize..300) {
            let boundary = "b0undary";
            prop_assume!(parts.iter().all(|(_, content)| memchr::memmem::find(content, boundary.as_bytes()).is_none()));
            prop_assert_eq!(read(&written(&parts, boundary), boundary, size).expect("a form"), parts);
        }

        #[test]
        fn nothing_makes_the_reader_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in 1_usize..50) {
            let _ = read(&bytes, "b", size);
        }

        #[test]
        fn nothing_that_looks_like_a_form_does_so_either(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "--b", "\r\n", "--", " ", "Content-Disposition: form-data; name=\"a\"", "; filename=\"", "\\", ":", "=", ";", "\"",
                    "Content-Type: ", "ä", "\r", "\n", "x",
                ]),
                0..40,
            ),
            size in 1_usize..50,
        ) {
            let _ = read(pieces.concat().as_bytes(), "b", size);
        }

        #[test]
        fn whatever_a_media_type_says_is_read(text in ".{0,100}") {
            let _ = boundary(&format!("multipart/form-data; {text}"));
        }
    }
}
