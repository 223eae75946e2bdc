//! RESP: any bytes to requests, the same in one piece and in any pieces; and requests to bytes and back.

use crate::bytes::bounded;
use aerolith_server::Config;
use aerolith_server::config::ByteSize;
use aerolith_server::offline::{Request, requests};

/// Where the pieces end: after every so many bytes, or as a row of numbers says.
fn pieces(bytes: &[u8], sizes: u64) -> Vec<&[u8]> {
    let (mut rest, mut state, mut pieces) = (bytes, sizes | 1, Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = if sizes & 1 == 0 { 1 } else { 1 + (state >> 40) as usize % 37 };
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Small limits, so that they are reached, or those of a server as it comes.
fn config(small: bool) -> Config {
    let config = Config { threads: 1, ..Config::default() };
    if !small {
        return config;
    }
    let (max_record, max_request) = (ByteSize(1024), ByteSize(2048));
    Config { max_record, max_request, max_arguments: 8, ..config }
}

/// What a client sends, and how it arrives.
pub struct Feed<'a> {
    /// For the target to choose by.
    pub choice: u8,
    pub pieces: Vec<&'a [u8]>,
    /// All pieces together.
    pub bytes: &'a [u8],
}

/// Four bytes that choose, the rest is sent.
pub fn split(data: &[u8]) -> Option<Feed<'_>> {
    let (head, bytes) = data.split_first_chunk::<4>()?;
    let sizes = u64::from(u32::from_le_bytes(*head));
    Some(Feed { choice: head[0], pieces: pieces(bytes, sizes), bytes })
}

/// The bytes of requests as clients send them.
pub fn encode(requests: &[Request]) -> Vec<u8> {
    let mut out = Vec::new();
    for request in requests {
        out.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
        for word in request {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

pub fn run(data: &[u8]) {
    let Some(Feed { choice, pieces, bytes }) = split(data) else { return };
    let config = config(choice & 2 != 0);
    // A word of an inline line takes two bytes, and 16 for its place; and this keeps them all.
    let limit = 96 * bytes.len() + (64 << 10);
    let whole = bounded("requests", limit, || requests(&config, [bytes]));
    let in_pieces = bounded("requests in pieces", limit, || requests(&config, pieces));
    assert_eq!(whole, in_pieces, "the pieces in which the bytes came made a difference");
    if choice & 2 == 0 {
        let again = requests(&config, [&encode(&whole.0)[..]]);
        assert_eq!(again, (whole.0, None), "requests that were sent again are others");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Request>();
    let of = |lines: &[&str]| encode(&lines.iter().map(|line| words(line)).collect::<Vec<_>>());
    let mut seeds = vec![
        of(&["SET key value EX 100", "GET key", "DEL key other"]),
        of(&["MSET a 1 b 2 c 3", "INCRBY a 5", "SCAN 0 MATCH * COUNT 10"]),
        b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\nPING\r\n\r\nSET a \"b c\"\r\n".to_vec(),
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n*1\r\n$4\r\nQUIT\r\n".to_vec(),
        b"*2\r\n$-1\r\n".to_vec(),
        b"*9999999999\r\n".to_vec(),
        b"*1\r\n$99999999\r\n".to_vec(),
        of(&[&"SET k ".chars().chain(std::iter::repeat_n('x', 1100)).collect::<String>()]),
    ];
    for (i, seed) in seeds.iter_mut().enumerate() {
        seed.splice(0..0, [i as u8, 7, 1, 0]);
    }
    seeds
}
