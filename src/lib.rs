//! spaces-bridge.
