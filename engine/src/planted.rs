//! Bugs planted on purpose, so that a test run can prove that it would find them.
//!
//! Each is a mistake that engines of this kind have made. Where one would be made, the code asks [`is`]; that is `false`, known
//! when compiled, unless the feature `planted-bugs` is on, and then true for the bug that the running thread has planted
//! with `plant`. No build for use has the feature. `tests/tests/planted_bugs.rs` plants one after the other and demands that
//! each is caught.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// A mistake to make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Bug { $($(#[doc = $doc])* $name,)* }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name),*];

            /// What the mistake is, in a line.
            pub fn description(self) -> &'static str {
                match self { $(Bug::$name => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

bugs! {
    /// a group commit answers before the device has
    AckBeforeDurable,
    /// an emptied block is reused before what it was emptied by is durable
    ReuseBeforeSettled,
    /// defrag drops every tombstone
    DefragDropsTombstones,
    /// a delete leaves no tombstone
    DeleteWithoutTombstone,
    /// a record's checksum is not compared
    RecordChecksumIgnored,
    /// a group frame's checksum is not compared
    GroupChecksumIgnored,
    /// the block's epoch is not in the checksums
    EpochNotInChecksum,
    /// at a start the version seen last wins, not the newest
    LastSeenWins,
    /// a checkpoint's root does not wait for its parts, and what does not prove itself in them is left out
    RootBeforeParts,
    /// a checkpoint's root does not wait for what its entries point at
    RootBeforeRecords,
    /// entries of a checkpoint count whatever life their block is in
    StaleEntriesCount,
    /// behind a checkpoint only versions with newer sequence numbers are looked at
    TailBySequence,
    /// an expired version does not hide older ones that live longer
    ExpiredHidesNothing,
    /// after a start sequence numbers begin where the checkpoint ended, or at 1
    SequenceRestarts,
    /// a start does not raise the incarnation, so epochs come twice
    IncarnationStays,
    /// a start does not flush the devices before it serves what it reads
    NoFlushAtStart,
    /// the next commit rewrites the last page of the one before
    TailPageRewritten,
    /// a failed write is taken for a good one
    FailedWriteIgnored,
    /// writes are not made durable, only sent
    PlainWrites,
    /// defrag moves a record though the index points elsewhere by now
    DefragMovesStale,
    /// a member that is an older copy of itself is accepted
    OldCopyAccepted,
    /// writers leave defrag no free block
    NoReserve,
    /// a truncation is answered before it is durable
    TruncationAckEarly,
    /// a generation starts anew after a start
    GenerationForgotten,
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Makes the engine make this mistake, on this thread, from now on; or none.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.with(|planted| planted.set(bug));
}

/// Whether this mistake is to be made.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.with(|planted| planted.get() == Some(bug))
}

/// Whether this mistake is to be made.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
