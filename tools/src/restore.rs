//! `aerolith restore`: writes the records of a backup to a running server or to data files.
//!
//! Chunks go in batches; behind each the target answers that they are durable, and how far that is is noted in a state
//! file. A restore that was interrupted goes on from there, if backup, target and policy are the same: the target is known by the
//! identity of its device set, so one that has been made anew since is not taken for the one that was half filled. The file is
//! removed when the restore is complete.

use crate::load::flag;
use crate::local::{self, LocalError};
use crate::progress::Progress;
use crate::remote::{self, DEFAULT_SERVER, Remote, RemoteError};
use aerolith_engine::backup::{BackupError, BackupReader, Chunk, RestoreCounts, restore_chunk};
use aerolith_engine::format::{BACKUP_TRAILER_SIZE, BackupHeader, BackupTrailer};
use aerolith_engine::{Engine, Namespace, RestoreMode};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes the records of a backup to a running server or to data files, as they were.
///
/// Generations and times to live are kept; records that have expired since are left out. An interrupted restore goes on where it was
/// when it is started again. Exit code 1: the restore is not complete.
#[derive(clap::Args)]
pub struct Restore {
    /// The backup: a file, or - for standard input.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The admin port of a running server.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_SERVER, conflicts_with = "engine")]
    server: String,
    /// Instead of a server: the data files, or devices, of one namespace. No server may have them open.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    engine: Vec<PathBuf>,
    /// How large each data file should be that is not there yet.
    #[arg(long, requires = "engine", value_parser = flag::size)]
    size: Option<u64>,
    /// The namespace to write to, if it has another name than the backup's.
    #[arg(long)]
    namespace: Option<String>,
    /// What becomes of a record that is there already.
    #[arg(long, value_enum, default_value_t = Policy::Replace)]
    policy: Policy,
    /// Where to note how far it is [default: beside the backup, NAME.restore; of standard input, nowhere].
    #[arg(long, value_name = "STATE")]
    resume: Option<PathBuf>,
    /// Begin with the first chunk, whatever has been noted.
    #[arg(long)]
    restart: bool,
    /// Bytes of the backup between two moments at which the target says that all is durable.
    #[arg(long, default_value = "16MiB", value_parser = parse_batch)]
    batch: usize,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

/// The most that a batch may be: with the chunk that fills it, what a server takes at once.
const BATCH_LIMIT: u64 = 28 << 20;

fn parse_batch(text: &str) -> Result<usize, String> {
    match flag::size(text)? {
        size @ 1..=BATCH_LIMIT => Ok(size as usize),
        _ => Err(format!("a batch has 1 byte to {}MiB", BATCH_LIMIT >> 20)),
    }
}

/// What becomes of a record that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    /// It is replaced.
    Replace,
    /// It stays.
    Keep,
    /// The one with the higher generation stays.
    Newer,
}

/// Why a restore is not complete.
#[derive(Debug, thiserror::Error)]
pub enum FailedRestore {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the backup is of namespace '{backup}', the target has '{target}': to write there all the same, say \
         --namespace {target}"
    )]
    Namespace { backup: String, target: String },
    #[error("{}: {why}: remove it, or begin anew with --restart", path.display())]
    State { path: PathBuf, why: String },
    #[error("server {0} answered something else than what is durable")]
    Answer(String),
    #[error("{error}; {chunks} chunks are durable, start again to go on behind them")]
    Interrupted { error: Box<FailedRestore>, chunks: u64 },
}

/// What is noted of a restore under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Noted {
    backup: String,
    target: String,
    policy: Policy,
    next_chunk: u64,
    counts: RestoreCounts,
}

