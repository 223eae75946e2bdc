//! The server as a program: started, told to stop by a signal or SHUTDOWN, stopped, and what it ends with.
//!
//! What always holds: a signal that comes after the ports are open, also while the data is still being opened, ends it
//! like SHUTDOWN: nothing acknowledged is lost, and the exit code is 0.

use crate::{Config, Server, ServerError};
use aerolith_engine::OpenProgress;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a server until it is told to stop, or fails. `progress` can hold the opening of the data, for tests.
pub fn run(config: &Config, progress: Arc<OpenProgress>) -> ExitCode {
    match serve(config, progress) {
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

fn serve(config: &Config, progress: Arc<OpenProgress>) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServerError::Thread)?;
    let server = runtime.block_on(async {
        // Caught before the ports open: a signal right after the start must not lose anything either.
        let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Thread)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Thread)?;
        let server = Server::begin(config.clone(), None, progress)?;
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
    if let Some(address) = server.admin_addr() {
        tracing::info!("admin: page http://{address}/, and /metrics, /stats, /health, /ready");
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
