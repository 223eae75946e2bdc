//! The name of a record: a set, the user's own key if it is known, and the digest both hash to.
//!
//! The digest decides which record is meant. The set is needed to store a new record and to refuse a digest
//! that lives in another set; the user key is kept in the record only when the caller asks for it. A client
//! that sends digests alone, or a scan, makes keys without one ([`Key::from_digest`]).
//!
//! A key borrows everything and allocates nothing. Every `Key` there is has a lawful set name and user key.

use thiserror::Error;

use super::digest::Digest;
use super::value::{Value, particle};

/// The longest set name, in bytes, as on Aerospike's wire.
pub const MAX_SET_NAME_SIZE: usize = 63;

/// The longest user key, in bytes. A stored record spends two bytes on its length.
pub const MAX_USER_KEY_SIZE: usize = 65_535;

/// Why a set name or a user key cannot name a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The set's name does not fit its 63 bytes.
    #[error("set name is {size} bytes, at most {MAX_SET_NAME_SIZE} are allowed; shorten the name")]
    SetNameTooLong {
        /// Size of the name that was given, in bytes.
        size: usize,
    },
    /// The set's name has a byte that separates names in the info protocol, or a control character.
    #[error(
        "set name {name:?} has {found:?} at byte {at}; use letters, digits, '_', '-' or '.', not ':', ';' or \
         control characters"
    )]
    SetNameCharacter {
        /// The name that was given.
        name: String,
        /// The character that is not allowed.
        found: char,
        /// Its position in the name, in bytes.
        at: usize,
    },
    /// The user key is longer than a record can keep.
    #[error(
        "user key is {size} bytes, at most {MAX_USER_KEY_SIZE} are allowed; use a shorter key, for example a hash \
         of this one"
    )]
    UserKeyTooLong {
        /// Size of the key that was given, in bytes.
        size: usize,
    },
}

/// The key as the user wrote it. Its type is part of the name: `1` and `"1"` are two records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UserKey<'a> {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A double. Hashed by its bits: `0.0` and `-0.0` are two records.
    Float(f64),
    /// A string; other clients may have put bytes in it that are not UTF-8.
    String(&'a [u8]),
    /// A blob.
    Bytes(&'a [u8]),
}

impl<'a> UserKey<'a> {
    /// The particle type: what the digest and the stored record call this type by.
    pub fn particle_type(self) -> u8 {
        Value::from(self).particle_type()
    }

    /// Size of the key in bytes; a number has 8.
    pub fn size(self) -> usize {
        match self {
            UserKey::Integer(_) | UserKey::Float(_) => 8,
            UserKey::String(bytes) | UserKey::Bytes(bytes) => bytes.len(),
        }
    }

    /// The digest of this key in `set`. Does not check either; [`Key::new`] does.
    pub fn digest(self, set: &str) -> Digest {
        let set = set.as_bytes();
        match self {
            UserKey::Integer(number) => Digest::of(set, particle::INTEGER, &number.to_be_bytes()),
            UserKey::Float(number) => Digest::of(set, particle::FLOAT, &number.to_be_bytes()),
            UserKey::String(bytes) => Digest::of(set, particle::STRING, bytes),
            UserKey::Bytes(bytes) => Digest::of(set, particle::BYTES, bytes),
        }
    }

    /// A stored value read back as the key it was, or `None` if no key has its type. The way in is
    /// `Value::from(user_key)`.
    pub fn from_value(value: Value<'a>) -> Option<UserKey<'a>> {
        match value {
            Value::Integer(number) => Some(UserKey::Integer(number)),
            Value::Float(number) => Some(UserKey::Float(number)),
            Value::String(bytes) => Some(UserKey::String(bytes)),
            Value::Bytes(bytes) => Some(UserKey::Bytes(bytes)),
            Value::Bool(_) | Value::List(_) | Value::Map(_) | Value::GeoJson(_) | Value::Hll(_) => None,
        }
    }
}

impl<'a> From<&'a str> for UserKey<'a> {
    fn from(key: &'a str) -> Self {
        UserKey::String(key.as_bytes())
    }
}

impl<'a> From<&'a String> for UserKey<'a> {
    fn from(key: &'a String) -> Self {
        UserKey::String(key.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for UserKey<'a> {
    fn from(key: &'a [u8]) -> Self {
        UserKey::Bytes(key)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for UserKey<'a> {
    fn from(key: &'a [u8; N]) -> Self {
        UserKey::Bytes(key)
    }
}

impl<'a> From<&'a Vec<u8>> for UserKey<'a> {
    fn from(key: &'a Vec<u8>) -> Self {
        UserKey::Bytes(key)
    }
}

impl From<i64> for UserKey<'_> {
    fn from(key: i64) -> Self {
        UserKey::Integer(key)
    }
}

impl From<i32> for UserKey<'_> {
    fn from(key: i32) -> Self {
        UserKey::Integer(key.into())
    }
}

impl From<u32> for UserKey<'_> {
    fn from(key: u32) -> Self {
        UserKey::Integer(key.into())
    }
}

impl From<f64> for UserKey<'_> {
    fn from(key: f64) -> Self {
        UserKey::Float(key)
    }
}

/// Which record is meant.
///
/// ```
/// use aerolith_engine::record::{Key, UserKey};
///
/// let key = Key::new("demo", "k1")?;
/// assert_eq!(key.digest().to_string(), "b747f5854d0b33259928d0cfab7fad81d6abfbf6");
/// assert_ne!(Key::new("demo", 1)?.digest(), Key::new("demo", "1")?.digest());
///
/// let unnamed = Key::from_digest("demo", key.digest())?;
/// assert_eq!(unnamed.user_key(), None::<UserKey>);
/// # Ok::<(), aerolith_engine::record::KeyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key<'a> {
    set: &'a str,
    user_key: Option<UserKey<'a>>,
    digest: Digest,
}

