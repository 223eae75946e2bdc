//! What a run prints, and the JSON file that a reliability report reads.
//!
//! The file is a list of rows: `{"row", "count", "violations", "details"}`, or `{"row", "not_run": "reason"}` where
//! the machine lacks something. A rig that did not run has not passed.

use crate::fault_run;
use crate::oracle::Broken;
use crate::planted::Planted;
use crate::power_cut::{AIMED_WINDOW, Outcome, Plan, WINDOW};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::path::Path;

/// One row.
pub struct Row {
    name: String,
    result: Result<Ran, String>,
}

struct Ran {
    count: u64,
    violations: u64,
    details: Value,
}

impl Row {
    /// A rig that ran.
    pub fn ran(name: &str, count: u64, violations: u64, details: Value) -> Self {
        Row { name: name.into(), result: Ok(Ran { count, violations, details }) }
    }

    /// A rig that could not run here, and why.
    pub fn not_run(name: &str, reason: &str) -> Self {
        Row { name: name.into(), result: Err(reason.into()) }
    }

    /// Whether it ran and something was violated.
    pub fn is_violated(&self) -> bool {
        self.result.as_ref().is_ok_and(|ran| ran.violations > 0)
    }

    /// Whether it could not run here.
    pub fn is_not_run(&self) -> bool {
        self.result.is_err()
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        match &self.result {
            Ok(Ran { count, violations, details }) => {
                json!({"row": self.name, "count": count, "violations": violations, "details": details})
            }
            Err(reason) => json!({"row": self.name, "not_run": reason}),
        }
    }

    /// Prints it, a line for the row and one for each detail.
    pub fn print(&self) {
        match &self.result {
            Ok(Ran { count, violations, details }) => {
                println!("{}: {count}, violations: {violations}", self.name);
                for (name, value) in details.as_object().into_iter().flatten() {
                    println!("    {name}: {value}");
                }
            }
            Err(reason) => println!("not run: {}: {reason}", self.name),
        }
    }
}

/// Writes the rows to a file.
pub fn write(rows: &[Row], path: &Path) -> Result<(), String> {
    let list: Vec<Value> = rows.iter().map(Row::json).collect();
    let text = serde_json::to_string_pretty(&list).map_err(|error| error.to_string())?;
    std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
}

/// The name of a power-cut row.
pub fn power_cut_name(plan: &Plan) -> String {
    let mode = if plan.relaxed { "relaxed" } else { "group" };
    let planted = match plan.planted.to_possible_value().filter(|_| plan.planted != Planted::None) {
        Some(value) => format!(", planted {}: must be seen", value.get_name()),
        None => String::new(),
    };
    format!("power cuts, {}, {mode}{planted}", plan.stack.name())
}

/// A power-cut run as a row.
pub fn power_cut_row(plan: &Plan, outcome: &Outcome) -> Row {
    let counts = &outcome.oracle.counts;
    let found = |kind: Broken| outcome.count(kind);
    let mut details = json!({
        "seed": plan.seed,
        "seconds": outcome.elapsed.as_secs_f64().round(),
        "writes acknowledged": counts.acknowledged,
        "acknowledged durable versions checked": counts.checked,
        "of these deletes": counts.checked_deletes,
        "keys read after cuts": counts.keys_read,
        "unacknowledged versions that were gone": counts.unacknowledged_gone,
        "cuts while mounting": outcome.mount_cuts,
        "cuts during recovery": outcome.recovery_cuts,
        "chains read and closed": outcome.clean_ends,
        "starts from a checkpoint": outcome.checkpoint_starts,
        "starts told to read all blocks": outcome.whole_scans,
        "checkpoints rejected by starts": outcome.rejected_checkpoints,
        "blocks read whole by starts": outcome.scanned_blocks,
        "longest start, ms": outcome.longest_open_ms,
        "cached writes at cuts": outcome.cached,
        "requests in flight at cuts": outcome.in_flight,
        "live reads": counts.reads_right,
        "lost": found(Broken::Lost),
        "zombies": found(Broken::Zombie),
        "ghosts": found(Broken::Ghost),
        "wrong bytes": found(Broken::WrongBytes),
        "expired returned": found(Broken::Expired),
        "torn groups": found(Broken::TornGroup),
        "unreadable": found(Broken::Unreadable),
        "wrong live reads": found(Broken::WrongRead),
        "miscounted": found(Broken::Miscounted),
        "not opened": found(Broken::Refused),
    });
    if plan.relaxed {
        details["longest loss window, ms"] = json!(counts.loss_window_ns / 1_000_000);
        details["loss window aimed at, ms"] = json!(AIMED_WINDOW.as_millis() as u64);
        details["writes lost beyond the aim"] = json!(counts.long_windows);
        details["loss window that is a violation, ms"] = json!(WINDOW.as_millis() as u64);
        details["writes lost beyond that"] = json!(found(Broken::Window));
    }
    let broken = outcome.oracle.broken.len() as u64;
    if plan.planted == Planted::None {
        return Row::ran(&power_cut_name(plan), outcome.cuts.into(), broken, details);
    }
    // A planted bug that is not seen is a rig that sees nothing.
    details["broken promises"] = json!(broken);
    details["seen at cut"] = if broken > 0 { json!(outcome.cuts) } else { Value::Null };
    Row::ran(&power_cut_name(plan), outcome.cuts.into(), u64::from(broken == 0), details)
}

/// The name of the fault row.
pub const FAULTS_NAME: &str = "I/O faults on the real path";

/// A fault run as a row.
pub fn fault_row(plan: &fault_run::Plan, outcome: &fault_run::Outcome) -> Row {
    let broken = &outcome.oracle.broken;
    let conduct = broken.iter().filter(|(kind, _)| *kind == Broken::Conduct).count();
    let counts = &outcome.oracle.counts;
    let details = json!({
        "seed": plan.seed,
        "seconds": outcome.elapsed.as_secs_f64().round(),
        "struck": outcome.struck,
        "cases whose fault met no request": outcome.missed,
        "latched": outcome.latched,
        "absorbed by the file system": outcome.absorbed,
        "starts refused, as they must be": outcome.refused,
        "reads that went on after a latch": outcome.reads_latched,
        "writes tried after a latch, all refused": outcome.writes_latched,
        "ended by a power cut, the others by a kill": outcome.cuts,
        "writes acknowledged": counts.acknowledged,
        "writes that failed": counts.failed,
        "acknowledged durable versions checked": counts.checked,
        "wrong acknowledgements, bytes or reads": broken.len() - conduct,
        "wrong conduct": conduct,
        "stacks not run": outcome.missing,
    });
    Row::ran(FAULTS_NAME, outcome.count().into(), broken.len() as u64, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_ran_and_what_did_not() {
        let ran = Row::ran("cuts", 10, 1, json!({"seed": 7}));
        assert_eq!(ran.json(), json!({"row": "cuts", "count": 10, "violations": 1, "details": {"seed": 7}}));
        let not_run = Row::not_run("cuts", "not root");
        assert_eq!(not_run.json(), json!({"row": "cuts", "not_run": "not root"}));
        assert!(ran.is_violated() && !not_run.is_violated());
    }
}
