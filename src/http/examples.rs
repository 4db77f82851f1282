//! Examples of whole bodies for the `OpenAPI` document: answers of a running service, kept in `examples.json` by the name of their
//! schema. Types whose example fits into a line have it themselves.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};

const EXAMPLES: &str = include_str!("examples.json");

/// What the schemas of pages are called, before the name of what is on them.
const PAGE: &str = "Page_";

/// Gives each schema that has an example in the file that example, and each page of such things one with one of them.
pub(super) fn show(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    let examples: Map<String, Value> = serde_json::from_str(EXAMPLES).expect("the file is an object, which tests read");
    for (name, schema) in schemas {
        let example = match name.strip_prefix(PAGE) {
            Some(entry) => examples.get(entry).map(|entry| json!({"data": [entry], "nextCursor": null})),
            None => examples.get(name).cloned(),
        };
        if let (Some(example), RefOr::T(schema)) = (example, schema) {
            add(schema, example);
        }
    }
}

fn add(schema: &mut Schema, example: Value) {
    match schema {
        Schema::Array(array) => array.examples.push(example),
        Schema::Object(object) => object.examples.push(example),
        Schema::OneOf(choice) => choice.examples.push(example),
        Schema::AllOf(sum) => sum.examples.push(example),
        Schema::AnyOf(choice) => choice.examples.push(example),
        _ => unreachable!("there is no other kind of schema"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::openapi_json;

    fn document() -> Value {
        serde_json::from_str(&openapi_json()).expect("JSON")
    }

    /// The examples that a schema has itself, under either name.
    fn own(schema: &Value) -> Vec<Value> {
        let several = schema["examples"].as_array().cloned().unwrap_or_default();
        schema.get("example").cloned().into_iter().chain(several).collect()
    }

    /// Whether there is an example of the schema: its own, or one of each of its choices.
    fn has_example(document: &Value, schema: &Value) -> bool {
        if let Some(reference) = schema["$ref"].as_str() {
            return has_example(document, document.pointer(reference.trim_start_matches('#')).expect("a target"));
        }
        let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        let is_null = schema["type"] == "null";
        is_null
            || !own(schema).is_empty()
            || choices.is_some_and(|choices| choices.iter().all(|choice| has_example(document, choice)))
    }

    #[test]
    fn every_json_body_has_an_example_and_every_call_a_description() {
        let document = document();
        let mut missing = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            // This very document, and the page that shows it.
            if matches!(path.as_str(), "/openapi.json" | "/docs/{asset}") {
                continue;
            }
            for (method, operation) in item.as_object().expect("calls") {
                let call = format!("{method} {path}");
                if !operation["description"].is_string() {
                    missing.insert(format!("{call}: description"));
                }
                let answers = operation["responses"].as_object().into_iter().flatten();
                let bodies = answers.map(|(status, answer)| (status.as_str(), answer));
                for (what, body) in bodies.chain([("request", &operation["requestBody"])]) {
                    let content = &body["content"]["application/json"];
                    let own = content.get("example").is_some() || content.get("examples").is_some();
                    if content.is_object() && !own && !has_example(&document, &content["schema"]) {
                        missing.insert(format!("{call}: example of {what} ({})", content["schema"]));
                    }
                }
            }
        }
        assert!(missing.is_empty(), "put examples into src/http/examples.json or at the types:\n{missing:#?}");
    }

    #[test]
    fn every_example_is_what_its_schema_says() {
        let document = document();
        for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
            let mut rules = document.clone();
            rules["$ref"] = format!("#/components/schemas/{name}").into();
            let rules = jsonschema::options().should_validate_formats(true).build(&rules).expect("a schema");
            for example in own(schema) {
                let errors: Vec<_> =
                    rules.iter_errors(&example).map(|error| format!("{}: {error}", error.instance_path())).collect();
                assert!(errors.is_empty(), "{name}: {errors:?}");
            }
        }
    }

    #[test]
    fn every_example_of_the_file_is_shown() {
        let examples: Map<String, Value> = serde_json::from_str(EXAMPLES).expect("an object");
        let document = document();
        for name in examples.keys() {
            assert!(!own(&document["components"]["schemas"][name]).is_empty(), "there is no schema {name} any more");
        }
    }
}
