//! Progress bars, on standard error.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for so many records.
pub fn records(records: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let style = "loading  {wide_bar} {human_pos}/{human_len} records, {eta} left";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(records).with_style(style)
}
