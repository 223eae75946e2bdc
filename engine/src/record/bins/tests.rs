//! Lists of bins there and back, cut, flipped and lying.

use super::*;

const CORPUS: [(&str, Value<'static>); 10] = [
    ("", Value::String(b"redis")),
    ("n", Value::Integer(-7)),
    ("float", Value::Float(0.25)),
    ("yes", Value::Bool(true)),
    ("blob", Value::Bytes(&[0; 40])),
    ("fifteen bytes..", Value::Hll(&[])),
    ("list", Value::List(&[0x91, 0x01])),
    ("map", Value::Map(&[0x80])),
    ("geo", Value::GeoJson(b"{}")),
    ("\u{fc}", Value::String(b"")),
];

fn corpus() -> Vec<(&'static str, Value<'static>)> {
    CORPUS.iter().map(|&(name, value)| (&name[..name.len().min(15)], value)).collect()
}

fn encoded(bins: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut writer = BinsWriter::new();
    for &(name, value) in bins {
        writer.bin(name, value).expect("a lawful bin");
    }
    assert_eq!(writer.count(), bins.len());
    writer.into_bytes()
}

fn decoded(bytes: &[u8]) -> Result<Vec<(&str, Value<'_>)>, BinError> {
    Bins::new(bytes).iter().collect()
}

#[test]
fn a_bin_lies_as_the_picture_says() {
    assert_eq!(encoded(&[("n", Value::Integer(5))]), [1, 1, 8, 0, 0, 0, b'n', 5, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn bins_come_back_in_the_order_they_were_written() {
    let bytes = encoded(&corpus());
    assert_eq!(decoded(&bytes), Ok(corpus()));
    for (name, value) in corpus() {
        assert_eq!(Bins::new(&bytes).find(name), Ok(Some(value)));
    }
    assert_eq!(Bins::new(&bytes).find("absent"), Ok(None));
    assert_eq!(decoded(&[]), Ok(vec![]));
}

#[test]
fn a_list_cut_anywhere_but_at_an_edge_is_an_error() {
    let bytes = encoded(&corpus());
    let edges: Vec<usize> = (0..=CORPUS.len()).map(|count| encoded(&corpus()[..count]).len()).collect();
    for cut in 0..bytes.len() {
        match edges.iter().position(|&edge| edge == cut) {
            Some(count) => assert_eq!(decoded(&bytes[..cut]), Ok(corpus()[..count].to_vec())),
            None => {
                let at = edges.iter().copied().filter(|&edge| edge < cut).max().unwrap_or(0);
                let error = decoded(&bytes[..cut]);
                assert!(
                    matches!(error, Err(BinError::Truncated { at: found, .. }) if found == at),
                    "{error:?}"
                );
                assert!(Bins::new(&bytes[..cut]).find("absent").is_err());
            }
        }
    }
}

#[test]
fn no_flipped_bit_makes_a_reader_panic_or_go_on_after_an_error() {
    let bytes = encoded(&corpus());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut reader = Bins::new(&flipped).iter();
        while let Some(bin) = reader.next() {
            if bin.is_err() {
                assert!(reader.next().is_none(), "bit {bit}");
            }
        }
        let _ = Bins::new(&flipped).find("absent");
    }
}

#[test]
fn a_size_that_lies_is_an_error() {
    let mut bytes = encoded(&[("n", Value::Bytes(b"abc"))]);
    bytes[2..6].copy_from_slice(&u32::MAX.to_le_bytes());
    let need = 6 + 1 + u64::from(u32::MAX);
    assert_eq!(decoded(&bytes), Err(BinError::Truncated { at: 0, need, have: 10 }));
    bytes[1] = 16;
    assert_eq!(decoded(&bytes), Err(BinError::NameSize { at: 0, size: 16 }));
}

#[test]
fn a_name_or_value_that_is_none_is_an_error() {
    assert_eq!(decoded(&[3, 1, 0, 0, 0, 0, 0xff]), Err(BinError::NameNotUtf8 { at: 0 }));
    let source = ValueError::UnknownParticle { particle_type: 99 };
    assert_eq!(decoded(&[99, 0, 0, 0, 0, 0]), Err(BinError::Value { at: 0, source }));
}

#[test]
fn a_writer_that_refused_a_bin_is_as_before() {
    let mut writer = BinsWriter::after(b"head".to_vec());
    writer.bin("a", 1.into()).expect("a lawful bin");
    let name = || String::from("sixteen bytes...");
    assert_eq!(writer.bin(&name(), 1.into()).err(), Some(BinError::NameTooLong { name: name() }));
    assert_eq!(writer.bin("a", 2.into()).err(), Some(BinError::DuplicateName { name: "a".into() }));
    assert_eq!(writer.bins().find("a"), Ok(Some(Value::Integer(1))));
    assert_eq!(writer.into_bytes(), [&b"head"[..], &encoded(&[("a", 1.into())])].concat());
}

#[test]
fn a_record_has_at_most_32767_bins_each_name_once() {
    let mut writer = BinsWriter::new();
    for number in 0..MAX_BIN_COUNT {
        assert!(writer.bin(&number.to_string(), true.into()).is_ok());
        if number % 1000 < 40 {
            assert!(matches!(writer.bin("0", true.into()), Err(BinError::DuplicateName { .. })));
            let last = number.to_string();
            assert!(matches!(
                writer.bin(&last, true.into()),
                Err(BinError::DuplicateName { .. } | BinError::TooMany)
            ));
        }
    }
    assert_eq!(writer.bin("more", true.into()).err(), Some(BinError::TooMany));
    assert_eq!(writer.bins().iter().count(), MAX_BIN_COUNT);
}
