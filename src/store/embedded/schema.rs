//! The database's files, its settings and its schema.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::EmbeddedSettings;
use super::rows::natural;
use super::writer::store_error;
use crate::store::{BoxError, Result, StoreError};

/// The oldest `SQLite` that may be used: earlier ones can corrupt a write-ahead log that several connections share.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a connection waits for a lock that another one holds, for example during a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the writer keeps of the database in memory, enough for the index of event ids, whose places are random, of some
/// hundred thousand events.
const WRITER_CACHE_KIB: i64 = 16 * 1024;

/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 96;

/// The steps from an empty database to the present schema, in order. A step that was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("schema_1.sql")];

/// Where the store's files are.
pub(super) struct Files {
    settings: EmbeddedSettings,
}

impl Files {
    /// Makes the directory and its files, readable for their owner only, and takes the lock that keeps other processes out.
    pub(super) fn prepare(settings: EmbeddedSettings) -> Result<(Self, File)> {
        let files = Self { settings };
        let directory = &files.settings.path;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.and_then(|()| private_file(&files.database(), false)).map_err(|error| failed("open the store", error))?;
        let lock = private_file(&directory.join("store.lock"), false).map_err(|error| failed("open the store", error))?;
        // The names of new files are durable only once their directory is.
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| failed("open the store", error))?;
        match lock.try_lock() {
            Ok(()) => Ok((files, lock)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { place: directory.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(failed("lock the store", error)),
        }
    }

    fn database(&self) -> PathBuf {
        self.settings.path.join("store.db")
    }

    /// Opens the one connection that writes and brings the schema up to date.
    pub(super) fn open_writer(&self) -> Result<Connection> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(failed("open the store", format!("SQLite {} is too old", rusqlite::version())));
        }
        let open = || {
            let mut connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;")?;
            connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
            if let Some(max_bytes) = self.settings.max_bytes {
                limit_size(&connection, max_bytes)?;
            }
            let version = migrate(&mut connection)?;
            rusqlite::Result::Ok((connection, mode, version))
        };
        let (connection, mode, version) = open().map_err(|error| store_error("open the store", error))?;
        if mode != "wal" {
            return Err(failed("open the store", format!("the file system supports no write-ahead log, only `{mode}`")));
        }
        let known = newest();
        if version > known { Err(StoreError::TooNew { found: version, known }) } else { Ok(connection) }
    }

    /// Opens a connection that only reads.
    pub(super) fn open_reader(&self) -> rusqlite::Result<Connection> {
        self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn connect(&self, access: OpenFlags) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(self.database(), access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // A plan that depends on bound values is made anew whenever they change, which costs far more than the statement itself.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    }

    /// Writes a compact copy of the database to `to`, which must not exist.
    pub(super) fn back_up(&self, to: &Path) -> Result<()> {
        let target = private_file(to, true).map_err(|error| failed("back up the store", error))?;
        let copied = to.to_str().ok_or_else(|| failed("back up the store", "the target's name is not UTF-8")).and_then(|to| {
            let copy = self.open_reader().and_then(|connection| connection.execute("VACUUM INTO ?1", [to]));
            copy.map_err(|error| store_error("back up the store", error))
        });
        match copied {
            Ok(_) => target.sync_all().map_err(|error| failed("back up the store", error)),
            Err(error) => {
                // The half of a copy is of no use; if it cannot be removed, the first error is still the one to tell.
                if let Err(leftover) = std::fs::remove_file(to) {
                    tracing::warn!(error = %leftover, "an unfinished backup could not be removed");
                }
                Err(error)
            }
        }
    }
}

fn failed(operation: &'static str, source: impl Into<BoxError>) -> StoreError {
    StoreError::Failed { operation, source: source.into() }
}

fn private_file(path: &Path, fresh: bool) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).create_new(fresh).truncate(false).mode(0o600).open(path)
}

fn limit_size(connection: &Connection, max_bytes: u64) -> rusqlite::Result<()> {
    let page_size: u64 = connection.query_row("PRAGMA page_size", [], |row| natural(row, 0))?;
    let pages = (max_bytes / page_size).clamp(1, u64::from(u32::MAX - 1));
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).expect("migrations are few")
}

/// Applies the steps that are missing, each in a transaction of its own, and answers the version reached.
fn migrate(connection: &mut Connection) -> rusqlite::Result<i64> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for (step, version) in MIGRATIONS.iter().zip(1_i64..).skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(found.max(newest()))
}
