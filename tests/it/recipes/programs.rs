//! Programs that call the API.

use serde_json::json;

use super::{Block, Kitchen, block, cook, environment};
use crate::support::receiver::{Receiver, Reply};
use crate::support::tools::Tool;

/// The recipes that this file runs.
pub(super) const RUN: &[&str] = &["cli", "curl", "curl-jq", "curl-file", "python", "node", "powershell"];

/// What all of them say that do not ask anyone else what to say.
const WORDS: &str = "build 41 is green";

/// Runs a recipe against a real bridge, and looks into the space.
async fn sends(recipe: &Block, is_expected: impl FnOnce(&str) -> bool) {
    let kitchen = Kitchen::open().await;
    let (succeeded, printed) = cook(recipe, kitchen.environment()).await;
    assert!(succeeded, "{}: {printed}", recipe.name);
    assert!(printed.contains("confirmed"), "{}: {printed}", recipe.name);
    let texts = kitchen.scene.texts();
    assert!(texts.len() == 1 && is_expected(&texts[0]), "{}: {texts:?}", recipe.name);
}

/// Runs a recipe against a bridge that is not ready at first: it tries again with the same key.
async fn tries_again(recipe: &Block) {
    let answer = |status, body: serde_json::Value| {
        let headers = vec![("content-type", "application/json".to_owned()), ("retry-after", "1".to_owned())];
        Reply::Answer(status, headers, body.to_string().into_bytes())
    };
    let confirmed = answer(201, json!({"status": "confirmed", "id": "m1", "ref": "ref_1"}));
    let receiver = Receiver::start(confirmed).await;
    receiver.script([answer(503, json!({"code": "not_ready", "detail": "not yet", "retryAfter": 1}))]);
    let bridge = format!("http://{}", receiver.address());
    let (succeeded, printed) = cook(recipe, environment(&bridge, "a-token-of-nobody-in-particular", "s1")).await;
    assert!(succeeded, "{}: {printed}", recipe.name);
    let keys: Vec<_> = receiver.recorded().iter().map(|request| request.header("idempotency-key").to_owned()).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1] && keys[0].len() > 20, "{}: {keys:?}", recipe.name);
}

/// Runs a recipe against a bridge that does not want its token: it fails, and says why.
async fn fails_with_a_reason(recipe: &Block) {
    let kitchen = Kitchen::open().await;
    let nobodys = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2ln";
    let (succeeded, printed) = cook(recipe, environment(&kitchen.bridge.api, nobodys, "64f0a1b2c3d4e5f601020304")).await;
    assert!(!succeeded && printed.contains("token_refused"), "{}: {printed}", recipe.name);
}

async fn is_a_good_recipe(name: &str) {
    let recipe = block(name);
    sends(&recipe, |text| text == WORDS).await;
    tries_again(&recipe).await;
    fails_with_a_reason(&recipe).await;
}

#[tokio::test]
async fn the_recipe_for_the_command_line_works() {
    let recipe = block("cli");
    sends(&recipe, |text| text.contains("Filesystem")).await;
    let kitchen = Kitchen::open().await;
    let (_, printed) = cook(&recipe, environment(&kitchen.bridge.api, "sbk_nobody", "64f0a1b2c3d4e5f601020304")).await;
    assert!(printed.contains("not confirmed") && printed.contains("key_invalid"), "{printed}");
}

#[tokio::test]
async fn the_recipe_for_curl_works() {
    if Tool::Curl.is_here("the recipe for curl") {
        is_a_good_recipe("curl").await;
        sends(&block("curl-jq"), |text| text.starts_with("running Linux")).await;
        sends(&block("curl-file"), |text| text == "the disks").await;
    }
}

#[tokio::test]
async fn the_recipe_for_python_works() {
    if Tool::Python.is_here("the recipe for Python") {
        is_a_good_recipe("python").await;
    }
}

#[tokio::test]
async fn the_recipe_for_node_works() {
    if Tool::Node.is_here("the recipe for Node.js") {
        is_a_good_recipe("node").await;
    }
}

#[tokio::test]
async fn the_recipe_for_powershell_works() {
    if Tool::PowerShell.is_here("the recipe for PowerShell, which is not checked") {
        is_a_good_recipe("powershell").await;
    }
}
