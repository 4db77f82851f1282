//! One suite for every back end of the store: each test of a `contract!` runs on all of them, on a clock that the test turns.

mod harness;
mod state_machine;
