//! `aerolith certify`: whether a device, or the engine on it, holds a nominal load within limits of latency.
//!
//! The load is that of Aerospike's Certification Tool (ACT), so that its figures can be compared: 2000 reads and 1000 writes of
//! records a second at the multiple 1, writes as large blocks, and as much reading and writing of large blocks again as
//! reclaim makes of it. A device passes when in every slice of time less than 5 % of the reads took longer than 1 ms, less
//! than 1 % longer than 8 ms, and less than 0.1 % longer than 64 ms.
//!
//! What is different: each of the three streams is an open loop with exact intended starts, so a device that stands still is
//! seen by all requests that were due meanwhile; large blocks have a queue depth; latencies are exact at the limits.
//!
//! [`flags`] says what is asked, [`model`] what load that is, [`medium`] opens the device and refuses what holds data,
//! [`condition`] writes it full, [`trial`] and [`engine`] run one multiple, [`criteria`] judges it, [`search`] looks for
//! the highest that passes, [`report`] and [`page`] tell it.
//!
//! Exit code 0: it passed (a search: some multiple did). 1: it did not, or the trial broke off. 2: the command line cannot work,
//! or the device holds data.

mod condition;
mod criteria;
mod engine;
mod flags;
mod lane;
mod medium;
mod model;
mod page;
mod report;
mod search;
mod trial;

pub use flags::Certify;

use crate::load::LoadError;
use crate::load::clock::MonoClock;
use flags::{Mode, Plan};
use report::{Report, Trial};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// The command line is wrong, or the device is not to be touched.
const USAGE: u8 = 2;

fn create(path: &Option<PathBuf>) -> Result<Option<File>, LoadError> {
    let create = |path: &PathBuf| {
        File::create(path).map_err(|error| {
            LoadError(format!("{}: {error}; give another place for this output", path.display()))
        })
    };
    path.as_ref().map(create).transpose()
}

impl Certify {
    /// Runs. What is to be read goes to `out`. Returns the exit code.
    pub fn run(&self, out: &mut String) -> u8 {
        let prepared = self.plan().and_then(|plan| Ok((plan, create(&self.json)?, create(&self.html)?)));
        let (plan, json, html) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                eprintln!("aerolith certify: {error}");
                return USAGE;
            }
        };
        let report = match self.certify(&plan) {
            Ok(report) => report,
            Err(failed) => {
                eprintln!("aerolith certify: {}", failed.why);
                return failed.code;
            }
        };
        out.push_str(&report.text());
        let write = |file: Option<File>, text: &dyn Fn() -> String| match file {
            Some(mut file) => file.write_all(text().as_bytes()),
            None => Ok(()),
        };
        let json_text = || {
            serde_json::to_string_pretty(&report).map_or_else(|error| error.to_string(), |text| text + "\n")
        };
        if let Err(error) = write(json, &json_text).and_then(|()| write(html, &|| page::render(&report))) {
            eprintln!("aerolith certify: an output cannot be written: {error}");
            return USAGE;
        }
        u8::from(report.certified.is_none())
    }

    fn certify(&self, plan: &Plan) -> Result<Report, medium::Failed> {
        let medium = medium::open(self, plan)?;
        let mut report = Report::new(self, plan, &medium);
        let loaded = self.load(plan, &medium, &mut report);
        // A file that was made here goes also when it came to no verdict: it may have filled the disk.
        let finished = medium.finish(self.keep);
        loaded?;
        finished?;
        Ok(report)
    }

    fn load(&self, plan: &Plan, medium: &medium::Medium, report: &mut Report) -> Result<(), medium::Failed> {
        let clock = Arc::new(MonoClock::start());
        (report.trials, report.certified) = match plan.mode {
            Mode::Device => {
                condition::condition(self, plan, medium)?;
                judge(self, plan, &mut |multiple, length| {
                    trial::run(self, plan, medium, &clock, multiple, length)
                })?
            }
            Mode::Engine => {
                let target = engine::open(self, plan, medium, &clock)?;
                report.notes.push(target.told());
                let judged = judge(self, plan, &mut |multiple, length| {
                    target.run(self, plan, &clock, multiple, length)
                });
                target.close()?;
                judged?
            }
        };
        Ok(())
    }
}

/// Runs the one multiple that was asked for, or looks for the highest that passes.
fn judge(
    certify: &Certify,
    plan: &Plan,
    run: &mut dyn FnMut(u64, trial::Length) -> Result<Trial, LoadError>,
) -> Result<(Vec<Trial>, Option<u64>), LoadError> {
    let whole = trial::Length { duration_s: plan.duration_s, slice_s: plan.slice_s };
    let mut trials = Vec::new();
    let mut told = |multiple: u64, length: trial::Length, certify: &Certify| {
        let trial = run(multiple, length)?;
        if !certify.quiet {
            eprintln!("{}", trial.headline());
        }
        let passed = trial.passed;
        trials.push(trial);
        Ok::<bool, LoadError>(passed)
    };
    let certified = if certify.search {
        let short = trial::Length { duration_s: plan.trial_s, slice_s: plan.trial_s };
        let found =
            search::highest(plan.multiple, plan.search_limit, |multiple| told(multiple, short, certify))?;
        // What passed for a short time must pass for the whole one.
        search::confirm(found, |multiple| told(multiple, whole, certify))?
    } else {
        told(plan.multiple, whole, certify)?.then_some(plan.multiple)
    };
    Ok((trials, certified))
}
