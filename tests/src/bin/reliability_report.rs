//! Runs the simulated world and prints what it has shown: figures with seeds, commit, machine and time.
//!
//! `reliability-report [--images N] [--media N] [--twice N] [--seed FIRST] [--threads N] [--markdown] [--with FILE.json]...`
//!
//! `--images`: images of crashes (class C); `--media`: sets that damage has hit (class M); `--twice`: lives that are lived twice.
//! Rows of other rigs come as JSON: `[{"row": "power cuts on XFS", "count": 500, "violations": 0}, {"row": "..",
//! "not_run": "why"}]`. It ends with 1 if anything was violated or a counter that must not be zero is, with 2 if it
//! was called wrongly.

use aerolith_tests::sim::faults::Fault;
use aerolith_tests::sim::life::{Class, live};
use aerolith_tests::sim::run::{Order, Totals, run};
use comfy_table::{Table, presets};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What was asked for.
struct Asked {
    order: Order,
    media: u64,
    twice: u64,
    markdown: bool,
    with: Vec<String>,
}

fn asked(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let order = Order { class: Class::Crashes, first_seed: 0, images: 50_000, most_seeds: u64::MAX, threads };
    let mut asked = Asked { order, media: 5_000, twice: 20, markdown: false, with: Vec::new() };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| {
            text.parse::<u64>().map_err(|_| format!("'{text}' is no number: give a whole one"))
        };
        match word.as_str() {
            "--images" => asked.order.images = number(value()?)?,
            "--media" => asked.media = number(value()?)?,
            "--twice" => asked.twice = number(value()?)?,
            "--seed" => asked.order.first_seed = number(value()?)?,
            "--threads" => asked.order.threads = (number(value()?)? as usize).max(1),
            "--with" => asked.with.push(value()?),
            "--markdown" => asked.markdown = true,
            _ => {
                return Err(format!(
                    "'{word}' is not known: --images, --media, --twice, --seed, --threads, --markdown, --with are"
                ));
            }
        }
    }
    Ok(asked)
}

/// Rows of another rig: name, what it counted, whether that is good.
fn rows_of(path: &str) -> Result<Vec<(String, String, bool)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    let told = |row: &serde_json::Value| {
        let name = row["row"].as_str().ok_or_else(|| format!("{path}: an entry has no \"row\": {row}"))?;
        if let Some(why) = row["not_run"].as_str() {
            return Ok((name.to_owned(), format!("not run: {why}"), true));
        }
        match (row["count"].as_u64(), row["violations"].as_u64()) {
            (Some(count), Some(violations)) => {
                Ok((name.to_owned(), in_all(violations, count), violations == 0 && count > 0))
            }
            _ => Err(format!("{path}: '{name}' needs \"count\" and \"violations\", or \"not_run\"")),
        }
    };
    rows.iter().map(told).collect()
}

/// "0 in N", with what that excludes at 95 %.
fn in_all(bad: u64, count: u64) -> String {
    if bad == 0 && count > 0 {
        format!("0 in {count} (95 %: below {:.1e})", 3.0 / count as f64)
    } else {
        format!("{bad} in {count}")
    }
}

