//! How far an upload has come, on standard error where that is a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(200);

/// Does `work`, and shows meanwhile how many of the bytes have been `sent`.
pub(super) async fn shown<T>((sent, all): (Arc<AtomicU64>, u64), work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let drawing = async {
        loop {
            draw(&line(sent.load(Ordering::Relaxed), all));
            tokio::time::sleep(EVERY).await;
        }
    };
    let result = tokio::select! {
        result = work => result,
        () = drawing => unreachable!("drawing has no end of its own"),
    };
    draw("");
    result
}

/// Puts `line` in the place of the one before.
fn draw(line: &str) {
    let mut out = std::io::stderr().lock();
    // What cannot be shown is not missed.
    let _ = write!(out, "\r\u{1b}[K{line}").and_then(|()| out.flush());
}

fn line(sent: u64, all: u64) -> String {
    let percent = (sent.min(all) * 100).checked_div(all).unwrap_or(100);
    format!("{percent:3} %  {} of {} MB", megabytes(sent), megabytes(all))
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_much_is_done() {
        assert_eq!(line(0, 200_000_000), "  0 %  0.0 of 200.0 MB");
        assert_eq!(line(50_250_000, 200_000_000), " 25 %  50.2 of 200.0 MB");
        assert_eq!(line(0, 0), "100 %  0.0 of 0.0 MB");
    }
}
