//! The form of a message: its fields become the JSON that says the same, its files wait on disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::AppState;
use super::error::ApiError;
use super::media_type::{clean_name, media_type};
use super::multipart::{FormReader, PartHead, Pieces};
use crate::spool::{SpoolWriter, SpooledFile};

/// Most fields of a form; a message has fewer.
const MAX_FIELDS: usize = 64;

/// Longest name of a field that is told back.
const MAX_TOLD_NAME: usize = 64;

/// The field that holds the whole message as JSON.
const WHOLE: &str = "message";

/// The fields that are texts, also where their text could be read as JSON.
const TEXTS: [&str; 10] =
    ["text", "markdown", "html", "title", "description", "category", "replyTo", "dueDate", "status", "topicId"];

/// A file that a caller sent.
#[derive(Debug)]
pub(super) struct ReceivedFile {
    /// Its name, without directories.
    pub(super) name: String,
    /// Its media type.
    pub(super) media_type: String,
    /// Its bytes.
    pub(super) content: SpooledFile,
}

/// What a form may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormRules {
    /// Most bytes of a file.
    pub(super) file_limit: u64,
    /// Whether there may be fields.
    pub(super) takes_fields: bool,
    /// Whether what the form says is wanted as a fingerprint.
    pub(super) fingerprinted: bool,
}

/// The fields of a message, as JSON.
type Fields = BTreeMap<String, Box<RawValue>>;

/// A form, read.
#[derive(Debug, Default)]
pub(super) struct Form {
    fields: Fields,
    whole: Option<Bytes>,
    /// The files in their order.
    pub(super) files: Vec<ReceivedFile>,
    /// What the form says, whatever its boundary is; empty if that was not wanted.
    pub(super) print: Vec<Vec<u8>>,
}

impl Form {
    /// Reads a form to its end.
    pub(super) async fn read<P: Pieces>(app: &AppState, reader: &mut FormReader<P>, rules: FormRules) -> Result<Self, ApiError> {
        let mut form = Self::default();
        let mut left = app.settings.body_limit;
        while let Some(head) = reader.next_part().await? {
            let is_whole =
                head.name == WHOLE && head.media_type.as_deref().is_some_and(|said| said.starts_with("application/json"));
            match &head.file_name {
                Some(name) if !is_whole => {
                    let file = receive(app, reader, (&head, name), rules).await?;
                    form.add_file(app, &head, file)?;
                }
                _ if !rules.takes_fields => {
                    return Err(not_taken(&head.name, "only files are taken here; a file's part has a `filename`"));
                }
                _ => {
                    let value = read_field(app, reader, &head.name, &mut left).await?;
                    form.add_field(&head, value, rules)?;
                }
            }
        }
        if form.whole.is_some() && !form.fields.is_empty() {
            return Err(ApiError::field("", "a form has a part `message` or fields of its own, not both"));
        }
        Ok(form)
    }

    /// The message as the JSON that says the same.
    pub(super) fn to_json(&self) -> Bytes {
        let whole = self.whole.as_ref().map(|bytes| (bytes, serde_json::from_slice::<Fields>(bytes)));
        let mut fields = match whole {
            // What is no object is refused where it is read.
            Some((bytes, Err(_))) => return bytes.clone(),
            Some((bytes, Ok(_))) if self.files.is_empty() => return bytes.clone(),
            Some((_, Ok(fields))) => fields,
            None => self.fields.clone(),
        };
        if !self.files.is_empty() && !fields.contains_key("content") {
            // So that files alone are a message.
            fields.entry("attachments".to_owned()).or_insert_with(|| RawValue::from_string("[]".to_owned()).expect("JSON"));
        }
        serde_json::to_vec(&fields).expect("a map of JSON serialises").into()
    }

