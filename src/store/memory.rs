//! The in-memory model: the oracle of the conformance suite.

/// The in-memory store.
#[derive(Debug)]
pub struct MemoryStore;
