//! The parser against every cut of its input, and against lengths nobody should believe.

use super::*;

const LIMITS: ParserLimits =
    ParserLimits { bulk_size: 100, arg_count: 10, inline_size: 64, request_size: 300 };

/// Feeds pieces as a connection would, and returns each command's words joined by blanks, then the error.
fn commands(pieces: &[&[u8]], max_commands: usize) -> (Vec<String>, Option<ProtocolError>) {
    let mut parser = Parser::new(LIMITS);
    let mut buffer: Vec<u8> = Vec::new();
    let mut out = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let stop = parser.parse(&mut buffer, max_commands, usize::MAX);
            for index in 0..parser.batch_len() {
                let words: Vec<_> = parser.command(index, &buffer).from(0).map(shown).collect();
                out.push(words.join(" "));
            }
            let unneeded = parser.finish_batch();
            buffer.drain(..unneeded);
            match stop {
                Stop::Starved => break,
                Stop::Full => {}
                Stop::Broken(error) => return (out, Some(error)),
            }
        }
    }
    (out, None)
}

fn shown(word: &[u8]) -> String {
    word.escape_ascii().to_string()
}

const STREAM: &[u8] = b"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\nPING\r\n*0\r\n*-1\r\n\r\n*3\r\n$3\r\nset\r\n$0\r\n\r\n$4\r\n\r\n\r\n\r\n\
SET \"a b\" 'c'\n*1\r\n$4\r\nQUIT\r\n";

const EXPECTED: [&str; 5] = ["GET hello", "PING", "set  \\r\\n\\r\\n", "SET a b c", "QUIT"];

#[test]
fn every_split_gives_the_same_commands() {
    for max_commands in [1, 2, 100] {
        for cut in 0..=STREAM.len() {
            let (head, tail) = STREAM.split_at(cut);
            let (found, error) = commands(&[head, tail], max_commands);
            assert_eq!((found.as_slice(), error), (&EXPECTED.map(String::from)[..], None), "cut at {cut}");
        }
        let bytes: Vec<_> = STREAM.chunks(1).collect();
        assert_eq!(commands(&bytes, max_commands).0, EXPECTED, "byte by byte");
    }
}

#[test]
fn every_truncation_waits() {
    for cut in 0..STREAM.len() {
        let (found, error) = commands(&[&STREAM[..cut]], 100);
        assert_eq!(error, None, "cut at {cut}");
        assert!(found.len() < EXPECTED.len(), "cut at {cut}");
        assert_eq!(found, EXPECTED[..found.len()]);
    }
}

#[test]
fn what_is_not_the_protocol_is_refused() {
    for (bytes, error) in [
        (&b"*11\r\n"[..], "invalid multibulk length"),
        (b"*1099511627776\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*00000000000000000000000", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*-\r\n", "invalid multibulk length"),
        (b"*1x\r\n", "invalid multibulk length"),
        (b"*1\rx", "invalid multibulk length"),
        (b"*1\r\n$101\r\n", "invalid bulk length"),
        (b"*1\r\n$1099511627776\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
        (b"*1\r\n$\r\n", "invalid bulk length"),
        (b"*1\r\n:1\r\n", "expected '$'"),
        (b"*1\r\n$1\r\nab\r\n", "expected CRLF behind a bulk string"),
        (b"GET \"a\r\n", "unbalanced quotes in request"),
        (&[b'x'; 65], "too big inline request"),
    ] {
        assert_eq!(commands(&[bytes], 100), (vec![], Some(error)), "{}", bytes.escape_ascii());
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(commands(&single, 100).1, Some(error), "{} byte by byte", bytes.escape_ascii());
    }
    let bulk = [&b"$100\r\n"[..], &[b'x'; 100], b"\r\n"].concat();
    let many = [b"*4\r\n".to_vec(), bulk.repeat(3)].concat();
    assert_eq!(commands(&[&many], 100).1, Some("request is larger than the max-request setting"));
}

#[test]
fn commands_before_a_broken_one_are_kept() {
    let (found, error) = commands(&[b"PING\r\n*1\r\n$999\r\n"], 100);
    assert_eq!((found, error), (vec!["PING".to_owned()], Some("invalid bulk length")));
}

#[test]
fn a_declared_length_allocates_nothing() {
    let mut parser = Parser::new(ParserLimits { arg_count: 1 << 20, ..LIMITS });
    parser.parse(&mut b"*1048576\r\n".to_vec(), 100, usize::MAX);
    assert_eq!(parser.spans.capacity(), 0);
}
