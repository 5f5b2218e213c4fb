//! Memory that starts on a cache line, so that no vector load straddles two.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

const ALIGNMENT: usize = 64;

/// A zeroed array of plain numbers on a cache-line boundary.
///
/// Zeroed pages of the system are mapped on first use: a large pool costs memory only as far as
/// it has been written.
pub(crate) struct Aligned<T: Copy> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: owns its memory like a Vec.
unsafe impl<T: Copy + Send> Send for Aligned<T> {}
unsafe impl<T: Copy + Sync> Sync for Aligned<T> {}

/// Numbers for which all bits zero is a value.
pub(crate) trait Number: Copy {}
impl Number for f32 {}
impl Number for i32 {}
impl Number for i8 {}
impl Number for u8 {}
impl Number for u16 {}
impl Number for half::f16 {}

impl<T: Number> Aligned<T> {
    pub(crate) fn zeroed(len: usize) -> Self {
        let layout = Self::layout(len);
        if layout.size() == 0 {
            return Self {
                start: NonNull::dangling(),
                len,
            };
        }
        // SAFETY: the layout is not empty; zero bits are a value of every `Number`.
        let start = unsafe { alloc_zeroed(layout) }.cast();
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self { start, len }
    }

    /// Grows to at least `len` values; what it held is lost.
    pub(crate) fn ensure(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeroed(len.next_power_of_two());
        }
    }
}

impl<T: Copy> Aligned<T> {
    fn layout(len: usize) -> Layout {
        Layout::array::<T>(len)
            .and_then(|layout| layout.align_to(ALIGNMENT))
            .expect("weights and caches are far smaller than the address space")
    }
}

impl<T: Copy> Drop for Aligned<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        if layout.size() > 0 {
            // SAFETY: allocated in `zeroed` with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}

impl<T: Copy> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised values since `zeroed`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}
