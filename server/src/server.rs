//! A whole server: store, listeners and workers, started and stopped as one.
//!
//! [`Server::begin`] returns when the ports are open; the data is opened meanwhile (see [`opening`](crate::opening)). [`Server::stop`], SIGTERM, SIGINT and the SHUTDOWN command
//! all end it the same way: accept no more, finish the commands that run, flush the store.

use crate::config::Config;
use crate::limits::HANDOVER_QUEUE;
use crate::opening::{Opening, State};
use crate::shared::Shared;
use crate::store::{StoreConfig, StoreError};
use crate::worker::Arrival;
use crate::{admin, listener, worker};
use aerolith_engine::OpenProgress;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

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
    /// The admin port cannot be had.
    #[error(
        "cannot open the admin port on {address}: {error}; choose another with --admin-port, or none with --admin-port 0"
    )]
    Admin {
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
    admin_addr: Option<SocketAddr>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Opens the ports, starts the workers, and begins to open the data. Port 0 in `redis_at` takes a free one, for
    /// tests; `None` takes what the settings say, where port 0 is off. `progress` tells how far the data is and can
    /// hold it, for tests.
    pub fn begin(
        config: Config,
        redis_at: Option<SocketAddr>,
        progress: Arc<OpenProgress>,
    ) -> Result<Server, ServerError> {
        config.check()?;
        let configured = (config.redis_port != 0).then(|| SocketAddr::new(config.bind, config.redis_port));
        let admin = (config.admin_port != 0).then(|| SocketAddr::new(config.admin_bind, config.admin_port));
        let store_config = StoreConfig::of(&config);
        let shared = Arc::new(Shared::new(config, Opening::new(progress)));
        let mut server = Server { shared, redis_addr: None, admin_addr: None, threads: Vec::new() };
        match server.start_threads(redis_at.or(configured), admin, store_config) {
            Ok(()) => Ok(server),
            Err(error) => {
                // What went wrong matters more than how the threads that did start ended.
                let _ = server.join();
                Err(error)
            }
        }
    }

    /// The same, and waits until the data is there. Blocks: not for use within a runtime.
    pub fn start_at(config: Config, redis_at: Option<SocketAddr>) -> Result<Server, ServerError> {
        let server = Server::begin(config, redis_at, Arc::default())?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(ServerError::Thread)?;
        match runtime.block_on(server.opened()) {
            true => Ok(server),
            // Says why.
            false => Err(server.stop().err().unwrap_or(ServerError::Panicked)),
        }
    }

    fn start_threads(
        &mut self,
        address: Option<SocketAddr>,
        admin: Option<SocketAddr>,
        store_config: StoreConfig,
    ) -> Result<(), ServerError> {
        let mut workers = Vec::new();
        for (index, counters) in self.shared.counters.iter().cloned().enumerate() {
            let (hand_over, arrivals) = mpsc::channel(HANDOVER_QUEUE);
            workers.push(hand_over);
            let shared = self.shared.clone();
            let run = move || worker::run(shared, counters, arrivals);
            self.threads.push(spawn(&format!("worker-{index}"), run)?);
        }
        if let Some(address) = address {
            self.start_acceptor(address, workers)?;
        }
        if let Some(address) = admin {
            self.start_admin(address)?;
        }
        // Last: a port that cannot be had is told before the data is touched.
        let shared = self.shared.clone();
        let open = move || {
            shared.opening.run(&store_config);
            Ok(())
        };
        self.threads.push(spawn("opener", open)?);
        Ok(())
    }

    fn start_acceptor(
        &mut self,
        address: SocketAddr,
        workers: Vec<mpsc::Sender<Arrival>>,
    ) -> Result<(), ServerError> {
        let shared = self.shared.clone();
        let serve = async move |port| listener::accept(port, shared, workers).await;
        let bound = self.start_port("acceptor", address, serve)?;
        let bound = bound.map_err(|error| ServerError::Listen { address, error })?;
        self.redis_addr = Some(bound);
        self.shared.port.store(bound.port(), Relaxed);
        Ok(())
    }

    /// The admin port has a thread of its own: a busy worker never keeps it waiting, and it never slows a worker.
    fn start_admin(&mut self, address: SocketAddr) -> Result<(), ServerError> {
        let shared = self.shared.clone();
        let bound = self.start_port("admin", address, async move |port| admin::serve(port, shared).await)?;
        self.admin_addr = Some(bound.map_err(|error| ServerError::Admin { address, error })?);
        Ok(())
    }

    /// A thread that opens a port and serves it; where it is bound, or why not.
    fn start_port(
        &mut self,
        name: &str,
        address: SocketAddr,
        serve: impl AsyncFnOnce(TcpListener) + Send + 'static,
    ) -> Result<io::Result<SocketAddr>, ServerError> {
        // The thread opens its own port: a runtime made here could not be dropped again if `start` was called
        // from within another one.
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async {
                let opened = listener::open(address).and_then(|port| Ok((port.local_addr()?, port)));
                match opened {
                    Ok((bound, port)) => {
                        // Whoever started the server waits for this.
                        let _ = tell.send(Ok(bound));
                        serve(port).await;
                    }
                    Err(error) => {
                        let _ = tell.send(Err(error));
                    }
                }
            });
            Ok(())
        };
        self.threads.push(spawn(name, run)?);
        told.recv().map_err(|_| ServerError::Panicked)
    }

    /// Where the admin port is.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Where Redis clients are served.
    pub fn redis_addr(&self) -> Option<SocketAddr> {
        self.redis_addr
    }

    /// Resolves when the data is there (true), or it is certain that it will not be: [`stop`](Server::stop) says why.
    pub async fn opened(&self) -> bool {
        self.shared.opening.end().await == State::Ready
    }

    /// Resolves when a client asked for SHUTDOWN.
    pub async fn shutdown_requested(&self) {
        let mut stop = self.shared.stop.subscribe();
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Accepts no more, calls off the opening of the data if it is not there yet, finishes running commands, flushes. Blocks: not for use within a runtime.
    pub fn stop(mut self) -> Result<(), ServerError> {
        let outcome = self.join();
        let shared = self.shared.clone();
        drop(self);
        // All threads have ended: this is the last handle, unless a caller holds one of its own.
        if let Some(shared) = Arc::into_inner(shared) {
            if let Some(error) = shared.opening.take_error() {
                return Err(error.into());
            }
            if let Some(store) = shared.opening.into_store() {
                store.close()?;
            }
        }
        outcome
    }

    /// Ends all threads.
    fn join(&mut self) -> Result<(), ServerError> {
        self.shared.request_stop();
        self.shared.opening.cancel();
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
        self.shared.opening.cancel();
    }
}

fn spawn(
    name: &str,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<JoinHandle<io::Result<()>>, ServerError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(ServerError::Thread)
}
