//! Commands typed by hand: words between blanks, quoted where they hold blanks.
//!
//! `"..."` knows `\n`, `\r`, `\t`, `\a`, `\b`, `\xHH` and `\` before anything else; `'...'` knows only `\'`. A closing quote
//! ends the word and must be followed by a blank. Unquoting never makes a word longer, so it is done in place:
//! the words are spans of the same buffer, as for every other command.

use super::parser::{ProtocolError, Span};

const UNBALANCED: ProtocolError = "unbalanced quotes in request";

/// Splits the line `buffer[start..end]` into words, unquoting them where they stand.
pub(crate) fn split(
    buffer: &mut [u8],
    start: usize,
    end: usize,
    words: &mut Vec<Span>,
) -> Result<(), ProtocolError> {
    let mut at = start;
    loop {
        while at < end && is_blank(buffer[at]) {
            at += 1;
        }
        if at == end {
            return Ok(());
        }
        let word_start = at;
        // Where the next byte of the word goes; never ahead of `at`.
        let mut to = at;
        while at < end && !is_blank(buffer[at]) {
            match buffer[at] {
                quote @ (b'"' | b'\'') => {
                    at = quoted(buffer, at + 1, end, quote, &mut to)?;
                    if at < end && !is_blank(buffer[at]) {
                        return Err(UNBALANCED);
                    }
                }
                plain => {
                    buffer[to] = plain;
                    to += 1;
                    at += 1;
                }
            }
        }
        words.push(Span { start: word_start, end: to });
    }
}

/// Unquotes up to the closing quote; returns the place behind it.
fn quoted(
    buffer: &mut [u8],
    mut at: usize,
    end: usize,
    quote: u8,
    to: &mut usize,
) -> Result<usize, ProtocolError> {
    while at < end {
        let (byte, width) = match &buffer[at..end] {
            [byte, ..] if *byte == quote => return Ok(at + 1),
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [b'\\', b'x', high, low, ..] if quote == b'"' && is_hex(*high) && is_hex(*low) => {
                (hex(*high) << 4 | hex(*low), 4)
            }
            [b'\\', escaped, ..] if quote == b'"' => (unescaped(*escaped), 2),
            [plain, ..] => (*plain, 1),
            [] => break,
        };
        buffer[*to] = byte;
        *to += 1;
        at += width;
    }
    Err(UNBALANCED)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0)
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_as_in_redis() {
        let words = |line: &str| {
            let mut buffer = line.as_bytes().to_vec();
            let mut spans = Vec::new();
            let end = buffer.len();
            split(&mut buffer, 0, end, &mut spans)?;
            let text = |span: &Span| String::from_utf8_lossy(&buffer[span.start..span.end]).into_owned();
            Ok::<_, ProtocolError>(spans.iter().map(text).collect::<Vec<_>>().join("|"))
        };
        for (line, expected) in [
            ("SET a b\r", "SET|a|b"),
            ("  SET   \"a b\"  'c d' ", "SET|a b|c d"),
            (r#"SET "\x41\n\q" 'it\'s'"#, "SET|A\nq|it's"),
            (r#"SET "" ''"#, "SET||"),
            ("a\"b c\" d", "ab c|d"),
            ("", ""),
        ] {
            assert_eq!(words(line).as_deref(), Ok(expected), "{line}");
        }
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\\""] {
            assert_eq!(words(line), Err(UNBALANCED), "{line}");
        }
    }
}
