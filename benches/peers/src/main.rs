//! The same embedded workloads on Aerolith and its peers, side by side: `benches/peers.sh DIR [engine ...]`.
//!
//! Each engine and phase is a process of its own inside a memory cgroup, so that no engine keeps data in the page cache
//! beyond what it was given. Files are evicted before each phase. Engines take turns within a phase, round after round,
//! so that all see the same machine; the tables show medians.

mod cgroup;
mod engines;
mod fio;
mod measure;
mod phase;
mod report;
mod store;
mod workload;

use cgroup::Cgroup;
use clap::{Parser, Subcommand};
use phase::{Phase, Row, Sizes, Task};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use store::{Kind, Result};

#[derive(Parser)]
#[command(about = "The same embedded workloads on Aerolith and its peers, side by side")]
struct Options {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs all phases on all engines, and prints the tables.
    Run(Box<Plan>),
    /// Prints the tables of runs that were written with --json, as if they were one run of all their rounds.
    Tables {
        /// What the runs have written.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Does one phase on one engine: what `run` starts.
    #[command(hide = true)]
    Phase(Box<Task>),
}

#[derive(clap::Args)]
struct Plan {
    /// Where the data goes: into a new folder, removed at the end.
    #[arg(long)]
    dir: PathBuf,
    /// Which engines; all that are in this build if none is named.
    #[arg(value_enum)]
    engines: Vec<Kind>,
    /// MiB of memory for each engine, page cache included; 0: no limit, else root is needed.
    #[arg(long, default_value_t = 512)]
    memory: u64,
    /// Numbers of clients for reads and durable puts.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    threads: Vec<usize>,
    /// How often each phase is repeated, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Seconds of load before the kill.
    #[arg(long, default_value_t = 5.0)]
    kill_after: f64,
    /// Whether to leave fio out, which runs beside Aerolith's reads.
    #[arg(long)]
    no_fio: bool,
    /// Where every row of every round goes, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    sizes: Sizes,
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Verb::Run(plan) => run(&plan),
        Verb::Tables { files } => tables(&files),
        Verb::Phase(task) => phase::run(&task).and_then(|row| {
            if let Some(row) = row {
                println!("{}", serde_json::to_string(&row)?);
            }
            Ok(())
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("peers: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn tables(files: &[PathBuf]) -> Result<()> {
    let mut rows: Vec<Row> = Vec::new();
    for path in files {
        let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let more: Vec<Row> =
            serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        rows.extend(more);
    }
    print(&rows);
    Ok(())
}

fn print(rows: &[Row]) {
    let medians = report::medians(rows);
    println!("{}\n\n{}", report::table(&medians), report::beside(&medians));
}

fn run(plan: &Plan) -> Result<()> {
    let mut engines = plan.engines.clone();
    if engines.is_empty() {
        use clap::ValueEnum;
        engines = Kind::value_variants().iter().copied().filter(|kind| kind.is_built()).collect();
    }
    if let Some(missing) = engines.iter().find(|kind| !kind.is_built()) {
        return Err(format!("{} is not in this build: build with --features rocksdb", missing.name()).into());
    }
    if engines.contains(&Kind::AerolithRing) && !engines.contains(&Kind::Aerolith) {
        return Err("aerolith-ring works on the data of aerolith: name both".into());
    }
    let work = plan.dir.join(format!("peers-{}", std::process::id()));
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let mut session = Session { plan, work: work.clone(), rows: Vec::new(), failures: Vec::new() };
    let done = session.all(&engines);
    fs::remove_dir_all(&work)?;
    done?;
    session.print();
    if session.failures.is_empty() { Ok(()) } else { Err("some phases failed: see above".into()) }
}

/// A run in progress.
struct Session<'a> {
    plan: &'a Plan,
    work: PathBuf,
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Session<'_> {
    fn all(&mut self, engines: &[Kind]) -> Result<()> {
        let threads = &self.plan.threads;
        let mut phases = vec![(Phase::Load, 1)];
        phases.extend(threads.iter().map(|&threads| (Phase::Read, threads)));
        phases.push((Phase::Half, 8));
        phases.extend(threads.iter().map(|&threads| (Phase::Durable, threads)));
        phases.extend([(Phase::ReopenKilled, 1), (Phase::Reopen, 1)]);
        for (phase, threads) in phases {
            for round in 1..=self.plan.rounds {
                for &engine in engines {
                    self.one(engine, phase, threads, round)?;
                }
                self.save()?;
            }
        }
        Ok(())
    }

    /// One phase on one engine, with what must come before it. That it failed is noted; the run goes on.
    fn one(&mut self, engine: Kind, phase: Phase, threads: usize, round: u64) -> Result<()> {
        let opens = matches!(phase, Phase::Load | Phase::ReopenKilled | Phase::Reopen);
        if !engine.has_own_data() && opens {
            return Ok(());
        }
        let dir = self.work.join(engine.folder());
        let before = match phase {
            Phase::Load => {
                if dir.exists() {
                    fs::remove_dir_all(&dir)?;
                }
                fs::create_dir(&dir).map(|()| None).map_err(Into::into)
            }
            Phase::ReopenKilled => self.kill(engine, &dir, round).map(|()| None),
            Phase::Reopen => self.child(engine, Phase::Close, 1, &dir, round),
            _ => Ok(None),
        };
        measure::evict(&dir)?;
        let done = before.and_then(|_| self.child(engine, phase, threads, &dir, round));
        match done {
            Ok(row) => self.rows.extend(row.inspect(tell)),
            Err(failure) => {
                let failure = format!("{}, {phase:?}, {threads} clients: {failure}", engine.name());
                eprintln!("{failure}");
                self.failures.push(failure);
            }
        }
        if (engine, phase) == (Kind::Aerolith, Phase::Read) && !self.plan.no_fio {
            for way in [fio::Way::Ring, fio::Way::Threads] {
                let row = fio::run(&dir.join("aerolith.data"), way, threads, &self.plan.sizes)?;
                tell(&row);
                self.rows.push(row);
            }
        }
        Ok(())
    }

    fn start(
        &self,
        engine: Kind,
        phase: Phase,
        threads: usize,
        dir: &Path,
        round: u64,
    ) -> Result<(Child, Option<Cgroup>)> {
        let sizes = &self.plan.sizes;
        let group = match self.plan.memory {
            0 => None,
            mib => Some(Cgroup::new(mib << 20).map_err(|error| {
                format!(
                    "no memory cgroup can be made ({error}): run as root, or with --memory 0 for no limit"
                )
            })?),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("phase").arg("--dir").arg(dir).stdout(Stdio::piped());
        if let Some(group) = &group {
            command.arg("--group").arg(group.path());
        }
        for (flag, value) in [
            ("--engine", engine.name()),
            ("--phase", name_of(phase)),
            ("--threads", threads.to_string()),
            ("--seed", round.to_string()),
            ("--records", sizes.records.to_string()),
            ("--size", sizes.size.to_string()),
            ("--cache", sizes.cache.to_string()),
            ("--seconds", sizes.seconds.to_string()),
            ("--half-seconds", sizes.half_seconds.to_string()),
        ] {
            command.args([flag, &value]);
        }
        Ok((command.spawn()?, group))
    }

    fn child(
        &self,
        engine: Kind,
        phase: Phase,
        threads: usize,
        dir: &Path,
        round: u64,
    ) -> Result<Option<Row>> {
        let (child, _group) = self.start(engine, phase, threads, dir, round)?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("its process ended with {}", output.status).into());
        }
        match output.stdout.trim_ascii() {
            [] => Ok(None),
            row => Ok(Some(serde_json::from_slice(row)?)),
        }
    }

    /// Reads and overwrites in 8 clients, killed in the middle.
    fn kill(&self, engine: Kind, dir: &Path, round: u64) -> Result<()> {
        let (mut child, _group) = self.start(engine, Phase::Victim, 8, dir, round)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        std::thread::sleep(Duration::from_secs_f64(self.plan.kill_after));
        let ended = child.try_wait()?;
        child.kill()?;
        child.wait()?;
        match ended {
            None if line == "up\n" => Ok(()),
            _ => Err("the process to be killed ended by itself".into()),
        }
    }

    fn save(&self) -> Result<()> {
        if let Some(path) = &self.plan.json {
            fs::write(path, serde_json::to_string_pretty(&self.rows)?)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    fn print(&self) {
        print(&self.rows);
        self.failures.iter().for_each(|failure| println!("\nfailed: {failure}"));
    }
}

fn name_of(phase: Phase) -> String {
    use clap::ValueEnum;
    phase.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// How far it is, for whoever waits.
fn tell(row: &Row) {
    let speed = row.per_second.map_or_else(|| format!("{:.3} s", row.seconds), |n| format!("{n:.0}/s"));
    eprintln!("{:<14} {:<14} {:>2} clients {speed}", name_of(row.phase), row.engine, row.threads);
}
