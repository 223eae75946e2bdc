//! What one answer of `/stats` says, as far as the screen shows it. What is not there is 0, so another version's answer is no error.

use serde_json::Value;

/// One kind of operation.
pub struct Operation {
    pub name: String,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// One device.
pub struct Device {
    pub path: String,
    pub blocks: f64,
    pub free_blocks: f64,
    pub used: f64,
    pub size: f64,
    pub read: f64,
    pub written: f64,
    pub errors: f64,
    pub latched: Option<String>,
}

/// See the head of this file.
pub struct Sample {
    figures: Value,
    pub operations: Vec<Operation>,
    pub devices: Vec<Device>,
}

impl Sample {
    /// Takes an answer apart.
    pub fn of(figures: &Value) -> Sample {
        let all = |name: &str| figures[name].as_array().cloned().unwrap_or_default();
        let operation = |of: &Value| {
            let recent = |name: &str| number(&of["recent"][name]);
            Operation {
                name: format!("{} {}", text(&of["protocol"]), text(&of["class"])),
                per_second: number(&of["per_second"]),
                p50_us: recent("p50_us"),
                p99_us: recent("p99_us"),
                p999_us: recent("p999_us"),
                max_us: recent("max_us"),
            }
        };
        let device = |of: &Value| Device {
            path: text(&of["path"]),
            blocks: number(&of["blocks"]),
            free_blocks: number(&of["free_blocks"]),
            used: number(&of["used_bytes"]),
            size: number(&of["size_bytes"]),
            read: number(&of["read_bytes"]),
            written: number(&of["written_bytes"]),
            errors: number(&of["errors"]),
            latched: of["latched"].as_str().map(safe),
        };
        Sample {
            operations: all("operations").iter().map(operation).collect(),
            devices: all("devices").iter().map(device).collect(),
            figures: figures.clone(),
        }
    }

    /// A figure by its path, as `reads.hits`.
    pub fn get(&self, path: &str) -> f64 {
        number(self.at(path))
    }

    /// A text by its path.
    pub fn text(&self, path: &str) -> String {
        text(self.at(path))
    }

    fn at(&self, path: &str) -> &Value {
        path.split('.').fold(&self.figures, |value, name| value.get(name).unwrap_or(&Value::Null))
    }

    /// Seconds since an earlier answer; none if there was none, or not of the same run of the server.
    pub fn seconds_since(&self, before: Option<&Sample>) -> Option<f64> {
        let before = before?;
        let is_same = self.get("process.pid") == before.get("process.pid");
        let seconds = (self.get("time_ms") - before.get("time_ms")) / 1000.0;
        (is_same && seconds > 0.0).then_some(seconds)
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn text(value: &Value) -> String {
    value.as_str().map(safe).unwrap_or_default()
}

/// Without what a terminal would take for a command.
fn safe(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
