//! `aerolithd`: reads the settings, starts the server, waits for a signal or SHUTDOWN, stops it.
//!
//! Exit codes: 0 after a clean stop, 1 when something failed, 2 when the settings are wrong.

#![forbid(unsafe_code)]

use aerolith_server::{Config, ConfigError, Server, ServerError};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
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
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines).with(filter).init();
    match run(&config) {
        Ok(()) => {
            tracing::info!("stopped: everything acknowledged is on the device");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServerError::Thread)?;
    let server = runtime.block_on(async {
        // Caught before the ports open: a signal right after the start must not lose anything either.
        let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Thread)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Thread)?;
        let server = Server::begin(config.clone(), None, Arc::default())?;
        banner(config, &server);
        let reason = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = server.shutdown_requested() => "SHUTDOWN",
            () = failed(&server) => return Ok::<_, ServerError>(server),
        };
        tracing::info!("{reason}: finishing running commands, flushing");
        Ok(server)
    })?;
    server.stop()
}

/// Resolves when it is certain that there will be no data, and only then.
async fn failed(server: &Server) {
    if server.opened().await {
        tracing::info!("ready: the data is there");
        std::future::pending::<()>().await;
    }
}

fn banner(config: &Config, server: &Server) {
    match server.redis_addr() {
        Some(address) => tracing::info!("aerolithd {}: redis on {address}", env!("CARGO_PKG_VERSION")),
        None => tracing::warn!("aerolithd {}: no protocol is on", env!("CARGO_PKG_VERSION")),
    }
    tracing::info!(
        "data in {} ({}), durability {:?}; read cache {}, write cache {}, {} workers",
        config.data_dir.display(),
        config.size,
        config.durability,
        config.cache,
        config.write_cache,
        config.threads
    );
    if !config.bind.is_loopback() {
        tracing::warn!("listening on {} without authentication (--insecure)", config.bind);
    }
}
