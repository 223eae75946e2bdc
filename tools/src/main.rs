//! `aerolith`: a look into Aerolith's data files and devices, from outside.
//!
//! Exit codes: 0 when all that was looked at is sound, 1 when something is damaged or cannot be read, 2 when
//! the command line is wrong. Nothing here writes to a device.

#![forbid(unsafe_code)]

mod inspect;
mod report;

use clap::{Parser, Subcommand};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Looks into Aerolith data files and devices.
#[derive(Parser)]
#[command(name = "aerolith", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Inspect),
}

fn main() -> ExitCode {
    let CommandLine { command: Command::Inspect(inspect) } = CommandLine::parse();
    // What was found before an error is told as well: it may be what explains the error.
    let mut out = String::new();
    let found = inspect.run(&mut out);
    if let Err(error) = std::io::stdout().lock().write_all(out.as_bytes())
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("aerolith: standard output: {error}");
        return ExitCode::FAILURE;
    }
    match found {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("aerolith: {error}");
            ExitCode::FAILURE
        }
    }
}
