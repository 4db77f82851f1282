//! Delivery, from the event log to receivers that behave and receivers that do not.

mod breaker;
mod checklist;
mod client;
mod dispatcher;
mod many;
mod rig;
mod schedule;
mod week;
