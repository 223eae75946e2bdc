//! A checkpoint's summary: what its body holds, and where the log goes on behind it.
//!
//! ```text
//! head 32      next_sequence u64   member_count u32   part_count u32   partition_count u32   set_count u32
//!              system_count u32    reserved u32
//! a member     begin_epoch u64     block_count u32    open_count u32   open_count times: block u32, position u32
//!              block_count times: epoch u64
//! a part       PartPlace 16: where a part of the body lies, in the order of the body's stream
//! a partition  partition u32       entry_count u32    sequence u64
//! a set        number u16          size u8            name
//! a system     partition u32       reserved u32       words 3 u64: the entry of a record of the system's own
//! ```
//!
//! `begin_epoch` and the open blocks' positions are the border: what was appended before the checkpoint began lies in
//! blocks of lower epochs, or in the open blocks below these positions. All else is the tail, and is replayed. A block
//! whose epoch is no longer the one listed has been reused since: an entry that points into it is void.
//!
//! `sequence` is the namespace's next sequence number when the partition was copied: every version in it has a lower one.

use super::Fault;
use super::checkpoint::PartPlace;

/// Where the log of one device goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberSummary {
    /// Blocks with this epoch or a later one were opened after the checkpoint began.
    pub begin_epoch: u64,
    /// Blocks that were open then, and the position from which on they are tail, in bytes.
    pub open: Vec<(u32, u32)>,
    /// The epoch of every block then, block 0 included.
    pub epochs: Vec<u64>,
}

/// One partition's entries in the body's stream; they follow those of the partition before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSummary {
    /// Which partition.
    pub partition: u16,
    /// How many entries.
    pub entry_count: u32,
    /// The namespace's next sequence number when they were copied.
    pub sequence: u64,
}

/// The summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Higher than any sequence number drawn before the checkpoint ended.
    pub next_sequence: u64,
    /// The devices, by member number.
    pub members: Vec<MemberSummary>,
    /// The parts of the body.
    pub parts: Vec<PartPlace>,
    /// The partitions that have entries, in ascending order.
    pub partitions: Vec<PartitionSummary>,
    /// The sets that entries are of, by the number that stands in them.
    pub sets: Vec<(u16, String)>,
    /// The entries of the system's own records, with their partitions: they are needed before all others.
    pub system: Vec<(u16, [u64; 3])>,
}

