//! The master key: given by the operator, or generated beside the data.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracing::warn;
use zeroize::Zeroizing;

use crate::domain::{Sealed, Secret};
use crate::seal::{KEY_BYTES, Key, Keyring};
use crate::store::{DocKind, DocWrite, Engine, Expected, PutOutcome, StoreError};

/// The file that a generated key is kept in.
pub(crate) const FILE: &str = "master.key";

/// The only keyring.
pub(crate) const KEYRING: &str = "1";

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {KEY_BYTES} bytes in base64")]
pub struct InvalidKey;

/// Why the keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file cannot be read or written.
    #[error("the master key file `{}` cannot be used", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key file holds no key.
    #[error("the master key file `{}` does not hold a key", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
    },
    /// The store was sealed with another key.
    #[error("setting `security.master_key`: the store was sealed with another master key")]
    Wrong,
    /// The store failed.
    #[error("the keyring could not be read or written")]
    Store(#[from] StoreError),
}

/// Reads a key from its text.
pub fn decode(text: &Secret) -> Result<Key, InvalidKey> {
    let bytes = Zeroizing::new(STANDARD.decode(text.expose()).map_err(|_| InvalidKey)?);
    <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map(Key::from_bytes).map_err(|_| InvalidKey)
}

/// The key in `directory`, generated if there is none yet.
pub fn find_or_generate(directory: &Path) -> Result<Key, KeyError> {
    let path = directory.join(FILE);
    if let Some(key) = find(&path)? {
        return Ok(key);
    }
    let key = generate(&path)?;
    warn!(
        path = %path.display(),
        "a master key was generated beside the data it protects; keep it apart and give it by `security.master_key_file`"
    );
    Ok(key)
}

/// The key in the file `path`, if there is such a file.
pub(crate) fn find(path: &Path) -> Result<Option<Key>, KeyError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            decode(&Secret::new(text.trim())).map(Some).map_err(|InvalidKey| KeyError::Invalid { path: path.to_owned() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::File { path: path.to_owned(), source }),
    }
}

/// Makes a new key and a file that holds it, for its owner only.
pub(crate) fn generate(path: &Path) -> Result<Key, KeyError> {
    let key = Key::random();
    let text = Zeroizing::new(STANDARD.encode(key.expose()));
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    Ok(key)
}

/// Opens the store's keyring with the master key, or makes one for a new store.
pub async fn open_keyring(engine: &Arc<dyn Engine>, master: &Key) -> Result<Keyring, KeyError> {
    loop {
        if let Some(document) = engine.doc_get(DocKind::Keyring, KEYRING).await? {
            let wrapped = Sealed::from_bytes(document.body.to_vec());
            return Keyring::unwrap_with(master, &wrapped).map_err(|_| KeyError::Wrong);
        }
        let keyring = Keyring::random();
        let write = DocWrite {
            kind: DocKind::Keyring,
            id: KEYRING.to_owned(),
            account: None,
            body: Some(keyring.wrap(master).as_bytes().to_vec().into()),
            expected: Expected::Absent,
            expires_at: None,
            flow: None,
        };
        // Another member may have made one at the same time; then that one counts.
        if let PutOutcome::Stored(_) = engine.doc_put(vec![write]).await? {
            return Ok(keyring);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_generated_key_is_found_again_and_nobody_else_can_read_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = find_or_generate(directory.path()).expect("a key");
        let again = find_or_generate(directory.path()).expect("a key");
        assert_eq!(key.expose(), again.expose());
        let mode = std::fs::metadata(directory.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_file_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(FILE), "x").expect("written");
        assert!(matches!(find_or_generate(directory.path()), Err(KeyError::Invalid { .. })));
    }
}
