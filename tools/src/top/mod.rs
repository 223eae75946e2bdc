//! `aerolith top`: a running server on one screen, refreshed each second.
//!
//! It asks for `/stats` and shows what changed since the answer before (`sample.rs`, `screen.rs`). A server that does not answer stays on
//! the screen with what was last known, and why. Whatever ends it, the terminal is as it was before.

mod sample;
mod screen;

use crate::remote::{DEFAULT_SERVER, Remote, RemoteError};
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};
use sample::Sample;
use screen::View;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// How often the screen is refreshed; the key `r` takes the next one.
const PERIODS_MS: [u64; 4] = [1000, 2000, 5000, 500];

/// Shows a running server on one screen, refreshed each second.
///
/// Keys: q quits, p pauses, r changes the rate of refresh, ? helps. Exit code 1: the server cannot be asked, or there is no terminal.
#[derive(clap::Args)]
pub struct Top {
    /// The admin port of the server.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_SERVER)]
    server: String,
    /// Print the screen once, as text.
    #[arg(long)]
    once: bool,
    /// With --once: columns and lines of the screen.
    #[arg(long, value_name = "COLUMNSxLINES", default_value = "80x24", value_parser = parse_screen)]
    screen: (u16, u16),
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum FailedTop {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("standard output is no terminal: to print the screen once, say --once")]
    NoTerminal,
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
}

fn parse_screen(text: &str) -> Result<(u16, u16), String> {
    let (columns, lines) = text.split_once('x').unwrap_or_default();
    match (columns.parse(), lines.parse()) {
        (Ok(columns @ 40..=500), Ok(lines @ 10..=200)) => Ok((columns, lines)),
        _ => Err("write columns and lines, as 80x24, from 40x10 to 500x200".into()),
    }
}

/// What the keys have made of it.
#[derive(Default)]
struct Keys {
    is_paused: bool,
    is_helping: bool,
    period: usize,
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    Redraw,
    Nothing,
}

impl Keys {
    fn press(&mut self, code: KeyCode, modifiers: KeyModifiers) -> Wish {
        match code {
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return Wish::Quit,
            KeyCode::Esc if self.is_helping => self.is_helping = false,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('r') => self.period = (self.period + 1) % PERIODS_MS.len(),
            KeyCode::Char('?' | 'h') => self.is_helping = !self.is_helping,
            _ => return Wish::Nothing,
        }
        Wish::Redraw
    }
}

impl Top {
    /// Shows the server until somebody quits. With `--once` the screen is appended to `out`.
    pub fn run(&self, out: &mut String) -> Result<(), FailedTop> {
        let remote = Remote::new(&self.server);
        if self.once {
            let now = Sample::of(&remote.get("/stats")?);
            out.push_str(&print(&View { now: Some(&now), ..View::of(&self.server) }, self.screen)?);
            return Ok(());
        }
        if !io::stdout().is_terminal() {
            return Err(FailedTop::NoTerminal);
        }
        // From here on a panic, too, gives the terminal back.
        let mut terminal = ratatui::try_init()?;
        let shown = self.watch(&remote, &mut terminal);
        ratatui::try_restore()?;
        Ok(shown?)
    }

    fn watch(&self, remote: &Remote, terminal: &mut DefaultTerminal) -> io::Result<()> {
        let mut keys = Keys::default();
        let (mut before, mut now): (Option<Sample>, Option<Sample>) = (None, None);
        let mut trouble = None;
        let mut due = Instant::now();
        loop {
            if !keys.is_paused && Instant::now() >= due {
                match remote.get("/stats") {
                    Ok(figures) => {
                        before = now.replace(Sample::of(&figures));
                        trouble = None;
                    }
                    Err(error) => trouble = Some(error.to_string()),
                }
                due = Instant::now() + Duration::from_millis(PERIODS_MS[keys.period]);
            }
            let view = View {
                server: &self.server,
                before: before.as_ref(),
                now: now.as_ref(),
                trouble: trouble.as_deref(),
                is_paused: keys.is_paused,
                is_helping: keys.is_helping,
                period_ms: PERIODS_MS[keys.period],
            };
            terminal.draw(|frame| view.draw(frame))?;
            // A key or another size of the screen is answered at once.
            let wait = if keys.is_paused {
                Duration::from_secs(1)
            } else {
                due.saturating_duration_since(Instant::now())
            };
            if event::poll(wait)?
                && let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                let period = keys.period;
                if keys.press(key.code, key.modifiers) == Wish::Quit {
                    return Ok(());
                }
                if keys.period != period {
                    due = Instant::now();
                }
            }
        }
    }
}

