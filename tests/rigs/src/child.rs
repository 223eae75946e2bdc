//! A child that runs the engine: started, listened to, killed.

use crate::host::apart;
use crate::load::Options;
use crate::wire::{Message, Tag};
use clap::ValueEnum;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a killed child may take to be gone: the kernel takes its rings apart, and every request is answered.
const DEATH: Duration = Duration::from_secs(20);
/// Between two looks at what was heard.
const PAUSE: Duration = Duration::from_millis(2);
/// What is kept of what a child prints, in bytes.
const ERRORS: usize = 16 << 10;

#[derive(Default)]
struct Heard {
    messages: Vec<Message>,
    ended: bool,
}

/// A running child.
pub struct Child {
    process: std::process::Child,
    heard: Arc<(Mutex<Heard>, Condvar)>,
    listener: Option<JoinHandle<()>>,
    errors: Option<JoinHandle<String>>,
}

impl Child {
    /// Starts this program again, as the child.
    pub fn start(options: &Options) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
        let mut command = Command::new(program);
        command.arg("child").arg("--path").arg(&options.path);
        command.args(["--seed", &options.seed.to_string(), "--life", &options.life.to_string()]);
        if let Some(planted) = options.planted.to_possible_value() {
            command.args(["--planted", planted.get_name()]);
        }
        command.args(options.relaxed.then_some("--relaxed"));
        command.args(options.whole_scan.then_some("--whole-scan"));
        command.args(options.only_verify.then_some("--only-verify"));
        let spawned =
            apart(&mut command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|error| format!("the child cannot be started: {error}"))?;
        let heard = Arc::<(Mutex<Heard>, Condvar)>::default();
        let (pipe, errors) = (process.stdout.take(), process.stderr.take());
        let hears = heard.clone();
        let listener = std::thread::spawn(move || {
            let mut pipe = pipe.map(BufReader::new);
            while let Some(Ok(Some(message))) = pipe.as_mut().map(Message::read) {
                hears.0.lock().messages.push(message);
                hears.1.notify_all();
            }
            hears.0.lock().ended = true;
            hears.1.notify_all();
        });
        let mut pipe = errors;
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut part = [0; 4096];
            while let Some(Ok(count @ 1..)) = pipe.as_mut().map(|pipe| pipe.read(&mut part)) {
                if text.len() < ERRORS {
                    text.extend_from_slice(&part[..count]);
                }
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Child { process, heard, listener: Some(listener), errors: Some(errors) })
    }

    /// Waits until `enough` says yes to what was heard; false if the child ends or the time does before.
    pub fn wait_until(&self, patience: Duration, enough: impl Fn(&[Message]) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut heard = self.heard.0.lock();
        loop {
            if enough(&heard.messages) {
                return true;
            }
            if heard.ended || self.heard.1.wait_until(&mut heard, deadline).timed_out() {
                return enough(&heard.messages);
            }
            // To ask after each of thousands of records would take longer than they do to come.
            MutexGuard::unlocked(&mut heard, || std::thread::sleep(PAUSE));
        }
    }

    /// Waits for a record with this tag.
    pub fn wait_for(&self, tag: Tag, patience: Duration) -> bool {
        self.wait_until(patience, |messages| messages.iter().any(|message| message.tag == tag))
    }

    /// How many records of a tag have been heard.
    pub fn count(&self, tag: Tag) -> usize {
        self.heard.0.lock().messages.iter().filter(|message| message.tag == tag).count()
    }

    /// How many records have been heard.
    pub fn heard(&self) -> usize {
        self.heard.0.lock().messages.len()
    }

    /// Kills it, and returns all it told, and what it printed. An error if it cannot be killed: it waits for a
    /// disk that does not answer.
    pub fn kill(mut self) -> Result<(Vec<Message>, String), String> {
        self.end()?;
        let errors = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        Ok((std::mem::take(&mut self.heard.0.lock().messages), errors))
    }

    fn end(&mut self) -> Result<(), String> {
        let _ = self.process.kill();
        match crate::host::wait(&mut self.process, DEATH) {
            Some(_) => Ok(()),
            None => Err(format!("the child {} does not die: it waits for the disk", self.process.id())),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
