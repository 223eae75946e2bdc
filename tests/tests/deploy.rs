//! What lies in `server/deploy` speaks of the server as it is: metric names, settings, paths and ports.

mod redis_rig;

use redis_rig::{ANY_PORT, Running};
use std::collections::BTreeSet;

const DASHBOARD: &str = include_str!("../../server/deploy/grafana-dashboard.json");
const RULES: &str = include_str!("../../server/deploy/prometheus-rules.yml");
const RULE_TESTS: &str = include_str!("../../server/deploy/prometheus-rules.test.yml");
const UNIT: &str = include_str!("../../server/deploy/aerolithd.service");
const DOCKERFILE: &str = include_str!("../../server/deploy/Dockerfile");
const KUBERNETES: &str = include_str!("../../server/deploy/kubernetes.yaml");
const PAGE: &str = include_str!("../../server/src/admin/page.html");

/// The words that begin with `start` and go on as names do.
fn words<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let found = text.match_indices(start).map(|(at, _)| {
        let rest = &text[at..];
        &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
    });
    found.filter(|word| word.len() > start.len()).collect()
}

fn running() -> Running {
    Running::with(|config| {
        config.size.0 = 256 << 20;
        config.admin_port = ANY_PORT;
    })
}

/// What `/metrics` exports: the names of its samples, and the labels of each.
fn exported(running: &Running) -> (BTreeSet<String>, BTreeSet<String>) {
    let (_, text) = running.admin("/metrics");
    let mut labels = BTreeSet::new();
    let names = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let name = line.split(['{', ' ']).next().unwrap();
        for label in line.split(['{', ',']).skip(1).filter_map(|rest| rest.split_once("=\"")) {
            labels.insert(format!("{name} {}", label.0));
        }
        name.to_owned()
    });
    (names.collect(), labels)
}

#[test]
fn every_metric_of_dashboard_and_rules_is_exported() {
    let (names, _) = exported(&running());
    for (file, text) in [("dashboard", DASHBOARD), ("rules", RULES), ("tests of the rules", RULE_TESTS)] {
        let used = words(text, "aerolith_");
        assert!(used.len() >= 3, "{file}: {used:?}");
        for name in used {
            assert!(names.contains(name), "{file}: {name} is not exported");
        }
    }
}

#[test]
fn every_label_of_dashboard_and_rules_is_exported() {
    let (_, labels) = exported(&running());
    let exists = |name: &str| labels.iter().any(|label| label.split(' ').nth(1) == Some(name));
    // What Prometheus adds by itself.
    let added = ["instance", "job"];
    for text in [DASHBOARD, RULES] {
        for by in text.split("by (").skip(1) {
            let list = by.split(')').next().unwrap();
            for name in list.split(',').map(str::trim) {
                assert!(added.contains(&name) || exists(name), "{name} in by ({list})");
            }
        }
        for name in text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
            let name = name.trim().trim_start_matches("$labels.");
            assert!(added.contains(&name) || name.starts_with("$value") || exists(name), "{name}");
        }
    }
}

#[test]
fn every_flag_is_a_setting() {
    let settings: Vec<String> =
        aerolith_server::Config::default().shown().into_iter().map(|(name, _)| format!("--{name}")).collect();
    for (file, text) in [("unit", UNIT), ("Dockerfile", DOCKERFILE), ("kubernetes.yaml", KUBERNETES)] {
        let own = text.lines().filter(|line| {
            !line.starts_with('#')
                && ["ExecStart", "ENTRYPOINT", "args:"].iter().any(|word| line.contains(word))
        });
        let flags: Vec<&str> = own.flat_map(|line| words(line, "--")).collect();
        assert!(flags.len() >= 2, "{file}: {flags:?}");
        for flag in flags {
            assert!(flag == "--config" || settings.iter().any(|name| name == flag), "{file}: {flag}");
        }
    }
}

#[test]
fn kubernetes_asks_the_ports_and_paths_that_are_there() {
    let defaults = aerolith_server::Config::default();
    assert!(KUBERNETES.contains(&format!("name: redis, containerPort: {}", defaults.redis_port)));
    assert!(KUBERNETES.contains(&format!("name: admin, containerPort: {}", defaults.admin_port)));
    assert!(DOCKERFILE.contains(&format!("EXPOSE {} {}", defaults.redis_port, defaults.admin_port)));
    assert!(
        KUBERNETES.contains("mountPath: /var/lib/aerolith") && DOCKERFILE.contains("/var/lib/aerolith\"")
    );
    let running = running();
    let paths: BTreeSet<&str> = KUBERNETES
        .split("path: ")
        .skip(1)
        .filter_map(|rest| rest.split([',', '\n', ' ']).next())
        .filter(|path| path.starts_with('/'))
        .collect();
    assert_eq!(paths.iter().copied().collect::<Vec<_>>(), ["/health", "/metrics", "/ready"]);
    for path in paths {
        assert_eq!(running.admin(path).0, 200, "{path}");
    }
}

#[test]
fn each_file_says_how_it_was_checked() {
    for text in [DASHBOARD, RULES, RULE_TESTS, UNIT, DOCKERFILE, KUBERNETES] {
        let head: String = text.lines().take(5).collect();
        assert!(head.contains("Checked: ") || head.contains("Not checked"), "{head}");
    }
}

#[test]
fn the_page_asks_nobody_else_and_stays_small() {
    assert!(PAGE.lines().count() < 700);
    for scheme in ["http://", "https://", "//cdn", "@import", "src="] {
        // The name of a namespace in the icon is no address that anything is fetched from.
        let rest = PAGE.replace("xmlns='http://www.w3.org/2000/svg'", "");
        assert!(!rest.contains(scheme), "{scheme}");
    }
}
