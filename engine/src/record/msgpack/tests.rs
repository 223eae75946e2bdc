//! The dialect's vectors, the order of all values, and what hostile bytes can do: nothing.

use std::cmp::Ordering;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::record::ValueBuf;

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Writer::new(&mut bytes));
    bytes
}

fn tokens(bytes: &[u8]) -> Result<Vec<Token<'_>>, MsgpackError> {
    let mut reader = Reader::new(bytes);
    let mut tokens = vec![reader.read()?];
    while reader.depth() > 0 {
        tokens.push(reader.read()?);
    }
    reader.finish()?;
    Ok(tokens)
}

fn one(bytes: &[u8]) -> Token<'_> {
    match tokens(bytes).as_deref() {
        Ok([token]) => *token,
        other => panic!("{bytes:02x?} is not one token: {other:?}"),
    }
}

/// Values of every kind, headers of every width, all storable.
fn corpus() -> Vec<Vec<u8>> {
    let long = vec![b'x'; 70_000];
    let mut corpus = vec![
        written(|w| _ = w.list(0, Flags::UNORDERED)),
        written(|w| _ = w.list(3, Flags::ORDERED).nil().integer(-1).string(b"a")),
        written(|w| _ = w.map(2, Flags::VALUE_ORDERED).integer(1).string(b"x").blob(b"k").float(0.5)),
        written(|w| _ = w.map(2, Flags::UNORDERED).string(b"b").nil().string(b"a").bool(true)),
        written(|w| {
            w.list(9, Flags::UNORDERED).float32(1.5).geojson(b"{}").hll(&[1, 2]).typed(7, b"java");
            w.ext(5, b"abc").ext(6, b"abcd").bool(false).list(1, Flags::ORDERED).list(0, Flags::ORDERED);
            w.map(1, Flags::ORDERED).integer(300).map(0, Flags::ORDERED);
        }),
        written(|w| {
            _ = w.list(3, Flags::UNORDERED).string(&long[..40]).blob(&long[..300]).ext(9, &long[..300])
        }),
        written(|w| {
            (0..20).for_each(|n| _ = if n == 0 { w.list(19, Flags(1)) } else { w.integer(n << (3 * n)) })
        }),
        written(|w| {
            (0..17).for_each(|n| _ = if n == 0 { w.map(8, Flags(0)) } else { w.integer((n * 7) % 17) })
        }),
        // Not in shortest form: wide integers, bin headers, a persisted index flag, a typeless string.
        vec![0x93, 0xcf, 0, 0, 0, 0, 0, 0, 0, 5, 0xd3, 255, 255, 255, 255, 255, 255, 255, 254, 0xa0],
        vec![0x94, 0xc7, 0, 0x11, 0xc4, 2, 3, b'a', 0xc5, 0, 2, 3, b'b', 0xc6, 0, 0, 0, 2, 4, b'c'],
        vec![0xdd, 0, 0, 0, 1, 0xdf, 0, 0, 0, 1, 0xdb, 0, 0, 0, 2, 3, b'k', 0xd9, 1, 4],
    ];
    for count in [15, 16] {
        corpus.push(written(|w| {
            w.list(count, Flags::ORDERED);
            (0..count).for_each(|n| _ = w.integer(n.into()));
        }));
    }
    corpus
}

fn expect_of(bytes: &[u8]) -> Expect {
    match Reader::new(bytes).read() {
        Ok(Token::Map { .. }) => Expect::Map,
        _ => Expect::List,
    }
}

#[test]
fn the_dialect_writes_what_was_seen_on_the_wire() {
    assert_eq!(written(|w| _ = w.string(b"x")), [0xa2, 0x03, 0x78]);
    assert_eq!(written(|w| _ = w.blob(b"z")), [0xa2, 0x04, 0x7a]);
    assert_eq!(written(|w| _ = w.nil().bool(false).bool(true)), [0xc0, 0xc2, 0xc3]);
    let ordered_map = [0x82, 0xc7, 0x00, 0x01, 0xc0, 0xa2, 0x03, 0x61, 0x01];
    assert_eq!(written(|w| _ = w.map(1, Flags::ORDERED).string(b"a").integer(1)), ordered_map);
    assert_eq!(written(|w| _ = w.list(1, Flags::ORDERED).integer(7)), [0x92, 0xc7, 0x00, 0x01, 0x07]);
    assert_eq!(written(|w| _ = w.wildcard()), [0xd4, 0xff, 0x00]);
    assert_eq!(written(|w| _ = w.infinity()), [0xd4, 0xff, 0x01]);
    assert_eq!(written(|w| _ = w.geojson(b"{}")), [0xa3, 0x17, b'{', b'}']);
    assert_eq!(written(|w| _ = w.hll(&[9])), [0xa2, 0x12, 9]);
}

