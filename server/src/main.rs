//! `aerolithd`: reads the settings, sets the log up, and runs the server until it ends.
//!
//! Exit codes: 0 after a clean stop, 1 when something failed, 2 when the settings are wrong.

#![forbid(unsafe_code)]

use aerolith_server::config::LogFormat;
use aerolith_server::{Config, ConfigError};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::CommandLine(error)) => error.exit(),
        Err(error) => {
            eprintln!("aerolithd: {error}");
            return ExitCode::from(2);
        }
    };
    let filter = match config.log.parse::<tracing_subscriber::filter::Targets>() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("aerolithd: log = {:?}: {error}", config.log);
            return ExitCode::from(2);
        }
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines).with(filter).init();
    aerolith_server::run(&config, Arc::default())
}
