//! Memory for one call. What the broker hands over, and what a plugin makes of it while it decides, is gone when
//! the call is over; so it is laid side by side in a space of its own, which is empty again when the last piece
//! of it is given back. What a plugin keeps (compiled expressions, routes) is made while [`Keeping`] says so, and
//! comes from the usual allocator, as does what the space has no room for.
//!
//! So an instance that decides once, as strategies' do, never asks its host for more memory.
//!
//! A plugin that keeps something it has made while deciding may do so: the space is then never quite empty, fills
//! up, and the usual allocator serves it from then on.

#![expect(
    unsafe_code,
    reason = "memory is handed out here; what goes wrong harms the guest alone"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// Bytes: room for the largest batch of texts and numbers, and for what is made of it.
const SPACE: usize = 256 * 1024;

#[repr(C, align(16))]
struct Space(UnsafeCell<[u8; SPACE]>);

struct Arena {
    space: Space,
    /// Where the next piece may begin.
    top: Cell<usize>,
    /// Pieces not given back.
    pieces: Cell<usize>,
    /// Whether a plugin makes something it keeps just now.
    is_keeping: Cell<bool>,
}

// SAFETY: a guest has one thread; a component of this contract cannot make another.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena {
    space: Space(UnsafeCell::new([0; SPACE])),
    top: Cell::new(0),
    pieces: Cell::new(0),
    is_keeping: Cell::new(false),
};

impl Arena {
    #[inline]
    fn base(&self) -> *mut u8 {
        self.space.0.get().cast()
    }

    /// Where in the space a piece lies, if it does.
    #[inline]
    fn place(&self, piece: *mut u8) -> Option<usize> {
        let place = piece.addr().wrapping_sub(self.base().addr());
        (place < SPACE).then_some(place)
    }

    #[inline]
    fn piece(&self, size: usize, align: usize) -> Option<*mut u8> {
        let place = self.top.get().next_multiple_of(align);
        // Neither can be beyond what an address of 32 bits tells, so the sum wraps only if the size is absurd.
        let end = place.checked_add(size)?;
        if end > SPACE {
            return None;
        }
        self.top.set(end);
        self.pieces.set(self.pieces.get() + 1);
        // SAFETY: `place` is within the space.
        Some(unsafe { self.base().add(place) })
    }

    #[inline]
    fn give_back(&self, place: usize, size: usize) {
        let left = self.pieces.get() - 1;
        self.pieces.set(left);
        if left == 0 {
            self.top.set(0);
        } else if place + size == self.top.get() {
            self.top.set(place);
        }
    }
}

// SAFETY: a piece is handed out once: pieces begin at `top`, which passes each, and falls only to the beginning
// of one that was the last and is given back, or to 0 when all are. All else is the usual allocator's, told
// apart by its address.
unsafe impl GlobalAlloc for Arena {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !self.is_keeping.get()
            && layout.align() <= align_of::<Space>()
            && let Some(piece) = self.piece(layout.size(), layout.align())
        {
            return piece;
        }
        // SAFETY: the caller keeps its promise.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.place(piece) {
            Some(place) => self.give_back(place, layout.size()),
            // SAFETY: it is not ours, so the usual allocator has given it.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(place) = self.place(piece) else {
            // SAFETY: it is not ours, so the usual allocator has given it.
            return unsafe { System.realloc(piece, layout, size) };
        };
        let is_last = place + layout.size() == self.top.get();
        if is_last && place.checked_add(size).is_some_and(|it| it <= SPACE) {
            self.top.set(place + size);
            return piece;
        }
        if size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller keeps its promises; both pieces are at least as long as what is copied, and a new
        // one is never where one is in use.
        unsafe {
            let other = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !other.is_null() {
                other.copy_from_nonoverlapping(piece, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            other
        }
    }
}

/// While it lives, what is allocated is thought to outlive the call.
pub(crate) struct Keeping;

impl Keeping {
    pub(crate) fn begin() -> Self {
        ARENA.is_keeping.set(true);
        Self
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        ARENA.is_keeping.set(false);
    }
}

/// Where the broker puts what it hands over: the canonical ABI's own function.
///
/// # Safety
///
/// As for [`GlobalAlloc::realloc`]; a length of 0 means that there is nothing yet.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_len: usize,
    align: usize,
    new_len: usize,
) -> *mut u8 {
    if new_len == 0 {
        return std::ptr::without_provenance_mut(align);
    }
    if old_len == 0
        && align <= align_of::<Space>()
        && let Some(piece) = ARENA.piece(new_len, align)
    {
        return piece;
    }
    // SAFETY: the host keeps its promises: an alignment is a power of two, and what is handed back is ours.
    let piece = unsafe {
        if old_len == 0 {
            ARENA.alloc(Layout::from_size_align_unchecked(new_len, align))
        } else {
            ARENA.realloc(
                old,
                Layout::from_size_align_unchecked(old_len, align),
                new_len,
            )
        }
    };
    if piece.is_null() {
        std::process::abort();
    }
    piece
}