/// Where records go.
enum Target {
    Server { remote: Remote, path: String },
    Files { engine: Engine, namespace: Namespace, mode: RestoreMode },
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Target {
    /// Names the device set.
    fn identity(&self, header: &BackupHeader) -> Result<String, FailedRestore> {
        match self {
            Target::Files { namespace, .. } => Ok(hex(&namespace.device_set())),
            Target::Server { remote, path } => {
                let answer = remote.post(path, &header.encode())?;
                let target = answer["target"].as_str().map(str::to_owned);
                target.ok_or_else(|| FailedRestore::Answer(remote.server().to_owned()))
            }
        }
    }

    /// Writes chunks. They are durable when this returns.
    fn write(&self, header: &BackupHeader, chunks: &[Chunk]) -> Result<RestoreCounts, FailedRestore> {
        match self {
            Target::Files { namespace, mode, .. } => {
                let mut counts = RestoreCounts::default();
                for chunk in chunks {
                    counts += restore_chunk(namespace, chunk, *mode)?;
                }
                namespace.flush().map_err(BackupError::Engine)?;
                Ok(counts)
            }
            Target::Server { remote, path } => {
                let mut piece = header.encode().to_vec();
                chunks.iter().for_each(|chunk| piece.extend_from_slice(&chunk.bytes));
                let answer = remote.post(path, &piece)?;
                let wrong = || FailedRestore::Answer(remote.server().to_owned());
                let next = chunks.last().map(|chunk| chunk.number + 1);
                if answer["next_chunk"].as_u64() != next {
                    return Err(wrong());
                }
                serde_json::from_value(answer).map_err(|_| wrong())
            }
        }
    }

    fn close(self) -> Result<(), FailedRestore> {
        match self {
            Target::Server { .. } => Ok(()),
            Target::Files { engine, namespace, .. } => {
                drop(namespace);
                Ok(engine.close().map_err(LocalError::Engine)?)
            }
        }
    }
}

impl Restore {
    /// Restores. What there is to say goes to standard error.
    pub fn run(&self) -> Result<(), FailedRestore> {
        let is_stdin = self.from.as_os_str() == "-";
        let input: Box<dyn Read> =
            if is_stdin { Box::new(io::stdin().lock()) } else { Box::new(self.open()?) };
        let mut reader = BackupReader::new(BufReader::with_capacity(1 << 20, input))?;
        let header = *reader.header();
        let target = self.target(header.namespace())?;
        let state = self
            .resume
            .clone()
            .or_else(|| (!is_stdin).then(|| PathBuf::from(format!("{}.restore", self.from.display()))));
        let fresh = Noted {
            backup: hex(&header.id),
            target: target.identity(&header)?,
            policy: self.policy,
            next_chunk: 0,
            counts: RestoreCounts::default(),
        };
        let mut noted = self.noted(state.as_deref(), fresh)?;
        let progress = Progress::of(header.estimated_records, self.quiet);
        let done = self.go(&mut reader, &header, &target, &mut noted, state.as_deref(), &progress);
        if let Err(error) = done {
            let _ = progress.end(0, 0);
            let is_noted = state.is_some() && noted.next_chunk > 0;
            let chunks = noted.next_chunk;
            return Err(if is_noted {
                FailedRestore::Interrupted { error: Box::new(error), chunks }
            } else {
                error
            });
        }
        target.close()?;
        if let Some(state) = state.filter(|state| state.exists()) {
            std::fs::remove_file(&state).map_err(|source| FailedRestore::File { path: state, source })?;
        }
        let RestoreCounts { written, kept, expired } = noted.counts;
        let said = progress.end(written + kept + expired, reader.offset());
        eprintln!("{said}: {written} written, {kept} kept as they were there, {expired} expired");
        Ok(())
    }

