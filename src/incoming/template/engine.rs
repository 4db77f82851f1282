//! The engine, in the process that renders: a template and a payload become text.
//!
//! Its own budget stops most of what does too much, at the same step on every machine. What escapes it meets the limits of the process.

use std::io;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, context};

use super::protocol::{Answer, Request};
use super::{MAX_OUTPUT, TemplateOutput};
use crate::incoming::presets::shorten;

/// The budget of one rendering: a step costs 1, and so do 64 bytes.
const FUEL: u64 = 500_000;

/// How deep a template may be nested, and its macros may call each other.
const MAX_DEPTH: usize = 100;

/// Longest piece of the engine's words that is told, in characters.
const MAX_WORDS: usize = 300;

/// Does what is asked for.
pub(super) fn answer(request: &Request) -> Answer {
    let environment = environment(request.template.output);
    let template = match environment.template_from_str(&request.template.source) {
        Ok(template) => template,
        Err(error) => return Answer::Syntax(words(&error)),
    };
    let Some(sample) = &request.sample else { return Answer::Made(String::new()) };
    let payload = minijinja::Value::from(minijinja::value::Serde(&sample.payload));
    let event = sample.event.as_deref();
    let mut output = Output::default();
    let rendered = template.render_captured_to(context! { payload, event }, &mut output).map(drop);
    if output.is_full {
        return Answer::TooLong;
    }
    if let Err(error) = rendered {
        return if error.kind() == ErrorKind::OutOfFuel { Answer::TooCostly } else { Answer::Failed(words(&error)) };
    }
    match String::from_utf8(output.bytes) {
        Ok(text) => Answer::Made(text),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

fn environment(output: TemplateOutput) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    // What a payload lacks is nothing, however deep.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(move |_| match output {
        TemplateOutput::Html => AutoEscape::Html,
        TemplateOutput::Markdown | TemplateOutput::Text => AutoEscape::None,
    });
    environment.remove_global("debug");
    for name in ["e", "escape"] {
        match output {
            TemplateOutput::Markdown => environment.add_filter(name, escape_markdown),
            // The engine's own escapes HTML.
            TemplateOutput::Html => {}
            TemplateOutput::Text => environment.add_filter(name, |text: String| text),
        }
    }
    environment
}

/// The text with everything escaped that Markdown would take for markup.
fn escape_markdown(text: &str) -> String {
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
    use serde_json::{Value, json};

    use super::super::protocol::Sample;
    use super::super::{MAX_SOURCE, Template};
    use super::*;

    fn request(source: &str, output: TemplateOutput, payload: Option<Value>) -> Request {
        let sample = payload.map(|payload| Sample { payload, event: Some("push".to_owned()) });
        Request { template: Template { source: source.to_owned(), output }, sample }
    }

    fn made(source: &str, output: TemplateOutput) -> Answer {
        let payload = json!({
            "host": "db_1_a", "level": "*high*", "disks": [{"name": "a", "free": 3}, {"name": "b", "free": 90}], "at": null,
            "url": "https://e.example/?a=1",
        });
        answer(&request(source, output, Some(payload)))
    }

    fn text(text: &str) -> Answer {
        Answer::Made(text.to_owned())
    }

    #[test]
    fn gaps_are_filled() {
        for (source, expected) in [
            ("**{{ payload.host }}**\n", "**db_1_a**"),
            ("{{ event }}: {{ payload.level|e }}", "push: \\*high\\*"),
            ("{{ payload.level }}", "*high*"),
            (
                "{% for disk in payload.disks if disk.free < 10 %}- {{ disk.name|upper }}: {{ disk.free }} %\n{% endfor %}",
                "- A: 3 %\n",
            ),
            ("x{{ payload.nothing.at.all }}y{{ payload.at or 'never' }}", "xynever"),
            ("{{ payload.disks[1]|tojson }}", r#"{"free": 90, "name": "b"}"#),
            ("{% macro free(disk) %}{{ disk.name }}={{ disk.free }}{% endmacro %}{{ free(payload.disks[0]) }}", "a=3"),
        ] {
            assert_eq!(made(source, TemplateOutput::Markdown), text(expected), "{source}");
        }
        assert_eq!(made("{{ payload.level|e }} <{{ payload.host }}>", TemplateOutput::Text), text("*high* <db_1_a>"));
        assert_eq!(
            made("<b>{{ '<i>' }}</b>{{ '<'|e }}{{ '<i>'|safe }}", TemplateOutput::Html),
            text("<b>&lt;i&gt;</b>&lt;<i>"),
            "what comes from outside is escaped"
        );
        let words = request("{{ payload|upper }}", TemplateOutput::Text, Some(json!("ab")));
        assert_eq!(answer(&words), text("AB"));
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_line() {
        let check = |source: &str| answer(&request(source, TemplateOutput::Text, None));
        assert!(matches!(check("a\n{{ payload."), Answer::Syntax(words) if words.ends_with("(line 2)")));
        for source in ["{% include 'a' %}", "{% import 'a' as b %}", "{% extends 'a' %}", "{% for %}"] {
            assert!(matches!(check(source), Answer::Syntax(_)), "{source}");
        }
        let nested = format!("{{{{ {}1{} }}}}", "(".repeat(MAX_SOURCE / 2 - 10), ")".repeat(MAX_SOURCE / 2 - 10));
        assert!(matches!(check(&nested), Answer::Syntax(_)));
        let deep = format!("{}x{}", "{% if 1 %}".repeat(600), "{% endif %}".repeat(600));
        assert!(matches!(check(&deep), Answer::Syntax(_)));
        assert_eq!(check("{{ payload.a / 0 }}"), text(""), "it is not tried on anything");
    }

    #[test]
    fn what_fails_says_why_and_where() {
        for source in ["\n{{ payload.host.upper() }} {{ nothing() }}", "\n{{ 1 / 0 }}", "\n{{ debug() }}"] {
            assert!(
                matches!(made(source, TemplateOutput::Text), Answer::Failed(words) if words.ends_with("(line 2)")),
                "{source}"
            );
        }
    }

    #[test]
    fn most_of_what_does_too_much_is_stopped_by_its_budget() {
        let doubling = format!("{{% set x = 'x' * 1000 %}}{}{{{{ x|length }}}}", "{% set x = x ~ x %}".repeat(60));
        let loops = format!("{}{}", "{% for a in range(1000) %}".repeat(5), "{% endfor %}".repeat(5));
        for source in [
            "{{ 'x' * 1000000000 }}",
            "{{ range(100000)|list|tojson * 100000 }}",
            "{{ ('a' * 60000)|replace('a', 'b' * 60000) }}",
            &doubling,
            &loops,
        ] {
            assert!(
                matches!(made(source, TemplateOutput::Text), Answer::TooCostly | Answer::Failed(_)),
                "{}",
                shorten(source, 80)
            );
        }
        let recursion = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(1) }}";
        assert!(matches!(made(recursion, TemplateOutput::Text), Answer::Failed(_)));
        assert_eq!(made("{{ 'x' * 70000 }}", TemplateOutput::Text), Answer::TooLong);
    }
}
