//! Programs that some tests need and not every machine has.
//!
//! Where one is missing, what needs it says so and is left out, unless a variable such as `REQUIRE_NODE=1` makes it a failure.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program that something is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Alertmanager,
    Curl,
    Go,
    Java,
    Node,
    PowerShell,
    Python,
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alertmanager => "Alertmanager",
            Self::Curl => "curl or jq",
            Self::Go => "Go",
            Self::Java => "Java",
            Self::Node => "Node.js",
            Self::PowerShell => "PowerShell",
            Self::Python => "Python",
        }
    }

    /// A command that succeeds where the tool is at hand.
    fn probe(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Alertmanager => ("prometheus-alertmanager", &["--version"]),
            Self::Curl => ("bash", &["-c", "curl --version && jq --version"]),
            Self::Go => ("go", &["version"]),
            Self::Java => ("javac", &["-version"]),
            Self::Node => ("node", &["--version"]),
            Self::PowerShell => ("pwsh", &["-Version"]),
            Self::Python => ("python3", &["--version"]),
        }
    }

    /// The variable that makes it a failure if the tool is missing.
    fn requirement(self) -> Option<&'static str> {
        match self {
            Self::Alertmanager => Some("REQUIRE_ALERTMANAGER"),
            Self::Curl => Some("REQUIRE_CURL"),
            Self::Node => Some("REQUIRE_NODE"),
            Self::Python => Some("REQUIRE_PYTHON"),
            Self::Go | Self::Java | Self::PowerShell => None,
        }
    }

    /// Whether `program` succeeds with `arguments`; if not, says what is left out.
    pub(crate) fn offers(self, program: &str, arguments: &[&str], else_skipped: &str) -> bool {
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

    pub(crate) fn is_here(self, else_skipped: &str) -> bool {
        let (program, arguments) = self.probe();
        self.offers(program, arguments, else_skipped)
    }
}

/// Where the receivers and servers that are not in Rust lie, with their packages.
pub(crate) fn servers() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}
