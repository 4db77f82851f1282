//! Templates of hooks: any JSON becomes a message by a text with gaps, in the language of Jinja.
//!
//! Whoever has a hook may write one, so that a template is a program of a stranger. The engine counts every step, every byte and every
//! item against a budget, and asks it before anything is allocated; the output has a bound of its own. There are no includes, no macros
//! and no functions that reach outside.

use std::io;

use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};

use super::payload::Payload;
use super::presets::shorten;
use crate::markup::{Sanitizer, markdown_to_html, text_to_html};

/// Longest source of a template, in bytes.
pub const MAX_SOURCE: usize = 16 << 10;

/// The budget of one rendering: a step costs 1, and so do 64 bytes.
const FUEL: u64 = 100_000;

/// Most bytes that a template may make of one payload.
const MAX_OUTPUT: usize = 64 << 10;

/// How deep a template may be nested.
const MAX_DEPTH: usize = 100;

/// Longest piece of the engine's words that is told, in characters.
const MAX_WORDS: usize = 300;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The text with its gaps.
    pub source: String,
    /// What comes out of it.
    #[serde(default)]
    pub output: TemplateOutput,
}

/// What comes out of a template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateOutput {
    /// Markdown.
    #[default]
    Markdown,
    /// Plain text.
    Text,
}

/// Why a template does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is longer than templates may be.
    #[error("a template has {MAX_SOURCE} bytes at most")]
    TooLarge,
    /// It is none.
    #[error("the template cannot be read: {0}")]
    Syntax(String),
    /// It does more than templates may.
    #[error("the template takes more time or memory than templates may")]
    TooCostly,
    /// It makes too much.
    #[error("the template makes more than {MAX_OUTPUT} bytes")]
    TooLong,
    /// It fails at what came.
    #[error("the template fails: {0}")]
    Failed(String),
    /// Nothing is left of what came.
    #[error("the template makes nothing of it")]
    Empty,
}

impl Template {
    /// Whether it can be one at all.
    pub fn check(&self) -> Result<(), TemplateError> {
        if self.source.len() > MAX_SOURCE {
            return Err(TemplateError::TooLarge);
        }
        let environment = environment();
        environment.template_from_str(&self.source).map(drop).map_err(|error| TemplateError::Syntax(words(&error)))
    }

    /// The HTML that `payload` becomes. `event` is what its sender calls it.
    pub(super) fn render(&self, payload: &Payload, event: Option<&str>, sanitizer: &Sanitizer) -> Result<String, TemplateError> {
        self.check()?;
        let environment = environment();
        let template = environment.template_from_str(&self.source).map_err(|error| TemplateError::Syntax(words(&error)))?;
        let payload = match payload {
            Payload::Text(text) => minijinja::Value::from(text.as_str()),
            Payload::Json(value) => minijinja::Value::from(minijinja::value::Serde(value)),
        };
        let mut output = Output::default();
        let rendered = template.render_captured_to(context! { payload, event }, &mut output).map(drop);
        if output.is_full {
            return Err(TemplateError::TooLong);
        }
        rendered.map_err(|error| match error.kind() {
            ErrorKind::OutOfFuel => TemplateError::TooCostly,
            _ => TemplateError::Failed(words(&error)),
        })?;
        let text = String::from_utf8(output.bytes).map_err(|error| TemplateError::Failed(error.to_string()))?;
        if text.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        Ok(match self.output {
            TemplateOutput::Markdown => markdown_to_html(&text, sanitizer),
            TemplateOutput::Text => text_to_html(text.trim()).into_owned(),
        })
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    // What a payload lacks is nothing, however deep.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.remove_global("debug");
    for name in ["e", "escape"] {
        environment.add_filter(name, escape);
    }
    environment
}

/// The text with everything escaped that Markdown would take for markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 4);
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// The engine's words with the line, without causes.
fn words(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("{}{line}", shorten(&detail, MAX_WORDS))
}

/// Takes so many bytes and no more.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT {
            self.is_full = true;
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(source: &str, output: TemplateOutput) -> Result<String, TemplateError> {
        let payload = Payload::Json(json!({
            "host": "db_1_a", "level": "*high*", "disks": [{"name": "a", "free": 3}, {"name": "b", "free": 90}], "at": null,
            "url": "https://e.example/?a=1",
        }));
        Template { source: source.to_owned(), output }.render(&payload, Some("push"), &Sanitizer::new())
    }

