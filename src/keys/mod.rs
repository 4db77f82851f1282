//! Bridge keys: what systems use that are not to have a Spaces token. A key acts for one account, as far as its scopes and spaces go.
//!
//! The store has a key's SHA-256 only; the key itself is shown once, when it is made. All keys are in memory, so that finding one costs
//! no look at the store and revoking one works at once.

mod key;
mod registry;

pub use key::{BridgeKey, KeyScope, KnownKey, NewKey, PREFIX};
pub use registry::{KeyError, KeyRefusal, KeyRegistry, MAX_KEYS};
