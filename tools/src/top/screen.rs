//! The screen: what is where on it. Made for 80x24, light on colors: red is what needs somebody, yellow what may soon.

use super::sample::{Device, Sample};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

/// What is to be drawn.
pub struct View<'a> {
    pub server: &'a str,
    pub before: Option<&'a Sample>,
    pub now: Option<&'a Sample>,
    /// Why there was no answer the last time.
    pub trouble: Option<&'a str>,
    pub is_paused: bool,
    pub is_helping: bool,
    pub period_ms: u64,
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const RED: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const YELLOW: Style = Style::new().fg(Color::Yellow);

const HELP: &[&str] = &[
    "q       quit",
    "p       pause, and go on",
    "r       the next rate of refresh: 1 s, 2 s, 5 s, 0.5 s",
    "?       this help, and away with it",
    "",
    "Operations are of the last 10 s. Other rates are of the time",
    "since the last refresh. What the figures mean: OPERATIONS.md",
];

fn count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1}G", v / 1e9),
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e4 => format!("{:.1}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = (0..4).find(|&at| value < 1024f64.powi(at + 1)).unwrap_or(4);
    let digits = usize::from(at > 0);
    format!("{:.digits$} {}", value / 1024f64.powi(at), UNITS[at as usize])
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.1} s", us / 1e6),
        us if us >= 1e4 => format!("{:.0} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.1} ms", us / 1e3),
        us => format!("{us:.0} us"),
    }
}

fn uptime(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        86_400.. => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
        3600.. => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}m {:02}s", seconds / 60, seconds % 60),
    }
}

fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of * 100.0 } else { 0.0 }
}

/// What part of `width` is full, in eighths of a character.
fn bar(percent: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (percent.clamp(0.0, 100.0) / 100.0 * (width * 8) as f64).round() as usize;
    let text = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
    format!("{text:width$}")
}