#[test]
fn integers_take_the_shortest_form_and_come_back_from_any() {
    let edges = (0..64).flat_map(|shift| {
        let edge = 1_i64.wrapping_shl(shift);
        [
            edge.wrapping_sub(1),
            edge,
            edge.wrapping_add(1),
            edge.wrapping_neg(),
            edge.wrapping_neg().wrapping_sub(1),
        ]
    });
    for number in edges {
        let bytes = written(|w| _ = w.integer(number));
        let size = match number {
            -0x20..=0x7f => 1,
            -0x80..=0xff => 2,
            -0x8000..=0xffff => 3,
            -0x8000_0000..=0xffff_ffff => 5,
            _ => 9,
        };
        assert_eq!((one(&bytes), bytes.len()), (Token::Integer(number), size));
        let wide = [&[0xd3][..], &number.to_be_bytes()].concat();
        assert_eq!(one(&wide), Token::Integer(number));
    }
    assert_eq!(one(&[0xcc, 0xff]), Token::Integer(255));
    assert_eq!(one(&[0xd0, 0xff]), Token::Integer(-1));
}

#[test]
fn an_integer_over_i64_is_an_error() {
    let error = MsgpackError::IntegerTooLarge { at: 1, value: u64::MAX };
    assert_eq!(tokens(&[[0x91, 0xcf].as_slice(), &[0xff; 8]].concat()), Err(error));
}

#[test]
fn every_size_of_string_and_container_comes_back() {
    for size in [0, 30, 31, 254, 255, 65_534, 65_535, 65_536] {
        let text = vec![b'x'; size];
        assert_eq!(one(&written(|w| _ = w.string(&text))), Token::String(&text));
        assert_eq!(one(&written(|w| _ = w.ext(3, &text))), Token::Ext(3, &text));
        for flags in [Flags::UNORDERED, Flags::ORDERED] {
            let count = size as u32;
            let list = written(|w| {
                w.list(count, flags);
                (0..count).for_each(|_| _ = w.nil());
            });
            assert_eq!(Reader::new(&list).read(), Ok(Token::List { count, flags }));
            assert_eq!(Reader::new(&list).skip(), Ok(&list[..]));
            let map = written(|w| {
                w.map(count, flags);
                (0..count).for_each(|n| _ = w.integer(n.into()).nil());
            });
            assert_eq!(Reader::new(&map).read(), Ok(Token::Map { count, flags }));
            assert_eq!(Reader::new(&map).skip(), Ok(&map[..]));
            assert_eq!(validate(&map, Expect::Map), Ok(()));
        }
    }
}

#[test]
fn tokens_written_again_are_the_same_tokens() {
    for bytes in corpus() {
        let read = tokens(&bytes).expect("a good value");
        let again = written(|w| read.iter().for_each(|&token| _ = w.token(token)));
        assert_eq!(tokens(&again).as_ref(), Ok(&read));
    }
}

#[test]
fn every_value_cut_short_is_an_error() {
    for bytes in corpus() {
        for cut in 0..bytes.len() {
            let cut = &bytes[..cut];
            assert!(matches!(Reader::new(cut).skip(), Err(MsgpackError::Truncated { .. })), "{cut:02x?}");
            assert!(validate(cut, expect_of(&bytes)).is_err());
            assert!(canonical(cut, expect_of(&bytes)).is_err());
            assert!(ValueBuf::from_msgpack(cut).is_err());
            assert!(compare(cut, cut).is_err(), "equal as far as they go, and then they end");
        }
    }
}

/// All entry points, with whatever bytes: they may say anything, and what they accept must hold together.
fn torture(bytes: &[u8], other: &[u8]) {
    let _ = tokens(bytes);
    let _ = ValueBuf::from_msgpack(bytes);
    let _ = (compare(bytes, other), compare(other, bytes), sort_order(bytes, other));
    for expect in [Expect::List, Expect::Map] {
        let Ok(stored) = canonical(bytes, expect) else { continue };
        assert_eq!(compare(bytes, &stored), Ok(Ordering::Equal), "{bytes:02x?} {stored:02x?}");
        assert_eq!(canonical(&stored, expect).as_ref(), Ok(&stored), "{bytes:02x?}");
    }
}

#[test]
fn no_flipped_bit_causes_a_panic() {
    for bytes in corpus() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            torture(&flipped, &bytes);
        }
    }
}

