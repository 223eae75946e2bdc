//! The blocking driver: the request is carried out here and now, on the thread that asks.

use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use super::Answer;
use super::sys;
use super::transfer::{Progress, Rest, Transfer};

/// Carries the transfer to its end.
pub(super) fn run(mut transfer: Transfer) -> Answer {
    loop {
        let result = ask(&mut transfer);
        match transfer.settle(result) {
            Progress::Done => return transfer.finish(Ok(())),
            Progress::Failed(cause) => return transfer.finish(Err(cause)),
            Progress::Again if transfer.wants_patience() => thread::sleep(Duration::from_millis(1)),
            Progress::Again => {}
        }
    }
}

/// Asks the kernel once, and gives its word the way io_uring would: bytes, or a negative errno.
fn ask(transfer: &mut Transfer) -> i32 {
    let handle = transfer.handle.clone();
    let result = match transfer.rest() {
        Rest::Read { offset, bytes } => handle.file.read_at(bytes, offset),
        Rest::Write { offset, bytes, durable } => sys::write_at(&handle.file, bytes, offset, durable),
        Rest::Flush => handle.file.sync_data().map(|()| 0),
    };
    match result {
        Ok(moved) => i32::try_from(moved).expect("a transfer asks for less than 2 GiB at once"),
        Err(error) => -errno(&error),
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
