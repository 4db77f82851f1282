//! Server-sent events, as `GET /events` gives them (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::collections::VecDeque;
use std::time::Duration;

use super::ClientError;

/// The media type of such a stream.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";

/// The header that says which event was the last.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

/// How long a stream may be silent; the bridge gives a sign of life every 15 seconds.
const SILENCE: Duration = Duration::from_secs(50);

/// Largest event in bytes; far more than any has.
const MAX_EVENT: usize = 16 << 20;

/// An event of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its id: the cursor to go on with.
    pub id: String,
    /// Its data.
    pub data: String,
}

/// A stream that is open.
#[derive(Debug)]
pub struct EventStream {
    answer: reqwest::Response,
    parser: Parser,
    ready: VecDeque<StreamEvent>,
}

impl EventStream {
    pub(super) fn new(answer: reqwest::Response) -> Self {
        Self { answer, parser: Parser::default(), ready: VecDeque::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<StreamEvent>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let piece = tokio::time::timeout(SILENCE, self.answer.chunk()).await.map_err(|_| ClientError::Silent)??;
            let Some(piece) = piece else { return Ok(None) };
            if self.parser.held() + piece.len() > MAX_EVENT {
                return Err(ClientError::NoStream);
            }
            self.parser.push(&piece, &mut self.ready);
        }
    }
}

/// Takes a stream apart, whatever pieces it comes in.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    after_return: bool,
    id: String,
    data: Vec<u8>,
    has_data: bool,
}

impl Parser {
    fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    fn push(&mut self, bytes: &[u8], events: &mut VecDeque<StreamEvent>) {
        for &byte in bytes {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => {
                    self.after_return = false;
                    self.line.push(byte);
                }
            }
        }
    }

    fn end_line(&mut self) -> Option<StreamEvent> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_event();
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"id" => self.id = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            // A comment, the type (which the data has too), or a field of later times.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<StreamEvent> {
        let data = String::from_utf8_lossy(&std::mem::take(&mut self.data)).into_owned();
        std::mem::take(&mut self.has_data).then(|| StreamEvent { id: self.id.clone(), data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "retry: 1000\n\n: heartbeat\n\nid: 1\nevent: a\ndata: {\"x\":\ndata: \"é\"}\n\nid:2\r\ndata\r\n\r\ndata: last\r\rid: 3\ndata: cut";

    fn expected() -> Vec<StreamEvent> {
        let event = |id: &str, data: &str| StreamEvent { id: id.to_owned(), data: data.to_owned() };
        vec![event("1", "{\"x\":\n\"é\"}"), event("2", ""), event("2", "last")]
    }

    proptest! {
        #[test]
        fn a_stream_means_the_same_in_whatever_pieces_it_comes(cuts in proptest::collection::vec(0..STREAM.len(), 0..8)) {
            let (mut parser, mut events) = (Parser::default(), VecDeque::new());
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts.into_iter().chain([STREAM.len()]) {
                parser.push(&STREAM.as_bytes()[from..cut], &mut events);
                from = cut;
            }
            prop_assert_eq!(Vec::from(events), expected());
        }

        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>) {
            Parser::default().push(&bytes, &mut VecDeque::new());
        }
    }
}
