//! Rules about the code, as tests. A violation is reported as `file:line: what`.
//!
//! Exceptions are listed here, each with its reason. An exception that is no longer needed fails too, so the
//! lists stay as short as the code allows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The most lines of a file.
const MAX_LINES: usize = 600;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] =
    &[("engine/src/device/tests.rs", "one body of cases for every driver; split when a driver joins")];

/// Files that contain `unsafe`, and why it cannot be had otherwise.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("engine/src/device/buffer.rs", "aligned memory that the kernel writes to"),
    ("engine/src/device/ring.rs", "io_uring takes pointers that must outlive the call"),
    ("engine/src/device/sys.rs", "system calls that neither std nor a crate offers"),
    ("engine/src/index/arena.rs", "words shared without a lock; huge pages"),
    ("benches/src/bin/device.rs", "asks the kernel how much processor time was used"),
    ("benches/src/bin/embedded.rs", "asks the kernel how much processor time was used"),
    ("benches/peers/src/engines/lmdb.rs", "to open a memory map is unsafe in its API"),
    ("tests/tests/bad_devices.rs", "asks the kernel whether it is root"),
];

/// The rooms of the engine, and which others each may name. Every file directly in `engine/src` is a room too.
const ROOMS: &[(&str, &[&str])] = &[
    ("planted", &[]),
    ("format", &["planted"]),
    ("device", &[]),
    ("index", &[]),
    ("record", &[]),
    ("clock", &[]),
    ("signal", &[]),
    ("latency", &[]),
    ("volume", &["format", "device", "index", "planted", "signal"]),
    ("error", &["format", "device", "record", "volume"]),
    ("progress", &["error"]),
    ("config", &["device", "error", "progress"]),
    (
        "namespace",
        &[
            "clock", "config", "device", "error", "format", "index", "latency", "planted", "record",
            "signal", "volume",
        ],
    ),
    (
        "jobs",
        &[
            "clock",
            "config",
            "device",
            "error",
            "format",
            "index",
            "namespace",
            "planted",
            "record",
            "signal",
            "volume",
        ],
    ),
    (
        "startup",
        &[
            "clock",
            "config",
            "device",
            "error",
            "format",
            "index",
            "jobs",
            "namespace",
            "planted",
            "progress",
            "record",
            "signal",
            "volume",
        ],
    ),
    ("backup", &["clock", "error", "format", "namespace", "record"]),
    ("engine", &["clock", "config", "device", "error", "jobs", "namespace", "record", "signal", "startup"]),
];

/// All that a room may know of another that it sees only in part.
const PARTS: &[(&str, &str, &[&str])] = &[
    ("volume", "index", &["Location", "SizeClass"]),
    ("startup", "jobs", &["in_parallel"]),
    ("error", "volume", &["HeaderError"]),
    ("error", "format", &["Fault"]),
    ("error", "device", &["DeviceError"]),
    ("error", "record", &["BinError", "Digest", "KeyError"]),
    ("engine", "namespace", &["Namespace", "core::Core"]),
];

/// Rooms of the server that speak a protocol each: none knows another.
const PROTOCOLS: &[&str] = &["redis", "aerospike", "memcache", "admin"];

/// Paths, or beginnings of paths, each with its reason.
type Places = &'static [(&'static str, &'static str)];

/// Time, threads and chance: which words, where they may stand, and why there.
const HANDED_IN: &[(&[&str], Places)] = &[
    (
        &["SystemTime", "Instant::now"],
        &[
            ("engine/src/clock.rs", "the clock that is handed in"),
            ("engine/src/device/file.rs", "waits for the kernel to let go of a closed raw device"),
        ],
    ),
    (
        &["thread::"],
        &[
            ("engine/src/jobs/mod.rs", "steps the jobs"),
            ("engine/src/device/", "drivers wait for the kernel"),
            ("engine/src/engine.rs", "asks how many cores there are"),
        ],
    ),
    (&["RandomState", "rand::", "getrandom"], &[("engine/src/engine.rs", "the seed that is handed in")]),
];

/// A source file of the repository.
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

