//! Receivers that verify: live deliveries with the official libraries, and the recipes of `docs/verify.md`.
//!
//! Needs Node.js with `npm ci` in `tests/servers`, and Python with the packages of `tests/servers/requirements.txt`. Where one is
//! missing, what needs it says so and is left out, unless `REQUIRE_NODE=1` or `REQUIRE_PYTHON=1` makes it a failure.

mod libraries;
#[expect(unreachable_pub, reason = "whoever copies it wants it public")]
mod recipe;
mod recipes;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A language that something here is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Node,
    Python,
    Java,
    Go,
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "Node.js",
            Self::Python => "Python",
            Self::Java => "Java",
            Self::Go => "Go",
        }
    }

    /// A command that succeeds where the language is at hand.
    fn probe(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Node => ("node", &["--version"]),
            Self::Python => ("python3", &["--version"]),
            Self::Java => ("javac", &["-version"]),
            Self::Go => ("go", &["version"]),
        }
    }

    /// The variable that makes it a failure if the language is missing.
    fn requirement(self) -> Option<&'static str> {
        match self {
            Self::Node => Some("REQUIRE_NODE"),
            Self::Python => Some("REQUIRE_PYTHON"),
            Self::Java | Self::Go => None,
        }
    }

    /// Whether `program` succeeds with `arguments`; if not, says what is left out.
    fn offers(self, program: &str, arguments: &[&str], else_skipped: &str) -> bool {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(servers()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            return true;
        }
        let required = self.requirement().and_then(std::env::var_os).is_some_and(|value| value == "1");
        assert!(!required, "{} or a package for it is missing: {else_skipped}", self.name());
        // Not by `eprintln!`, which the test harness keeps to itself when a test passes.
        let line = format!("skipped: {else_skipped}, since {} or a package for it is missing\n", self.name());
        std::io::stderr().write_all(line.as_bytes()).expect("standard error takes a line");
        false
    }

    fn is_here(self, else_skipped: &str) -> bool {
        let (program, arguments) = self.probe();
        self.offers(program, arguments, else_skipped)
    }
}

fn servers() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}
