//! Memory that a device may move bytes into and out of: aligned to 4096 bytes, owned by whoever holds it.
//!
//! `O_DIRECT` wants buffers aligned to the device's sector, and 4096 satisfies every device. A small buffer
//! (a record read from the device) comes from a pool of its thread and goes back there on drop, so a device
//! read costs no malloc. A large one (a write block) is an anonymous mapping: its pages are zeros that cost
//! nothing until they are touched, and they go back to the system on drop.
//!
//! What always holds: the bytes are initialised (zeros, or what an earlier owner of this thread left there),
//! they do not move while the buffer lives, also when the `AlignedBuffer` itself is moved, and nobody else
//! refers to them. The ring driver leans on the second: it gives their address to the kernel.

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use memmap2::MmapMut;

/// Alignment of every buffer's first byte, in bytes.
pub const ALIGNMENT: usize = 4096;

/// The smallest pooled size, in bytes; each class is twice the one before.
const SMALLEST: usize = 4096;

/// Pooled sizes are 4, 8, 16, 32 and 64 KiB; above that a buffer is a mapping of its own.
const CLASSES: usize = 5;

/// What a thread keeps of one class at most, in bytes: 256 buffers of 4 KiB, 16 of 64 KiB.
const KEPT_PER_CLASS: usize = 1 << 20;

/// Bytes on the heap, 4096-aligned, for a device to read or write.
///
/// ```
/// use aerolith_engine::device::AlignedBuffer;
///
/// let mut buffer = AlignedBuffer::zeroed(8192);
/// buffer[..5].copy_from_slice(b"hello");
/// assert_eq!(buffer.len(), 8192);
/// assert_eq!(buffer.as_ptr() as usize % 4096, 0);
/// ```
pub struct AlignedBuffer {
    start: NonNull<u8>,
    len: usize,
    memory: Memory,
}

/// Where the bytes came from, which is where they go on drop.
enum Memory {
    Pooled(Class),
    Mapped(#[allow(dead_code, reason = "held for its drop")] MmapMut),
}

#[derive(Clone, Copy)]
struct Class(u8);

// SAFETY: the buffer is the only owner of its bytes, as a Vec<u8> is; no part of it is tied to a thread. The
// pool is: a buffer dropped on another thread simply joins that thread's pool.
unsafe impl Send for AlignedBuffer {}
// SAFETY: through a shared reference the bytes can only be read.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// `len` zero bytes. Devices move whole sectors, so `len` should be a multiple of 512.
    pub fn zeroed(len: usize) -> Self {
        Self::allocate(len, true)
    }

    /// `len` bytes to read into: like [`zeroed`](Self::zeroed), but may hold what an earlier buffer of this
    /// thread held, for a read that is about to overwrite every byte.
    pub fn for_read(len: usize) -> Self {
        Self::allocate(len, false)
    }

    /// A copy of `bytes`, of the same length.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::for_read(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    fn allocate(len: usize, zero: bool) -> Self {
        let Some(class) = Class::of(len) else { return Self::map(len) };
        let pooled = POOL.try_with(|pool| pool.borrow_mut().free[class.index()].pop()).ok().flatten();
        let Some(start) = pooled else {
            return Self { start: class.allocate(), len, memory: Memory::Pooled(class) };
        };
        let mut buffer = Self { start, len, memory: Memory::Pooled(class) };
        if zero {
            buffer.fill(0);
        }
        buffer
    }

    fn map(len: usize) -> Self {
        let Ok(mut map) = MmapMut::map_anon(len) else {
            alloc::handle_alloc_error(Layout::from_size_align(len, ALIGNMENT).unwrap_or(Layout::new::<u8>()))
        };
        let start = NonNull::new(map.as_mut_ptr()).expect("a mapping is never at address zero");
        Self { start, len, memory: Memory::Mapped(map) }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is the beginning of at least `len` initialised bytes that this buffer owns until drop.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` says that nobody else looks.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let Memory::Pooled(class) = self.memory {
            // The thread's pool may be gone already, when a thread-local of its own drops this buffer.
            let kept = POOL.try_with(|pool| pool.borrow_mut().keep(class, self.start)).unwrap_or(false);
            if !kept {
                class.free(self.start);
            }
        }
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len)
    }
}

impl Class {
    fn of(len: usize) -> Option<Self> {
        (0..CLASSES as u8).map(Class).find(|class| class.size() >= len)
    }

    fn index(self) -> usize {
        self.0 as usize
    }

    fn size(self) -> usize {
        SMALLEST << self.0
    }

    fn layout(self) -> Layout {
        Layout::from_size_align(self.size(), ALIGNMENT).expect("a class is 4 to 64 KiB")
    }

    fn allocate(self) -> NonNull<u8> {
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc::alloc_zeroed(self.layout()) };
        NonNull::new(start).unwrap_or_else(|| alloc::handle_alloc_error(self.layout()))
    }

    /// Takes what [`allocate`](Self::allocate) of the same class gave, once.
    fn free(self, start: NonNull<u8>) {
        // SAFETY: callers are the buffer's drop and the pool's, each of which owns `start` alone and forgets it
        // here; the class travels with the pointer, so the layout is the one it was allocated with.
        unsafe { alloc::dealloc(start.as_ptr(), self.layout()) }
    }
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { free: [const { Vec::new() }; CLASSES] }) };
}

struct Pool {
    free: [Vec<NonNull<u8>>; CLASSES],
}

impl Pool {
    /// Takes the bytes, unless there are enough of this class: false leaves them to the caller.
    fn keep(&mut self, class: Class, start: NonNull<u8>) -> bool {
        let free = &mut self.free[class.index()];
        let room = free.len() < KEPT_PER_CLASS / class.size();
        if room {
            free.push(start);
        }
        room
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (class, free) in self.free.iter_mut().enumerate() {
            free.drain(..).for_each(|start| Class(class as u8).free(start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 12] =
        [0, 512, 4095, 4096, 4608, 8192, 65_024, 65_536, 66_048, 1 << 20, 2 << 20, 8 << 20];

    #[test]
    fn every_size_is_aligned_zero_and_writable() {
        for len in SIZES {
            let mut buffer = AlignedBuffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0, "length {len}");
            assert!(buffer.iter().all(|&byte| byte == 0), "length {len}");
            buffer.fill(0xA5);
            assert!(buffer.iter().all(|&byte| byte == 0xA5), "length {len}");
        }
    }

    #[test]
    fn a_pooled_buffer_comes_back_and_is_zeroed_again() {
        let mut first = AlignedBuffer::zeroed(4096);
        first.fill(7);
        let address = first.as_ptr();
        drop(first);
        let again = AlignedBuffer::for_read(512);
        assert_eq!(again.as_ptr(), address, "the pool gives the last one back");
        drop(again);
        let again = AlignedBuffer::zeroed(4096);
        assert_eq!(again.as_ptr(), address);
        assert!(again.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bound() {
        let many: Vec<_> = (0..1000).map(|_| AlignedBuffer::for_read(65_536)).collect();
        drop(many);
        POOL.with(|pool| assert_eq!(pool.borrow().free[CLASSES - 1].len(), KEPT_PER_CLASS / 65_536));
    }

    #[test]
    fn buffers_may_die_on_another_thread() {
        let buffers: Vec<_> = SIZES.iter().map(|&len| AlignedBuffer::copy_of(&vec![3; len])).collect();
        let total: usize =
            std::thread::spawn(move || buffers.iter().map(|b| b.iter().filter(|&&x| x == 3).count()).sum())
                .join()
                .unwrap();
        assert_eq!(total, SIZES.iter().sum::<usize>());
    }
}
