//! The client's side of WebSocket ([RFC 6455](https://www.rfc-editor.org/rfc/rfc6455)), without any I/O.
//!
//! Written here rather than taken from a library for three reasons: a general library logs whole requests and frames
//! at its trace level, and here those carry the caller's token; frames are built straight into the one buffer that
//! leaves in one write; and an idle connection keeps no buffer at all.

mod frame;
mod mask;
mod upgrade;

pub(crate) use frame::{Decoder, FrameError, Message, Opcode, encode};
pub(crate) use mask::MaskSource;
pub(crate) use upgrade::{Upgrade, UpgradeAnswer, UpgradeError};