/// A line of code, without comments and with string contents blanked.
struct Line {
    number: usize,
    code: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> Vec<Source> {
    fn collect(directory: &Path, root: &Path, found: &mut Vec<Source>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries.map(|entry| entry.expect("a directory can be read").path()) {
            if entry.is_dir() && !entry.ends_with("target") {
                collect(&entry, root, found);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let path = entry.strip_prefix(root).expect("it is below").to_string_lossy().into_owned();
                found.push(Source { path, text: std::fs::read_to_string(&entry).expect("it is text") });
            }
        }
    }
    let mut found = Vec::new();
    for part in ["engine", "server", "tools", "tests", "benches"] {
        collect(&root().join(part), &root(), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "the sources are not where they were");
    found
}

impl Source {
    /// Whether the whole file is a test.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }

    /// The lines of code outside of `#[cfg(test)]` items.
    fn lines(&self) -> Vec<Line> {
        let code = blank(&self.text);
        let mut lines = Vec::new();
        // Braces of a test item that are still open; `None` outside of one.
        let mut inside: Option<i64> = None;
        for (number, line) in (1..).zip(code.lines()) {
            if inside.is_none() && line.trim_start().starts_with("#[cfg(test)]") {
                inside = Some(0);
            }
            if let Some(open) = inside.as_mut() {
                *open += line.matches('{').count() as i64 - line.matches('}').count() as i64;
                if *open <= 0 && (line.contains('}') || line.trim_end().ends_with(';')) {
                    inside = None;
                }
                continue;
            }
            lines.push(Line { number, code: line.to_owned() });
        }
        lines
    }
}

/// The text with comments and the contents of strings and character literals replaced by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let skip = |out: &mut String, from: usize, to: usize| {
        out.extend(chars[from..to.min(chars.len())].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        to.min(chars.len())
    };
    let find = |from: usize, ends: &dyn Fn(usize) -> bool| (from..chars.len()).find(|&at| ends(at));
    while i < chars.len() {
        let next = chars.get(i + 1).copied().unwrap_or(' ');
        let word_before = i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_');
        match chars[i] {
            '/' if next == '/' => {
                let end = find(i, &|at| chars[at] == '\n').unwrap_or(chars.len());
                i = skip(&mut out, i, end);
            }
            '/' if next == '*' => {
                let end = find(i + 2, &|at| chars[at] == '*' && chars.get(at + 1) == Some(&'/'));
                i = skip(&mut out, i, end.map_or(chars.len(), |at| at + 2));
            }
            'r' if !word_before && (next == '"' || next == '#') => {
                let hashes = chars[i + 1..].iter().take_while(|&&c| c == '#').count();
                if chars.get(i + 1 + hashes) != Some(&'"') {
                    out.push('r');
                    i += 1;
                    continue;
                }
                let closes = |at: usize| {
                    chars[at] == '"' && (1..=hashes).all(|step| chars.get(at + step) == Some(&'#'))
                };
                let end = find(i + 2 + hashes, &closes);
                i = skip(&mut out, i, end.map_or(chars.len(), |at| at + 1 + hashes));
            }
            '"' => {
                let mut end = i + 1;
                while end < chars.len() && chars[end] != '"' {
                    end += if chars[end] == '\\' { 2 } else { 1 };
                }
                i = skip(&mut out, i, end + 1);
            }
            '\'' if next == '\\' => {
                let end = find(i + 3, &|at| chars[at] == '\'');
                i = skip(&mut out, i, end.map_or(chars.len(), |at| at + 1));
            }
            '\'' if chars.get(i + 2) == Some(&'\'') => i = skip(&mut out, i, i + 3),
            c => {
                out.push(c);
                i += 1;
            }
        }
    }
    out
}

/// Whether `word` stands in `code` with no letter, digit or underscore before it.
fn has_word(code: &str, word: &str) -> bool {
    let starts_word = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| starts_word(at))
}

fn assert_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}

/// Every `crate::a::b` and `crate::{a::b, c}` of a file: line, room, and what of the room. `super` is followed
/// where it leaves the room.
fn paths_of(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines = source.lines();
    let mut i = 0;
    while i < lines.len() {
        let (number, mut code) = (lines[i].number, lines[i].code.clone());
        // A `use` over several lines is one path.
        if code.trim_start().starts_with("use ") || code.trim_start().starts_with("pub use ") {
            while !code.contains(';') && i + 1 < lines.len() {
                i += 1;
                code.push_str(&lines[i].code);
            }
        }
        let code: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
        for (at, _) in code.match_indices("crate::") {
            if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                expand("", &code[at + 7..], &mut |path| found.push((number, path)));
            }
        }
        i += 1;
    }
    found
}

