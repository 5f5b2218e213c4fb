//! The store of keys and values: pages of every layer, in f32 or f16.
//!
//! Decoding a batch reads all of it at every step, so its width decides how fast that is. Exact
//! weights go with f32; int8 weights, whose products are rounded anyway, with f16.

use super::{
    Aligned, LANES,
    element::{Element, Full, Half},
    lanes::Lanes,
};

/// How keys and values are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvPrecision {
    F32,
    F16,
}

impl KvPrecision {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Pages of all layers. Within a page each KV head has `16 · padded` keys, transposed, and as
/// many values. A head's part of a page stands beside that of the next page, so that attention
/// reads a sequence whose pages follow each other as one stretch.
pub(crate) struct KvStore {
    precision: KvPrecision,
    keys: Aligned<u8>,
    values: Aligned<u8>,
    layer_bytes: usize,
    page_stride: usize,
    head_stride: usize,
    pages: usize,
}

/// One layer's part of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvLayer {
    pub(super) precision: KvPrecision,
    pub(super) keys: *mut u8,
    pub(super) values: *mut u8,
    /// Distances between pages and between heads, in elements.
    pub(super) page_stride: usize,
    pub(super) head_stride: usize,
}

// SAFETY: kernels write disjoint slots and read only slots that were written before.
unsafe impl Send for KvLayer {}
unsafe impl Sync for KvLayer {}

impl KvStore {
    pub(crate) fn new(
        precision: KvPrecision,
        layers: usize,
        pages: usize,
        kv_heads: usize,
        padded: usize,
    ) -> Self {
        let page_stride = LANES * padded;
        let head_stride = pages * page_stride;
        let layer_bytes = kv_heads * head_stride * precision.bytes();
        Self {
            precision,
            keys: Aligned::zeroed(layers * layer_bytes),
            values: Aligned::zeroed(layers * layer_bytes),
            layer_bytes,
            page_stride,
            head_stride,
            pages,
        }
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    pub(crate) fn layer(&mut self, index: usize) -> KvLayer {
        KvLayer {
            precision: self.precision,
            keys: self.keys[index * self.layer_bytes..].as_mut_ptr(),
            values: self.values[index * self.layer_bytes..].as_mut_ptr(),
            page_stride: self.page_stride,
            head_stride: self.head_stride,
        }
    }
}

/// How a kernel writes the store; reading is [`Element`]'s.
pub(super) trait Kept: Element {
    unsafe fn store<L: Lanes>(values: L, to: *mut Self::Stored);
}

/// [`KvPrecision::F32`]
impl Kept for Full {
    #[inline(always)]
    unsafe fn store<L: Lanes>(values: L, to: *mut f32) {
        unsafe { values.store(to) }
    }
}

/// [`KvPrecision::F16`]
impl Kept for Half {
    #[inline(always)]
    unsafe fn store<L: Lanes>(values: L, to: *mut u16) {
        unsafe { values.store_half(to) }
    }
}
