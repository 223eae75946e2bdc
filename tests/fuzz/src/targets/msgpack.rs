//! MessagePack: any bytes as tokens, as values to be stored, as trees; the order of values; and back to bytes.

use crate::bytes::bounded;
use aerolith_engine::record::msgpack::{
    Expect, Flags, MAX_DEPTH, MsgpackError, Reader, Token, Writer, canonical, compare, sort_order, validate,
};
use aerolith_engine::record::{Value, ValueBuf};
use std::cmp::Ordering;

fn tokens(bytes: &[u8]) -> Result<Vec<Token<'_>>, MsgpackError> {
    let (mut reader, mut tokens) = (Reader::new(bytes), Vec::new());
    loop {
        tokens.push(reader.read()?);
        assert!(reader.depth() <= MAX_DEPTH && reader.position() <= bytes.len());
        if reader.depth() == 0 {
            reader.finish()?;
            return Ok(tokens);
        }
    }
}

fn written(tokens: &[Token<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    tokens.iter().for_each(|token| _ = writer.token(*token));
    bytes
}

fn check_one(bytes: &[u8]) {
    let tokens = tokens(bytes);
    assert_eq!(tokens.is_ok(), {
        let mut r = Reader::new(bytes);
        r.skip().is_ok() && r.finish().is_ok()
    });
    if let Ok(tokens) = &tokens
        // Without its flags in front an extension without payload would be taken for flags.
        && !tokens.iter().any(|token| matches!(token, Token::Ext(_, [])))
    {
        let again = written(tokens);
        let read = self::tokens(&again).expect("what the writer wrote can be read");
        // By text, because no NaN equals itself.
        assert_eq!(format!("{read:?}"), format!("{tokens:?}"));
    }
    for expect in [Expect::List, Expect::Map] {
        let limit = 24 * bytes.len() + 4096;
        let valid = bounded("validate", limit, || validate(bytes, expect));
        let stored = bounded("canonical", 64 * bytes.len() + 4096, || canonical(bytes, expect));
        assert_eq!(valid.is_ok(), stored.is_ok());
        let Ok(stored) = stored else { continue };
        assert!(tokens.is_ok());
        assert_eq!(canonical(&stored, expect).as_ref(), Ok(&stored), "what is stored is not canonical");
        assert_eq!(sort_order(bytes, &stored), Ok(Ordering::Equal), "the canonical form is another value");
        let value = if expect == Expect::List { Value::List(&stored) } else { Value::Map(&stored) };
        if let Ok(tree) = ValueBuf::from_value(value) {
            let mut scratch = Vec::new();
            let back = tree.to_value(&mut scratch).expect("a tree that came from a value can be stored");
            let again = ValueBuf::from_value(back).expect("what was stored can be read");
            assert_eq!(format!("{again:?}"), format!("{tree:?}"));
        }
    }
    if let Ok(tree) = bounded("tree", 128 * bytes.len() + 4096, || ValueBuf::from_msgpack(bytes)) {
        let again = tree.to_msgpack().and_then(|bytes| ValueBuf::from_msgpack(&bytes));
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, MsgpackError>(tree)));
    }
}

fn check_order(values: &[&[u8]]) {
    let order = |a: &[u8], b: &[u8]| sort_order(a, b).expect("both are whole");
    for a in values {
        assert_eq!(order(a, a), Ordering::Equal);
        for b in values {
            assert_eq!(order(a, b), order(b, a).reverse());
            assert!(compare(a, b).is_ok());
            for c in values {
                let both = (order(a, b), order(b, c));
                if both.0 != Ordering::Greater && both.1 != Ordering::Greater {
                    assert_ne!(order(a, c), Ordering::Greater, "{a:02x?} {b:02x?} {c:02x?}");
                }
            }
        }
    }
}

pub fn run(data: &[u8]) {
    check_one(data);
    // Several values one behind the other: the first few in order.
    let (mut reader, mut values) = (Reader::new(data), Vec::new());
    while values.len() < 4
        && let Ok(value) = reader.skip()
    {
        values.push(value);
    }
    check_order(&values);
    for (a, b) in values.iter().zip(values.iter().skip(1)) {
        // Also where one is cut off.
        let _ = (compare(a, &b[..b.len() / 2]), compare(&a[..a.len() / 2], b));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let written = |write: &dyn Fn(&mut Writer<'_>)| {
        let mut bytes = Vec::new();
        write(&mut Writer::new(&mut bytes));
        bytes
    };
    let long = vec![b'x'; 300];
    vec![
        written(&|w| _ = w.list(0, Flags::UNORDERED)),
        written(&|w| _ = w.list(3, Flags::ORDERED).nil().integer(-1).string(b"a")),
        written(&|w| _ = w.map(2, Flags::VALUE_ORDERED).integer(1).string(b"x").blob(b"k").float(0.5)),
        written(&|w| _ = w.map(2, Flags::UNORDERED).string(b"b").nil().string(b"a").bool(true)),
        written(&|w| {
            w.list(8, Flags::UNORDERED)
                .float32(1.5)
                .geojson(b"{}")
                .hll(&[1, 2])
                .typed(7, b"java")
                .ext(5, b"abc");
            w.bool(false)
                .list(1, Flags::ORDERED)
                .list(0, Flags::ORDERED)
                .map(1, Flags::ORDERED)
                .integer(300)
                .nil();
        }),
        written(&|w| _ = w.list(2, Flags::UNORDERED).string(&long[..40]).blob(&long)),
        written(&|w| _ = w.integer(i64::MIN).integer(i64::MAX).wildcard().infinity()),
        vec![0x93, 0xcf, 0, 0, 0, 0, 0, 0, 0, 5, 0xd3, 255, 255, 255, 255, 255, 255, 255, 254, 0xa0],
        vec![0x94, 0xc7, 0, 0x11, 0xc4, 2, 3, b'a', 0xc5, 0, 2, 3, b'b', 0xc6, 0, 0, 0, 2, 4, b'c'],
        vec![0xdd, 0, 0, 0, 1, 0xdf, 0, 0, 0, 1, 0xdb, 0, 0, 0, 2, 3, b'k', 0xd9, 1, 4],
        [vec![0x91; 33], vec![1]].concat(),
    ]
}
