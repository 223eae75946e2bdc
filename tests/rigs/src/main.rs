//! `rigs`: power cuts and I/O faults under the real engine. `rigs --help` tells what there is.

use aerolith_rigs::host::{Stack, clean_up};
use aerolith_rigs::planted::Planted;
use aerolith_rigs::power_cut::Plan;
use aerolith_rigs::report::{self, Row};
use aerolith_rigs::{fault_run, load, power_cut};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The rig itself, or the machine, failed: nothing can be said about the engine.
const BROKEN_RIG: u8 = 3;
/// A rig could not run here and nothing else was violated.
const NOT_RUN: u8 = 4;

#[derive(Parser)]
#[command(about = "Power cuts and I/O faults under the real engine")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Cuts the power under the engine, again and again, and checks what is there.
    PowerCut(PowerCut),
    /// Lets the disk fail once, again and again, and checks what the engine does.
    Faults(Faults),
    /// Takes down what earlier runs have left.
    Cleanup,
    /// The process that runs the engine; started by the others.
    #[command(hide = true)]
    Child(load::Options),
}

#[derive(Args)]
struct PowerCut {
    /// What lies between engine and disk; may be given several times.
    #[arg(long, value_enum, default_values_t = [Stack::Ext4, Stack::Xfs, Stack::Raw])]
    stack: Vec<Stack>,
    /// Cuts on each stack.
    #[arg(long, env = "AEROLITH_CUTS", default_value_t = 10)]
    cuts: u32,
    /// Of everything that is drawn.
    #[arg(long, env = "AEROLITH_SEED", default_value_t = 1)]
    seed: u64,
    /// Acknowledge in RAM, and measure the loss window.
    #[arg(long)]
    relaxed: bool,
    /// Cuts of a chain, before a fresh file system.
    #[arg(long, default_value_t = 8)]
    chain: u32,
    /// The longest load before a cut, in ms.
    #[arg(long, default_value_t = 800)]
    load_ms: u64,
    /// A bug to plant: the run must see it, else it fails.
    #[arg(long, value_enum, default_value_t = Planted::None)]
    planted: Planted,
    /// Where to keep the images of broken promises.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Where to write the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct Faults {
    /// Faults that must strike.
    #[arg(long, env = "AEROLITH_FAULTS", default_value_t = 40)]
    count: u32,
    /// Only kinds whose name ("EIO on a flush, raw") has this in it.
    #[arg(long, default_value = "")]
    kind: String,
    /// Of everything that is drawn.
    #[arg(long, env = "AEROLITH_SEED", default_value_t = 1)]
    seed: u64,
    /// Where to write the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let verb = Cli::parse().command;
    if let Verb::Child(options) = verb {
        load::run(options);
        return ExitCode::SUCCESS;
    }
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, stopped.clone()) {
            eprintln!("signal {signal}: {error}");
        }
    }
    let stop = || stopped.load(Ordering::Relaxed);
    for root in clean_up() {
        println!("took down {}", root.display());
    }
    let (rows, json) = match verb {
        Verb::PowerCut(arguments) => (power_cuts(&arguments, &stop), arguments.json),
        Verb::Faults(arguments) => (faults(&arguments, &stop), arguments.json),
        Verb::Cleanup | Verb::Child(_) => return ExitCode::SUCCESS,
    };
    finish(rows, json.as_deref())
}

fn finish(rows: Result<Vec<Row>, String>, json: Option<&std::path::Path>) -> ExitCode {
    let written = rows.and_then(|rows| {
        rows.iter().for_each(Row::print);
        json.map_or(Ok(()), |path| report::write(&rows, path)).map(|()| rows)
    });
    match written {
        Err(error) => {
            eprintln!("the rig failed: {error}");
            ExitCode::from(BROKEN_RIG)
        }
        Ok(rows) if rows.iter().any(Row::is_violated) => ExitCode::FAILURE,
        Ok(rows) if rows.iter().any(Row::is_not_run) => ExitCode::from(NOT_RUN),
        Ok(_) => ExitCode::SUCCESS,
    }
}

fn faults(arguments: &Faults, stop: &dyn Fn() -> bool) -> Result<Vec<Row>, String> {
    if let Some(reason) = Stack::Direct.missing() {
        return Ok(vec![Row::not_run(report::FAULTS_NAME, &reason)]);
    }
    let plan = fault_run::Plan { count: arguments.count, seed: arguments.seed, kind: arguments.kind.clone() };
    let outcome = fault_run::run(&plan, stop)?;
    let mut rows = vec![report::fault_row(&plan, &outcome)];
    // A stack that is missing is said in a row of its own: the others have not stood in for it.
    let name =
        |reason: &str| format!("{}, {}", report::FAULTS_NAME, reason.split(':').next().unwrap_or_default());
    rows.extend(outcome.missing.iter().map(|reason| Row::not_run(&name(reason), reason)));
    Ok(rows)
}

fn power_cuts(arguments: &PowerCut, stop: &dyn Fn() -> bool) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for &stack in &arguments.stack {
        let plan = Plan {
            stack,
            relaxed: arguments.relaxed,
            cuts: arguments.cuts,
            seed: arguments.seed,
            chain: arguments.chain,
            load_ms: arguments.load_ms,
            planted: arguments.planted,
            keep: arguments.keep.clone(),
        };
        let row = match stack.missing() {
            Some(reason) => Row::not_run(&report::power_cut_name(&plan), &reason),
            None => report::power_cut_row(&plan, &power_cut::run(&plan, stop)?),
        };
        rows.push(row);
        if stop() {
            break;
        }
    }
    Ok(rows)
}
