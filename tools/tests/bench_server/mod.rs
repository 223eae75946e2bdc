//! A server for tests of the load: Redis's or memcached's protocol over a map, that misbehaves when told to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it does wrong, by the number of the request it is counted in.
#[derive(Clone, Default)]
pub struct Faults {
    /// At this GET everything stands still for so long, once.
    pub stall: Option<(u64, Duration)>,
    /// Every so-manieth GET has a bit flipped.
    pub flip_every: Option<u64>,
    /// From this SET on, every so-manieth is acknowledged and forgotten.
    pub forget: Option<(u64, u64)>,
    /// At this GET the connection is closed.
    pub close_at: Option<u64>,
    /// At this SET and after it there is no room.
    pub full_at: Option<u64>,
}

#[derive(Default)]
struct State {
    records: HashMap<String, Vec<u8>>,
    gets: u64,
    sets: u64,
    log: Vec<String>,
}

/// A running server; its threads end with their connections.
pub struct FakeServer {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl FakeServer {
    pub fn redis(faults: Faults) -> FakeServer {
        FakeServer::start(move |stream, state| serve_redis(stream, state, &faults))
    }

    pub fn memcache() -> FakeServer {
        FakeServer::start(serve_memcache)
    }

    fn start(serve: impl Fn(TcpStream, &Mutex<State>) -> Option<()> + Send + Sync + 'static) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, serve) = (state.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, serve) = (shared.clone(), serve.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &state));
            }
        });
        FakeServer { address, state }
    }

    /// The commands so far, each as a line; values are left out.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    pub fn record_count(&self) -> usize {
        self.state.lock().unwrap().records.len()
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

fn bytes(reader: &mut impl Read, size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(size);
    Some(bytes)
}

fn serve_redis(stream: TcpStream, state: &Mutex<State>, faults: &Faults) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let count: usize = line(&mut reader)?.strip_prefix('*')?.parse().ok()?;
        let mut arguments = Vec::new();
        for _ in 0..count {
            let size = line(&mut reader)?.strip_prefix('$')?.parse().ok()?;
            arguments.push(bytes(&mut reader, size)?);
        }
        let text = |at: usize| String::from_utf8_lossy(&arguments[at]).into_owned();
        let (name, key) = (text(0), text(1));
        // Held while it stands still: all connections wait.
        let mut state = state.lock().unwrap();
        let shown: Vec<String> = (1..count).filter(|&at| arguments[at].len() < 32).map(text).collect();
        state.log.push(format!("{name} {}", shown.join(" ")));
        let bulk = |value: Option<&Vec<u8>>| match value {
            Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
            None => b"$-1\r\n".to_vec(),
        };
        let reply = match name.as_str() {
            "GET" if key.ends_with("count") => bulk(state.records.get(&key)),
            "GET" => {
                state.gets += 1;
                if let Some((_, stall)) = faults.stall.filter(|(at, _)| *at == state.gets) {
                    std::thread::sleep(stall);
                }
                if faults.close_at == Some(state.gets) {
                    return None;
                }
                let mut value = state.records.get(&key).cloned();
                if let (Some(value), Some(every)) = (&mut value, faults.flip_every)
                    && state.gets.is_multiple_of(every)
                {
                    let middle = value.len() / 2;
                    value[middle] ^= 1;
                }
                bulk(value.as_ref())
            }
            "SET" => {
                state.sets += u64::from(!key.ends_with("count"));
                let sets = state.sets;
                if faults.full_at.is_some_and(|at| sets >= at) {
                    b"-OOM the namespace is full\r\n".to_vec()
                } else {
                    if !faults.forget.is_some_and(|(from, every)| sets >= from && sets.is_multiple_of(every))
                    {
                        state.records.insert(key, arguments[2].clone());
                    }
                    b"+OK\r\n".to_vec()
                }
            }
            "DEL" => format!(":{}\r\n", u8::from(state.records.remove(&key).is_some())).into_bytes(),
            "PEXPIRE" => format!(":{}\r\n", u8::from(state.records.contains_key(&key))).into_bytes(),
            "MGET" => {
                let mut reply = format!("*{}\r\n", count - 1).into_bytes();
                (1..count).for_each(|at| reply.extend(bulk(state.records.get(&text(at)))));
                reply
            }
            other => format!("-ERR unknown command '{other}'\r\n").into_bytes(),
        };
        writer.write_all(&reply).ok()?;
    }
}

fn serve_memcache(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let command = line(&mut reader)?;
        let words: Vec<&str> = command.split(' ').collect();
        let mut state = state.lock().unwrap();
        state.log.push(command.clone());
        let reply = match words[0] {
            "get" => {
                let mut reply = Vec::new();
                for key in &words[1..] {
                    if let Some(value) = state.records.get(*key) {
                        reply.extend(format!("VALUE {key} 0 {}\r\n", value.len()).into_bytes());
                        reply.extend(value);
                        reply.extend(b"\r\n");
                    }
                }
                [reply, b"END\r\n".to_vec()].concat()
            }
            "set" => {
                let value = bytes(&mut reader, words[4].parse().ok()?)?;
                state.records.insert(words[1].to_owned(), value);
                b"STORED\r\n".to_vec()
            }
            "delete" if state.records.remove(words[1]).is_some() => b"DELETED\r\n".to_vec(),
            "touch" if state.records.contains_key(words[1]) => b"TOUCHED\r\n".to_vec(),
            "delete" | "touch" => b"NOT_FOUND\r\n".to_vec(),
            _ => b"ERROR\r\n".to_vec(),
        };
        writer.write_all(&reply).ok()?;
    }
}