impl<'a> View<'a> {
    /// Nothing but the server's address.
    pub fn of(server: &'a str) -> Self {
        View {
            server,
            before: None,
            now: None,
            trouble: None,
            is_paused: false,
            is_helping: false,
            period_ms: 1000,
        }
    }

    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)]).areas(area);
        frame.render_widget(Paragraph::new(self.head()), head);
        if let Some(now) = self.now {
            let mut lines = self.operations(now);
            lines.push(Line::default());
            lines.extend(self.reads(now));
            lines.extend(memory(now));
            lines.push(Line::default());
            lines.extend(self.work(now));
            lines.push(Line::default());
            lines.extend(self.devices(now));
            frame.render_widget(Paragraph::new(lines), body);
        }
        let seconds = self.period_ms as f64 / 1000.0;
        let keys = format!("q quit  p pause  r refresh each {seconds} s  ? help");
        frame.render_widget(Paragraph::new(Line::styled(keys, DIM)), foot);
        if self.is_helping {
            self.help(frame, area);
        }
    }

    fn help(&self, frame: &mut Frame<'_>, area: Rect) {
        let size = (64.min(area.width), (HELP.len() as u16 + 2).min(area.height));
        let at = ((area.width - size.0) / 2, (area.height - size.1) / 2);
        let place = Rect::new(at.0, at.1, size.0, size.1);
        let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::raw(*line)).collect();
        frame.render_widget(Clear, place);
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("keys")), place);
    }

    fn head(&self) -> Vec<Line<'a>> {
        let mut first = Line::default();
        let mut second = Line::default();
        if let Some(now) = self.now {
            first.push_span(Span::styled(format!("aerolith {}", now.text("version")), BOLD));
            first.push_span(format!("  {}  ", self.server));
            let state = now.text("state");
            let style = if state == "ready" { Style::new() } else { YELLOW };
            first.push_span(Span::styled(state, style));
            first.push_span(format!("  up {}", uptime(now.get("uptime_s"))));
            if now.get("loading.percent") < 100.0 && now.text("state") == "loading" {
                first
                    .push_span(Span::styled(format!("  {:.1} % loaded", now.get("loading.percent")), YELLOW));
            }
            let of = |name: &str| now.get(&format!("connections.{name}"));
            second.push_span(format!(
                "connections {:.0}/{:.0}, {:.0} blocked, {:.0} rejected   records {}",
                of("redis"),
                of("max"),
                of("blocked"),
                of("rejected"),
                count(now.get("records.objects"))
            ));
        } else {
            first.push_span(Span::styled(format!("aerolith  {}", self.server), BOLD));
        }
        if self.is_paused {
            first.push_span(Span::styled("  paused", YELLOW));
        }
        if let Some(trouble) = self.trouble {
            second = Line::styled(format!("no answer: {trouble}"), RED);
        }
        vec![first, second]
    }

    fn operations(&self, now: &Sample) -> Vec<Line<'static>> {
        let titles = format!(
            "{:<16}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "operation", "a second", "p50", "p99", "p99.9", "longest"
        );
        let mut lines = vec![Line::styled(titles, BOLD)];
        for one in &now.operations {
            let latency = |us: f64| if one.per_second > 0.0 { time(us) } else { "-".into() };
            let text = format!(
                "{:<16}{:>10}{:>10}{:>10}{:>10}{:>10}",
                one.name,
                count(one.per_second),
                latency(one.p50_us),
                latency(one.p99_us),
                latency(one.p999_us),
                latency(one.max_us)
            );
            lines.push(Line::styled(text, if one.per_second > 0.0 { Style::new() } else { DIM }));
        }
        lines
    }

    /// A counter's growth since the answer before; without one, all of it.
    fn grown(&self, now: &Sample, path: &str) -> f64 {
        match (now.seconds_since(self.before), self.before) {
            (Some(_), Some(before)) => (now.get(path) - before.get(path)).max(0.0),
            _ => now.get(path),
        }
    }

    fn reads(&self, now: &Sample) -> Vec<Line<'static>> {
        let grown = |name: &str| self.grown(now, &format!("reads.{name}"));
        let (hits, misses) = (grown("hits"), grown("misses"));
        let sources = ["write_buffer", "post_write_cache", "read_cache", "device"].map(grown);
        let all: f64 = sources.iter().sum();
        let [buffer, post, cache, device] = sources.map(|source| share(source, all));
        vec![Line::from(vec![
            Span::styled("reads  ", BOLD),
            Span::raw(format!(
                "{:.1} % hits; from buffers {buffer:.1} %, post-write {post:.1} %, cache {cache:.1} %, \
                 device {device:.1} %",
                share(hits, hits + misses)
            )),
        ])]
    }

    fn work(&self, now: &Sample) -> Vec<Line<'static>> {
        let seconds = now.seconds_since(self.before);
        let rate = |path: &str| seconds.map_or(0.0, |seconds| self.grown(now, path) / seconds);
        let oldest = now.get("queues.oldest_unflushed_ms");
        let commits = |name: &str| time(now.get(&format!("commits.recent.{name}")));
        let waits = rate("queues.writer_waits");
        let used = share(now.get("space.used_bytes"), now.get("space.used_limit_bytes"));
        let shortage = now.get("queues.defrag_blocks");
        vec![
            Line::from(vec![
                Span::styled("flush  ", BOLD),
                Span::styled(
                    format!("oldest unflushed {}", time(oldest * 1000.0)),
                    if oldest > 10_000.0 { RED } else { Style::new() },
                ),
                Span::raw(format!(
                    ", {:.0} blocks wait; commits p50 {}, p99 {}; ",
                    now.get("queues.flush_blocks"),
                    commits("p50_us"),
                    commits("p99_us")
                )),
                Span::styled(
                    format!("{} waits/s", count(waits)),
                    if waits > 0.0 { YELLOW } else { Style::new() },
                ),
            ]),
            Line::from(vec![
                Span::styled("defrag ", BOLD),
                Span::raw(if shortage > 0.0 {
                    format!("{shortage:.0} blocks short")
                } else {
                    "rests".into()
                }),
                Span::raw(format!(
                    ", {:.0} settling, {} records/s moved; write amplification {:.2}",
                    now.get("queues.settling_blocks"),
                    count(rate("records.moved")),
                    now.get("space.write_amplification")
                )),
            ]),
            Line::from(vec![
                Span::styled("space  ", BOLD),
                Span::styled(
                    format!("{} {used:.0} %", bar(used, 20)),
                    match used {
                        used if used >= 98.0 => RED,
                        used if used >= 85.0 => YELLOW,
                        _ => Style::new(),
                    },
                ),
                Span::raw(format!(
                    " of {}; space amplification {:.2}",
                    bytes(now.get("space.used_limit_bytes")),
                    now.get("space.space_amplification")
                )),
            ]),
        ]
    }

    fn devices(&self, now: &Sample) -> Vec<Line<'static>> {
        let titles =
            format!("{:<24}{:>12}{:>12}{:>13}{:>13}", "device", "free blocks", "used", "reads", "writes");
        let mut lines = vec![Line::styled(titles, BOLD)];
        for (at, device) in now.devices.iter().enumerate() {
            let before = self.before.and_then(|before| before.devices.get(at));
            let rate = |of: fn(&Device) -> f64| match (now.seconds_since(self.before), before) {
                (Some(seconds), Some(before)) => {
                    format!("{}/s", bytes((of(device) - of(before)).max(0.0) / seconds))
                }
                _ => "-".into(),
            };
            // The end of a path says more than its beginning.
            let skip = device.path.chars().count().saturating_sub(23);
            let path: String = device.path.chars().skip(skip).collect();
            let mut line = Line::raw(format!(
                "{path:<24}{:>12}{:>12}{:>13}{:>13}",
                format!("{:.0}/{:.0}", device.free_blocks, device.blocks),
                format!("{:.0} %", share(device.used, device.size)),
                rate(|device| device.read),
                rate(|device| device.written)
            ));
            if let Some(why) = &device.latched {
                line = Line::styled(format!("{path:<24} FAILED, takes no writes: {why}"), RED);
            } else if device.errors > 0.0 {
                line.push_span(Span::styled(format!(" {:.0} errors", device.errors), RED));
            }
            lines.push(line);
        }
        lines
    }
}

fn memory(now: &Sample) -> Vec<Line<'static>> {
    let of = |name: &str| now.get(&format!("memory.{name}_bytes"));
    let resident = of("resident");
    let part = |name: &str, part: f64| format!("{name} {}, ", bytes(part));
    let parts = [
        part("index", of("index")),
        part("write buffers", of("write_buffer")),
        part("post-write", of("post_write_cache")),
    ];
    vec![
        Line::from(vec![
            Span::styled("memory ", BOLD),
            Span::raw(format!("{} resident: {}", bytes(resident), parts.concat())),
        ]),
        Line::raw(format!(
            "       read cache {}, other {}; index {:.1} bytes a record",
            bytes(of("read_cache")),
            bytes(of("other")),
            now.get("memory.index_bytes_per_record")
        )),
    ]
}