/// The screen as text, without colors.
fn print(view: &View<'_>, (columns, lines): (u16, u16)) -> io::Result<String> {
    let mut terminal = match Terminal::new(TestBackend::new(columns, lines)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    match terminal.draw(|frame| view.draw(frame)) {
        Ok(_) => {}
        Err(never) => match never {},
    }
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    Ok((0..lines).map(|y| format!("{}\n", line(y).trim_end())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn fixture() -> Value {
        serde_json::from_str(include_str!("../../tests/stats.json")).unwrap()
    }

    fn view(now: &Sample) -> View<'_> {
        View { now: Some(now), ..View::of("127.0.0.1:8080") }
    }

    #[test]
    fn one_screen_of_80x24_has_it_all() {
        let now = Sample::of(&fixture());
        let text = print(&view(&now), (80, 24)).unwrap();
        assert_eq!(text.lines().count(), 24);
        for word in [
            "aerolith 0.1.0",
            "ready",
            "connections 1/10000",
            "redis read",
            "redis write",
            "redis delete",
            "p99.9",
            "664",
            "hits",
            "index",
            "write buffers",
            "read cache",
            "/data/test.data",
            "free",
            "defrag",
            "write amplification",
            "oldest unflushed",
            "q quit",
            "commits",
        ] {
            assert!(text.contains(word), "{word} is not on the screen:\n{text}");
        }
    }

    #[test]
    fn rates_are_of_what_changed_since_the_last_answer() {
        let (mut earlier, mut later) = (fixture(), fixture());
        for (figures, hits, misses, time, written) in
            [(&mut earlier, 1000, 1000, 10_000, 0), (&mut later, 1300, 1100, 12_000, 8 << 20)]
        {
            figures["reads"]["hits"] = hits.into();
            figures["reads"]["misses"] = misses.into();
            figures["time_ms"] = time.into();
            figures["devices"][0]["written_bytes"] = written.into();
        }
        let (before, now) = (Sample::of(&earlier), Sample::of(&later));
        let text = print(&View { before: Some(&before), ..view(&now) }, (80, 24)).unwrap();
        assert!(text.contains("75.0 %"), "300 of 400 since the last answer:\n{text}");
        assert!(text.contains("4.0 MiB/s"), "8 MiB in two seconds:\n{text}");
    }

    #[test]
    fn trouble_pause_and_help_are_shown() {
        let mut figures = fixture();
        figures["devices"][0]["latched"] = "a write failed: EIO".into();
        let now = Sample::of(&figures);
        let text = print(&view(&now), (80, 24)).unwrap();
        assert!(text.contains("FAILED"), "{text}");
        let text =
            print(&View { trouble: Some("server 127.0.0.1:8080: refused"), ..view(&now) }, (80, 24)).unwrap();
        assert!(text.contains("no answer") && text.contains("redis read"), "what was known stays:\n{text}");
        let text = print(&View { is_paused: true, ..view(&now) }, (80, 24)).unwrap();
        assert!(text.contains("paused"), "{text}");
        let text = print(&View { is_helping: true, ..view(&now) }, (80, 24)).unwrap();
        assert!(text.contains("rate of refresh"), "{text}");
        let text = print(&View { trouble: Some("refused"), ..View::of("x") }, (80, 24)).unwrap();
        assert!(text.contains("no answer"), "{text}");
    }

    #[test]
    fn no_answer_and_no_screen_makes_it_panic() {
        let now = Sample::of(&fixture());
        let odd = [
            serde_json::json!({}),
            serde_json::json!([]),
            serde_json::json!({ "devices": [1, {}], "operations": 7 }),
        ];
        for screen in [(40, 10), (80, 24), (81, 25), (500, 200)] {
            print(&view(&now), screen).unwrap();
            for figures in &odd {
                print(&view(&Sample::of(figures)), screen).unwrap();
            }
        }
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let mut keys = Keys::default();
        let none = KeyModifiers::NONE;
        assert_eq!(keys.press(KeyCode::Char('p'), none), Wish::Redraw);
        assert!(keys.is_paused);
        keys.press(KeyCode::Char('p'), none);
        assert!(!keys.is_paused);
        (0..PERIODS_MS.len()).for_each(|_| assert_eq!(keys.press(KeyCode::Char('r'), none), Wish::Redraw));
        assert_eq!(keys.period, 0);
        keys.press(KeyCode::Char('?'), none);
        assert_eq!((keys.is_helping, keys.press(KeyCode::Esc, none)), (true, Wish::Redraw));
        assert_eq!(keys.press(KeyCode::Char('x'), none), Wish::Nothing);
        assert_eq!(keys.press(KeyCode::Char('c'), KeyModifiers::CONTROL), Wish::Quit);
        assert_eq!(keys.press(KeyCode::Char('q'), none), Wish::Quit);
    }

    #[test]
    fn a_screen_has_columns_and_lines() {
        assert_eq!(parse_screen("80x24"), Ok((80, 24)));
        for wrong in ["", "80", "x", "80x", "5x24", "80x9999"] {
            assert!(parse_screen(wrong).is_err(), "{wrong}");
        }
    }
}