/// Takes `a::{b, c::d}` apart into `a::b` and `a::c::d`. Returns how many bytes the path took.
fn expand(prefix: &str, code: &str, found: &mut impl FnMut(String)) -> usize {
    let word = code.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(code.len());
    let path = if prefix.is_empty() || word == 0 {
        format!("{prefix}{}", &code[..word])
    } else {
        format!("{prefix}::{}", &code[..word])
    };
    let rest = &code[word..];
    if let Some(more) = rest.strip_prefix("::") {
        return word + 2 + expand(&path, more, found);
    }
    if !rest.starts_with('{') {
        found(path);
        return word;
    }
    let mut at = word + 1;
    loop {
        at += code[at..].len() - code[at..].trim_start_matches([' ', ',']).len();
        if at >= code.len() || code[at..].starts_with('}') {
            return at + 1;
        }
        let taken = expand(&path, &code[at..], found);
        at += taken.max(1);
        // An alias is of no interest.
        at += code[at..].find([',', '}', '{']).unwrap_or(0);
    }
}

#[test]
fn imports_go_down_only() {
    let mut violations = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let Some(path) = source.path.strip_prefix("engine/src/") else { continue };
        let room = path.split(['/', '.']).next().unwrap_or("");
        if room == "lib" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            violations.push(format!("{}:1: the room {room} is not in the list of rooms", source.path));
            continue;
        };
        for (line, named) in paths_of(source) {
            let (other, what) = named.split_once("::").unwrap_or((&named, ""));
            if other == room {
                continue;
            }
            seen.insert((room.to_owned(), other.to_owned()));
            if !allowed.contains(&other) {
                violations.push(format!("{}:{line}: {room} may not know {other}", source.path));
            }
            let part = PARTS.iter().find(|(from, to, _)| (*from, *to) == (room, other));
            if part.is_some_and(|(_, _, parts)| !parts.contains(&what)) {
                violations.push(format!("{}:{line}: {room} may not know {other}::{what}", source.path));
            }
        }
    }
    assert_none("imports go down only", &violations);
    // The reader of imports reads: these are there.
    for (from, to) in [("volume", "format"), ("namespace", "volume"), ("startup", "namespace")] {
        assert!(seen.contains(&(from.to_owned(), to.to_owned())), "no import of {to} was seen in {from}");
    }
}

#[test]
fn no_room_is_reached_by_going_up() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("engine/src/")) {
        // From `room/file.rs` one step up is the room itself, from `room/mod.rs` it is the crate.
        let depth = source.path.matches('/').count() - 2;
        let above = if source.path.ends_with("/mod.rs") { depth - 1 } else { depth };
        for line in source.lines() {
            let ups = (1..8).rev().find(|&count| has_word(&line.code, &"super::".repeat(count))).unwrap_or(0);
            if ups > above && !source.is_test() {
                violations.push(format!("{}:{}: `super` leaves the room", source.path, line.number));
            }
        }
    }
    assert_none("rooms are named by `crate::`, so that imports can be read", &violations);
}

#[test]
fn no_protocol_knows_another() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let Some(path) = source.path.strip_prefix("server/src/") else { continue };
        let room = path.split(['/', '.']).next().unwrap_or("");
        if !PROTOCOLS.contains(&room) {
            continue;
        }
        for (line, named) in paths_of(source) {
            let other = named.split("::").next().unwrap_or("");
            if other != room && PROTOCOLS.contains(&other) {
                violations.push(format!("{}:{line}: {room} may not know {other}", source.path));
            }
        }
    }
    assert_none("protocols do not know each other", &violations);
}

#[test]
fn unsafe_code_is_where_the_list_says() {
    let mut found = BTreeSet::new();
    let mut violations = Vec::new();
    for source in sources() {
        let code = blank(&source.text);
        for (number, line) in (1..).zip(code.lines()) {
            let is_unsafe =
                has_word(line, "unsafe ") || has_word(line, "unsafe{") || line.ends_with("unsafe");
            if is_unsafe && !UNSAFE_FILES.iter().any(|(path, _)| *path == source.path) {
                violations.push(format!("{}:{number}: unsafe outside of the listed files", source.path));
            }
            if is_unsafe {
                found.insert(source.path.clone());
            }
        }
    }
    assert_none("unsafe code", &violations);
    for (path, _) in UNSAFE_FILES {
        assert!(found.contains(*path), "{path} has no unsafe code any more: take it off the list");
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let mut violations = Vec::new();
    let mut long = BTreeSet::new();
    for source in sources() {
        let count = source.text.lines().count();
        if count > MAX_LINES {
            long.insert(source.path.clone());
            if !LONG_FILES.iter().any(|(path, _)| *path == source.path) {
                violations.push(format!("{}:{count}: more than {MAX_LINES} lines", source.path));
            }
        }
    }
    assert_none("length of files", &violations);
    for (path, _) in LONG_FILES {
        assert!(long.contains(*path), "{path} is short enough now: take it off the list");
    }
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}:1: does not open with `//!`", source.path))
        .collect();
    assert_none("a file opens with what it is for", &silent);
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if !source.path.starts_with("engine/src/") && !source.path.starts_with("server/src/") {
            continue;
        }
        for line in source.lines() {
            if line.code.contains(".unwrap()") || line.code.contains(".unwrap_err()") {
                violations.push(format!("{}:{}: unwrap; expect says why it holds", source.path, line.number));
            }
        }
    }
    assert_none("no unwrap", &violations);
}

