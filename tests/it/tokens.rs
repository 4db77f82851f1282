//! Tokens: the fresher one takes over without loss, a managed one is renewed, a limit is told from a refusal.

mod limits;
mod managed;
mod passed_through;
mod restarts;
mod rig;