#[test]
fn no_random_bytes_cause_a_panic() {
    let seed = 20_260;
    let mut random = StdRng::seed_from_u64(seed);
    // Bytes that start something, so that the nonsense gets deep.
    let starts =
        [0x81, 0x82, 0x91, 0x92, 0x93, 0xa0, 0xa2, 0xc0, 0xc3, 0xc7, 0xd4, 0xff, 0x00, 0x01, 0x03, 0x04];
    for _ in 0..100_000 {
        let mut draw = || -> Vec<u8> {
            let size = random.random_range(0..24);
            (0..size)
                .map(|_| {
                    if random.random_ratio(7, 8) {
                        starts[random.random_range(0..16)]
                    } else {
                        random.random()
                    }
                })
                .collect()
        };
        torture(&draw(), &draw());
    }
}

#[test]
fn a_header_that_lies_fails_where_it_stands() {
    let four_billion = [255; 4];
    for first in [0xdb, 0xc6, 0xdd, 0xdf, 0xc9] {
        let lie = [&[0x91, first][..], &four_billion, &[0; 3]].concat();
        let error = Reader::new(&lie).skip();
        assert!(
            matches!(error, Err(MsgpackError::Truncated { at: 1, need: 4_000_000_000.., .. })),
            "{error:?}"
        );
        assert_eq!(validate(&lie, Expect::List), error.map(|_| ()));
        assert!(ValueBuf::from_msgpack(&lie).is_err());
    }
}

#[test]
fn a_depth_bomb_is_an_error() {
    let bomb = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    assert_eq!(validate(&bomb(32), Expect::List), Ok(()));
    for depth in [33, 100_000] {
        let bomb = bomb(depth);
        assert_eq!(Reader::new(&bomb).skip(), Err(MsgpackError::TooDeep { at: 32 }));
        assert_eq!(validate(&bomb, Expect::List), Err(MsgpackError::TooDeep { at: 32 }));
        assert_eq!(compare(&bomb, &bomb), Err(MsgpackError::TooDeep { at: 32 }));
        assert!(ValueBuf::from_msgpack(&bomb).is_err());
    }
    let maps = [[0x81, 0x01].repeat(33), vec![0xc0]].concat();
    assert_eq!(validate(&maps, Expect::Map), Err(MsgpackError::TooDeep { at: 64 }));
}

#[test]
fn a_reader_that_failed_stays_where_it_was() {
    let mut reader = Reader::new(&[0x92, 0x01, 0xc1]);
    assert!(reader.read().is_ok() && reader.read().is_ok());
    assert_eq!((reader.position(), reader.depth()), (2, 1));
    assert_eq!(reader.read(), Err(MsgpackError::Reserved { at: 2 }));
    assert_eq!((reader.position(), reader.depth()), (2, 1));
    assert_eq!(reader.finish(), Err(MsgpackError::Truncated { at: 2, need: 1, have: 1 }));
}

#[test]
fn what_may_not_be_stored_is_refused() {
    use Expect::{List, Map};
    let refused: [(&[u8], Expect, MsgpackError); 16] = [
        (&[0x90, 0xc0], List, MsgpackError::Trailing { at: 1, size: 1 }),
        (&[0x80], List, MsgpackError::WrongContainer { expected: List, found: 0x80 }),
        (&[0x90], Map, MsgpackError::WrongContainer { expected: Map, found: 0x90 }),
        (&[0x05], List, MsgpackError::WrongContainer { expected: List, found: 0x05 }),
        (&[0x91, 0xd4, 0xff, 0], List, MsgpackError::NotStorable { at: 1 }),
        (&[0x81, 0x01, 0xd4, 0xff, 1], Map, MsgpackError::NotStorable { at: 2 }),
        (&[0x92, 0x01, 0xc7, 0, 1], List, MsgpackError::NotStorable { at: 2 }),
        (&[0x81, 0xc0, 0x01], Map, MsgpackError::KeyType { at: 1 }),
        (&[0x81, 0x90, 0x01], Map, MsgpackError::KeyType { at: 1 }),
        (&[0x81, 0xc3, 0x01], Map, MsgpackError::KeyType { at: 1 }),
        (&[0x82, 0x01, 0xc0, 0xcc, 0x01, 0xc0], Map, MsgpackError::DuplicateKey { at: 3 }),
        (&[0x83, 0x02, 0xc0, 0x01, 0xc0, 0x02, 0xc0], Map, MsgpackError::DuplicateKey { at: 5 }),
        (&[0x93, 0xc7, 0, 1, 0x02, 0x01], List, MsgpackError::Unsorted { at: 5 }),
        (&[0x83, 0xc7, 0, 1, 0xc0, 0x02, 0xc0, 0x01, 0xc0], Map, MsgpackError::Unsorted { at: 7 }),
        (&[0x91, 0x93, 0xc7, 0, 1, 0x02, 0x01], List, MsgpackError::Unsorted { at: 6 }),
        (&[0x82, 0xc7, 0, 1, 0x05, 0x01, 0x01], Map, MsgpackError::MapFlags { at: 0 }),
    ];
    for (bytes, expect, error) in refused {
        assert_eq!(validate(bytes, expect), Err(error), "{bytes:02x?}");
    }
    for bytes in corpus() {
        assert_eq!(validate(&bytes, expect_of(&bytes)), Ok(()), "{bytes:02x?}");
    }
}

