//! What goes wrong with REST calls.

use std::time::Duration;

use http::Method;

use crate::switch::Switch;

/// The body of an error answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ErrorBody {
    /// `{"code":…,"message":…}`, the documented form.
    CodeAndMessage(String, String),
    /// The same inside `{"error":…}`.
    Wrapped(String, String),
    /// Any bytes with a content type, for example a proxy's page or a cut-off JSON.
    Raw(String, String),
    /// No body.
    Empty,
}

/// What befalls one REST call.
#[derive(Debug, Clone, PartialEq)]
pub enum RestFault {
    /// The call has no effect and is answered like this.
    Answer {
        /// The status.
        status: u16,
        /// The body.
        body: ErrorBody,
        /// The value of `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The call takes this much longer.
    Slow(Duration),
    /// The call has no effect and is never answered.
    Hang,
    /// The call has no effect and the connection ends without an answer.
    Cut,
    /// The call is carried out and the connection ends without an answer.
    CutAfter,
    /// The call is carried out and its answer replaced by this body and content type.
    Garbled {
        /// The value of `Content-Type`.
        content_type: String,
        /// The body in place of the real one.
        body: String,
    },
}

impl RestFault {
    /// An error answer in the documented form.
    pub fn status(status: u16, code: &str, message: &str) -> Self {
        Self::Answer { status, body: ErrorBody::CodeAndMessage(code.to_owned(), message.to_owned()), retry_after: None }
    }

    /// `429` with `Retry-After`.
    pub fn too_many(retry_after: u64) -> Self {
        Self::Answer {
            status: 429,
            body: ErrorBody::CodeAndMessage("too.many.requests".to_owned(), "rate limit exceeded".to_owned()),
            retry_after: Some(retry_after),
        }
    }
}

/// Faults of REST calls, by method and path.
///
/// A pattern is a path such as `/api/users/me` or `POST /api/spaces/*/chats`: with or without a method; `*` is one
/// segment and a final `**` is the rest. The first rule that matches and is on decides.
#[derive(Debug, Clone, Default)]
pub struct RestScript {
    rules: Vec<(Pattern, Switch<RestFault>)>,
}

impl RestScript {
    /// The switch of a pattern, made when it is first named.
    pub fn on(&mut self, pattern: &str) -> &mut Switch<RestFault> {
        let pattern = Pattern::parse(pattern);
        let position = self.rules.iter().position(|(known, _)| *known == pattern).unwrap_or_else(|| {
            self.rules.push((pattern, Switch::default()));
            self.rules.len() - 1
        });
        &mut self.rules[position].1
    }

    /// Forgets every rule.
    pub fn off(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn take(&mut self, method: &Method, path: &str) -> Option<RestFault> {
        self.rules.iter_mut().filter(|(pattern, _)| pattern.matches(method, path)).find_map(|(_, switch)| switch.take())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    method: Option<String>,
    segments: Vec<String>,
}

impl Pattern {
    fn parse(text: &str) -> Self {
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => (Some(method.to_uppercase()), path),
            None => (None, text),
        };
        Self { method, segments: segments(path).map(str::to_owned).collect() }
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        if self.method.as_deref().is_some_and(|wanted| wanted != method.as_str()) {
            return false;
        }
        let mut given = segments(path);
        for wanted in &self.segments {
            match (wanted.as_str(), given.next()) {
                ("**", _) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(segment)) if wanted == segment => {}
                _ => return false,
            }
        }
        given.next().is_none()
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_method_and_segment() {
        let chats = Pattern::parse("POST /api/spaces/*/chats");
        assert!(chats.matches(&Method::POST, "/api/spaces/1/chats"));
        assert!(!chats.matches(&Method::GET, "/api/spaces/1/chats"));
        assert!(!chats.matches(&Method::POST, "/api/spaces/1/2/chats"));
        assert!(Pattern::parse("/api/**").matches(&Method::GET, "/api/users/me"));
        assert!(!Pattern::parse("/api/users").matches(&Method::GET, "/api/users/me"));
    }

    #[test]
    fn the_first_rule_that_is_on_decides() {
        let mut script = RestScript::default();
        script.on("/api/users/me").next(1, RestFault::Hang);
        script.on("/api/**").always(RestFault::Cut);
        assert_eq!(script.take(&Method::GET, "/api/users/me"), Some(RestFault::Hang));
        assert_eq!(script.take(&Method::GET, "/api/users/me"), Some(RestFault::Cut));
    }
}
