//! A report as one HTML file that needs nothing else: no server, no script, no font, no network.
//!
//! Charts are inline SVG. Colours are CSS variables with a light and a dark set, chosen by what the reader's system
//! prefers; in print it is the light one. Everything that goes into the page is escaped here.

pub mod chart;
mod style;

use std::fmt::Write;

/// A page that grows from the top.
pub struct Page {
    title: String,
    body: String,
}

/// How a paragraph is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As any other.
    Plain,
    /// It is as it should be.
    Good,
    /// It is not.
    Bad,
}

/// Text as it may stand in HTML and in SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

// Writing into a String cannot fail: the results are let go.
impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Page {
        Page { title: title.to_owned(), body: String::new() }
    }

    /// A section's heading.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(text));
    }

    /// A paragraph.
    pub fn text(&mut self, tone: Tone, text: &str) {
        let class = match tone {
            Tone::Plain => "plain",
            Tone::Good => "good",
            Tone::Bad => "bad",
        };
        let _ = writeln!(self.body, "<p class=\"{class}\">{}</p>", escape(text));
    }

    /// A table; all columns but the first are numbers and stand to the right.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            cells.fold(String::new(), |mut line, cell| {
                let _ = write!(line, "<{tag}>{}</{tag}>", escape(cell));
                line
            })
        };
        let _ = writeln!(self.body, "<div class=\"wide\"><table>");
        let _ =
            writeln!(self.body, "<thead><tr>{}</tr></thead><tbody>", cells("th", &mut head.iter().copied()));
        for row in rows {
            let _ = writeln!(self.body, "<tr>{}</tr>", cells("td", &mut row.iter().map(String::as_str)));
        }
        let _ = writeln!(self.body, "</tbody></table></div>");
    }

    /// A table that is folded until the reader asks for it.
    pub fn folded(&mut self, summary: &str, head: &[&str], rows: &[Vec<String>]) {
        let _ = writeln!(self.body, "<details><summary>{}</summary>", escape(summary));
        self.table(head, rows);
        let _ = writeln!(self.body, "</details>");
    }

    /// Names and what they stand for.
    pub fn facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let _ = writeln!(self.body, "<dl>");
        for (name, value) in facts {
            let _ = writeln!(self.body, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
        }
        let _ = writeln!(self.body, "</dl>");
    }

    /// A chart; none if it has no points.
    pub fn chart(&mut self, chart: &chart::Chart) {
        if let Some(svg) = chart.svg() {
            let _ = writeln!(self.body, "<figure>{svg}</figure>");
        }
    }

    /// The whole file.
    pub fn finish(self) -> String {
        let title = escape(&self.title);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n\
             <body>\n<main>\n<h1>{title}</h1>\n{}</main>\n</body>\n</html>\n",
            style::CSS,
            self.body
        )
    }
}

/// A number as a person reads it: whole, or with three digits or more; thousands apart.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let mut out = String::new();
    for (at, c) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(c);
    }
    if rest.is_empty() { out } else { format!("{out}.{rest}") }
}

/// A time in microseconds, in the unit that suits it.
pub fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", number(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", number(us / 1e3)),
        us => format!("{} us", number(us)),
    }
}

#[cfg(test)]
mod tests {
    use super::chart::{Chart, Keep, Line, Scale};
    use super::*;

    #[test]
    fn numbers_and_times_are_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.5, "1,234"),
            (1234567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!([time(12.0), time(1500.0), time(2.5e6)], ["12 us", "1.50 ms", "2.50 s"]);
    }

    #[test]
    fn nothing_that_is_shown_can_become_markup_and_nothing_is_loaded_from_elsewhere() {
        let evil = "<script>alert('x')</script> & \"quoted\"";
        let mut page = Page::new(evil);
        page.heading(evil);
        page.text(Tone::Bad, evil);
        page.table(&[evil], &[vec![evil.into()]]);
        page.facts([(evil, evil)]);
        page.folded(evil, &[], &[]);
        page.chart(&Chart {
            title: evil.into(),
            x_label: evil.into(),
            y_label: evil.into(),
            x: Scale::Linear,
            y: Scale::Log,
            x_ticks: Some(vec![(1.0, evil.into())]),
            lines: vec![Line { name: evil.into(), points: vec![(0.0, 1.0), (1.0, 2.0)], keep: Keep::Max }],
            marks: vec![(1.5, evil.into())],
        });
        let html = page.finish();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
        assert!(!html.contains("http") && !html.contains("src=") && !html.contains("@import"), "{html}");
        assert!(html.contains("prefers-color-scheme: dark"));
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    }
}
