//! `aerolith bench`: puts a store under load, and tells how it does.
//!
//! [`flags`] says what is asked, [`phases`] loads and runs, [`live`] shows it meanwhile, [`report`] is what comes of it,
//! and [`text`], [`files`], [`html`] and [`compare`] tell it.
//!
//! Exit code 0: all went well. 1: a wrong value, a failed request, one without an answer, or the load broke off. 2: the
//! command line cannot work, or an output cannot be written.

mod compare;
mod files;
mod flags;
mod html;
mod live;
mod phases;
mod report;
mod text;

pub use flags::Bench;

use std::fmt::Display;

/// The command line is wrong, or an output cannot be written.
const USAGE: u8 = 2;

fn fail(code: u8, why: &dyn Display) -> u8 {
    eprintln!("aerolith bench: {why}");
    code
}

impl Bench {
    /// Runs, or compares. What is to be read goes to `out`. Returns the exit code.
    pub fn run(&self, out: &mut String) -> u8 {
        if let Some([a, b]) = self.compare.as_deref() {
            return match compare::compare(a, b) {
                Ok(text) => {
                    out.push_str(&text);
                    0
                }
                Err(error) => fail(USAGE, &error),
            };
        }
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(error) => return fail(USAGE, &error),
        };
        // Outputs that cannot be written are told before a long run, not after it.
        let mut files = match files::Files::create(self) {
            Ok(files) => files,
            Err(error) => return fail(USAGE, &error),
        };
        let (report, histograms) = match phases::run(self, &plan, &mut files, out) {
            Ok(Some(ran)) => ran,
            Ok(None) => return 0,
            Err(failed) => return fail(failed.code, &failed.why),
        };
        out.push_str(&text::render(&report));
        if let Err(error) = files.finish(&report, &histograms) {
            return fail(USAGE, &error);
        }
        u8::from(!report.is_clean())
    }
}
