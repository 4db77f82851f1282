//! Files of a message that were uploaded before.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::super::error::ApiError;

/// A file that was uploaded to Spaces before.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct Attachment {
    /// The file's id (`fileKey` of the upload).
    #[schema(min_length = 1, max_length = 256, example = "0b7f3c7e-1d2e-4f30-8a41-5b6c7d8e9f00")]
    file_id: String,
    /// The file's name.
    #[schema(min_length = 1, max_length = 256, example = "report.pdf")]
    name: String,
    /// The file's size in bytes.
    #[schema(minimum = 0, example = 20480)]
    file_size: u64,
    /// What kind of file it is.
    file_type: FileType,
    /// The file's media type.
    #[schema(min_length = 1, max_length = 256, example = "application/pdf")]
    provider_file_type: String,
}

/// The kinds of file that Spaces knows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum FileType {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Sound.
    Audio,
    /// Anything else.
    Document,
}

/// Longest text of an attachment, in characters.
const MAX_ATTACHMENT_TEXT: usize = 256;

impl Attachment {
    /// A file that is in Spaces now: its id, name, size, kind and media type.
    pub(in crate::http) fn uploaded(
        file_id: String,
        name: &str,
        (file_size, file_type, media_type): (u64, FileType, &str),
    ) -> Self {
        Self { file_id, name: name.to_owned(), file_size, file_type, provider_file_type: media_type.to_owned() }
    }

    pub(super) fn check(&self) -> Result<(), ApiError> {
        let texts = [("/fileId", &self.file_id), ("/name", &self.name), ("/providerFileType", &self.provider_file_type)];
        match texts.iter().find(|(_, text)| !(1..=MAX_ATTACHMENT_TEXT).contains(&text.chars().count())) {
            Some((pointer, _)) => Err(ApiError::field(*pointer, format!("it has 1 to {MAX_ATTACHMENT_TEXT} characters"))),
            None => Ok(()),
        }
    }

    pub(super) fn to_upstream(&self) -> Box<RawValue> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry<'a> {
            file_id: &'a str,
            file_size: u64,
            file_type: FileType,
            name: &'a str,
            provider: &'static str,
            provider_file_type: &'a str,
            icon: &'static str,
        }
        let entry = Entry {
            file_id: &self.file_id,
            file_size: self.file_size,
            file_type: self.file_type,
            name: &self.name,
            provider: "native",
            provider_file_type: &self.provider_file_type,
            icon: "",
        };
        serde_json::value::to_raw_value(&entry).expect("an attachment of texts serialises")
    }
}
