//! `aerolith info`: the figures of a running server, as text or JSON.
//!
//! What there is comes from the server's `/stats`; what each figure means is in `docs/OPERATIONS.md`. Nothing is left out, so a newer
//! server's figures are shown by an older tool.

use crate::remote::{DEFAULT_SERVER, Remote, RemoteError};
use serde_json::{Map, Value};

/// Shows the figures of a running server.
///
/// Exit code 1: the server cannot be asked, or nothing matches.
#[derive(clap::Args)]
pub struct Info {
    /// Only figures whose name contains this.
    filter: Option<String>,
    /// The admin port of the server.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_SERVER)]
    server: String,
    /// As JSON: all as the server tells it, or, with a filter, one object of names and values.
    #[arg(long)]
    json: bool,
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum FailedInfo {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("no figure has '{0}' in its name")]
    NothingMatches(String),
}

impl Info {
    /// Appends the figures to `out`.
    pub fn run(&self, out: &mut String) -> Result<(), FailedInfo> {
        let figures = Remote::new(&self.server).get("/stats")?;
        let shown = show(&figures, self.filter.as_deref(), self.json);
        out.push_str(
            &shown.ok_or_else(|| FailedInfo::NothingMatches(self.filter.clone().unwrap_or_default()))?,
        );
        Ok(())
    }
}

/// The figures as text or JSON; none if the filter lets nothing through.
fn show(figures: &Value, filter: Option<&str>, is_json: bool) -> Option<String> {
    let mut lines = Vec::new();
    flatten(figures, "", &mut lines);
    lines.retain(|(name, _)| filter.is_none_or(|filter| name.contains(filter)));
    if lines.is_empty() {
        return None;
    }
    if is_json {
        let document = match filter {
            None => figures.clone(),
            Some(_) => Value::Object(lines.into_iter().collect::<Map<_, _>>()),
        };
        return Some(format!("{document:#}\n"));
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut section = None;
    for (name, value) in &lines {
        let here = name.split(['.', '[']).next();
        if section.is_some_and(|before| before != here) {
            let is_long =
                |of: Option<&str>| lines.iter().filter(|(n, _)| n.split(['.', '[']).next() == of).count() > 1;
            if is_long(here) || section.is_some_and(is_long) {
                text.push('\n');
            }
        }
        section = Some(here);
        text.push_str(&format!("{name:width$}  {}\n", plain(value)));
    }
    Some(text)
}

/// Names and values, by name.
fn flatten(value: &Value, name: &str, lines: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            let dot = if name.is_empty() { "" } else { "." };
            fields.iter().for_each(|(field, value)| flatten(value, &format!("{name}{dot}{field}"), lines));
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(at, item)| flatten(item, &format!("{name}[{at}]"), lines));
        }
        value => lines.push((name.to_owned(), value.clone())),
    }
}

/// A value without quotes; what a terminal would take for a command is shown as it is written.
fn plain(value: &Value) -> String {
    let safe = |text: &str| -> String {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect()
    };
    match value {
        Value::Null => "-".into(),
        Value::String(text) => safe(text),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{:.*}", if float.abs() < 10.0 { 3 } else { 1 }, float),
            _ => number.to_string(),
        },
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../tests/stats.json");

    #[test]
    fn every_figure_is_a_line_and_a_filter_takes_some() {
        let figures: Value = serde_json::from_str(FIXTURE).unwrap();
        let text = show(&figures, None, false).unwrap();
        for line in ["connections.redis", "operations[0].class", "devices[0].states.sealed", "loading.eta_s"]
        {
            assert!(text.lines().any(|shown| shown.starts_with(&format!("{line} "))), "{line}: {text}");
        }
        let some = show(&figures, Some("memory."), false).unwrap();
        assert!(some.lines().count() > 3 && some.lines().all(|line| line.starts_with("memory.")), "{some}");
        let column = |line: &str| line.rfind("  ").unwrap();
        let first = column(some.lines().next().unwrap());
        assert!(some.lines().all(|line| column(line) == first), "values are in one column: {some}");
        let json: Value = serde_json::from_str(&show(&figures, Some("memory."), true).unwrap()).unwrap();
        assert_eq!(json["memory.index_bytes"], figures["memory"]["index_bytes"]);
        assert_eq!(serde_json::from_str::<Value>(&show(&figures, None, true).unwrap()).unwrap(), figures);
        assert_eq!(show(&figures, Some("no such figure"), false), None);
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        let figures = serde_json::json!({ "slow": "\u{1b}[2J", "none": null, "few": [1, 2.5] });
        assert_eq!(show(&figures, None, false).unwrap(), "few   1 2.500\nnone  -\nslow  \\u{1b}[2J\n");
    }
}
