//! The commands of the service: run it, check its configuration, change its master key, ask whether it is alive.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::app::App;
use crate::config::{Config, ConfigError, ENV_CONFIG_FILE};
use crate::core_files;
use crate::failure::Failure;
use crate::rekey::{self, Scope};
use crate::shutdown::Shutdown;
use crate::telemetry;

/// Most time that a health check may take.
const HEALTHCHECK_TIME: Duration = Duration::from_secs(3);

/// Where settings come from.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// A TOML file with settings.
    #[arg(long, env = ENV_CONFIG_FILE, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the API listens (setting `http.listen`).
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The directory of the store (setting `store.path`).
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Any other setting, for example `--set log.format=json`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    set: Vec<(String, String)>,
}

/// What to change a key to.
#[derive(Debug, Args)]
pub(super) struct RekeyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The file that holds the new master key; made with a new random key if there is none.
    #[arg(long, value_name = "FILE")]
    new_master_key_file: PathBuf,
    /// Also make a new data key and seal every stored secret with it.
    #[arg(long)]
    all: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, ConfigError> {
        let listen = self.listen.map(|address| ("http.listen", address.to_string()));
        let data = self.data.as_ref().map(|path| ("store.path", path.display().to_string()));
        let set = self.set.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let flags: Vec<_> = listen.into_iter().chain(data).chain(set).collect();
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Config::load(self.config.as_deref(), environment, &flags)
    }
}

pub(super) fn serve(arguments: &ConfigArgs) -> Result<(), Failure> {
    core_files::forbid().map_err(|error| Failure::new(format!("cannot forbid core files: {error}")))?;
    let config = arguments.load()?;
    telemetry::start(&config.log).map_err(Failure::new)?;
    crate::failure::runtime()?.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let app = App::build(config).await?;
        app.run(shutdown).await?;
        Ok(())
    })
}

pub(super) fn check_config(arguments: &ConfigArgs) -> Result<(), Failure> {
    arguments.load()?;
    println!("the configuration is fine");
    Ok(())
}

pub(super) fn rekey(arguments: &RekeyArgs) -> Result<(), Failure> {
    core_files::forbid().map_err(|error| Failure::new(format!("cannot forbid core files: {error}")))?;
    let config = arguments.config.load()?;
    let (file, scope) = (&arguments.new_master_key_file, if arguments.all { Scope::All } else { Scope::MasterKey });
    let done = crate::failure::runtime()?.block_on(rekey::run(&config, file, scope))?;
    println!("{}", done.told(file));
    Ok(())
}

pub(super) fn print_openapi() -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(crate::http::openapi_json().as_bytes())?;
    Ok(())
}

pub(super) fn healthcheck(arguments: &ConfigArgs) -> Result<(), Failure> {
    let mut address = arguments.load()?.http.listen;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
        address.set_ip(loopback);
    }
    let answer = ask_livez(address).map_err(|error| Failure::new(format!("no answer from {address}: {error}")))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "200" { Ok(()) } else { Err(Failure::new(format!("{address} answers {status:?}"))) }
}

fn ask_livez(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTHCHECK_TIME)?;
    stream.set_read_timeout(Some(HEALTHCHECK_TIME))?;
    stream.set_write_timeout(Some(HEALTHCHECK_TIME))?;
    write!(stream, "GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
