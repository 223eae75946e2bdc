//! A small load generator for servers: random GETs (or SETs) over loopback, closed loop, in Redis's or
//! memcached's protocol, so that both are driven by the same code. Beside throughput and latency it tells the
//! CPU time that the server took, from /proc.
//!
//! ```text
//! loadgen --protocol redis --port 6379 --load --records 2000000        fills the server
//! loadgen --protocol redis --port 6379 --connections 50 --depth 16     reads from it
//! ```

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Redis,
    Memcached,
}

#[derive(Parser, Clone)]
#[command(about = "Random reads and writes against a Redis or memcached server on loopback")]
struct Options {
    /// What the server speaks.
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Its port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// The server's process id, for its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// How many records there are.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 1000)]
    size: usize,
    /// Write every record once instead of reading.
    #[arg(long)]
    load: bool,
    /// Overwrite random records instead of reading.
    #[arg(long)]
    set: bool,
    /// Connections; each has a thread.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Seconds to run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    requests: u64,
    hits: u64,
    errors: u64,
    latencies: Option<Histogram<u64>>,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    reply: Vec<u8>,
    start: usize,
}

impl Connection {
    fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, request: Vec::new(), reply: Vec::new(), start: 0 })
    }

    fn get(&mut self, protocol: Protocol, key: &str) {
        match protocol {
            Protocol::Redis => {
                self.request.extend(format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).bytes())
            }
            Protocol::Memcached => self.request.extend(format!("get {key}\r\n").bytes()),
        }
    }

    fn set(&mut self, protocol: Protocol, key: &str, value: &[u8]) {
        let head = match protocol {
            Protocol::Redis => {
                format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len())
            }
            Protocol::Memcached => format!("set {key} 0 0 {}\r\n", value.len()),
        };
        self.request.extend(head.bytes());
        self.request.extend_from_slice(value);
        self.request.extend_from_slice(b"\r\n");
    }

    fn send(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&self.request)?;
        self.request.clear();
        Ok(())
    }

    fn fill(&mut self) -> std::io::Result<()> {
        if self.start > 0 {
            self.reply.drain(..self.start);
            self.start = 0;
        }
        let mut bytes = [0; 65536];
        let count = self.stream.read(&mut bytes)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.reply.extend_from_slice(&bytes[..count]);
        Ok(())
    }

    fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(at) = self.reply[self.start..].windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.reply[self.start..self.start + at]).into_owned();
                self.start += at + 2;
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn skip(&mut self, count: usize) -> std::io::Result<()> {
        while self.reply.len() - self.start < count {
            self.fill()?;
        }
        self.start += count;
        Ok(())
    }

    /// Reads one reply: whether it was a hit, or none for an error.
    fn receive(&mut self, protocol: Protocol) -> std::io::Result<Option<bool>> {
        let line = self.line()?;
        match protocol {
            Protocol::Redis => match line.as_bytes().first() {
                Some(b'$') if line == "$-1" => Ok(Some(false)),
                Some(b'$') => {
                    self.skip(line[1..].parse::<usize>().map_err(std::io::Error::other)? + 2)?;
                    Ok(Some(true))
                }
                Some(b'+' | b':') => Ok(Some(true)),
                _ => Ok(None),
            },
            Protocol::Memcached if line.starts_with("VALUE ") => {
                let size = line.split(' ').nth(3).and_then(|size| size.parse::<usize>().ok()).unwrap_or(0);
                self.skip(size + 2)?;
                self.line()?;
                Ok(Some(true))
            }
            Protocol::Memcached => match line.as_str() {
                "END" => Ok(Some(false)),
                "STORED" => Ok(Some(true)),
                _ => Ok(None),
            },
        }
    }
}

fn key_of(number: u64) -> String {
    format!("key:{number:012}")
}

fn drive(options: &Options, worker: usize) -> std::io::Result<Seen> {
    let mut connection = Connection::open(options.port)?;
    let mut rng = SmallRng::seed_from_u64(worker as u64);
    let mut seen = Seen { latencies: Histogram::new(3).ok(), ..Seen::default() };
    let mut value = vec![0; options.size];
    let share = options.records.div_ceil(options.connections as u64);
    let mut own = share * worker as u64..(share * (worker as u64 + 1)).min(options.records);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    loop {
        let start = Instant::now();
        let mut count = 0;
        for _ in 0..options.depth {
            if options.load {
                let Some(number) = own.next() else { break };
                rng.fill_bytes(&mut value);
                connection.set(options.protocol, &key_of(number), &value);
            } else if options.set {
                rng.fill_bytes(&mut value);
                connection.set(options.protocol, &key_of(rng.random_range(0..options.records)), &value);
            } else {
                connection.get(options.protocol, &key_of(rng.random_range(0..options.records)));
            }
            count += 1;
        }
        if count == 0 || (!options.load && start >= end) {
            return Ok(seen);
        }
        connection.send()?;
        for _ in 0..count {
            match connection.receive(options.protocol)? {
                Some(hit) => seen.hits += u64::from(hit),
                None => seen.errors += 1,
            }
            seen.requests += 1;
            if let Some(latencies) = &mut seen.latencies {
                latencies.record(start.elapsed().as_micros() as u64).map_err(std::io::Error::other)?;
            }
        }
    }
}

/// CPU seconds and resident MiB of a process.
fn process(pid: Option<u32>) -> (f64, f64) {
    let Some(pid) = pid else { return (0.0, 0.0) };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    let ticks = fields.get(11).unwrap_or(&0.0) + fields.get(12).unwrap_or(&0.0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|rss| rss.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0);
    // The kernel counts in hundredths of a second, whatever its own tick.
    (ticks / 100.0, rss / 1024.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let (before, _) = process(options.pid);
    let start = Instant::now();
    let workers: Vec<_> = (0..options.connections)
        .map(|worker| {
            let options = options.clone();
            std::thread::spawn(move || drive(&options, worker))
        })
        .collect();
    let mut all = Seen::default();
    let mut latencies = Histogram::<u64>::new(3)?;
    for worker in workers {
        let seen = worker.join().map_err(|_| "a connection's thread panicked")??;
        all.requests += seen.requests;
        all.hits += seen.hits;
        all.errors += seen.errors;
        if let Some(own) = seen.latencies {
            latencies.add(own)?;
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    let (after, rss) = process(options.pid);
    println!(
        "{:?} {}: {:.0} requests/s, {:.1} % hits, {} errors, p50 {} us, p99 {} us, server CPU {:.2} us a request, rss {rss:.0} MiB",
        options.protocol,
        options.port,
        all.requests as f64 / elapsed,
        100.0 * all.hits as f64 / all.requests as f64,
        all.errors,
        latencies.value_at_quantile(0.5),
        latencies.value_at_quantile(0.99),
        (after - before) * 1e6 / all.requests as f64,
    );
    Ok(())
}
