//! The process that renders: `spaces-bridge render`, which only the service itself starts.

use std::io::{self, Read as _, Write as _};

use super::protocol::{Answer, Request};
use super::{confinement, engine};

/// Confines this process, reads one request, answers it, and is done.
pub(crate) fn run() -> io::Result<()> {
    confinement::confine()?;
    let mut request = Vec::new();
    io::stdin().lock().read_to_end(&mut request)?;
    let request: Request = serde_json::from_slice(&request)?;
    let answer: Answer = engine::answer(&request);
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &answer)?;
    out.flush()
}
