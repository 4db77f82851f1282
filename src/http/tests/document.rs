//! The `OpenAPI` document and the pages that show it.

use super::*;

#[tokio::test]
async fn the_documentation_is_served_whole_and_needs_nothing_from_outside() {
    let app = state(|_| {}).await;
    let response = ask(&app, empty(request(Method::GET, "/docs"))).await;
    assert!(header(&response, CONTENT_TYPE).starts_with("text/html"));
    let policy = header(&response, CONTENT_SECURITY_POLICY).to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
    let page = response.into_body().collect().await.expect("a body").to_bytes();
    let page = std::str::from_utf8(&page).expect("text");
    let mut assets = 0;
    for address in page.split("src=\"").chain(page.split("href=\"")).filter_map(|rest| rest.split('"').next()) {
        if let Some(asset) = address.strip_prefix("docs/") {
            let response = ask(&app, empty(request(Method::GET, &format!("/docs/{asset}")))).await;
            assert_eq!(response.status(), StatusCode::OK, "{asset}");
            assets += 1;
        }
        assert!(!address.starts_with("http") && !address.starts_with("//") && !address.starts_with('.'), "{address}");
    }
    assert!(assets >= 5, "{page}");
    let document = json(ask(&app, empty(request(Method::GET, "/openapi.json"))).await).await;
    assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
}

/// The committed document is what the handlers say; `cargo run -- openapi > openapi/openapi.json` writes it anew.
#[test]
fn the_committed_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == openapi_json(), "openapi/openapi.json is not current: `cargo run -- openapi > openapi/openapi.json`");
}

#[test]
fn every_call_is_documented_with_its_failures_and_headers() {
    let document: Value = serde_json::from_str(&openapi_json()).expect("JSON");
    let resolve = |value: &Value| match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("a target").clone(),
        None => value.clone(),
    };
    let mut ids = std::collections::BTreeSet::new();
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 55);
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("calls") {
            let call = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect(&call).to_owned()), "{call}");
            assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{call}");
            let responses = operation["responses"].as_object().expect("answers");
            for (status, response) in responses {
                let response = resolve(response);
                if status == "431" {
                    continue;
                }
                assert!(response["headers"]["X-Request-Id"].is_object(), "{call} {status}");
                if status.as_str() >= "400" {
                    assert!(response["content"]["application/problem+json"].is_object(), "{call} {status}");
                }
            }
            assert!(responses.contains_key("431"), "{call}");
            if operation["security"].is_array() {
                assert!(resolve(&responses["401"])["headers"]["WWW-Authenticate"].is_object(), "{call}");
            }
            if operation["requestBody"].is_object() {
                assert!(["400", "408", "413", "415", "422"].iter().all(|status| responses.contains_key(*status)), "{call}");
            }
            assert!(resolve(&responses["503"])["headers"]["Retry-After"].is_object(), "{call}");
        }
    }
}

/// Each `$ref` of the document has its target.
#[test]
fn the_document_hangs_together() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(entries) => entries.iter().for_each(|entry| references(entry, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&openapi_json()).expect("JSON");
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}
