//! Accepts connections and deals them out to the workers, one after the other.
//!
//! Dealing round robin keeps 50 connections over two workers at 25 and 25; listeners that the kernel balances
//! by address hash would put 32 on one core as likely as not. Accepting is rare, so that it crosses a thread
//! costs nothing that matters.
//!
//! What always holds: at the cap a client is told so and closed; when the process is out of file descriptors, a
//! spare one is given up for a moment to turn the client away, instead of spinning on a socket that cannot be
//! accepted.

use crate::clients::Client;
use crate::shared::Shared;
use crate::worker::Arrival;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// Connections the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Opens the listening socket. Call within a runtime.
pub(crate) fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the server stops.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>, workers: Vec<mpsc::Sender<Arrival>>) {
    let mut stop = shared.stop.subscribe();
    let mut spare = File::open("/dev/null").ok();
    let mut next = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                if let Some(arrival) = admit(&shared, stream, address) {
                    let id = arrival.client.id;
                    // A worker that is behind slows accepting: the kernel's backlog is the queue.
                    if workers[next].send(arrival).await.is_err() {
                        shared.clients.remove(id);
                        return;
                    }
                    next = (next + 1) % workers.len();
                }
            }
            Err(error) if is_out_of_descriptors(&error) => {
                tracing::warn!(%error, "refusing connections: raise the limit of open files (ulimit -n)");
                drop(spare.take());
                if let Ok((stream, _)) = listener.accept().await {
                    turn_away(&shared, &stream);
                }
                spare = File::open("/dev/null").ok();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // The client was gone before it was accepted, or the network hiccuped.
            Err(error) => {
                tracing::debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

fn admit(shared: &Shared, stream: TcpStream, address: SocketAddr) -> Option<Arrival> {
    let local = stream.local_addr().ok()?;
    // A reply must not wait for the acknowledgement of the one before it.
    stream.set_nodelay(true).ok()?;
    let client = Arc::new(Client::new(shared.clients.next_id(), address, local));
    if !shared.clients.admit(&client, shared.max_connections.load(Relaxed)) {
        turn_away(shared, &stream);
        return None;
    }
    match stream.into_std() {
        Ok(stream) => Some(Arrival { stream, client }),
        Err(_) => {
            shared.clients.remove(client.id);
            None
        }
    }
}

fn turn_away(shared: &Shared, stream: &TcpStream) {
    shared.rejected.add(1);
    // The socket's buffer is empty: this either fits or the client is gone.
    let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
