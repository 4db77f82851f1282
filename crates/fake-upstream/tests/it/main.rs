//! The fake upstream as its clients see it, frame by frame and call by call.

mod joining;
mod sending;
mod support;
