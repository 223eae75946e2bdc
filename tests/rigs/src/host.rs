//! What the rigs ask of the machine: loop devices, file systems, mounts, and getting rid of all of it again.
//!
//! Everything is asked of the usual programs (`losetup`, `mkfs.ext4`, `mount`), as children with a deadline: a
//! process that waits for a dead disk cannot be interrupted, and it must not be this one. A child that misses its
//! deadline is killed and left behind; the connection of the faulty file system is then aborted through
//! `/sys/fs/fuse/connections`, which answers whatever still waits.
//!
//! Everything lies below `/run/aerolith-rigs-PID`. By that name, and by no other, [`clean_up`] finds what an
//! earlier run has left whose process is gone.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Beginning of the names of all that the rigs make.
const NAME: &str = "/run/aerolith-rigs-";
/// What a program may take, mkfs and mount included.
const PATIENCE: Duration = Duration::from_secs(30);

/// What lies between the engine and the faulty file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stack {
    /// ext4 on a loop device.
    Ext4,
    /// XFS on a loop device.
    Xfs,
    /// A loop device, as a raw block device.
    Raw,
    /// Nothing: the engine's file is the faulty file system's own.
    Direct,
}

impl Stack {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Stack::Ext4 => "ext4",
            Stack::Xfs => "xfs",
            Stack::Raw => "raw",
            Stack::Direct => "direct",
        }
    }

    /// Bytes of the disk below. XFS wants 300 MiB at least.
    pub fn disk_size(self) -> u64 {
        match self {
            Stack::Ext4 => 96 << 20,
            Stack::Xfs => 320 << 20,
            Stack::Raw | Stack::Direct => crate::load::DATA_SIZE,
        }
    }

    /// The arguments of its mkfs; none where it has no file system.
    fn mkfs(self, sector_size: u32, device: &str) -> Option<(&'static str, Vec<String>)> {
        let words = |text: &str| text.split(' ').map(str::to_owned).chain([device.to_owned()]).collect();
        match self {
            Stack::Ext4 => Some(("mkfs.ext4", words("-q -F -b 4096 -E nodiscard,lazy_itable_init=0"))),
            Stack::Xfs => Some(("mkfs.xfs", words(&format!("-q -f -K -s size={sector_size}")))),
            Stack::Raw | Stack::Direct => None,
        }
    }

    /// Why it cannot be had on this machine, if so.
    pub fn missing(self) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("not root: mounting and loop devices need it".into());
        }
        if !Path::new("/dev/fuse").exists() {
            return Some("there is no /dev/fuse: the kernel has no FUSE, or a container hides it".into());
        }
        if self != Stack::Direct && !Path::new("/dev/loop-control").exists() {
            return Some("there is no /dev/loop-control: the kernel has no loop devices".into());
        }
        let kernel = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let has = |name: &str| kernel.lines().any(|line| line.split_whitespace().last() == Some(name));
        let (file_system, program) = match self {
            Stack::Ext4 => ("ext4", "mkfs.ext4"),
            Stack::Xfs => ("xfs", "mkfs.xfs"),
            Stack::Raw => ("fuse", "losetup"),
            Stack::Direct => ("fuse", "umount"),
        };
        if !has(file_system) {
            // A module that is not loaded is not listed.
            let _ = run("modprobe", &[file_system]);
            let kernel = fs::read_to_string("/proc/filesystems").unwrap_or_default();
            if !kernel.lines().any(|line| line.split_whitespace().last() == Some(file_system)) {
                return Some(format!("the kernel knows no {file_system} (/proc/filesystems)"));
            }
        }
        let needed = [program, "losetup", "mount", "umount"];
        let absent = needed.into_iter().find(|program| find(program).is_none())?;
        Some(format!("there is no {absent}: install it (e2fsprogs, xfsprogs, mount)"))
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.exists())
}

/// Runs a program to its end, and returns what it printed. An error says what it was and what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    finish(start(program, arguments)?, program, arguments)
}

