//! The admin port: what people and monitors see of a running server.
//!
//! ```text
//! /             the page to watch         /stats          all figures, as JSON
//! /metrics      for Prometheus            /stats/blocks   every write block: state, fill, age
//! /health       the process answers       /stats/index    how full each partition of the index is
//! /ready        the data is there         /backup         a backup, as a stream
//!                                         /restore        writes a piece of a backup
//! ```
//!
//! It has a thread and a runtime of its own, so that a busy worker never keeps a monitor waiting and a monitor never slows a
//! worker: it reads what workers and jobs have counted, and changes nothing but by `/restore`. Once a second it notes the counts, so
//! that figures of the last seconds need nobody who remembers.
//!
//! What always holds: at most [`CONNECTIONS`] connections at a time; none lives longer than [`LONGEST`] unless it carries a
//! backup, or sends nothing for [`HEADER_TIMEOUT`] (I9). It knows no protocol's room.

mod backup;
mod maps;
mod metrics;
mod restore;
mod window;

use crate::figures::Figures;
use crate::opening::State as OpeningState;
use crate::shared::Shared;
use aerolith_engine::Namespace;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use window::Window;

/// Connections at a time; further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 64;
/// How long a client may take for the head of a request, and be silent between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may last.
const LONGEST: Duration = Duration::from_secs(600);

/// What backups and pieces of them are sent as.
const BACKUP_TYPE: &str = "application/x-aerolith-backup";

/// What the handlers see.
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    window: Window,
    restoring: Semaphore,
}

/// How many backups and restores one connection carries now.
#[derive(Clone, Default)]
struct Transfers(Arc<AtomicUsize>);

impl Transfers {
    /// One more, until the answer is dropped.
    fn begin(&self) -> Transfer {
        self.0.fetch_add(1, Relaxed);
        Transfer(self.clone())
    }
}

/// See `Transfers::begin`.
struct Transfer(Transfers);

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// A request that cannot be served, and why.
fn refused(status: StatusCode, why: impl Display) -> Response {
    (status, format!("{why}\n")).into_response()
}

impl Admin {
    /// A namespace by its name, or the only one.
    fn namespace(&self, name: Option<&str>) -> Result<Namespace, (StatusCode, String)> {
        let Some(store) = self.shared.opening.store() else {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "the data is not there yet: see /ready".into()));
        };
        store.namespace(name).map_err(|error| (StatusCode::NOT_FOUND, error.to_string()))
    }

    fn figures(&self) -> Figures {
        Figures::of(&self.shared, self.window.recent(&self.shared))
    }
}

/// Serves the port until the server stops. On a `LocalSet`.
pub(crate) async fn serve(port: TcpListener, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let admin = Arc::new(Admin { window: Window::new(&shared), shared, restoring: Semaphore::new(1) });
    let routes = routes(admin.clone());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {
                admin.window.note(&admin.shared);
                continue;
            }
            accepted = async {
                let place = places.clone().acquire_owned().await;
                port.accept().await.map(|(stream, _)| (stream, place))
            } => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let routes = routes.clone();
                tokio::task::spawn_local(async move {
                    // How a connection ends is the client's affair.
                    let transfers = Transfers::default();
                    let mut conversation = pin!(converse(stream, routes.layer(Extension(transfers.clone()))));
                    while tokio::time::timeout(LONGEST, &mut conversation).await.is_err() {
                        if transfers.0.load(Relaxed) == 0 {
                            break;
                        }
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "admin: accept");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, routes: Router) -> Result<(), hyper::Error> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await
}

fn routes(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/stats", get(async |State(admin): State<Arc<Admin>>| json(&admin.figures())))
        .route("/backup", get(backup::backup))
        .route("/restore", post(restore::restore).layer(DefaultBodyLimit::max(restore::PIECE_LIMIT)))
        .route("/stats/blocks", get(blocks))
        .route("/stats/index", get(async |State(admin): State<Arc<Admin>>| json(&maps::index(&admin.shared))))
        .with_state(admin)
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
            (headers, bytes).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether commands are served: for whoever sends traffic here.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let opening = &admin.shared.opening;
    match opening.state() {
        OpeningState::Ready if !*admin.shared.stop.borrow() => "ready\n".into_response(),
        OpeningState::Ready => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
        OpeningState::Loading => {
            let far = opening.how_far();
            let text = format!("loading: {}, {:.1} %\n", far.phase.name(), far.percent());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        OpeningState::Over => {
            (StatusCode::SERVICE_UNAVAILABLE, "the data cannot be opened\n").into_response()
        }
    }
}

async fn metrics_text(State(admin): State<Arc<Admin>>) -> Response {
    match metrics::text(&admin.figures()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    device: usize,
}

async fn blocks(State(admin): State<Arc<Admin>>, Query(Which { device }): Query<Which>) -> Response {
    match maps::blocks(&admin.shared, device) {
        Some(map) => json(&map),
        None => (StatusCode::NOT_FOUND, format!("there is no device {device}\n")).into_response(),
    }
}
