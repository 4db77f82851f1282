//! Doors for fuzz targets to parsers that nothing else outside calls.

use std::collections::VecDeque;

use bytes::Bytes;

use super::error::ApiError;
use super::message_body::MessageBody;
use super::multipart::{FormReader, Pieces};

/// Whether these bytes are the body of a send, in JSON.
pub fn is_message(bytes: &[u8]) -> bool {
    MessageBody::parse(bytes).is_ok()
}

/// The parts of a form that comes in pieces of `size` bytes: the name and the content of each. None if it is no form.
pub fn read_form(bytes: &[u8], boundary: &str, size: usize) -> Option<Vec<(String, Vec<u8>)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let parts = runtime.block_on(async {
        let pieces = bytes.chunks(size.max(1)).map(Bytes::copy_from_slice).collect();
        let mut form = FormReader::new(Given(pieces), boundary);
        let mut parts = Vec::new();
        while let Some(head) = form.next_part().await? {
            let mut content = Vec::new();
            while let Some(piece) = form.next_piece().await? {
                content.extend_from_slice(&piece);
            }
            parts.push((head.name, content));
        }
        Ok::<_, ApiError>(parts)
    });
    parts.ok()
}

struct Given(VecDeque<Bytes>);

impl Pieces for Given {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        Ok(self.0.pop_front())
    }
}