/// Puts a program into a process group of its own: an interrupt from the terminal goes to the rig alone, which then ends
/// what it has begun and takes down what it has put up. A child that the interrupt had met as well would look like one
/// that failed, and a program that mounts or detaches would leave half of it.
pub fn apart(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Starts a program.
pub fn start(program: &str, arguments: &[&str]) -> Result<Child, String> {
    let path = find(program).unwrap_or_else(|| program.into());
    apart(&mut Command::new(path))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))
}

/// Waits for a program that was started.
pub fn finish(mut child: Child, program: &str, arguments: &[&str]) -> Result<String, String> {
    let what = || format!("{program} {}", arguments.join(" "));
    let Some(status) = wait(&mut child, PATIENCE) else {
        let _ = child.kill();
        return Err(format!("{}: no end within {} s", what(), PATIENCE.as_secs()));
    };
    let mut output = String::new();
    let mut errors = String::new();
    if let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) {
        let _ = out.read_to_string(&mut output);
        let _ = err.read_to_string(&mut errors);
    }
    if status.success() {
        Ok(output.trim().to_owned())
    } else {
        Err(format!("{}: {}", what(), errors.trim()))
    }
}

/// Waits for a child, at most so long.
pub fn wait(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The directories of a run.
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes them, named by this process.
    pub fn new() -> Result<Self, String> {
        let root = PathBuf::from(format!("{NAME}{}", std::process::id()));
        for part in ["fuse", "mnt"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(Home { root })
    }

    /// Where the faulty file system is mounted.
    pub fn fuse(&self) -> PathBuf {
        self.root.join("fuse")
    }

    /// Where the file system on the loop device is mounted.
    pub fn mount_point(&self) -> PathBuf {
        self.root.join("mnt")
    }

    /// The disk.
    pub fn disk(&self) -> PathBuf {
        self.fuse().join(crate::fuse::FILE)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        take_down(&self.root);
    }
}

/// A stack that is set up. Dropped, it is taken down.
pub struct Setup {
    mount_point: Option<PathBuf>,
    device: Option<String>,
    /// The file or device for the engine.
    pub path: PathBuf,
}

/// A stack whose file system is being mounted.
pub struct Mounting {
    setup: Setup,
    child: Option<(Child, Vec<String>)>,
}

impl Setup {
    /// Attaches the loop device and makes the file system, where the stack has them.
    pub fn format(home: &Home, stack: Stack, sector_size: u32) -> Result<(), String> {
        let Some(device) = attach(home, stack, sector_size)? else { return Ok(()) };
        let setup = Setup { mount_point: None, device: Some(device.clone()), path: device.clone().into() };
        if let Some((program, arguments)) = stack.mkfs(sector_size, &device) {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run(program, &arguments)?;
        }
        run("blockdev", &["--flushbufs", &device])?;
        drop(setup);
        Ok(())
    }

    /// Begins to set the stack up: the loop device is attached, and the file system's mount has begun.
    pub fn begin(home: &Home, stack: Stack, sector_size: u32) -> Result<Mounting, String> {
        let device = attach(home, stack, sector_size)?;
        let (file_system, options) = match stack {
            Stack::Ext4 => ("ext4", "noatime"),
            // An earlier life that the kernel still holds has the same UUID.
            Stack::Xfs => ("xfs", "noatime,nouuid"),
            Stack::Raw | Stack::Direct => {
                let path = device.clone().map_or_else(|| home.disk(), PathBuf::from);
                let setup = Setup { mount_point: None, device, path };
                return Ok(Mounting { setup, child: None });
            }
        };
        let mount_point = home.mount_point();
        let path = mount_point.join("aerolith.data");
        let name = device.clone().unwrap_or_default();
        let setup = Setup { mount_point: Some(mount_point.clone()), device, path };
        let at = mount_point.to_string_lossy().into_owned();
        let arguments: Vec<String> =
            ["-t", file_system, "-o", options, &name, &at].iter().map(|word| (*word).to_owned()).collect();
        let child = start("mount", &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Mounting { setup, child: Some((child, arguments)) })
    }
}

impl Mounting {
    /// Waits until it is mounted; the kernel has then replayed its journal.
    pub fn finish(self) -> Result<Setup, String> {
        let Mounting { setup, child } = self;
        if let Some((child, arguments)) = child {
            finish(child, "mount", &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(setup)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Some(mount_point) = &self.mount_point {
            unmount(mount_point);
        }
        if let Some(device) = &self.device {
            detach(device);
        }
    }
}

fn attach(home: &Home, stack: Stack, sector_size: u32) -> Result<Option<String>, String> {
    if stack == Stack::Direct {
        return Ok(None);
    }
    let (size, disk) = (sector_size.to_string(), home.disk());
    let disk = disk.to_string_lossy();
    run("losetup", &["--direct-io=on", "--sector-size", &size, "--find", "--show", &disk]).map(Some)
}

/// Unmounts at once if possible, else as soon as nobody uses it: the kernel takes the rings of a killed process
/// apart at its leisure.
fn unmount(mount_point: &Path) {
    let at = mount_point.to_string_lossy();
    for _ in 0..50 {
        if !is_mounted(mount_point) || run("umount", &[&at]).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = run("umount", &["-l", &at]);
}

fn detach(device: &str) {
    let _ = run("losetup", &["--detach", device]);
}

fn is_mounted(mount_point: &Path) -> bool {
    mounts().iter().any(|(path, _)| path == mount_point)
}

/// All mount points, with the minor number of their device.
fn mounts() -> Vec<(PathBuf, String)> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ').skip(2);
        let minor = words.next()?.split(':').nth(1)?.to_owned();
        Some((PathBuf::from(words.nth(1)?), minor))
    };
    table.lines().filter_map(line).collect()
}

/// Takes everything below a root down, whatever state it is in.
fn take_down(root: &Path) {
    unmount(&root.join("mnt"));
    let fuse = root.join("fuse");
    let disk = fuse.join(crate::fuse::FILE);
    for (device, backing) in loops() {
        if backing == disk {
            detach(&device);
        }
    }
    // Found without touching the mount: nobody may be serving it.
    let connection = mounts().into_iter().find(|(path, _)| *path == fuse).map(|(_, minor)| minor);
    if let Some(minor) = connection {
        let _ = run("umount", &["-l", &fuse.to_string_lossy()]);
        let _ = fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1");
    }
    for path in [root.join("mnt"), fuse, root.to_owned()] {
        let _ = fs::remove_dir(path);
    }
}

/// Loop devices with the files behind them.
fn loops() -> Vec<(String, PathBuf)> {
    let Ok(devices) = fs::read_dir("/sys/block") else { return Vec::new() };
    let with_file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok().filter(|name| name.starts_with("loop"))?;
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        Some((format!("/dev/{name}"), PathBuf::from(file.trim())))
    };
    devices.flatten().filter_map(with_file).collect()
}

/// Takes down what earlier runs have left whose processes are gone. Returns the roots.
pub fn clean_up() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/run") else { return Vec::new() };
    let is_left = |path: &PathBuf| {
        let pid =
            path.to_str().and_then(|path| path.strip_prefix(NAME)).and_then(|pid| pid.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    let left: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_left).collect();
    left.iter().for_each(|root| take_down(root));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_an_end_is_given_up() {
        let mut child = start("sleep", &["20"]).expect("there is a sleep");
        assert!(wait(&mut child, Duration::from_millis(5)).is_none());
        child.kill().expect("it runs");
        assert!(wait(&mut child, Duration::from_secs(10)).is_some());
    }

    #[test]
    fn an_error_says_what_was_run_and_what_it_said() {
        let error = run("ls", &["/there/is/nothing"]).expect_err("it is not there");
        assert!(error.starts_with("ls /there/is/nothing: ") && error.contains("No such file"), "{error}");
        assert!(run("no-such-program-here", &[]).is_err());
    }

    #[test]
    fn a_program_has_a_process_group_of_its_own() {
        // `pid (comm) state ppid pgrp`
        let stat = run("cat", &["/proc/self/stat"]).unwrap();
        let fields: Vec<&str> = stat.split(' ').collect();
        assert_eq!(fields[0], fields[4], "{stat}");
        assert_ne!(fields[4], std::process::id().to_string());
    }

    #[test]
    fn mounts_are_read() {
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(Path::new("/run/aerolith-rigs-none/fuse")));
    }
}
