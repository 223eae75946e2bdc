//! Every kind of value there and back, and what is no value.

use super::*;

const ALL: [Value<'static>; 12] = [
    Value::Integer(i64::MIN),
    Value::Integer(-2),
    Value::Float(-0.5),
    Value::Bool(false),
    Value::Bool(true),
    Value::String(b"text"),
    Value::String(b""),
    Value::Bytes(&[0, 255]),
    Value::List(&[0x90]),
    Value::Map(&[0x80]),
    Value::GeoJson(b"{}"),
    Value::Hll(&[1, 2, 3]),
];

#[test]
fn every_value_comes_back_from_its_bytes() {
    for value in ALL {
        let mut bytes = Vec::new();
        value.encode_into(&mut bytes);
        assert_eq!(bytes.len(), value.encoded_size(), "{value}");
        assert_eq!(Value::decode(value.particle_type(), &bytes), Ok(value));
    }
}

#[test]
fn numbers_are_little_endian_on_the_device() {
    let bytes_of = |value: Value<'_>| {
        let mut bytes = Vec::new();
        value.encode_into(&mut bytes);
        bytes
    };
    assert_eq!(bytes_of(Value::Integer(0x0102)), [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes_of(Value::Float(1.5)), [0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
}

#[test]
fn a_number_of_another_size_is_an_error() {
    for (particle_type, need) in [(particle::INTEGER, 8), (particle::FLOAT, 8), (particle::BOOL, 1)] {
        for size in (0..20).filter(|&size| size != need) {
            assert_eq!(
                Value::decode(particle_type, &vec![0; size]),
                Err(ValueError::WrongSize { particle_type, need, size })
            );
        }
    }
    assert_eq!(Value::decode(particle::BOOL, &[2]), Err(ValueError::NotABool { byte: 2 }));
}

#[test]
fn every_particle_type_is_a_value_or_an_error() {
    let known: Vec<u8> = (0..=255)
        .filter(|&particle_type| {
            Value::decode(particle_type, &[0; 8]) != Err(ValueError::UnknownParticle { particle_type })
        })
        .collect();
    assert_eq!(known, [1, 2, 3, 4, 17, 18, 19, 20, 23]);
}

#[test]
fn a_getter_answers_only_for_its_own_type() {
    for value in ALL {
        let answers = [value.as_i64().is_some(), value.as_f64().is_some(), value.as_bool().is_some()];
        let number = answers.iter().filter(|&&answer| answer).count();
        assert_eq!(number + usize::from(value.as_bytes().is_some()), 1, "{value}");
    }
    assert_eq!(Value::String(&[0xff]).as_str(), None);
    assert_eq!(Value::from(&String::from("ä")).as_str(), Some("ä"));
}

#[test]
fn a_long_value_is_shown_short() {
    let long = "ä".repeat(500);
    for bytes in [long.as_bytes(), &long.as_bytes()[1..], &[0x80; 1000], &[0xff; 1000]] {
        for value in [Value::String(bytes), Value::GeoJson(bytes), Value::Bytes(bytes), Value::Map(bytes)] {
            let shown = format!("{value:?}");
            assert!(shown.len() < 200, "{shown}");
            assert!(shown.ends_with(&format!("... ({} bytes)", bytes.len())), "{shown}");
        }
    }
    assert_eq!(Value::from("a\"b").to_string(), r#""a\"b""#);
    assert_eq!(Value::from(&[0, 255]).to_string(), "0x00ff");
    assert_eq!(Value::from(1.0).to_string(), "1.0");
    assert_eq!(Value::List(&[0x91, 1]).to_string(), "list 0x9101");
}
