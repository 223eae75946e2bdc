//! `aerolith`: a look into Aerolith's data files and devices, from outside, and load for stores and devices.
//!
//! Exit codes: 0 when all that was looked at is sound, 1 when something is damaged (and, of `inspect`, when
//! something cannot be read), 2 when the command line is wrong (and, of `check`, when not everything could be
//! checked). Only `bench`, `certify`, `restore` and `backup --engine` write to a device; their own heads tell their exit codes.

#![forbid(unsafe_code)]

mod backup;
mod bench;
mod block;
mod certify;
mod check;
mod info;
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
mod top;

use clap::{Parser, Subcommand};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Looks into Aerolith data files, devices and servers, backs them up and restores them, and puts load on them.
#[derive(Parser)]
#[command(name = "aerolith", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Backup(backup::Backup),
    Bench(Box<bench::Bench>),
    Certify(Box<certify::Certify>),
    Check(check::Check),
    Info(info::Info),
    Inspect(inspect::Inspect),
    Restore(restore::Restore),
    Top(top::Top),
}

fn main() -> ExitCode {
    // What was found before an error is told as well: it may be what explains the error.
    let mut out = String::new();
    let code = match CommandLine::parse().command {
        Command::Bench(bench) => bench.run(&mut out),
        Command::Certify(certify) => certify.run(&mut out),
        Command::Backup(backup) => return ended(&out, backup.run()),
        Command::Info(info) => {
            let ran = info.run(&mut out);
            return ended(&out, ran);
        }
        Command::Restore(restore) => return ended(&out, restore.run()),
        Command::Top(top) => {
            let ran = top.run(&mut out);
            return ended(&out, ran);
        }
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

/// The end of what either did all or failed.
fn ended(out: &str, ran: Result<(), impl std::error::Error>) -> ExitCode {
    match ran {
        Ok(()) => end(out, 0, None),
        Err(error) => end(out, 1, Some(error.to_string())),
    }
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