    fn add_field(&mut self, head: &PartHead, value: Vec<u8>, rules: FormRules) -> Result<(), ApiError> {
        if rules.fingerprinted {
            self.print.extend([b"field".to_vec(), head.name.clone().into_bytes(), value.clone()]);
        }
        if head.name == WHOLE {
            let before = self.whole.replace(value.into());
            return if before.is_none() { Ok(()) } else { Err(not_taken(WHOLE, "it is there twice")) };
        }
        if self.fields.len() >= MAX_FIELDS {
            return Err(ApiError::field("", format!("a form has at most {MAX_FIELDS} fields")));
        }
        let text = String::from_utf8(value).map_err(|_| not_taken(&head.name, "it is not UTF-8"))?;
        let json = if TEXTS.contains(&head.name.as_str()) { None } else { RawValue::from_string(text.clone()).ok() };
        let json = match json {
            Some(json) => json,
            None => serde_json::value::to_raw_value(&text).expect("a text serialises"),
        };
        match self.fields.insert(head.name.clone(), json) {
            None => Ok(()),
            Some(_) => Err(not_taken(&head.name, "it is there twice")),
        }
    }

    fn add_file(&mut self, app: &AppState, head: &PartHead, file: ReceivedFile) -> Result<(), ApiError> {
        if head.file_name.as_deref() == Some("") && file.content.size() == 0 {
            // What browsers send of a field in which no file was chosen.
            return Ok(());
        }
        let most = app.settings.files.max_files;
        if self.files.len() >= most {
            return Err(ApiError::field("", format!("there are at most {most} files")));
        }
        if let Some(digest) = file.content.digest() {
            let said = head.media_type.clone().unwrap_or_default();
            self.print.extend([b"file".to_vec(), file.name.clone().into_bytes(), said.into_bytes(), digest.to_vec()]);
        }
        self.files.push(file);
        Ok(())
    }
}

/// Lets a file of a form wait on disk.
async fn receive<P: Pieces>(
    app: &AppState,
    reader: &mut FormReader<P>,
    (head, name): (&PartHead, &str),
    rules: FormRules,
) -> Result<ReceivedFile, ApiError> {
    let mut writer = app.spool.begin(rules.fingerprinted).await?;
    while let Some(piece) = reader.next_piece().await? {
        add(&mut writer, &piece, rules.file_limit).await?;
    }
    finish(writer, name, head.media_type.as_deref()).await
}

/// Lets a body that is one file wait on disk.
pub(super) async fn receive_body<P: Pieces>(
    app: &AppState,
    body: &mut P,
    (name, said): (&str, Option<&str>),
    rules: FormRules,
) -> Result<ReceivedFile, ApiError> {
    let mut writer = app.spool.begin(rules.fingerprinted).await?;
    while let Some(piece) = body.next().await? {
        add(&mut writer, &piece, rules.file_limit).await?;
    }
    finish(writer, name, said).await
}

async fn add(writer: &mut SpoolWriter, piece: &[u8], limit: u64) -> Result<(), ApiError> {
    if writer.size() + piece.len() as u64 > limit {
        return Err(ApiError::FileTooLarge { limit });
    }
    Ok(writer.write(piece).await?)
}

async fn finish(writer: SpoolWriter, name: &str, said: Option<&str>) -> Result<ReceivedFile, ApiError> {
    let (name, content) = (clean_name(name), writer.finish().await?);
    let media_type = media_type(said, &name, content.beginning());
    Ok(ReceivedFile { name, media_type, content })
}

/// Reads a field into memory; all fields together have `left` bytes.
async fn read_field<P: Pieces>(
    app: &AppState,
    reader: &mut FormReader<P>,
    name: &str,
    left: &mut usize,
) -> Result<Vec<u8>, ApiError> {
    let too_large = || ApiError::BodyTooLarge { limit: app.settings.body_limit };
    *left = left.checked_sub(name.len()).ok_or_else(too_large)?;
    let mut value = Vec::new();
    while let Some(piece) = reader.next_piece().await? {
        *left = left.checked_sub(piece.len()).ok_or_else(too_large)?;
        value.extend_from_slice(&piece);
    }
    Ok(value)
}

