//! What a caller asks of a write.

use crate::clock::Timestamp;
use crate::config::Durability;
use std::time::Duration;

/// Whether the record may or must exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exists {
    /// Either way.
    #[default]
    Any,
    /// It must not exist: else `Error::Exists`.
    CreateOnly,
    /// It must exist: else `Error::NotFound`.
    UpdateOnly,
}

/// Which generation the record must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Any.
    #[default]
    Any,
    /// Exactly this one; a missing record has generation 0.
    Equal(u16),
    /// A lower one than this.
    Greater(u16),
}

impl Generation {
    /// Whether a record with generation `found` is accepted.
    pub fn accepts(self, found: u16) -> bool {
        match self {
            Generation::Any => true,
            Generation::Equal(expected) => found == expected,
            Generation::Greater(sent) => sent > found,
        }
    }
}

/// How long the record lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// As the namespace is configured.
    #[default]
    Default,
    /// Until it is deleted.
    Never,
    /// As long as it would have lived; a new record: `Default`.
    Keep,
    /// So long from now.
    For(Duration),
    /// Until then.
    At(Timestamp),
}

/// What a write asks for beyond its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritePolicy {
    /// Whether the record may or must exist.
    pub exists: Exists,
    /// Which generation it must have.
    pub generation: Generation,
    /// How long it lives. A `Draft` may say otherwise.
    pub ttl: Ttl,
    /// When it is acknowledged; `None`: as the namespace is configured.
    pub durability: Option<Durability>,
    /// Whether the user key is stored with the record, so that a scan can tell it.
    pub send_key: bool,
}

impl Default for WritePolicy {
    fn default() -> Self {
        WritePolicy {
            exists: Exists::Any,
            generation: Generation::Any,
            ttl: Ttl::Default,
            durability: None,
            send_key: true,
        }
    }
}

impl WritePolicy {
    /// The default policy with this time to live.
    pub fn with_ttl(ttl: Ttl) -> Self {
        WritePolicy { ttl, ..Self::default() }
    }
}

/// What the index knows of a record without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Counts the updates of the key, from 1; after 65535 comes 1.
    pub generation: u16,
    /// When it expires; from the index alone this is rounded up to the second.
    pub expires_at: Option<Timestamp>,
    /// Bytes that it takes on the device.
    pub stored_size: u32,
}
