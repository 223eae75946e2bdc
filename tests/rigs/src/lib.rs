//! Real rigs: the engine as it ships, through the kernel's io_uring, under power cuts and I/O faults.
//!
//! ```text
//!   engine (a child process)         engine                engine
//!   ext4 or XFS                         |                     |
//!   loop device                     loop device               |
//!   disk.img ---------------------- disk.img ------------- disk.img
//!                the faulty file system (FUSE, this process)
//! ```
//!
//! [`fuse`] serves one file whose bytes are a [`disk`] with a volatile cache: at a cut the disk freezes, and a seed
//! decides what of the cache [`survival`] lets through. Between it and the engine stands what stands there in
//! production: a file system with a journal, the block layer, io_uring with `O_DIRECT`. The engine runs in a
//! child that tells every acknowledgement at once through a pipe ([`wire`]); at the cut it is killed. The
//! surviving image is set up again, the kernel replays its journal, a new child opens the engine and reads every
//! key, and the [`oracle`] says what may be there.
//!
//! [`fault_run`] uses the same parts for faults of a disk that stays up: one is armed, strikes, and a restart shows
//! whether every acknowledgement was honest.
//!
//! What the machine lacks (root, `/dev/fuse`, loop devices, a `mkfs`) makes a rig *not run*, which is
//! reported as that and never as passed.

pub mod cases;
pub mod child;
pub mod disk;
pub mod fault;
pub mod fault_run;
pub mod fuse;
pub mod host;
pub mod image;
pub mod load;
pub mod oracle;
pub mod planted;
pub mod power_cut;
pub mod report;
pub mod survival;
pub mod value;
pub mod wire;
