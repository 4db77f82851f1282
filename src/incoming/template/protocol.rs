//! What the service and the process that renders say to each other: one request, one answer, both JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MAX_OUTPUT, Template, TemplateError};

/// Most bytes of an answer: escaped, a byte of text takes six.
pub(super) const MAX_ANSWER: u64 = 6 * MAX_OUTPUT as u64 + 4_096;

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) template: Template,
    /// What the template is tried on; it is only read if there is nothing.
    pub(super) sample: Option<Sample>,
}

/// What came.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) payload: Value,
    /// What its sender calls it.
    pub(super) event: Option<String>,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What the template makes of the sample; nothing if it was only read.
    Made(String),
    /// It is no template.
    Syntax(String),
    /// It fails.
    Failed(String),
    /// It has used up the engine's budget.
    TooCostly,
    /// It makes too much.
    TooLong,
}

impl Answer {
    pub(super) fn into_result(self) -> Result<String, TemplateError> {
        match self {
            Self::Made(text) => Ok(text),
            Self::Syntax(words) => Err(TemplateError::Syntax(words)),
            Self::Failed(words) => Err(TemplateError::Failed(words)),
            Self::TooCostly => Err(TemplateError::TooCostly),
            Self::TooLong => Err(TemplateError::TooLong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_answer_fits() {
        let answer = Answer::Made("\u{1}".repeat(MAX_OUTPUT));
        let bytes = serde_json::to_vec(&answer).expect("JSON");
        assert!(bytes.len() as u64 <= MAX_ANSWER, "{}", bytes.len());
        assert_eq!(serde_json::from_slice::<Answer>(&bytes).expect("an answer"), answer);
    }
}
