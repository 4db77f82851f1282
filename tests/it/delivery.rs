//! Delivery, from the event log to receivers that behave and receivers that do not.

mod client;
mod dispatcher;
mod formats;
mod rig;
mod rotation;
mod schedule;
