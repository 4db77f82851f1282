//! The thread that writes: everything waiting goes into one transaction, so that one flush of the disk serves many callers.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};

use super::transaction::{Numbers, Work};
use crate::domain::Clock;
use crate::store::{Result, StoreError};

/// Commands that may wait for the writer; more callers wait for a place.
pub(super) const WRITE_QUEUE: usize = 1024;

/// Most commands in one transaction, so that the first of them does not wait long for the last.
const GROUP: usize = 512;

/// What the writer is told.
pub(super) enum Message {
    /// Do this.
    Do(Box<dyn Command>),
    /// Take nothing more, finish what waits, and end.
    Stop,
}

/// A command to the writer. It is run, perhaps again after a rollback, and answered once the transaction is durable.
pub(super) trait Command: Send {
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: rusqlite::Error);
}

/// A command made of a closure.
pub(super) struct Task<T, F> {
    operation: &'static str,
    run: F,
    result: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Task<T, F> {
    pub(super) fn new(operation: &'static str, run: F) -> (Self, oneshot::Receiver<Result<T>>) {
        let (reply, answer) = oneshot::channel();
        (Self { operation, run, result: None, reply }, answer)
    }
}

impl<T, F> Command for Task<T, F>
where
    T: Send,
    F: Fn(&mut Work<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()> {
        self.result = Some((self.run)(work)?);
        Ok(())
    }

    fn answer(self: Box<Self>) {
        let result = self.result.expect("only a command that ran is answered");
        // A caller that stopped waiting does not need the answer.
        drop(self.reply.send(Ok(result)));
    }

    fn fail(self: Box<Self>, error: rusqlite::Error) {
        drop(self.reply.send(Err(store_error(self.operation, error))));
    }
}

/// The writer's state, owned by its thread.
pub(super) struct Writer {
    connection: Connection,
    clock: Arc<dyn Clock>,
    numbers: Numbers,
    hints: watch::Sender<u64>,
    commands: mpsc::Receiver<Message>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        clock: Arc<dyn Clock>,
        hints: watch::Sender<u64>,
        commands: mpsc::Receiver<Message>,
    ) -> rusqlite::Result<Self> {
        let numbers = Numbers::load(&connection)?;
        Ok(Self { connection, clock, numbers, hints, commands })
    }

    /// Works until it is told to stop or nobody can command it any more.
    pub(super) fn run(mut self) {
        let mut messages = Vec::with_capacity(GROUP);
        let mut group = Vec::with_capacity(GROUP);
        while self.commands.blocking_recv_many(&mut messages, GROUP) > 0 {
            for message in messages.drain(..) {
                match message {
                    Message::Do(command) => group.push(command),
                    Message::Stop => self.commands.close(),
                }
            }
            self.commit(&mut group);
        }
        self.checkpoint();
    }

    /// Runs a group in one transaction. If any of it fails, everything is undone and each command runs in a transaction of its
    /// own, so that only the failing ones fail.
    fn commit(&mut self, group: &mut Vec<Box<dyn Command>>) {
        if self.transact(group).is_ok() {
            group.drain(..).for_each(Command::answer);
            return;
        }
        for mut command in group.drain(..) {
            match self.transact(std::slice::from_mut(&mut command)) {
                Ok(()) => command.answer(),
                Err(error) => command.fail(error),
            }
        }
    }

    fn transact(&mut self, group: &mut [Box<dyn Command>]) -> rusqlite::Result<()> {
        if group.is_empty() {
            return Ok(());
        }
        let numbers = self.numbers;
        let hint = self.try_transact(group).inspect_err(|_| self.numbers = numbers);
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        if hint? {
            self.hints.send_modify(|number| *number += 1);
        }
        Ok(())
    }

    fn try_transact(&mut self, group: &mut [Box<dyn Command>]) -> rusqlite::Result<bool> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut work = Work::new(&self.connection, self.clock.now(), &mut self.numbers);
        for command in group {
            command.run(&mut work)?;
        }
        work.refresh()?;
        let hint = work.hint;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(hint)
    }

    fn checkpoint(&self) {
        let done = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        match done {
            Ok(0) => {}
            Ok(_) => tracing::warn!("the store was closed while it was being read; its log is folded in at the next start"),
            Err(error) => tracing::warn!(%error, "the store's log could not be folded in; it is at the next start"),
        }
    }
}

/// What an error of `SQLite` means to the store's callers.
pub(super) fn store_error(operation: &'static str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { operation, source: error.into() },
        _ => StoreError::Failed { operation, source: error.into() },
    }
}
