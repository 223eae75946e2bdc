//! How long a server takes to come back after `kill -9`: to its first answer, and until all data is there.
//!
//! Starts the server's command, fills it over Redis's protocol, waits, kills it, starts the same command again and asks every
//! millisecond. `PING` answered with anything is the first answer; `PING` answered with `PONG` and the right `DBSIZE`
//! is all data. Only processes that it started are ended.
//!
//! ```text
//! restart --port 7301 --records 2000000 -- target/release/aerolithd --data-dir D --redis-port 7301 --admin-port 0
//! restart --port 7302 --records 2000000 -- redis-server --port 7302 --dir D --save "" --appendonly yes
//! ```

use clap::Parser;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
#[command(about = "Times a server's return after kill -9")]
struct Options {
    /// The port on 127.0.0.1 that the command listens on.
    #[arg(long)]
    port: u16,
    /// How many records are written.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Seconds between the last write and the kill.
    #[arg(long, default_value_t = 5)]
    wait: u64,
    /// How often it is killed and started again.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The data is there already: only kill and start.
    #[arg(long)]
    filled: bool,
    /// The server and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A server that ends with this value.
struct Server(Child);

impl Server {
    fn start(options: &Options) -> Result<Server, Failure> {
        let mut command = Command::new(&options.command[0]);
        command.args(&options.command[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Server(command.spawn()?))
    }

    fn kill(mut self) -> Result<(), Failure> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One line's answer to one command.
fn ask(port: u16, command: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Waits until `is_there` says so, at most `limit`.
fn until(limit: Duration, mut is_there: impl FnMut() -> bool) -> Result<Duration, Failure> {
    let start = Instant::now();
    while !is_there() {
        if start.elapsed() > limit {
            return Err(format!("not there after {limit:?}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(start.elapsed())
}

fn fill(options: &Options) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", options.port))?;
    let mut reader = stream.try_clone()?;
    let mut value = vec![0u8; options.size];
    let (mut batch, mut replies) = (Vec::new(), vec![0u8; 5 * 1000]);
    let mut id = 0u64;
    while id < options.records {
        batch.clear();
        let count = (options.records - id).min(1000);
        for key in id..id + count {
            for (at, byte) in value.iter_mut().enumerate() {
                *byte = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(at as u32 * 7) >> 13) as u8;
            }
            let key = format!("key:{key:012}");
            batch.extend(format!("*3\r\n$3\r\nSET\r\n$16\r\n{key}\r\n${}\r\n", value.len()).bytes());
            batch.extend_from_slice(&value);
            batch.extend_from_slice(b"\r\n");
        }
        stream.write_all(&batch)?;
        reader.read_exact(&mut replies[..5 * count as usize])?;
        if replies[..5 * count as usize].chunks(5).any(|reply| reply != b"+OK\r\n") {
            return Err("a SET was refused".into());
        }
        id += count;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let whole = format!(":{}", options.records);
    let is_whole = || ask(options.port, "DBSIZE").is_ok_and(|answer| answer == whole);
    let mut server = Server::start(&options)?;
    until(Duration::from_secs(300), || ask(options.port, "PING").is_ok_and(|answer| answer == "+PONG"))?;
    if !options.filled {
        let start = Instant::now();
        fill(&options)?;
        println!("filled with {} records in {:.1} s", options.records, start.elapsed().as_secs_f64());
    }
    std::thread::sleep(Duration::from_secs(options.wait));
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        server.kill()?;
        let start = Instant::now();
        server = Server::start(&options)?;
        until(Duration::from_secs(600), || ask(options.port, "PING").is_ok_and(|answer| !answer.is_empty()))?;
        let first = start.elapsed();
        until(Duration::from_secs(600), is_whole)?;
        rounds.push((first, start.elapsed()));
        println!(
            "round {round}: first answer {:.3} s, whole {:.3} s",
            first.as_secs_f64(),
            start.elapsed().as_secs_f64()
        );
    }
    let median = |of: fn(&(Duration, Duration)) -> Duration| {
        let mut times: Vec<Duration> = rounds.iter().map(of).collect();
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    println!(
        "median of {}: first answer {:.3} s, whole {:.3} s",
        options.rounds,
        median(|r| r.0),
        median(|r| r.1)
    );
    Ok(())
}
