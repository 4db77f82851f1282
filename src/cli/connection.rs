//! Which bridge a command talks to, and as whom.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use url::Url;

use super::outcome::{CommandError, Exit};
use crate::client::{Client, Settings};
use crate::config::{ENV_TOKEN, ENV_TOKEN_FILE, ENV_TOKEN_TYPE, ENV_URL};
use crate::domain::Secret;

/// Which bridge to talk to, and as whom. The token comes from the environment, `SPACES_BRIDGE_TOKEN`, or from a file, never from an
/// argument: everyone on the machine can read those.
#[derive(Debug, Args)]
#[command(next_help_heading = "The bridge")]
pub(super) struct ConnectionArgs {
    /// Where the bridge is.
    #[arg(long, env = ENV_URL, value_name = "URL", default_value = "http://127.0.0.1:8080", global = true)]
    url: Url,
    /// A file with the token, a Spaces token or a bridge key; also `SPACES_BRIDGE_TOKEN_FILE`. `SPACES_BRIDGE_TOKEN` has the token itself.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// What kind of token it is, if the bridge cannot see it.
    #[arg(long, env = ENV_TOKEN_TYPE, value_name = "TYPE", global = true)]
    token_type: Option<TokenType>,
    /// How long to try again while the bridge is out of reach, not ready, or asks for patience.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=86_400), global = true)]
    retry_for: u32,
    /// Print results and failures as JSON, one document per line.
    #[arg(long, global = true)]
    json: bool,
}

/// The kinds of token that the bridge takes.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TokenType {
    Oauth,
    Jwt,
    ServiceApp,
}

impl TokenType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Oauth => "oauth",
            Self::Jwt => "jwt",
            Self::ServiceApp => "service_app",
        }
    }
}

impl ConnectionArgs {
    /// Whether results are printed as JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// How long calls are made again.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.retry_for.into())
    }

    /// Does `work` with a client of the bridge.
    pub(super) fn run(&self, work: impl AsyncFnOnce(&Client) -> Result<Exit, CommandError>) -> Result<Exit, CommandError> {
        let settings = Settings {
            url: self.url.clone(),
            token: self.token()?,
            token_type: self.token_type.map(TokenType::as_str),
            patience: self.patience(),
        };
        let client = Client::new(&settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Start)?;
        let result = runtime.block_on(work(&client));
        // A file that is being read must not hold up the end.
        runtime.shutdown_background();
        result
    }

    fn token(&self) -> Result<Secret, CommandError> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        match (&self.token_file, named(ENV_TOKEN_FILE), named(ENV_TOKEN)) {
            (Some(path), _, _) => read_token(path),
            (None, Some(_), Some(_)) => {
                Err(CommandError::Usage(format!("{ENV_TOKEN} and {ENV_TOKEN_FILE} are both set; which one is meant?")))
            }
            (None, Some(path), None) => read_token(Path::new(&path)),
            (None, None, Some(token)) => {
                let token = token.into_string().map_err(|_| CommandError::Usage(format!("{ENV_TOKEN} is no text")))?;
                Ok(Secret::new(token.trim()))
            }
            (None, None, None) => Err(CommandError::NoToken),
        }
    }
}

fn read_token(path: &Path) -> Result<Secret, CommandError> {
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
    let text = text.map_err(|source| CommandError::Input { what: format!("the token file `{}`", path.display()), source })?;
    Ok(Secret::new(text.trim()))
}

/// A key for a call, by which the bridge knows it when it is made again.
pub(super) fn random_key() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system provides random numbers");
    format!("cli-{}", crate::domain::hex(&bytes))
}
