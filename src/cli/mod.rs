//! The command line: what can be asked of the program, and its exit codes.
//!
//! `service` has the commands that run the service and prepare it. All others are clients: they talk HTTP to a bridge that runs
//! somewhere (`connection`), through [`crate::client`], and end as `outcome` says.

mod connection;
mod events;
mod outcome;
mod progress;
mod send;
mod service;
mod webhooks;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::demo;
use crate::failure::Failure;
use crate::incoming::template;

const NAME: &str = "spaces-bridge";

/// HTTP in front of Avaya Spaces: confirmed sends in, signed webhooks out.
#[derive(Debug, Parser)]
#[command(name = NAME, version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(service::ConfigArgs),
    /// Run the service with a built-in fake Spaces and a webhook receiver, to try it out.
    Demo(demo::DemoArgs),
    /// Send a message through a running bridge.
    Send(Box<send::SendArgs>),
    /// Tell what became of a message.
    Message(send::MessageArgs),
    /// List, add, try and replay webhooks of a running bridge.
    Webhooks(webhooks::WebhooksArgs),
    /// Show events of a running bridge, or follow them.
    Events(events::EventsArgs),
    /// Check the configuration and say what is wrong with it.
    CheckConfig(service::ConfigArgs),
    /// Print the `OpenAPI` document.
    Openapi,
    /// Change the master key, while the service is stopped.
    Rekey(service::RekeyArgs),
    /// Fill a template, as the service has it done. It starts this by itself.
    #[command(hide = true)]
    Render,
    /// Ask the service on this machine whether it is alive. Exit code 0 if it is.
    Healthcheck(service::ConfigArgs),
    /// Print what a shell needs to complete this program's commands.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// Does what the command line asks for.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Send(arguments) => return outcome::end(arguments.connection.json(), send::run(&arguments)),
        Command::Message(arguments) => return outcome::end(arguments.connection.json(), send::show(&arguments)),
        Command::Webhooks(arguments) => return outcome::end(arguments.connection.json(), webhooks::run(&arguments)),
        Command::Events(arguments) => return outcome::end(arguments.connection.json(), events::run(&arguments)),
        Command::Serve(arguments) => service::serve(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::CheckConfig(arguments) => service::check_config(&arguments),
        Command::Openapi => service::print_openapi(),
        Command::Rekey(arguments) => service::rekey(&arguments),
        Command::Render => template::child::run().map_err(Failure::from),
        Command::Healthcheck(arguments) => service::healthcheck(&arguments),
        Command::Completions { shell } => print_completions(shell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{NAME}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn print_completions(shell: Shell) -> Result<(), Failure> {
    // Into memory first: the generator does not expect its reader to go away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    let mut script = String::from_utf8(script)?;
    if shell == Shell::Bash {
        // The generator writes the hyphen of the program's name in two ways, so that what it looks up is not what it defines.
        script = script.replace("spaces__bridge__subcmd__", "spaces__subcmd__bridge__subcmd__");
    }
    std::io::stdout().lock().write_all(script.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_do_not_contradict_themselves() {
        Cli::command().debug_assert();
    }
}
