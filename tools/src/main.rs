//! `aerolith`: a look into Aerolith's data files and devices, from outside, and load for stores and devices.
//!
//! Exit codes: 0 when all that was looked at is sound, 1 when something is damaged (and, of `inspect`, when
//! something cannot be read), 2 when the command line is wrong (and, of `check`, when not everything could be
//! checked). Only `bench` and `certify` write to a device; their own heads tell their exit codes.

#![forbid(unsafe_code)]

mod backup;
mod bench;
mod block;
mod certify;
mod check;
mod inspect;
mod load;
mod local;
mod map;
mod page;
mod progress;
mod remote;
mod report;
mod restore;
mod source;
mod table;

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
    Bench(Box<bench::Bench>),
    Certify(Box<certify::Certify>),
    Backup(backup::Backup),
    Check(check::Check),
    Inspect(inspect::Inspect),
    Restore(restore::Restore),
}

fn main() -> ExitCode {
    // What was found before an error is told as well: it may be what explains the error.
    let mut out = String::new();
    let code = match CommandLine::parse().command {
        Command::Bench(bench) => bench.run(&mut out),
        Command::Certify(certify) => certify.run(&mut out),
        Command::Backup(backup) => match backup.run() {
            Ok(()) => 0,
            Err(error) => return end(&out, 1, Some(error.to_string())),
        },
        Command::Restore(restore) => match restore.run() {
            Ok(()) => 0,
            Err(error) => return end(&out, 1, Some(error.to_string())),
        },
        Command::Check(check) => check.run(&mut out),
        Command::Inspect(inspect) => match inspect.run(&mut out) {
            Ok(0) => 0,
            Ok(_) => 1,
            Err(error) => {
                // Behind what was found, which is still to be printed.
                return end(&out, 1, Some(error.to_string()));
            }
        },
    };
    end(&out, code, None)
}

fn end(out: &str, code: u8, error: Option<String>) -> ExitCode {
    if let Err(error) = std::io::stdout().lock().write_all(out.as_bytes())
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("aerolith: standard output: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(error) = error {
        eprintln!("aerolith: {error}");
    }
    ExitCode::from(code)
}
