//! The recipes of `docs/recipes.md`: each block is taken from the page and run against a running bridge.

mod hooks;
mod programs;

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::bridge::{Bridge, Scene};
use crate::support::suite_log;

/// A block of the page.
#[derive(Debug, Clone)]
struct Block {
    language: String,
    name: String,
    code: String,
}

/// All blocks of the page that have a name.
fn blocks() -> Vec<Block> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md")).expect("the page");
    let mut blocks = Vec::new();
    let mut rest = page.as_str();
    while let Some((_, fenced)) = rest.split_once("\n```") {
        let (info, body) = fenced.split_once('\n').expect("the end of the fence's line");
        let (code, after) = body.split_once("\n```").expect("the end of the block");
        let (language, name) = info.split_once(" recipe=").unwrap_or_else(|| panic!("nothing runs the block `{info}`"));
        blocks.push(Block { language: language.to_owned(), name: name.to_owned(), code: format!("{code}\n") });
        rest = after;
    }
    blocks
}

/// The block of this name.
fn block(name: &str) -> Block {
    blocks().into_iter().find(|block| block.name == name).unwrap_or_else(|| panic!("the page has no recipe {name}"))
}

/// A bridge in front of the scene's space, and what recipes find in their environment.
struct Kitchen {
    scene: Scene,
    bridge: Bridge,
}

impl Kitchen {
    async fn open() -> Self {
        let scene = Scene::new().await;
        let bridge = Bridge::start(&scene.upstream).await;
        Self { scene, bridge }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        environment(&self.bridge.api, self.scene.token.as_ref(), self.scene.space.as_ref())
    }
}

/// What recipes find in their environment.
fn environment(bridge: &str, token: &str, space: &str) -> Vec<(&'static str, String)> {
    suite_log::note_secret(token);
    vec![("BRIDGE", bridge.to_owned()), ("TOKEN", token.to_owned()), ("SPACE", space.to_owned())]
}

/// Runs a block by the program for its language. Answers whether it succeeded, and all that it printed.
async fn cook(block: &Block, environment: Vec<(&'static str, String)>) -> (bool, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let (program, arguments, file): (_, &[&str], _) = match block.language.as_str() {
        "bash" => ("bash", &["-euo", "pipefail"], "recipe.sh"),
        "sh" => ("sh", &["-eu"], "recipe.sh"),
        "python" => ("python3", &[], "recipe.py"),
        "js" => ("node", &[], "recipe.mjs"),
        "powershell" => ("pwsh", &["-NoProfile", "-NonInteractive", "-File"], "recipe.ps1"),
        other => panic!("nothing runs {other}"),
    };
    let path = directory.path().join(file);
    std::fs::write(&path, &block.code).expect("written");
    let mut command = Command::new(program);
    command.args(arguments).arg(&path).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command.env("PATH", path_with_the_program()).env("NO_PROXY", "*").envs(environment);
    for name in ["SPACES_BRIDGE_URL", "SPACES_BRIDGE_TOKEN", "SPACES_BRIDGE_TOKEN_FILE", "SPACES_BRIDGE_TOKEN_TYPE"] {
        command.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the program runs");
    drop(directory);
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

/// The search path with this very program in front.
fn path_with_the_program() -> std::ffi::OsString {
    let own = Path::new(env!("CARGO_BIN_EXE_spaces-bridge")).parent().expect("a directory").to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&others))).expect("a search path")
}

/// Which recipes there are; each is run by a test below.
const RUN: [&[&str]; 2] = [programs::RUN, hooks::RUN];

#[test]
fn every_block_of_the_page_is_run() {
    let mut named: Vec<_> = blocks().into_iter().map(|block| block.name).collect();
    let mut run: Vec<_> = RUN.concat().into_iter().map(str::to_owned).collect();
    named.sort_unstable();
    run.sort_unstable();
    assert_eq!(named, run);
}
