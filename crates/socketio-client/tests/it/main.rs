//! The crate from outside: its codec, a scripted server's worst, and real servers of several versions.

mod codec;
mod endings;
mod interop;
mod joining;
mod living;
mod secrets;
mod support;
