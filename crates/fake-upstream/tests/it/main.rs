//! The fake upstream as its clients see it, frame by frame and call by call.

mod accounts;
mod faults;
mod files;
mod heartbeat;
mod hostile;
mod interop;
mod joining;
mod lists;
mod recording;
mod rest;
mod rest_faults;
mod sending;
mod subscribing;
mod support;
mod world;
