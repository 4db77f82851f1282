//! x
pub mod payload;
pub mod presets;
pub mod slack;
