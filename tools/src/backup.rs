//! `aerolith backup`: a consistent backup of a running server or of data files, to a file or standard output.
//!
//! Every chunk is proved before it is passed on, so what comes over a network is whole or refused. A file gets its name
//! only when the backup is whole and on the disk; until then it is `NAME.part`, which is removed when the backup fails.
//! On standard output a backup that fails has no end, which every reader sees.

use crate::local::{self, LocalError};
use crate::progress::Progress;
use crate::remote::{self, DEFAULT_SERVER, Remote, RemoteError};
use aerolith_engine::LocalRing;
use aerolith_engine::backup::{BackupError, BackupOptions, BackupReader, write_backup};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Takes a consistent backup: of a running server while it is written to, or of data files that no server has open.
///
/// The backup holds the records of one moment with their generations and times to live, compressed and checksummed. Exit code 1: there is
/// no backup.
#[derive(clap::Args)]
pub struct Backup {
    /// The admin port of a running server.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_SERVER, conflicts_with = "engine")]
    server: String,
    /// Instead of a server: the data files, or devices, of one namespace. No server may have them open.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    engine: Vec<PathBuf>,
    /// Where to: a file, or - for standard output.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Which namespace of the server [default: its only one].
    #[arg(long, conflicts_with = "engine")]
    namespace: Option<String>,
    /// How hard to compress, 1 (fast) to 19 (small).
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
    /// Bytes of records a second, so that others are not disturbed; 0: as fast as it goes.
    #[arg(long, default_value = "0", value_parser = crate::load::flag::size)]
    rate: u64,
    /// Leave out records that are damaged, and say how many, instead of giving up.
    #[arg(long)]
    skip_damaged: bool,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum FailedBackup {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is there already: to replace it, say --force", .0.display())]
    Exists(PathBuf),
}

/// Where a backup goes.
enum Target {
    Stdout(BufWriter<io::StdoutLock<'static>>),
    File { part: PathBuf, path: PathBuf, out: BufWriter<File> },
}

impl Target {
    fn open(path: &Path, is_forced: bool) -> Result<Target, FailedBackup> {
        if path.as_os_str() == "-" {
            return Ok(Target::Stdout(BufWriter::new(io::stdout().lock())));
        }
        if path.exists() && !is_forced {
            return Err(FailedBackup::Exists(path.to_owned()));
        }
        let part = PathBuf::from(format!("{}.part", path.display()));
        match File::create(&part) {
            Ok(file) => Ok(Target::File { part, path: path.to_owned(), out: BufWriter::new(file) }),
            Err(source) => Err(FailedBackup::File { path: part, source }),
        }
    }

    /// The backup is whole: a file gets its name once it is on the disk.
    fn finish(self) -> Result<(), FailedBackup> {
        match self {
            Target::Stdout(mut out) => {
                out.flush().map_err(|source| FailedBackup::File { path: "standard output".into(), source })
            }
            Target::File { part, path, out } => {
                let failed = |source| FailedBackup::File { path: part.clone(), source };
                let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
                file.sync_all().map_err(failed)?;
                std::fs::rename(&part, &path).map_err(failed)?;
                // The name, too, must outlast a power cut.
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let directory = directory.unwrap_or(Path::new("."));
                File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
            }
        }
    }

    /// There is no backup: what there is of a file goes.
    fn give_up(self) {
        if let Target::File { part, out, .. } = self {
            drop(out.into_parts());
            if let Err(error) = std::fs::remove_file(&part) {
                eprintln!("aerolith: {}: {error}", part.display());
            }
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Stdout(out) => out.write(bytes),
            Target::File { out, .. } => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Stdout(out) => out.flush(),
            Target::File { out, .. } => out.flush(),
        }
    }
}

/// What a whole backup is.
struct Taken {
    namespace: String,
    records: u64,
    damaged: u64,
    written: u64,
    progress: Progress,
}

impl Backup {
    /// Takes the backup. What there is to say goes to standard error: standard output may be the backup.
    pub fn run(&self) -> Result<(), FailedBackup> {
        let mut target = Target::open(&self.to, self.force)?;
        let taken =
            if self.engine.is_empty() { self.of_server(&mut target) } else { self.of_files(&mut target) };
        match taken {
            Ok(taken) => {
                target.finish()?;
                let said = taken.progress.end(taken.records, taken.written);
                eprintln!("namespace {}: {said}", taken.namespace);
                if taken.damaged > 0 {
                    eprintln!("{} damaged records are not in the backup", taken.damaged);
                }
                Ok(())
            }
            Err(error) => {
                target.give_up();
                Err(error)
            }
        }
    }

    fn of_server(&self, target: &mut Target) -> Result<Taken, FailedBackup> {
        let remote = Remote::new(&self.server);
        let mut path =
            format!("/backup?level={}&rate={}&skip_damaged={}", self.level, self.rate, self.skip_damaged);
        if let Some(namespace) = &self.namespace {
            path.push_str(&format!("&namespace={}", remote::quoted(namespace)));
        }
        let mut reader = BackupReader::new(remote.stream(&path)?)?;
        let header = *reader.header();
        let progress = Progress::of(header.estimated_records, self.quiet);
        let name = |source| FailedBackup::File { path: self.to.clone(), source };
        target.write_all(&header.encode()).map_err(name)?;
        let mut records = 0;
        while let Some(chunk) = reader.next_chunk()? {
            target.write_all(&chunk.bytes).map_err(name)?;
            records += u64::from(chunk.record_count);
            progress.set(records, reader.offset());
        }
        let trailer = *reader.trailer().expect("there is one behind the last chunk");
        target.write_all(&trailer.encode(&header.id)).map_err(name)?;
        let namespace = header.namespace().to_owned();
        Ok(Taken { namespace, records, damaged: trailer.damaged_count, written: reader.offset(), progress })
    }

    fn of_files(&self, target: &mut Target) -> Result<Taken, FailedBackup> {
        let (engine, namespace) = local::open(&self.engine, None)?;
        // With a ring of its own this thread has many reads in flight; without, one at a time.
        let ring = LocalRing::install(64).ok();
        let snapshot = namespace.snapshot().map_err(LocalError::Engine)?;
        let options =
            BackupOptions { level: self.level, skip_damaged: self.skip_damaged, ..BackupOptions::default() };
        let progress = Progress::of(snapshot.estimated_records(), self.quiet);
        let begun = Instant::now();
        let done = write_backup(snapshot, target, options, |so_far| {
            progress.set(so_far.records, so_far.written);
            if self.rate > 0 {
                let due = Duration::from_secs_f64(so_far.size as f64 / self.rate as f64);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        })?;
        drop(ring);
        let name = namespace.name().to_owned();
        drop(namespace);
        engine.close().map_err(LocalError::Engine)?;
        Ok(Taken {
            namespace: name,
            records: done.records,
            damaged: done.damaged,
            written: done.written,
            progress,
        })
    }
}