impl Summary {
    /// The summary as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let count = |len: usize| u32::try_from(len).expect("blocks and partitions are counted in 32 bits");
        out.extend_from_slice(&self.next_sequence.to_le_bytes());
        for len in [self.members.len(), self.parts.len(), self.partitions.len(), self.sets.len()] {
            out.extend_from_slice(&count(len).to_le_bytes());
        }
        out.extend_from_slice(&count(self.system.len()).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for member in &self.members {
            out.extend_from_slice(&member.begin_epoch.to_le_bytes());
            out.extend_from_slice(&count(member.epochs.len()).to_le_bytes());
            out.extend_from_slice(&count(member.open.len()).to_le_bytes());
            for (block, position) in &member.open {
                out.extend_from_slice(&block.to_le_bytes());
                out.extend_from_slice(&position.to_le_bytes());
            }
            member.epochs.iter().for_each(|epoch| out.extend_from_slice(&epoch.to_le_bytes()));
        }
        self.parts.iter().for_each(|part| out.extend_from_slice(bytemuck::bytes_of(part)));
        for partition in &self.partitions {
            out.extend_from_slice(&u32::from(partition.partition).to_le_bytes());
            out.extend_from_slice(&partition.entry_count.to_le_bytes());
            out.extend_from_slice(&partition.sequence.to_le_bytes());
        }
        for (number, name) in &self.sets {
            out.extend_from_slice(&number.to_le_bytes());
            out.push(u8::try_from(name.len()).expect("a set's name has at most 63 bytes"));
            out.extend_from_slice(name.as_bytes());
        }
        for (partition, words) in &self.system {
            out.extend_from_slice(&u64::from(*partition).to_le_bytes());
            words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
        out
    }

    /// Reads a summary. Counts are believed only as far as there are bytes for them.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut from = Cursor(bytes);
        let next_sequence = from.u64()?;
        let [members, parts, partitions, sets] = [from.u32()?, from.u32()?, from.u32()?, from.u32()?];
        let system = from.u32()?;
        from.take(4)?;
        let mut summary = Summary { next_sequence, ..Summary::default() };
        for _ in 0..members {
            let begin_epoch = from.u64()?;
            let (block_count, open_count) = (from.u32()? as usize, from.u32()? as usize);
            let open = from.take(open_count.checked_mul(8).ok_or(Fault::Length)?)?;
            let open = open.chunks_exact(8).map(|pair| (u32_of(&pair[..4]), u32_of(&pair[4..]))).collect();
            let epochs = from.take(block_count.checked_mul(8).ok_or(Fault::Length)?)?;
            let epochs = epochs.chunks_exact(8).map(u64_of).collect();
            summary.members.push(MemberSummary { begin_epoch, open, epochs });
        }
        for _ in 0..parts {
            summary.parts.push(bytemuck::pod_read_unaligned(from.take(size_of::<PartPlace>())?));
        }
        for _ in 0..partitions {
            let partition = u16::try_from(from.u32()?).map_err(|_| Fault::Length)?;
            let follows = summary.partitions.last().is_none_or(|last| last.partition < partition);
            if !follows {
                return Err(Fault::Length);
            }
            let (entry_count, sequence) = (from.u32()?, from.u64()?);
            summary.partitions.push(PartitionSummary { partition, entry_count, sequence });
        }
        for _ in 0..sets {
            let number = from.take(2)?;
            let number = u16::from(number[0]) | u16::from(number[1]) << 8;
            let size = from.take(1)?[0];
            let name = std::str::from_utf8(from.take(usize::from(size))?).map_err(|_| Fault::Length)?;
            summary.sets.push((number, name.to_owned()));
        }
        for _ in 0..system {
            let partition = u16::try_from(from.u64()?).map_err(|_| Fault::Length)?;
            summary.system.push((partition, [from.u64()?, from.u64()?, from.u64()?]));
        }
        if from.0.is_empty() { Ok(summary) } else { Err(Fault::Length) }
    }
}

/// Bytes that are taken from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.take(4).map(u32_of)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.take(8).map(u64_of)
    }
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytemuck::pod_read_unaligned(bytes)
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytemuck::pod_read_unaligned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Summary {
        Summary {
            next_sequence: 99,
            members: vec![
                MemberSummary { begin_epoch: 7, open: vec![(1, 4096)], epochs: vec![0, 5, 6] },
                MemberSummary { begin_epoch: 9, open: vec![], epochs: vec![0, 8] },
            ],
            parts: vec![PartPlace { epoch: 10, block: 2, member: 0, reserved: 0 }],
            partitions: vec![
                PartitionSummary { partition: 3, entry_count: 2, sequence: 90 },
                PartitionSummary { partition: 4095, entry_count: 1, sequence: 95 },
            ],
            sets: vec![(0, String::new()), (4, "users".into())],
            system: vec![(17, [1, 2, 3])],
        }
    }

    #[test]
    fn a_summary_round_trips() {
        assert_eq!(Summary::parse(&sample().encode()).as_ref(), Ok(&sample()));
    }

    #[test]
    fn no_cut_and_no_surplus_is_taken_for_a_summary() {
        let mut bytes = sample().encode();
        for size in 0..bytes.len() {
            assert!(Summary::parse(&bytes[..size]).is_err(), "size {size}");
        }
        bytes.push(0);
        assert!(Summary::parse(&bytes).is_err());
    }

    #[test]
    fn lying_counts_are_refused_without_taking_memory() {
        for at in (8..28).step_by(4) {
            let mut bytes = sample().encode();
            bytes[at..at + 4].fill(0xFF);
            assert!(Summary::parse(&bytes).is_err(), "count at {at}");
        }
    }
}
