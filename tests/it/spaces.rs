//! Reading spaces over the real service: what they are, who is in them, and what was said.

mod history;
mod people;