    #[test]
    fn gaps_are_filled() {
        for (source, html) in [
            ("**{{ payload.host }}**", "<p><strong>db_1_a</strong></p>"),
            ("{{ event }}: {{ payload.level|e }}", "<p>push: *high*</p>"),
            ("{{ payload.level }}", "<p><em>high</em></p>"),
            ("[disk]({{ payload.url }})", "<p><a href=\"https://e.example/?a=1\">disk</a></p>"),
            (
                "{% for disk in payload.disks if disk.free < 10 %}- {{ disk.name|upper }}: {{ disk.free }} %\n{% endfor %}",
                "<ul>\n<li>A: 3 %</li>\n</ul>",
            ),
            ("x{{ payload.nothing.at.all }}y{{ payload.at or 'never' }}", "<p>xynever</p>"),
            (
                "{{ payload.disks|tojson }}",
                "<p>[{&quot;free&quot;:3,&quot;name&quot;:&quot;a&quot;},{&quot;free&quot;:90,&quot;name&quot;:&quot;b&quot;}]</p>",
            ),
            ("<script>alert({{ payload.host }})</script>", "<p>&lt;script&gt;alert(db_1_a)&lt;/script&gt;</p>"),
        ] {
            let html_of = rendered(source, TemplateOutput::Markdown).map(|html| html.replace('"', "&quot;"));
            assert_eq!(html_of, Ok(html.replace('"', "&quot;")), "{source}");
        }
        assert_eq!(rendered("**{{ payload.host }}**\n", TemplateOutput::Text).as_deref(), Ok("**db_1_a**"));
        let text = Template { source: "{{ payload|upper }}".to_owned(), output: TemplateOutput::Text };
        assert_eq!(text.render(&Payload::Text("ab".to_owned()), None, &Sanitizer::new()).as_deref(), Ok("AB"));
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_line() {
        let check = |source: &str| Template { source: source.to_owned(), output: TemplateOutput::Text }.check();
        assert!(matches!(check("a\n{{ payload."), Err(TemplateError::Syntax(words)) if words.ends_with("(line 2)")));
        for source in
            ["{% include 'a' %}", "{% macro m() %}{% endmacro %}", "{% import 'a' as b %}", "{% extends 'a' %}", "{% for %}"]
        {
            assert!(matches!(check(source), Err(TemplateError::Syntax(_))), "{source}");
        }
        assert_eq!(check(&"x".repeat(MAX_SOURCE + 1)), Err(TemplateError::TooLarge));
        assert_eq!(check(&"x".repeat(MAX_SOURCE)), Ok(()));
        assert!(check(&"(".repeat(MAX_SOURCE)).is_ok());
        let nested = format!("{{{{ {}1{} }}}}", "(".repeat(8_000), ")".repeat(8_000));
        assert!(matches!(check(&nested), Err(TemplateError::Syntax(_))));
        let deep = format!("{}x{}", "{% if 1 %}".repeat(600), "{% endif %}".repeat(600));
        assert!(matches!(check(&deep), Err(TemplateError::Syntax(_) | TemplateError::TooLarge)));
    }

    #[test]
    fn what_fails_or_says_nothing_says_why() {
        assert!(matches!(
            rendered("{{ payload.host.upper() }} {{ nothing() }}", TemplateOutput::Text),
            Err(TemplateError::Failed(_))
        ));
        assert!(matches!(rendered("{{ 1 / 0 }}", TemplateOutput::Text), Err(TemplateError::Failed(_))));
        assert_eq!(rendered(" {{ payload.at or '' }}\n", TemplateOutput::Text), Err(TemplateError::Empty));
    }

    /// Each would take hours or gigabytes.
    #[test]
    fn hostile_templates_are_stopped() {
        let doubling = format!("{{% set x = 'x' * 1000 %}}{}{{{{ x|length }}}}", "{% set x = x ~ x %}".repeat(60));
        let lists = format!("{{% set x = [1] * 1000 %}}{}{{{{ x|length }}}}", "{% set x = x + x %}".repeat(60));
        let replacing = format!("{{% set x = 'aa' %}}{}{{{{ x|length }}}}", "{% set x = x|replace('a', x) %}".repeat(40));
        let joining = format!("{{% set x = 'ab' %}}{}{{{{ x|length }}}}", "{% set x = x|list|join(x) %}".repeat(40));
        let loops = format!("{}x{}", "{% for a in range(1000) %}".repeat(5), "{% endfor %}".repeat(5));
        let silent = format!("{}{}", "{% for a in range(1000) %}".repeat(5), "{% endfor %}".repeat(5));
        let capturing = format!("{{% set x = 'x' * 1000 %}}{}", "{% set x %}{{ x }}{{ x }}{% endset %}".repeat(60));
        for source in [
            "{{ 'x' * 1000000000 }}",
            "{{ 'x' * 9999999999999999999 }}",
            "{{ ([1] * 1000000000)|length }}",
            "{{ 'x'|center(1000000000) }}",
            "{{ '%1000000000d'|format(1) }}",
            "{{ '%.1000000000f'|format(1.5) }}",
            "{{ ('a' * 60000)|replace('a', 'b' * 60000) }}",
            "{{ ('a ' * 60000)|indent(1000000000) }}",
            "{{ range(1000000000)|list|length }}",
            "{{ range(1000000000)|sum }}",
            "{{ range(1000000000)|join(',') }}",
            "{{ ('x' * 100000)|batch(1, 'y' * 100000)|list }}",
            "{{ 1|batch(1000000000)|list }}",
            "{{ [1]|batch(1000000000, 0)|list }}",
            "{{ [1]|slice(1000000000, 0)|list }}",
            "{{ 10 ** 10 ** 10 }}",
            "{{ (range(100000)|list|tojson * 100000)|length }}",
            "{{ dict(a=range(100000)|list)|pprint * 100000 }}",
            "{{ 1 in range(100000000000000) and 2 not in range(3, 100000000000000) }}",
            &doubling,
            &lists,
            &replacing,
            &joining,
            &loops,
            &silent,
            &capturing,
        ] {
            let error = rendered(source, TemplateOutput::Text).map(|html| html.len());
            let stopped = matches!(error, Err(TemplateError::TooCostly | TemplateError::TooLong | TemplateError::Failed(_)));
            assert!(stopped, "{}: {error:?}", shorten(source, 80));
        }
    }
}