impl<'a> Key<'a> {
    /// The record called `user_key` in `set`; the null set is `""`.
    ///
    /// Fails if the set's name is over 63 bytes or has a control character, `:` or `;`, or if the user key
    /// is over 65535 bytes.
    pub fn new(set: &'a str, user_key: impl Into<UserKey<'a>>) -> Result<Key<'a>, KeyError> {
        let user_key = user_key.into();
        check_set_name(set)?;
        check_user_key(user_key)?;
        Ok(Key { set, user_key: Some(user_key), digest: user_key.digest(set) })
    }

    /// The record with this digest in `set`. Fails on the set's name as [`Key::new`] does.
    pub fn from_digest(set: &'a str, digest: Digest) -> Result<Key<'a>, KeyError> {
        check_set_name(set)?;
        Ok(Key { set, user_key: None, digest })
    }

    /// The same record, with the user key that came along with its digest. The digest is believed, not
    /// computed again: so does Aerospike's server, and its clients rely on it.
    ///
    /// Fails if the user key is over 65535 bytes.
    pub fn with_user_key(self, user_key: impl Into<UserKey<'a>>) -> Result<Key<'a>, KeyError> {
        let user_key = user_key.into();
        check_user_key(user_key)?;
        Ok(Key { user_key: Some(user_key), ..self })
    }

    /// The set's name, empty for the null set.
    pub fn set(&self) -> &'a str {
        self.set
    }

    /// The user's own key, where it is known.
    pub fn user_key(&self) -> Option<UserKey<'a>> {
        self.user_key
    }

    /// The digest that decides which record is meant.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Is `set` a lawful name? At most 63 bytes, no control character, `:` or `;`; empty is the null set.
pub fn check_set_name(set: &str) -> Result<(), KeyError> {
    if set.len() > MAX_SET_NAME_SIZE {
        return Err(KeyError::SetNameTooLong { size: set.len() });
    }
    let forbidden = |&(_, found): &(usize, char)| found.is_control() || found == ':' || found == ';';
    match set.char_indices().find(forbidden) {
        Some((at, found)) => Err(KeyError::SetNameCharacter { name: set.to_owned(), found, at }),
        None => Ok(()),
    }
}

fn check_user_key(user_key: UserKey<'_>) -> Result<(), KeyError> {
    match user_key.size() {
        size if size > MAX_USER_KEY_SIZE => Err(KeyError::UserKeyTooLong { size }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_hashed_as_eight_bytes_big_endian() {
        let by_hand = Digest::of(b"demo", 1, &[0, 0, 0, 0, 0, 0, 1, 2]);
        for key in [UserKey::from(258_i64), UserKey::from(258_i32), UserKey::from(258_u32)] {
            assert_eq!(Key::new("demo", key).map(|key| key.digest()), Ok(by_hand));
        }
        let by_hand = Digest::of(b"demo", 2, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Key::new("demo", 1.5).map(|key| key.digest()), Ok(by_hand));
    }

    #[test]
    fn the_type_is_part_of_the_name() {
        let text = String::from("k1");
        let digest = |key: UserKey<'static>| Key::new("demo", key).map(|key| key.digest());
        assert_eq!(digest("k1".into()), Ok(UserKey::from(&text).digest("demo")));
        assert_eq!(digest(b"k1".into()), Ok(Digest::of(b"demo", 4, b"k1")));
        assert_ne!(digest("k1".into()), digest(b"k1".into()));
        assert_eq!(UserKey::from(&b"k1"[..]), UserKey::from(&b"k1".to_vec()));
    }

    #[test]
    fn a_set_name_has_at_most_63_bytes() {
        let name = "s".repeat(64);
        assert!(Key::new(&name[..63], 1).is_ok());
        assert_eq!(Key::new(&name, 1), Err(KeyError::SetNameTooLong { size: 64 }));
        assert!(Key::from_digest(&name, Digest([0; 20])).is_err());
        assert!(KeyError::SetNameTooLong { size: 64 }.to_string().contains("64 bytes, at most 63"));
    }

    #[test]
    fn a_set_name_has_no_separators_and_no_control_characters() {
        for (name, found, at) in [("a:b", ':', 1), ("ä;", ';', 2), ("\n", '\n', 0), ("x\u{7f}", '\u{7f}', 1)]
        {
            assert_eq!(Key::new(name, 1), Err(KeyError::SetNameCharacter { name: name.into(), found, at }));
        }
        assert!(Key::new("", 1).is_ok(), "the null set");
    }

    #[test]
    fn a_user_key_has_at_most_65535_bytes() {
        let long = vec![0; 65_536];
        assert!(Key::new("demo", &long[..65_535]).is_ok());
        assert_eq!(Key::new("demo", &long), Err(KeyError::UserKeyTooLong { size: 65_536 }));
    }

    #[test]
    fn a_digest_that_was_sent_is_believed() {
        let digest = Digest([7; 20]);
        let key = Key::from_digest("demo", digest).and_then(|key| key.with_user_key("k1"));
        assert_eq!(key.as_ref().map(|key| key.digest()), Ok(digest));
        assert_eq!(key.map(|key| key.user_key()), Ok(Some(UserKey::from("k1"))));
    }

    #[test]
    fn a_user_key_survives_being_stored_as_a_value() {
        for key in [UserKey::from(-5_i64), 2.5.into(), "text".into(), b"blob".into()] {
            assert_eq!(UserKey::from_value(Value::from(key)), Some(key));
        }
        assert_eq!(UserKey::from_value(Value::Bool(true)), None);
    }
}
