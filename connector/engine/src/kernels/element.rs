//! How values are held in memory that kernels compute with in f32.

use super::lanes::Lanes;

/// Values that are widened as they are read, exactly.
pub(super) trait Element {
    type Stored: Copy + Default;

    unsafe fn load<L: Lanes>(from: *const Self::Stored) -> L;
}

/// f32.
pub(super) struct Full;

/// f16.
pub(super) struct Half;

/// bf16.
pub(super) struct Brain;

impl Element for Full {
    type Stored = f32;

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f32) -> L {
        unsafe { L::load(from) }
    }
}

impl Element for Half {
    type Stored = u16;

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u16) -> L {
        unsafe { L::load_half(from) }
    }
}

impl Element for Brain {
    type Stored = u16;

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u16) -> L {
        unsafe { L::load_brain(from) }
    }
}
