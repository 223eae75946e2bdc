//! A whole server: store, listeners and workers, started and stopped as one.
//!
//! [`Server::start`] returns when the ports are open. [`Server::stop`], SIGTERM, SIGINT and the SHUTDOWN command
//! all end it the same way: accept no more, finish the commands that run, flush the store.

use crate::config::Config;
use crate::limits::HANDOVER_QUEUE;
use crate::shared::Shared;
use crate::store::{Store, StoreConfig, StoreError};
use crate::{listener, worker};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Why a server does not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The data cannot be opened or flushed.
    #[error("data: {0}")]
    Store(#[from] StoreError),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// A thread or its runtime could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A thread ended by a panic.
    #[error("a server thread panicked; see the log")]
    Panicked,
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    redis_addr: Option<SocketAddr>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Opens the data and the ports and starts the workers. Port 0 in `redis_at` takes a free one, for tests;
    /// `None` takes what the settings say, where port 0 is off.
    pub fn start_at(config: Config, redis_at: Option<SocketAddr>) -> Result<Server, ServerError> {
        config.check()?;
        let store = Store::open(&StoreConfig::of(&config))?;
        let configured = (config.redis_port != 0).then(|| SocketAddr::new(config.bind, config.redis_port));
        let shared = Arc::new(Shared::new(config, store));
        let mut server = Server { shared, redis_addr: None, threads: Vec::new() };
        match server.start_threads(redis_at.or(configured)) {
            Ok(()) => Ok(server),
            Err(error) => {
                // What went wrong matters more than how the threads that did start ended.
                let _ = server.join();
                Err(error)
            }
        }
    }

    /// Opens the data and the ports and starts the workers.
    pub fn start(config: Config) -> Result<Server, ServerError> {
        Server::start_at(config, None)
    }

    fn start_threads(&mut self, address: Option<SocketAddr>) -> Result<(), ServerError> {
        let mut workers = Vec::new();
        for (index, counters) in self.shared.counters.iter().cloned().enumerate() {
            let (hand_over, arrivals) = mpsc::channel(HANDOVER_QUEUE);
            workers.push(hand_over);
            let shared = self.shared.clone();
            let run = move || worker::run(shared, counters, arrivals);
            self.threads.push(spawn(&format!("worker-{index}"), run)?);
        }
        let Some(address) = address else { return Ok(()) };
        // The acceptor opens its own port: a runtime made here could not be dropped again if `start` was called
        // from within another one.
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let shared = self.shared.clone();
        let accept = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let opened = listener::open(address).and_then(|port| Ok((port.local_addr()?, port)));
                match opened {
                    Ok((bound, port)) => {
                        // Whoever started the server waits for this.
                        let _ = tell.send(Ok(bound));
                        listener::accept(port, shared, workers).await;
                    }
                    Err(error) => {
                        let _ = tell.send(Err(error));
                    }
                }
            });
            Ok(())
        };
        self.threads.push(spawn("acceptor", accept)?);
        let answer = told.recv().map_err(|_| ServerError::Panicked)?;
        let bound = answer.map_err(|error| ServerError::Listen { address, error })?;
        self.redis_addr = Some(bound);
        self.shared.port.store(bound.port(), Relaxed);
        Ok(())
    }

    /// Where Redis clients are served.
    pub fn redis_addr(&self) -> Option<SocketAddr> {
        self.redis_addr
    }

    /// The store behind it, for tests.
    #[doc(hidden)]
    pub fn store(&self) -> Store {
        self.shared.store.clone()
    }

    /// Resolves when a client asked for SHUTDOWN.
    pub async fn shutdown_requested(&self) {
        let mut stop = self.shared.stop.subscribe();
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Accepts no more, finishes running commands, flushes the data. Blocks: not for use within a runtime.
    pub fn stop(mut self) -> Result<(), ServerError> {
        let outcome = self.join();
        let shared = self.shared.clone();
        drop(self);
        // All threads have ended: this is the last handle, unless a caller holds one of its own.
        if let Some(shared) = Arc::into_inner(shared) {
            shared.store.close()?;
        }
        outcome
    }

    /// Ends all threads.
    fn join(&mut self) -> Result<(), ServerError> {
        self.shared.request_stop();
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => outcome = Err(ServerError::Thread(error)),
                Err(_) => outcome = Err(ServerError::Panicked),
            }
        }
        outcome
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.request_stop();
    }
}

fn spawn(
    name: &str,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<JoinHandle<io::Result<()>>, ServerError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(ServerError::Thread)
}