fn not_taken(name: &str, detail: &str) -> ApiError {
    let name: String = name.chars().take(MAX_TOLD_NAME).collect();
    ApiError::field(format!("/{}", name.replace('~', "~0").replace('/', "~1")), detail)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use std::collections::VecDeque;

    use serde_json::{Value, json};

    use super::super::tests::state;
    use super::*;

    struct Given(VecDeque<Bytes>);

    impl Pieces for Given {
        async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
            Ok(self.0.pop_front())
        }
    }

    const RULES: FormRules = FormRules { file_limit: 100, takes_fields: true, fingerprinted: true };

    /// Reads a form of parts, each a head and a content.
    async fn read(parts: &[(&str, &str)], boundary: &str, rules: FormRules) -> Result<Form, ApiError> {
        let app = state(|settings| settings.body_limit = 1_000).await;
        let mut text = String::new();
        for (head, content) in parts {
            write!(text, "--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n").expect("a text grows");
        }
        write!(text, "--{boundary}--\r\n").expect("a text grows");
        let pieces = text.as_bytes().chunks(50).map(Bytes::copy_from_slice).collect();
        Form::read(&app, &mut FormReader::new(Given(pieces), boundary), rules).await
    }

    async fn json_of(parts: &[(&str, &str)]) -> Value {
        serde_json::from_slice(&read(parts, "b", RULES).await.expect("a form").to_json()).expect("JSON")
    }

    #[tokio::test]
    async fn fields_become_the_message_that_says_the_same() {
        for (parts, expected) in [
            (&[("name=text", "41"), ("name=mentions", "[1]")][..], json!({"text": "41", "mentions": [1]})),
            (&[("name=split", "true"), ("name=dueDate", "2031")], json!({"split": true, "dueDate": "2031"})),
            (&[("name=other", "no JSON")], json!({"other": "no JSON"})),
            (&[("name=message", r#"{"text": "x"}"#)], json!({"text": "x"})),
            (&[("name=a; filename=a.txt", "x")], json!({"attachments": []})),
            (&[("name=text", "see"), ("name=a; filename=a.txt", "x")], json!({"text": "see", "attachments": []})),
            (&[("name=message", "{}"), ("name=a; filename=a.txt", "x")], json!({"attachments": []})),
            (&[("name=a; filename=\"\"", "")], json!({})),
            (&[], json!({})),
        ] {
            assert_eq!(json_of(parts).await, expected, "{parts:?}");
        }
    }

    #[tokio::test]
    async fn what_a_form_may_not_have_is_named() {
        let (long, many) = ("x".repeat(101), vec![("name=a; filename=a", "x"); 11]);
        let fields: Vec<String> = (0..100).map(|number| format!("name=f{number}")).collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|head| (head.as_str(), "1")).collect();
        let huge = "x".repeat(1_001);
        for (parts, code) in [
            (&[("name=text", "a"), ("name=text", "b")][..], "invalid_body"),
            (&[("name=message", "{}"), ("name=text", "b")], "invalid_body"),
            (&[("name=message", "{}"), ("name=message", "{}")], "invalid_body"),
            (&[("name=a; filename=a", &long)], "file_too_large"),
            (&many, "invalid_body"),
            (&fields, "invalid_body"),
            (&[("name=text", &huge)], "body_too_large"),
        ] {
            assert_eq!(read(parts, "b", RULES).await.expect_err("refused").code(), code, "{:?}", parts.first());
        }
        let only_files = FormRules { takes_fields: false, ..RULES };
        assert_eq!(read(&[("name=text", "a")], "b", only_files).await.expect_err("refused").code(), "invalid_body");
    }

    #[tokio::test]
    async fn a_form_is_the_same_by_what_it_says() {
        let parts = [("name=text", "a"), ("name=f; filename=a.txt", "x"), ("name=f; filename=b.txt", "y")];
        let first = read(&parts, "one", RULES).await.expect("a form").print;
        assert!(!first.is_empty());
        assert_eq!(read(&parts, "two", RULES).await.expect("a form").print, first, "another boundary");
        for other in [
            &[("name=text", "b"), parts[1], parts[2]][..],
            &[parts[0], ("name=f; filename=a.txt", "z"), parts[2]],
            &[parts[0], ("name=f; filename=c.txt", "x"), parts[2]],
            &[parts[0], parts[2], parts[1]],
            &parts[..2],
        ] {
            assert_ne!(read(other, "one", RULES).await.expect("a form").print, first, "{other:?}");
        }
    }
}
