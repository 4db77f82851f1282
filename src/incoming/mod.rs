//! x
pub mod payload;
pub mod slack;
