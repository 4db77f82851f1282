//! The embedded back end: SQLite.

/// Settings of the embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// The directory that holds the database.
    pub path: std::path::PathBuf,
}

/// The embedded store.
#[derive(Debug)]
pub struct EmbeddedStore;
