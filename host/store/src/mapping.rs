//! Windows of files as memory, for reading sealed segments without a copy. The store's only `unsafe`.
//!
//! A window is read in before anybody sees it, so that a sector that cannot be read is an error here
//! and not a signal later; a page that is evicted in between and then unreadable is still one.

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::{Advice, MmapOptions};
use rustix::io::Errno;

/// `len` bytes of the file from `at` on; they live as long as any slice of them.
pub(crate) fn map(file: &File, at: u64, len: usize) -> io::Result<Bytes> {
    let end = at.checked_add(len as u64);
    if end.is_none_or(|end| end > u64::MAX / 2) || end > Some(file.metadata()?.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if len == 0 {
        return Ok(Bytes::new());
    }
    #[expect(
        unsafe_code,
        reason = "the one place, named in docs/architecture.md, that maps files"
    )]
    // SAFETY: the mapping is private to this process's readers and never written through. Its file is
    // a sealed one of a data directory that is locked for us: nobody writes to it or cuts it any
    // more, it is only ever unlinked, which leaves the mapping whole.
    let window = unsafe { MmapOptions::new().offset(at).len(len).map(file)? };
    match window.advise(Advice::PopulateRead) {
        Ok(()) => Ok(Bytes::from_owner(window)),
        Err(error) => Err(told(error)),
    }
}

/// What a failed population means.
fn told(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        // The kernel's word for "a touch would raise SIGBUS".
        Some(Errno::FAULT | Errno::HWPOISON) => Errno::IO.into(),
        // Kernels before 5.14 do not know the advice.
        Some(Errno::INVAL) => io::ErrorKind::Unsupported.into(),
        _ => error,
    }
}
