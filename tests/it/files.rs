//! Files through the real service: into Spaces with a message or without one, and back.

mod downloads;
mod forms;
mod hostile;
mod large;
mod rig;
mod uploads;
