//! Commands typed by hand: any line, in any pieces; and words that are quoted come back as they were.

use super::requests::{Feed, split};
use aerolith_server::Config;
use aerolith_server::offline::{Request, requests};

/// A word in double quotes, every byte escaped in one of the ways there are.
fn quoted(word: &[u8], way: u8) -> Vec<u8> {
    let mut out = vec![b'"'];
    for (i, byte) in word.iter().enumerate() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            _ if (i as u8 ^ way) & 3 == 0 => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
    out
}

pub fn run(data: &[u8]) {
    let Some(Feed { choice: way, pieces, bytes }) = split(data) else { return };
    let config = Config { threads: 1, ..Config::default() };
    // Without a star in front a request is never RESP.
    let lines: Vec<u8> = bytes.iter().map(|byte| if *byte == b'*' { b'+' } else { *byte }).collect();
    let whole = requests(&config, [&lines[..]]);
    let ends: Vec<usize> = pieces
        .iter()
        .scan(0, |at, piece| {
            *at += piece.len();
            Some(*at)
        })
        .collect();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let in_pieces = requests(&config, starts.zip(&ends).map(|(start, end)| &lines[start..*end]));
    assert_eq!(whole, in_pieces, "the pieces in which the bytes came made a difference");

    let words: Request = bytes.split(|byte| *byte == 0xFF).take(100).map(<[u8]>::to_vec).collect();
    let mut line = Vec::new();
    for word in &words {
        line.extend_from_slice(&quoted(word, way));
        line.push(b' ');
    }
    line.push(b'\n');
    if line.len() <= 64 << 10 {
        assert_eq!(requests(&config, [&line[..]]), (vec![words], None), "quoted words came back as others");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let lines: [&[u8]; 6] = [
        b"PING\r\nSET a b\r\n\r\n  GET   a  \n",
        b"SET \"a b\" 'c d'\r\nSET \"\\x41\\n\\q\" 'it\\'s'\r\n",
        b"SET \"a\"b\r\n",
        b"SET \"a\r\n",
        b"a\xffb c\xff\xff\"quoted\"\xff\\",
        b"\x00\x0b\x0c GET k\x00v\n",
    ];
    lines.iter().enumerate().map(|(i, line)| [&[i as u8 | 1, 9, 3, 0], *line].concat()).collect()
}
