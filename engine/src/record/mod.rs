//! What a record is made of: its key and digest, its bins, their values.
//!
//! Three protocols read and write the same record, so this room speaks the language all of them map to: a
//! key is a set name and a typed user key, hashed to 20 bytes as Aerospike's clients hash it; a value is a
//! particle type and bytes; a list or a map is MessagePack in Aerospike's dialect ([`msgpack`]).
//!
//! Everything here is borrowed and pure: no I/O, no clock, no locks. Readers take any bytes (I7): they check
//! each length against what is there, never allocate ahead of it, and return an error instead of panicking.

pub mod bins;
pub mod digest;
pub mod key;
pub mod msgpack;
pub mod value;
pub mod value_buf;

pub use bins::{BinError, Bins, BinsReader, BinsWriter};
pub use digest::Digest;
pub use key::{Key, KeyError, UserKey};
pub use value::{Value, ValueError, particle};
pub use value_buf::ValueBuf;