fn output_of(program: &str, words: &[&str]) -> String {
    let output = std::process::Command::new(program).args(words).output();
    let text = output.ok().filter(|output| output.status.success());
    text.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn print(table: &Table, markdown: bool) {
    let mut table = table.clone();
    table.load_preset(if markdown { presets::ASCII_MARKDOWN } else { presets::UTF8_FULL_CONDENSED });
    println!("{table}\n");
}

/// Rows of class M: what the medium did, and whether it was seen.
fn media_rows(totals: &Totals) -> Vec<(String, String)> {
    let get = |name: &str| totals.coverage.get(name);
    let named = |name: &str| totals.violations.iter().filter(|(_, v)| v.name == name).count() as u64;
    let all = totals.violations.len() as u64;
    let faults: u64 = Fault::OF_MEDIA.iter().map(|&fault| totals.coverage.fault(fault)).sum();
    let kinds: Vec<String> =
        Fault::OF_MEDIA.iter().map(|&fault| format!("{fault:?} {}", totals.coverage.fault(fault))).collect();
    let hit = get("keys hit by damage");
    let unknown = get("keys hit that nobody can know of");
    vec![
        ("sets that damage has hit, class M".into(), in_all(all, get("images"))),
        ("faults of the medium".into(), format!("{faults}: {}", kinds.join(", "))),
        ("silent rollback or loss after damage (R12)".into(), in_all(named("SILENT"), hit)),
        ("damage that told on keys it had not hit".into(), in_all(named("UNTOUCHED"), hit)),
        ("garbage returned after damage".into(), in_all(named("GARBAGE"), hit)),
        (
            "damage in blocks without a whole footer, not promised".into(),
            format!("{unknown} keys beside {hit}"),
        ),
        (
            "sets with a wrong member accepted".into(),
            in_all(named("ACCEPTED"), get("sets with a wrong member refused")),
        ),
    ]
}

/// Lives some lives twice: how many, and how many of these differed.
fn lived_twice(asked: &Asked) -> (u64, u64) {
    let first = asked.order.first_seed;
    let differs = |seed: &u64| {
        let class = if seed % 4 == 3 { Class::Media } else { Class::Crashes };
        live(class, *seed).hash != live(class, *seed).hash
    };
    (asked.twice, (first..first + asked.twice).filter(differs).count() as u64)
}

fn tell(asked: &Asked, totals: &Totals, rows: &[(String, String, bool)], elapsed: Duration) {
    let images = totals.coverage.get("images");
    let last = asked.order.first_seed + totals.seeds.saturating_sub(1);
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|m| m.1);
    println!("commit {}", output_of("git", &["rev-parse", "--short=12", "HEAD"]));
    println!(
        "machine {}, {} threads, {}",
        model.unwrap_or("unknown"),
        asked.order.threads,
        output_of("uname", &["-sr"])
    );
    let rate = images as f64 / elapsed.as_secs_f64();
    println!(
        "seeds {} to {last}, {:.0} s, {rate:.0} images/s\n",
        asked.order.first_seed,
        elapsed.as_secs_f64()
    );
    let mut figures = Table::new();
    figures.set_header(["figure", "result"]);
    let names =
        |names: &[&str]| totals.violations.iter().filter(|(_, v)| names.contains(&v.name)).count() as u64;
    let all = totals.violations.len() as u64;
    figures.add_row(["crash images checked, class C".into(), in_all(all, images)]);
    let share = |name: &str| format!("{} of {images}", totals.coverage.get(name));
    figures.add_row([
        "in chains with two crashes or more".to_owned(),
        share("images of chains with two crashes or more"),
    ]);
    figures.add_row(["cut inside a recovery".to_owned(), share("images cut in a recovery")]);
    figures.add_row(["distinct cut moments".to_owned(), totals.coverage.get("cut moments").to_string()]);
    let promised = totals.coverage.get("versions promised");
    let kinds: [(&str, &[&str]); 6] = [
        ("acknowledged writes lost or stale", &["LOST", "STALE"]),
        ("deleted or truncated records returned", &["ZOMBIE", "TRUNCATED", "UNMASKED"]),
        ("excluded versions or torn groups returned", &["GHOST", "TORN GROUP"]),
        ("garbage returned", &["GARBAGE", "REFUSED", "NOT OPENED"]),
        ("expired records returned", &["EXPIRED"]),
        ("stuck or panicked", &["STUCK", "PANIC", "CLOSE"]),
    ];
    for (figure, of) in kinds {
        let count = if of.contains(&"LOST") { promised } else { images };
        figures.add_row([figure.to_owned(), in_all(names(of), count)]);
    }
    let compared = totals.coverage.get("checkpoint and sweep compared");
    figures.add_row([
        "checkpoint differs from a sweep (R10)".into(),
        in_all(names(&["CHECKPOINT DIFFERS"]), compared),
    ]);
    rows.iter().for_each(|(name, result, _)| {
        figures.add_row([name, result]);
    });
    print(&figures, asked.markdown);
}

/// Everything that was met, and what was found.
fn tell_counters(asked: &Asked, class: Class, totals: &Totals) {
    let mut counters = Table::new();
    counters.set_header([if class == Class::Crashes { "met, class C" } else { "met, class M" }, "times"]);
    for (name, count) in totals.coverage.rows() {
        counters.add_row([name, count.to_string()]);
    }
    print(&counters, asked.markdown);
    for (seed, violation) in &totals.violations {
        println!("seed {seed}: {violation}");
    }
    for name in totals.coverage.missing(class) {
        println!("never happened: {name}");
    }
}

fn tell_limits() {
    println!(
        "These are software cuts of a model: they hold for devices that honour FLUSH and FUA. The engine is the real \
         one above the device; kernel and drives are modelled. One node, no replication: damage to the medium is \
         seen, not repaired (class M). A relaxed write may be lost within flush_max and is not counted as promised before."
    );
}

fn main() -> ExitCode {
    let wrong = |why: String| {
        eprintln!("reliability-report: {why}");
        ExitCode::from(2)
    };
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => return wrong(why),
    };
    let rows: Result<Vec<_>, String> = asked.with.iter().map(|path| rows_of(path)).collect();
    let rows: Vec<_> = match rows {
        Ok(rows) => rows.into_iter().flatten().collect(),
        Err(why) => return wrong(why),
    };
    let begin = Instant::now();
    let totals = run(asked.order, |seed, violation| eprintln!("class C, seed {seed}: {violation}"));
    let elapsed = begin.elapsed();
    let of_media = Order { class: Class::Media, images: asked.media, ..asked.order };
    let media = run(of_media, |seed, violation| eprintln!("class M, seed {seed}: {violation}"));
    let (twice, differ) = lived_twice(&asked);
    let own = media_rows(&media).into_iter().map(|(name, result)| (name, result, true));
    let twin = ("lives lived twice, another hash".to_owned(), in_all(differ, twice), differ == 0);
    let all: Vec<_> = own.chain([twin]).chain(rows).collect();
    tell(&asked, &totals, &all, elapsed);
    tell_counters(&asked, Class::Crashes, &totals);
    tell_counters(&asked, Class::Media, &media);
    tell_limits();
    let is_whole =
        |class, totals: &Totals| totals.violations.is_empty() && totals.coverage.missing(class).is_empty();
    let is_good = is_whole(Class::Crashes, &totals)
        && is_whole(Class::Media, &media)
        && all.iter().all(|(_, _, is_good)| *is_good);
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
