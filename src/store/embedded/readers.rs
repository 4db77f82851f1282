//! The threads that read, each with a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::writer::store_error;
use crate::store::Result;

/// Questions that may wait for a reader; more callers wait for a place.
pub(super) const READ_QUEUE: usize = 256;

/// What a reader is told.
pub(super) enum Message {
    /// Answer this.
    Ask(Box<dyn FnOnce(&Connection) + Send>),
    /// Take nothing more, finish what waits, and end.
    Stop,
}

/// A question made of a closure, and where its answer arrives.
pub(super) fn question<T: Send + 'static>(
    operation: &'static str,
    ask: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> (Message, oneshot::Receiver<Result<T>>) {
    let (reply, answer) = oneshot::channel();
    let ask = move |connection: &Connection| {
        let result = ask(connection).map_err(|error| store_error(operation, error));
        // A caller that stopped waiting does not need the answer.
        drop(reply.send(result));
    };
    (Message::Ask(Box::new(ask)), answer)
}

/// Answers questions until told to stop or nobody can ask any more. All readers take from the one queue.
pub(super) fn run(connection: &Connection, questions: &Arc<Mutex<mpsc::Receiver<Message>>>) {
    loop {
        let message = {
            let mut questions = questions.lock().unwrap_or_else(PoisonError::into_inner);
            let message = questions.blocking_recv();
            if matches!(message, Some(Message::Stop)) {
                questions.close();
            }
            message
        };
        match message {
            Some(Message::Ask(ask)) => ask(connection),
            Some(Message::Stop) => {}
            None => return,
        }
    }
}