#[test]
fn an_ordered_list_may_hold_a_value_twice() {
    assert_eq!(validate(&[0x94, 0xc7, 0, 1, 0x01, 0x01, 0x02], Expect::List), Ok(()));
}

#[test]
fn the_stored_form_is_the_shortest_and_maps_are_sorted() {
    let cases: [(&[u8], &[u8]); 6] = [
        (&[0x91, 0xcf, 0, 0, 0, 0, 0, 0, 0, 5], &[0x91, 5]),
        (&[0x91, 0xc4, 2, 4, b'c'], &[0x91, 0xa2, 4, b'c']),
        (&[0x91, 0xca, 0x3f, 0xc0, 0, 0], &[0x91, 0xca, 0x3f, 0xc0, 0, 0]),
        (&[0x92, 0xc7, 0, 0x11, 1], &[0x92, 0xc7, 0, 1, 1]),
        (&[0x83, 0xc7, 0, 8, 0xc0, 2, 0xc0, 1, 0xc0], &[0x82, 1, 0xc0, 2, 0xc0]),
        (&[0x91, 0x82, 0xa2, 3, b'b', 1, 0xcc, 9, 2], &[0x91, 0x82, 9, 2, 0xa2, 3, b'b', 1]),
    ];
    for (sent, stored) in cases {
        assert_eq!(canonical(sent, expect_of(sent)).as_deref(), Ok(stored), "{sent:02x?}");
    }
}

/// Values in ascending order; the lists inside are equal to each other.
fn ascending() -> Vec<Vec<Vec<u8>>> {
    let list = |numbers: &[i64]| {
        written(|w| {
            w.list(numbers.len() as u32, Flags::UNORDERED);
            numbers.iter().for_each(|&number| _ = w.integer(number));
        })
    };
    let map = |pairs: &[(i64, i64)]| {
        written(|w| {
            w.map(pairs.len() as u32, Flags::UNORDERED);
            pairs.iter().for_each(|&(key, value)| _ = w.integer(key).integer(value));
        })
    };
    vec![
        vec![written(|w| _ = w.nil())],
        vec![written(|w| _ = w.bool(false))],
        vec![written(|w| _ = w.bool(true))],
        vec![written(|w| _ = w.integer(i64::MIN))],
        vec![written(|w| _ = w.integer(-1))],
        vec![vec![0x05], vec![0xcc, 0x05], vec![0xd3, 0, 0, 0, 0, 0, 0, 0, 5]],
        vec![written(|w| _ = w.integer(i64::MAX))],
        vec![written(|w| _ = w.string(b"")), vec![0xa0]],
        vec![written(|w| _ = w.string(b"a")), vec![0xc4, 2, 3, b'a']],
        vec![written(|w| _ = w.string(b"aa"))],
        vec![written(|w| _ = w.string(b"b"))],
        vec![list(&[])],
        vec![list(&[1, 2])],
        vec![list(&[1, 2, 1]), [&[0x94, 0xc7, 0, 1][..], &[1, 2, 1]].concat()],
        vec![list(&[1, 3])],
        vec![list(&[2])],
        vec![map(&[])],
        vec![map(&[(9, 9)])],
        vec![map(&[(1, 1), (2, 2)]), map(&[(2, 2), (1, 1)])],
        vec![map(&[(3, 1), (1, 2)])],
        vec![map(&[(1, 3), (2, 0)])],
        vec![map(&[(2, 0), (3, 0)])],
        vec![written(|w| _ = w.blob(b"a"))],
        vec![written(|w| _ = w.blob(b"b"))],
        vec![written(|w| _ = w.hll(b"a"))],
        vec![written(|w| _ = w.float(f64::NEG_INFINITY))],
        vec![written(|w| _ = w.float(-0.0)), written(|w| _ = w.float(0.0))],
        vec![written(|w| _ = w.float(1.5)), written(|w| _ = w.float32(1.5))],
        vec![written(|w| _ = w.float(5.0))],
        vec![written(|w| _ = w.float(f64::NAN))],
        vec![written(|w| _ = w.geojson(b"{}"))],
        vec![written(|w| _ = w.ext(1, b"x"))],
        vec![written(|w| _ = w.infinity())],
    ]
}

