//! Incoming hooks: secret addresses that anything which can post may post to, and what comes becomes a message in a space.
//!
//! A call is read leniently ([`Payload`]), turned into HTML by the hook's format ([`render`]), and handed to the outbox, which has it
//! on disk before the sender gets its answer. The format may be a template of the owner's ([`Template`]).
//! What is not understood is quoted; nothing that came is lost silently.

mod activity;
mod check;
mod delivery;
mod fitting;
mod format;
mod hook;
mod payload;
mod presets;
mod registry;
mod slack;
pub(crate) mod template;

pub use activity::{Activity, HookFailure, Seen};
pub use check::{CheckError, CheckKind};
pub use delivery::reference_of;
pub use fitting::fitted;
pub use format::{Format, Recipe, Rendered, Trouble, UnknownFormat, render, render_by};
pub use hook::{DEFAULT_RATE, HookCheck, IncomingHook, Peer};
pub use payload::{Payload, PayloadError};
pub use presets::{Posted, Preset};
pub use registry::{CallError, HookError, HookPatch, HookRegistry, MAX_HOOKS, MAX_SECRETS, NewHook};
pub use slack::Dialect;
pub use template::{MAX_SOURCE, Renderer, Template, TemplateError, TemplateOutput};
