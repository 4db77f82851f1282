//! Tokens in files, below the directories that the operator's settings name.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::found::MAX_FOUND;
use super::source::MintError;

/// Whether `path` is written as a place below one of `directories`. Where it really leads is looked at when it is read.
pub(super) fn is_below(path: &Path, directories: &[PathBuf]) -> bool {
    let plain = path.is_absolute() && !path.components().any(|part| matches!(part, std::path::Component::ParentDir));
    plain && directories.iter().any(|directory| path.starts_with(directory))
}

/// Reads the file, which may be a link that is swapped for another, as mounted secrets are.
pub(super) async fn read(path: &Path, directories: &[PathBuf]) -> Result<Vec<u8>, MintError> {
    let (path, directories) = (path.to_owned(), directories.to_owned());
    let reading = tokio::task::spawn_blocking(move || read_now(&path, &directories));
    reading.await.map_err(|_| MintError::Failed("the file could not be read".to_owned()))?
}

fn read_now(path: &Path, directories: &[PathBuf]) -> Result<Vec<u8>, MintError> {
    let unreadable = |error: std::io::Error| MintError::Failed(format!("the file cannot be read: {}", error.kind()));
    let real = path.canonicalize().map_err(unreadable)?;
    let is_inside = |directory: &PathBuf| directory.canonicalize().is_ok_and(|directory| real.starts_with(directory));
    if !directories.iter().any(is_inside) {
        return Err(MintError::Refused("the file leads out of the directories of `accounts.token_directories`".to_owned()));
    }
    // A pipe would be waited for.
    if !std::fs::metadata(&real).map_err(unreadable)?.is_file() {
        return Err(MintError::Failed("it is no file".to_owned()));
    }
    let file = std::fs::File::open(&real).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FOUND as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FOUND { Err(MintError::Failed("the file is too large".to_owned())) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_the_directories_are_read() {
        let (inside, outside) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let allowed = vec![inside.path().to_owned()];
        let (token, secret) = (inside.path().join("token"), outside.path().join("secret"));
        std::fs::write(&token, "abc").expect("written");
        std::fs::write(&secret, "xyz").expect("written");
        std::os::unix::fs::symlink(&secret, inside.path().join("out")).expect("a link");
        std::os::unix::fs::symlink(&token, inside.path().join("in")).expect("a link");
        std::fs::write(inside.path().join("large"), "a".repeat(MAX_FOUND + 1)).expect("written");

        assert_eq!(read_now(&token, &allowed), Ok(b"abc".to_vec()));
        assert_eq!(read_now(&inside.path().join("in"), &allowed), Ok(b"abc".to_vec()));
        assert!(matches!(read_now(&inside.path().join("out"), &allowed), Err(MintError::Refused(_))));
        assert!(matches!(read_now(&secret, &allowed), Err(MintError::Refused(_))));
        assert!(matches!(read_now(&token, &[]), Err(MintError::Refused(_))));
        for path in ["missing", "large", "."] {
            assert!(matches!(read_now(&inside.path().join(path), &allowed), Err(MintError::Failed(_))), "{path}");
        }
    }

    #[test]
    fn a_path_is_plain_and_below() {
        let directories = vec![PathBuf::from("/run/tokens")];
        for (path, expected) in [
            ("/run/tokens/a", true),
            ("/run/tokens/b/a", true),
            ("/run/tokens-2/a", false),
            ("/run/tokens/../a", false),
            ("run/tokens/a", false),
            ("/etc/passwd", false),
        ] {
            assert_eq!(is_below(Path::new(path), &directories), expected, "{path}");
        }
    }
}