#[test]
fn no_note_is_left_for_later() {
    let words: Vec<String> =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].iter().map(|parts| parts.concat()).collect();
    let mut violations = Vec::new();
    let mut documents: Vec<Source> = sources();
    let docs = std::fs::read_dir(root().join("docs")).expect("there are documents");
    for entry in docs.map(|entry| entry.expect("a directory can be read").path()) {
        let path = format!("docs/{}", entry.file_name().unwrap_or_default().to_string_lossy());
        documents.push(Source { path, text: std::fs::read_to_string(&entry).unwrap_or_default() });
    }
    for source in &documents {
        for (number, line) in (1..).zip(source.text.lines()) {
            if line.contains('\u{2014}') || line.contains('\u{2013}') {
                violations.push(format!("{}:{number}: a long dash", source.path));
            }
            for word in words.iter().filter(|word| has_word(line, word)) {
                violations.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    assert_none("nothing for later, no long dashes", &violations);
}

#[test]
fn time_threads_and_chance_are_handed_in() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("engine/src/") && !s.is_test()) {
        for line in source.lines() {
            for (words, places) in HANDED_IN {
                let is_home = places.iter().any(|(path, _)| source.path.starts_with(path));
                for word in words.iter().filter(|word| !is_home && has_word(&line.code, word)) {
                    violations
                        .push(format!("{}:{}: {word} has its place elsewhere", source.path, line.number));
                }
            }
        }
    }
    assert_none("time, threads and chance are handed in", &violations);
    for (path, why) in HANDED_IN.iter().flat_map(|(_, places)| places.iter()) {
        assert!(root().join(path).exists(), "{path} ({why}) is gone: take it off the list");
    }
}

/// What stands in backticks in a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn what_the_architecture_names_is_there() {
    let text = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("it is there");
    let sources = sources();
    let mut violations = Vec::new();
    let mut invariants = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for name in quoted(line).filter(|name| name.ends_with(".rs") && !name.contains(' ')) {
            if !sources.iter().any(|source| source.path.ends_with(&format!("/{name}")) || source.path == name)
            {
                violations.push(format!("docs/ARCHITECTURE.md:{number}: there is no file {name}"));
            }
        }
        let Some(row) = line.strip_prefix("| **I") else { continue };
        let (id, row) = row.split_once("** |").expect("a number");
        invariants.push(id.parse::<u32>().expect("a number"));
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap_or("");
        if quoted(tests).next().is_none() && !tests.contains("no named test yet") {
            violations
                .push(format!("docs/ARCHITECTURE.md:{number}: I{id} names no test and does not say so"));
        }
        for name in quoted(tests) {
            if !sources.iter().any(|source| source.text.contains(&format!("fn {name}()"))) {
                violations.push(format!("docs/ARCHITECTURE.md:{number}: there is no test {name}"));
            }
        }
    }
    assert_none("the architecture names what is there", &violations);
    assert_eq!(invariants, (1..=12).collect::<Vec<_>>(), "the invariants I1 to I12");
}

#[test]
fn the_reader_of_code_sees_code_only() {
    let text = "let a = \"// unsafe \"; // unsafe x\nlet b = '\"'; /* unsafe */ let c = r#\"unsafe \"#;\n\
                fn f<'a>(x: &'a str) {}\n";
    let code = blank(text);
    assert!(!code.contains("unsafe") && code.contains("let c =") && code.contains("fn f<'a>(x: &'a str) {}"));
    assert_eq!(code.lines().count(), text.lines().count());
    let mut found = Vec::new();
    expand("", "a::{b, c::{D, E as F}, g::H}; x", &mut |path| found.push(path));
    assert_eq!(found, ["a::b", "a::c::D", "a::c::E", "a::g::H"]);
}