#[test]
fn a_mixed_list_sorts_as_the_order_of_kinds_says() {
    let ranks = ascending();
    let ranked =
        || ranks.iter().enumerate().flat_map(|(rank, equals)| equals.iter().map(move |value| (rank, value)));
    for (rank_a, a) in ranked() {
        for (rank_b, b) in ranked() {
            assert_eq!(compare(a, b), Ok(rank_a.cmp(&rank_b)), "{a:02x?} {b:02x?}");
            assert_eq!(sort_order(a, b), Ok(rank_a.cmp(&rank_b)), "{a:02x?} {b:02x?}");
            // One level down, as the element of a list and as the value of a map.
            for outside in [vec![0x91], vec![0x81, 0x01]] {
                let [a, b] = [a, b].map(|inside| [&outside[..], inside].concat());
                assert_eq!(compare(&a, &b), Ok(rank_a.cmp(&rank_b)), "{a:02x?} {b:02x?}");
            }
        }
    }
}

#[test]
fn a_wildcard_equals_anything_but_has_a_place_when_sorting() {
    let wildcard = written(|w| _ = w.wildcard());
    for value in ascending().concat() {
        assert_eq!(compare(&value, &wildcard), Ok(Ordering::Equal));
        assert_eq!(compare(&wildcard, &value), Ok(Ordering::Equal));
        assert_eq!(sort_order(&value, &wildcard), Ok(Ordering::Less));
        assert_eq!(sort_order(&wildcard, &value), Ok(Ordering::Greater));
    }
}

#[test]
fn a_wildcard_in_a_list_stands_for_all_that_follows() {
    let pattern = [0x92, 1, 0xd4, 0xff, 0];
    for (list, ordering) in [
        (&[0x92, 1, 7][..], Ordering::Equal),
        (&[0x93, 1, 7, 8], Ordering::Equal),
        (&[0x91, 1], Ordering::Less),
        (&[0x92, 0, 7], Ordering::Less),
        (&[0x92, 2, 7], Ordering::Greater),
    ] {
        assert_eq!(compare(list, &pattern), Ok(ordering), "{list:02x?}");
        // The rest of the list around it still counts.
        for (after, rest) in [(1, Ordering::Less), (5, Ordering::Equal), (9, Ordering::Greater)] {
            let outer = [&[0x92][..], list, &[after]].concat();
            let outer_pattern = [&[0x92][..], &pattern, &[5]].concat();
            assert_eq!(compare(&outer, &outer_pattern), Ok(ordering.then(rest)), "{outer:02x?}");
        }
    }
}

/// `cargo test -p aerolith-engine --release msgpack_cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a claim"]
fn msgpack_cost() {
    let flat = written(|w| {
        (0..1_000_000).for_each(|n| _ = if n == 0 { w.list(999_999, Flags(1)) } else { w.nil() })
    });
    let map = |keys: &dyn Fn(i64) -> i64| {
        written(|w| {
            w.map(100_000, Flags::UNORDERED);
            (0..100_000).for_each(|n| _ = w.integer(keys(n)).string(b"value"));
        })
    };
    // Each list holds two equal halves, and ordered ones compare them at every level.
    let mut twins = map(&|n| -n)[..].to_vec();
    for _ in 0..30 {
        let half = if twins.len() < 4_000_000 { twins.clone() } else { vec![0xd4, 0x05, 0] };
        twins = [&[0x93, 0xc7, 0, 1][..], &twins, &half].concat();
    }
    let cases = [
        ("flat list", flat),
        ("sorted map", map(&|n| n)),
        ("reversed map", map(&|n| -n)),
        ("twins, 31 deep", twins),
    ];
    for (what, bytes) in cases {
        let started = std::time::Instant::now();
        let result = validate(&bytes, expect_of(&bytes));
        let validated = started.elapsed();
        let stored = canonical(&bytes, expect_of(&bytes)).map(|stored| stored.len());
        let total = started.elapsed();
        println!(
            "{what}: {} bytes, validate {validated:?} {result:?}, canonical {:?} {stored:?}",
            bytes.len(),
            total - validated
        );
    }
}
