//! Delivery, from the event log to receivers that behave and receivers that do not.

mod breaker;
mod checklist;
mod client;
mod dispatcher;
mod formats;
mod many;
mod rig;
mod rotation;
mod schedule;
mod week;
