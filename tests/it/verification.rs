//! Receivers that verify: live deliveries with the official libraries, and the recipes of `docs/verify.md`.
//!
//! Needs Node.js with `npm ci` in `tests/servers`, and Python with the packages of `tests/servers/requirements.txt`. Where one is
//! missing, what needs it says so and is left out, unless `REQUIRE_NODE=1` or `REQUIRE_PYTHON=1` makes it a failure.

mod libraries;
#[expect(unreachable_pub, reason = "whoever copies it wants it public")]
mod recipe;
mod recipes;
