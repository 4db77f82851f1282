//! [`Spool`]: files that callers send, on disk until they are in Spaces, because Spaces wants to know their sizes before their bytes.
//!
//! A file here has no name: it is gone when the last handle on it is, also if the process is killed. All of them together take no more
//! room than the settings give.

use std::fs::DirBuilder;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

/// Bytes that are written or read at once.
const PIECE: usize = 256 << 10;

/// Bytes at the beginning of a file that tell what it is.
pub const BEGINNING: usize = 4 << 10;

/// Where files wait, and how much room they have.
#[derive(Debug, Clone)]
pub struct Spool {
    directory: PathBuf,
    room: Arc<Room>,
}

/// How much of the room is taken.
#[derive(Debug)]
struct Room {
    limit: u64,
    taken: AtomicU64,
}

/// Why a file cannot wait on disk.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The room is taken.
    #[error("the files that are being sent take all the room that they have")]
    Full,
    /// The disk failed.
    #[error("failed to keep a file on disk")]
    Failed(#[from] std::io::Error),
}

impl Spool {
    /// Files wait in `directory`, which is made for its owner alone if it is missing, and take `limit` bytes at most.
    pub fn open(directory: PathBuf, limit: u64) -> std::io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory, room: Arc::new(Room { limit, taken: AtomicU64::new(0) }) })
    }

    /// Begins a file; with `hashed` its SHA-256 is known at its end.
    pub async fn begin(&self, hashed: bool) -> Result<SpoolWriter, SpoolError> {
        let directory = self.directory.clone();
        let file = blocking(move || tempfile::tempfile_in(directory)).await?;
        Ok(SpoolWriter {
            file: Arc::new(file),
            taken: Taken { room: Arc::clone(&self.room), bytes: 0 },
            gathered: BytesMut::new(),
            beginning: Vec::new(),
            hash: hashed.then(Sha256::new),
        })
    }

    /// Bytes that files take now.
    pub fn taken(&self) -> u64 {
        self.room.taken.load(Ordering::Relaxed)
    }
}

/// Room that a file has taken; given back when it is dropped.
#[derive(Debug)]
struct Taken {
    room: Arc<Room>,
    bytes: u64,
}

impl Taken {
    fn take(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.room.limit);
        self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| SpoolError::Full)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct SpoolWriter {
    file: Arc<File>,
    taken: Taken,
    gathered: BytesMut,
    beginning: Vec<u8>,
    hash: Option<Sha256>,
}

impl SpoolWriter {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.taken.bytes
    }

    /// Adds a piece.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        self.taken.take(piece.len() as u64)?;
        let missing = BEGINNING - self.beginning.len();
        self.beginning.extend_from_slice(&piece[..piece.len().min(missing)]);
        self.gathered.extend_from_slice(piece);
        if self.gathered.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    /// Ends the file.
    pub async fn finish(mut self) -> Result<SpooledFile, SpoolError> {
        self.flush().await?;
        let digest = self.hash.map(|hash| hash.finalize().into());
        Ok(SpooledFile { file: self.file, taken: self.taken, beginning: self.beginning, digest })
    }

    async fn flush(&mut self) -> Result<(), SpoolError> {
        let (file, piece, hash) = (Arc::clone(&self.file), self.gathered.split().freeze(), self.hash.take());
        self.hash = blocking(move || {
            (&*file).write_all(&piece)?;
            Ok(hash.map(|hash| hash.chain_update(&piece)))
        })
        .await?;
        Ok(())
    }
}

/// A file that waits.
#[derive(Debug)]
pub struct SpooledFile {
    file: Arc<File>,
    taken: Taken,
    beginning: Vec<u8>,
    digest: Option<[u8; 32]>,
}

impl SpooledFile {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.taken.bytes
    }

    /// Its first bytes.
    pub fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// Its SHA-256, if that was asked for.
    pub fn digest(&self) -> Option<&[u8; 32]> {
        self.digest.as_ref()
    }

    /// Sends it piece by piece; ends early, without a failure, if nobody takes the pieces any more.
    pub async fn send(&self, pieces: mpsc::Sender<Bytes>) -> Result<(), SpoolError> {
        let mut place = 0;
        while place < self.size() {
            let file = Arc::clone(&self.file);
            let piece = blocking(move || read_piece(&file, place)).await?;
            place += piece.len() as u64;
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn read_piece(file: &File, place: u64) -> std::io::Result<Bytes> {
    let mut piece = BytesMut::zeroed(PIECE);
    let read = file.read_at(&mut piece, place)?;
    if read == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    piece.truncate(read);
    Ok(piece.freeze())
}

/// Does what waits for the disk where nothing else waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hex;

    fn spool(limit: u64) -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().expect("a directory");
        let spool = Spool::open(directory.path().join("uploads"), limit).expect("a spool");
        (directory, spool)
    }

    async fn content(file: &SpooledFile) -> Vec<u8> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
        let gather = async {
            let mut content = Vec::new();
            while let Some(piece) = receiver.recv().await {
                content.extend_from_slice(&piece);
            }
            content
        };
        let (sent, content) = tokio::join!(file.send(sender), gather);
        sent.expect("it is read");
        content
    }

    #[tokio::test]
    async fn a_file_is_read_as_it_was_written_as_often_as_wanted() {
        let (_directory, spool) = spool(10 << 20);
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * PIECE + 7).collect();
        let mut writer = spool.begin(true).await.expect("a file");
        for piece in bytes.chunks(100_000) {
            writer.write(piece).await.expect("there is room");
        }
        let file = writer.finish().await.expect("it ends");
        assert_eq!((file.size(), file.beginning()), (bytes.len() as u64, &bytes[..BEGINNING]));
        assert_eq!(file.digest().map(|digest| hex(digest)), Some(hex(&Sha256::digest(&bytes))));
        for _ in 0..2 {
            assert!(content(&file).await == bytes);
        }
    }

    #[tokio::test]
    async fn an_empty_file_is_a_file() {
        let (_directory, spool) = spool(1);
        let file = spool.begin(false).await.expect("a file").finish().await.expect("it ends");
        assert_eq!((file.size(), file.digest(), content(&file).await), (0, None, Vec::new()));
    }

    #[tokio::test]
    async fn the_room_is_bounded_and_given_back_and_nothing_has_a_name() {
        let (directory, spool) = spool(100);
        let mut first = spool.begin(false).await.expect("a file");
        first.write(&[1; 60]).await.expect("there is room");
        let first = first.finish().await.expect("it ends");
        let mut second = spool.begin(false).await.expect("a file");
        second.write(&[2; 40]).await.expect("there is room");
        assert!(matches!(second.write(&[2; 1]).await, Err(SpoolError::Full)));
        assert_eq!(spool.taken(), 100);
        let listed = std::fs::read_dir(directory.path().join("uploads")).expect("a directory").count();
        assert_eq!(listed, 0, "a kill leaves nothing behind");
        drop(second);
        assert_eq!(spool.taken(), 60);
        drop(first);
        assert_eq!(spool.taken(), 0);
    }
}
