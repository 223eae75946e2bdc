//! An engine opened on data files for a backup or a restore: what the files' headers say of it, and no more work than that takes.

use crate::source;
use aerolith_engine::device::OpenError;
use aerolith_engine::volume::{HeaderError, read_header};
use aerolith_engine::{Config, DeviceConfig, Engine, Error, Namespace, NamespaceConfig};
use std::path::{Path, PathBuf};

/// Why data files could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Engine(#[from] Error),
    #[error("{} is blank: no namespace was ever written to it", .0.display())]
    Blank(PathBuf),
    #[error("{} is not there: to make it, say how large with --size", .0.display())]
    NoSize(PathBuf),
}

/// The namespace that a file's header names; none where the file is not there or blank.
pub fn namespace_in(path: &Path) -> Result<Option<(String, u32)>, LocalError> {
    if !path.exists() {
        return Ok(None);
    }
    let device = source::open(path)?;
    let header = read_header(&device)?;
    Ok(header.map(|header| (header.namespace_name().to_owned(), header.block_size)))
}

/// Opens the files of one device set. `make`: name and size for files that are not there.
pub fn open(files: &[PathBuf], make: Option<(&str, Option<u64>)>) -> Result<(Engine, Namespace), LocalError> {
    let first = files.first().cloned().unwrap_or_default();
    let (name, block_size) = match (namespace_in(&first)?, make) {
        (Some(found), _) => found,
        (None, Some((name, _))) => (name.to_owned(), NamespaceConfig::default().block_size),
        (None, None) => return Err(LocalError::Blank(first)),
    };
    let size = make.and_then(|(_, size)| size);
    if let Some(missing) = files.iter().find(|path| !path.exists() && size.is_none()) {
        return Err(LocalError::NoSize(missing.clone()));
    }
    let device = |path: &PathBuf| DeviceConfig::Path { path: path.clone(), size: size.unwrap_or(0) };
    let namespace = NamespaceConfig {
        name: name.clone(),
        devices: files.iter().map(device).collect(),
        block_size,
        read_cache_size: 0,
        scrub_rate: 0,
        ..NamespaceConfig::default()
    };
    let engine = Engine::open(Config::of(namespace))?;
    let namespace = engine.namespace(&name)?;
    Ok((engine, namespace))
}
