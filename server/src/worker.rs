//! A worker: one thread, one runtime, the connections that were handed to it.
//!
//! Everything a connection does happens on its worker's thread, so nothing it owns needs a lock, and the ring
//! that the worker will have for its device reads is never shared. A janitor task looks at the connections once
//! a second and closes those that do not keep the pace.
//!
//! When the server stops, connections that wait for their client are closed at once; the others end with the
//! batch they are running. A panic ends its own connection only, and is counted.

use crate::clients::{Client, Phase};
use crate::counters::Counters;
use crate::limits::DRAIN_MS;
use crate::redis::connection::Connection;
use crate::shared::Shared;
use std::cell::RefCell;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet};

/// A connection that was let in but has no worker yet.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) client: Arc<Client>,
}

/// Device requests of one worker that can be in flight at once.
const RING_ENTRIES: u32 = 1024;

type Tasks = Rc<RefCell<Vec<(Arc<Client>, AbortHandle)>>>;

/// Runs a worker until the server stops. Called on the worker's own thread.
pub(crate) fn run(
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    arrivals: mpsc::Receiver<Arrival>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(shared, counters, arrivals));
    Ok(())
}

async fn serve(shared: Arc<Shared>, counters: Arc<Counters>, mut arrivals: mpsc::Receiver<Arrival>) {
    let tasks = Tasks::default();
    match aerolith_engine::LocalRing::install_for_loop(RING_ENTRIES) {
        Ok(ring) => {
            tokio::task::spawn_local(async move {
                if let Err(error) = crate::ring_pump::pump(Rc::new(ring)).await {
                    tracing::error!(%error, "a worker cannot watch its ring");
                }
            });
        }
        Err(error) => tracing::warn!(%error, "a worker has no ring: its device reads block it"),
    }
    tokio::task::spawn_local(janitor(shared.clone(), counters.clone(), tasks.clone()));
    let mut stop = shared.stop.subscribe();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => match arrival {
                Some(arrival) => start(&shared, &counters, &tasks, arrival),
                None => break,
            },
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    // Refuse what is still on its way here; its clients see a closed connection.
    arrivals.close();
    while let Ok(arrival) = arrivals.try_recv() {
        shared.clients.remove(arrival.client.id);
    }
    drain(&tasks).await;
}

fn start(shared: &Arc<Shared>, counters: &Arc<Counters>, tasks: &Tasks, arrival: Arrival) {
    let Arrival { stream, client } = arrival;
    let leave = Leave { shared: shared.clone(), counters: counters.clone(), client: client.clone() };
    let stream = match tokio::net::TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "cannot serve a connection"),
    };
    counters.connections.add(1);
    let connection = Connection::new(stream, shared.clone(), client.clone(), counters.clone());
    let task = tokio::task::spawn_local(async move {
        let leave = leave;
        // How a connection ends is the client's affair; a reset is no event.
        if let Err(error) = connection.serve().await {
            tracing::debug!(client = leave.client.id, %error, "a connection ended");
        }
    });
    let mut tasks = tasks.borrow_mut();
    // Ended ones go when the list is about to grow, so a visit costs nothing more on average.
    if tasks.len() == tasks.capacity() {
        tasks.retain(|(_, task)| !task.is_finished());
    }
    tasks.push((client, task.abort_handle()));
}

/// Strikes a connection off the list, however it ends.
struct Leave {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    client: Arc<Client>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.shared.clients.remove(self.client.id);
        if std::thread::panicking() {
            self.counters.panics.add(1);
            tracing::error!(client = self.client.id, "a command panicked; its connection is closed");
        }
    }
}

/// Closes connections that do not keep the pace.
async fn janitor(shared: Arc<Shared>, counters: Arc<Counters>, tasks: Tasks) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let now_ms = crate::clock::unix_ms();
        let idle_timeout_ms = shared.idle_timeout_ms.load(Relaxed);
        let mut tasks = tasks.borrow_mut();
        tasks.retain(|(_, task)| !task.is_finished());
        for (client, task) in tasks.iter() {
            if let Some(reason) = client.overdue(now_ms, &shared.limits, idle_timeout_ms) {
                tracing::debug!(client = client.id, address = %client.address, reason, "closing a connection");
                counters.closed_slow.add(1);
                task.abort();
            }
        }
    }
}

/// Closes waiting connections and waits for running commands.
async fn drain(tasks: &Tasks) {
    for waited_ms in 0..DRAIN_MS {
        let mut running = 0;
        for (client, task) in tasks.borrow().iter().filter(|(_, task)| !task.is_finished()) {
            match client.phase() {
                Phase::Idle | Phase::Request => task.abort(),
                // Replies get a second to be taken.
                Phase::Writing if waited_ms > 1000 => task.abort(),
                Phase::Writing | Phase::Running => running += 1,
            }
        }
        if running == 0 {
            // Let aborted tasks drop what they own.
            tokio::task::yield_now().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tracing::warn!("some commands were still running when the server stopped");
}
