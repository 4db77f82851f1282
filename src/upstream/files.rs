//! Where files of messages lie: Spaces gives out signed addresses of a storage host, to which they are uploaded and from which they come.
//!
//! The guide on files documents both calls with `GET`; public clients `POST`, which is what is done first.

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use super::rest::{RestClient, RestError};
use super::storage::SignedUrl;
use crate::domain::{Credential, SpaceId};
use crate::governor::RestClass;

/// A file that is going to be uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AnnouncedFile<'a> {
    /// Its media type.
    #[serde(rename = "Content-Type")]
    pub media_type: &'a str,
    /// Exactly its size in bytes.
    #[serde(rename = "Content-Length")]
    pub size: u64,
}

/// Where a file is to be uploaded.
#[derive(Debug, Clone)]
pub struct UploadTarget {
    /// The id that the file has from then on.
    pub file_id: String,
    /// The address that takes it.
    pub url: SignedUrl,
}

/// Longest id of a file.
const MAX_FILE_ID: usize = 256;

/// Whether this can be the id of a file: letters, digits and what may stand between them in a path.
pub(crate) fn is_file_id(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_FILE_ID).contains(&text.len())
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || byte == b'.')
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UploadRequest<'a> {
    files: &'a [AnnouncedFile<'a>],
    topic_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DownloadRequest<'a> {
    file_keys: [&'a str; 1],
}

#[derive(Deserialize)]
struct Targets {
    data: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    url: String,
    #[serde(default)]
    file_key: Option<String>,
}

impl RestClient {
    /// Where to upload these files for a message in `space` (`POST /api/files/getuploadurl`): one target for each, in order.
    pub async fn upload_urls(
        &self,
        credential: &Credential,
        space: &SpaceId,
        files: &[AnnouncedFile<'_>],
    ) -> Result<Vec<UploadTarget>, RestError> {
        let request = UploadRequest { files, topic_id: space.as_str() };
        let body = serde_json::to_vec(&request).expect("an announcement of texts and numbers serialises");
        let url = self.path(&["api", "files", "getuploadurl"]);
        let answer: Targets = self.exchange((RestClass::Interactive, credential), Method::POST, url, Some(body)).await?;
        if answer.data.len() != files.len() {
            return Err(RestError::Unreadable { detail: "not one upload address for each file" });
        }
        answer.data.into_iter().map(|target| self.upload_target(target)).collect()
    }

    fn upload_target(&self, target: Target) -> Result<UploadTarget, RestError> {
        let file_id = target.file_key.filter(|key| !key.is_empty());
        let file_id = file_id.ok_or(RestError::Unreadable { detail: "an upload address without a file id" })?;
        Ok(UploadTarget { file_id, url: self.signed(&target.url)? })
    }

    /// Where a file can be read now (`files/getdownloadurl`). `None` if Spaces knows no such file.
    pub async fn download_url(&self, credential: &Credential, file_id: &str) -> Result<Option<SignedUrl>, RestError> {
        let url = self.path(&["api", "files", "getdownloadurl"]);
        let body = serde_json::to_vec(&DownloadRequest { file_keys: [file_id] }).expect("a list of texts serialises");
        let answer = self.exchange((RestClass::Interactive, credential), Method::POST, url.clone(), Some(body)).await;
        let answer: Targets = match answer {
            Err(RestError::Refused { status, .. }) if is_wrong_method(status) => {
                self.download_url_by_get(credential, url, file_id).await
            }
            answer => answer,
        }?;
        let mut targets = answer.data.into_iter();
        let found = targets.find(|target| target.file_key.as_deref().is_none_or(|key| key == file_id));
        found.map(|target| self.signed(&target.url)).transpose()
    }

    async fn download_url_by_get(&self, credential: &Credential, mut url: Url, file_id: &str) -> Result<Targets, RestError> {
        url.query_pairs_mut().append_pair("fileKeys", file_id);
        match self.call(credential, Method::GET, url).await {
            // Neither method is known: then it is the file that is not.
            Err(RestError::Refused { status: 404, .. }) => Ok(Targets { data: Vec::new() }),
            answer => answer,
        }
    }

    fn signed(&self, url: &str) -> Result<SignedUrl, RestError> {
        SignedUrl::parse(url, self.is_plain()).ok_or(RestError::Unreadable { detail: "an odd storage address" })
    }
}

/// Whether a status may mean that the method is another one.
fn is_wrong_method(status: u16) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].iter().any(|wrong| wrong.as_u16() == status)
}
