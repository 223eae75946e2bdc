//! A memory cgroup, of version 2 or 1, that holds one process to so many bytes with the page cache that it fills.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A group of its own; removed when it is dropped, which needs its process to have ended.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one. Needs root.
    pub fn new(limit: u64) -> io::Result<Self> {
        let name = format!("aerolith-peers-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if controllers.split_whitespace().any(|controller| controller == "memory") {
            fs::write(root.join("cgroup.subtree_control"), "+memory")?;
            let group = Cgroup { path: root.join(name) };
            fs::create_dir(&group.path)?;
            fs::write(group.path.join("memory.max"), limit.to_string())?;
            // Missing where the kernel has no swap.
            let _ = fs::write(group.path.join("memory.swap.max"), "0");
            Ok(group)
        } else {
            let group = Cgroup { path: root.join("memory").join(name) };
            fs::create_dir(&group.path)?;
            fs::write(group.path.join("memory.limit_in_bytes"), limit.to_string())?;
            Ok(group)
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts this process into the group at `path`.
    pub fn join(path: &Path) -> io::Result<()> {
        fs::write(path.join("cgroup.procs"), std::process::id().to_string())
    }

    /// The most that the group has held at a time, in bytes; with the page cache, so often the limit.
    pub fn peak(path: &Path) -> Option<u64> {
        let text = fs::read_to_string(path.join("memory.peak"))
            .or_else(|_| fs::read_to_string(path.join("memory.max_usage_in_bytes")));
        text.ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}
