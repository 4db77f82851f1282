//! Delivery: events on their way to webhooks.

mod address;

pub use address::{AddressGuard, AllowList, Blocked, is_allowed, is_allowed_port};
