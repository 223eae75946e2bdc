//! `POST /restore`: writes the records of a piece of a backup, and answers when they are durable.
//!
//! A piece is the backup's header and some of its chunks. The server keeps nothing between two pieces: whoever restores notes how far
//! it has come, with the identity of the device set, so that it never goes on where it had begun elsewhere. An empty
//! piece (the header alone) asks for that identity. The body must say that it is a piece by its type, which no web page can
//! send here without being allowed to.

use super::{Admin, BACKUP_TYPE, Transfers, json, refused};
use aerolith_engine::backup::{BackupError, BackupReader, RestoreCounts, restore_chunk};
use aerolith_engine::{Error, Namespace, RestoreMode};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The most bytes of a piece: a chunk of the largest records, and others beside it.
pub(super) const PIECE_LIMIT: usize = 96 << 20;

/// What becomes of records that are there already.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    #[default]
    Replace,
    Keep,
    Newer,
}

/// What may be asked for.
#[derive(Deserialize)]
pub(super) struct Asked {
    /// The backup's, if it is not said.
    namespace: Option<String>,
    #[serde(default)]
    policy: Policy,
}

/// What is durable now.
#[derive(Serialize)]
struct Restored {
    namespace: String,
    /// The identity of the device set, in hexadecimal digits.
    target: String,
    /// The number of the next chunk; none if the piece had no chunk.
    next_chunk: Option<u64>,
    #[serde(flatten)]
    counts: RestoreCounts,
}

/// Writes a piece.
pub(super) async fn restore(
    State(admin): State<Arc<Admin>>,
    Extension(transfers): Extension<Transfers>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    piece: Bytes,
) -> Response {
    if headers.get(header::CONTENT_TYPE).is_none_or(|found| found != BACKUP_TYPE) {
        let text = format!("the body must be of type {BACKUP_TYPE}");
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    let header = match BackupReader::of_piece(&piece[..]) {
        Ok(reader) => *reader.header(),
        Err(error) => return refused(StatusCode::BAD_REQUEST, error),
    };
    let name = asked.namespace.unwrap_or_else(|| header.namespace().to_owned());
    let namespace = match admin.namespace(Some(&name)) {
        Ok(namespace) => namespace,
        Err((status, why)) => return refused(status, why),
    };
    let mode = match asked.policy {
        Policy::Replace => RestoreMode::Replace,
        Policy::Keep => RestoreMode::KeepExisting,
        Policy::Newer => RestoreMode::NewerGeneration,
    };
    // One piece at a time: each may take its limit of RAM, and they would wait for the same device.
    let Ok(_place) = admin.restoring.acquire().await else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    };
    let _guard = transfers.begin();
    match tokio::task::spawn_blocking(move || write(&namespace, &piece, mode)).await {
        Ok(Ok(restored)) => json(&restored),
        Ok(Err(error)) => refused(status_of(&error), error),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

fn write(namespace: &Namespace, piece: &[u8], mode: RestoreMode) -> Result<Restored, BackupError> {
    let mut reader = BackupReader::of_piece(piece)?;
    let mut counts = RestoreCounts::default();
    let mut next_chunk = None;
    while let Some(chunk) = reader.next_chunk()? {
        counts += restore_chunk(namespace, &chunk, mode)?;
        next_chunk = Some(chunk.number + 1);
    }
    namespace.flush()?;
    let target = namespace.device_set().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Restored { namespace: namespace.name().to_owned(), target, next_chunk, counts })
}

fn status_of(error: &BackupError) -> StatusCode {
    match error {
        BackupError::Engine(Error::NoSpace { .. } | Error::DeviceFailed { .. }) => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        BackupError::Engine(Error::Closed) => StatusCode::SERVICE_UNAVAILABLE,
        BackupError::Engine(Error::TooLarge { .. } | Error::Key(_) | Error::Bin(_) | Error::Reserved) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        BackupError::Engine(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}