    fn go<R: Read>(
        &self,
        reader: &mut BackupReader<R>,
        header: &BackupHeader,
        target: &Target,
        noted: &mut Noted,
        state: Option<&Path>,
        progress: &Progress,
    ) -> Result<(), FailedRestore> {
        let mut batch: Vec<Chunk> = Vec::new();
        let mut records = 0;
        loop {
            let chunk = reader.next_chunk()?;
            let is_end = chunk.is_none();
            if let Some(chunk) = chunk {
                records += u64::from(chunk.record_count);
                if chunk.number >= noted.next_chunk {
                    batch.push(chunk);
                }
            }
            let size: usize = batch.iter().map(|chunk| chunk.bytes.len()).sum();
            if (is_end || size >= self.batch) && !batch.is_empty() {
                noted.counts += target.write(header, &batch)?;
                noted.next_chunk = batch.last().map_or(0, |chunk| chunk.number + 1);
                batch.clear();
                progress.set(records, reader.offset());
                if let Some(state) = state {
                    note(state, noted)
                        .map_err(|source| FailedRestore::File { path: state.into(), source })?;
                }
            }
            if is_end {
                return Ok(());
            }
        }
    }

    /// Opens the file, and refuses one that was cut off before anything is written anywhere.
    fn open(&self) -> Result<File, FailedRestore> {
        let failed = |source| FailedRestore::File { path: self.from.clone(), source };
        let mut file = File::open(&self.from).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let header = *BackupReader::new(&mut file)?.header();
        if let Some(at) = size.checked_sub(BACKUP_TRAILER_SIZE as u64) {
            let mut end = [0; BACKUP_TRAILER_SIZE];
            file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut end)).map_err(failed)?;
            if BackupTrailer::parse(&end, &header.id).is_err() {
                // Where it ends, and how, only reading it through can tell.
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                let mut reader = BackupReader::new(BufReader::new(&mut file))?;
                while reader.next_chunk()?.is_some() {}
            }
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(file)
    }

    fn target(&self, backup: &str) -> Result<Target, FailedRestore> {
        let wanted = self.namespace.as_deref().unwrap_or(backup);
        if self.engine.is_empty() {
            let policy = match self.policy {
                Policy::Replace => "replace",
                Policy::Keep => "keep",
                Policy::Newer => "newer",
            };
            let path = format!("/restore?policy={policy}&namespace={}", remote::quoted(wanted));
            return Ok(Target::Server { remote: Remote::new(&self.server), path });
        }
        let mode = match self.policy {
            Policy::Replace => RestoreMode::Replace,
            Policy::Keep => RestoreMode::KeepExisting,
            Policy::Newer => RestoreMode::NewerGeneration,
        };
        if let Some((there, _)) = local::namespace_in(&self.engine[0])?
            && there != wanted
        {
            return Err(FailedRestore::Namespace { backup: backup.to_owned(), target: there });
        }
        let (engine, namespace) = local::open(&self.engine, Some((wanted, self.size)))?;
        Ok(Target::Files { engine, namespace, mode })
    }

    /// Where to go on: as noted, if that was of the same backup, target and policy; else from the start.
    fn noted(&self, state: Option<&Path>, fresh: Noted) -> Result<Noted, FailedRestore> {
        let Some(path) = state.filter(|path| path.exists() && !self.restart) else { return Ok(fresh) };
        let failed = |why: String| FailedRestore::State { path: path.to_owned(), why };
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let noted: Noted = serde_json::from_slice(&text)
            .map_err(|error| failed(format!("it is no note of a restore: {error}")))?;
        let same = Noted { next_chunk: noted.next_chunk, counts: noted.counts, ..fresh.clone() };
        if same != noted {
            let what = match () {
                () if noted.backup != fresh.backup => "another backup",
                () if noted.target != fresh.target => {
                    "another target, or of this one before it was made anew"
                }
                () => "a restore with another policy",
            };
            return Err(failed(format!("it is the note of {what}")));
        }
        eprintln!(
            "going on behind chunk {}: {} are durable",
            noted.next_chunk.saturating_sub(1),
            noted.next_chunk
        );
        Ok(noted)
    }
}

/// Notes how far it is: whole or not at all.
fn note(path: &Path, noted: &Noted) -> io::Result<()> {
    let part = PathBuf::from(format!("{}.part", path.display()));
    let mut file = File::create(&part)?;
    file.write_all(&serde_json::to_vec(noted)?)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}
