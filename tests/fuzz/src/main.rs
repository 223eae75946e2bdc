//! Fuzz targets by hand, without a fuzzer.
//!
//! ```text
//! aerolith-fuzz seeds TARGET FOLDER     writes the target's seeds as files
//! aerolith-fuzz show TARGET FILE...     runs the target over files, and shows what it makes of them
//! ```

use aerolith_fuzz::{TARGETS, named};
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: aerolith-fuzz seeds TARGET FOLDER | show TARGET FILE...";

fn run(args: &[String]) -> Result<(), String> {
    let [verb, name, paths @ ..] = args else { return Err(USAGE.into()) };
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    let target =
        named(name).ok_or_else(|| format!("there is no target {name}, only {}", names.join(", ")))?;
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    match (verb.as_str(), paths) {
        ("seeds", [folder]) => {
            let folder = Path::new(folder);
            std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
            for (i, seed) in (target.seeds)().iter().enumerate() {
                let path = folder.join(format!("seed-{i:02}"));
                std::fs::write(&path, seed).map_err(|error| failed(&path, error))?;
            }
        }
        ("show", paths @ [_, ..]) => {
            aerolith_fuzz::bytes::show_recipes();
            for path in paths.iter().map(Path::new) {
                println!("{}", path.display());
                (target.run)(&std::fs::read(path).map_err(|error| failed(path, error))?);
            }
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
