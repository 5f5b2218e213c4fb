//! From the joint query-key-value product to rotated queries and the sequence's pages.

use super::{
    Floats, LANES, Pool, Shared,
    element::{Full, Half},
    for_each_isa,
    kv::{Kept, KvLayer, KvPrecision},
    lanes::{Lanes, sum},
};
use crate::rope::RopeTable;

/// Shape of the joint product and of its destinations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head: usize,
    pub(crate) padded: usize,
    pub(crate) epsilon: f32,
}

/// Norm weights of queries and keys, where a family has them.
pub(crate) type HeadNorms<'a> = Option<(&'a [f32], &'a [f32])>;

/// Where each row's token stands: its position, and the page that holds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) position: u32,
    pub(crate) page: u32,
}

/// Rows below which the work is not handed out.
const ALONE: usize = 8;

/// Normalises and rotates queries and keys; writes queries to `[row][head][padded]`, keys and
/// values to their pages.
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel's operands, none of them optional"
)]
pub(crate) fn split_heads(
    pool: &mut Pool,
    isa: Floats,
    shape: HeadShape,
    norms: HeadNorms<'_>,
    rope: &RopeTable,
    places: &[Place],
    qkv: &mut [f32],
    queries: &mut [f32],
    store: KvLayer,
) {
    let rows = places.len();
    let width = (shape.heads + 2 * shape.kv_heads) * shape.head;
    assert!(
        qkv.len() >= rows * width,
        "there is a product for every row"
    );
    let chunks = if rows < ALONE {
        1
    } else {
        rows.min(2 * pool.threads())
    };
    let qkv = Shared::of(qkv);
    let queries = Shared::of(queries);
    pool.run(chunks, &|chunk, _| {
        let (first, last) = (chunk * rows / chunks, (chunk + 1) * rows / chunks);
        for (row, place) in (first..last).zip(&places[first..last]) {
            let offset = place.page as usize * store.page_stride;
            // SAFETY: chunks own disjoint rows, and every row its own slot of a page.
            unsafe {
                let split = match store.precision {
                    KvPrecision::F32 => split_full,
                    KvPrecision::F16 => split_half,
                };
                split(
                    isa,
                    shape,
                    norms,
                    rope.at(place.position as usize),
                    place.position as usize % LANES,
                    qkv.at(row * width),
                    queries.at(row * shape.heads * shape.padded),
                    store,
                    offset,
                );
            }
        }
    });
}

for_each_isa! {
    #[expect(clippy::too_many_arguments, reason = "a kernel's operands, none of them optional")]
    unsafe fn split_full(
        shape: HeadShape,
        norms: HeadNorms<'_>,
        angles: (&[f32], &[f32]),
        slot: usize,
        qkv: *mut f32,
        queries: *mut f32,
        store: KvLayer,
        offset: usize,
    ) = split_full_on
}

for_each_isa! {
    #[expect(clippy::too_many_arguments, reason = "a kernel's operands, none of them optional")]
    unsafe fn split_half(
        shape: HeadShape,
        norms: HeadNorms<'_>,
        angles: (&[f32], &[f32]),
        slot: usize,
        qkv: *mut f32,
        queries: *mut f32,
        store: KvLayer,
        offset: usize,
    ) = split_half_on
}

#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel's operands, none of them optional"
)]
unsafe fn split_full_on<L: Lanes>(
    shape: HeadShape,
    norms: HeadNorms<'_>,
    angles: (&[f32], &[f32]),
    slot: usize,
    qkv: *mut f32,
    queries: *mut f32,
    store: KvLayer,
    offset: usize,
) {
    unsafe {
        split_row_on::<L, Full>(shape, norms, angles, slot, qkv, queries, store, offset);
    }
}

#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel's operands, none of them optional"
)]
unsafe fn split_half_on<L: Lanes>(
    shape: HeadShape,
    norms: HeadNorms<'_>,
    angles: (&[f32], &[f32]),
    slot: usize,
    qkv: *mut f32,
    queries: *mut f32,
    store: KvLayer,
    offset: usize,
) {
    unsafe {
        split_row_on::<L, Half>(shape, norms, angles, slot, qkv, queries, store, offset);
    }
}

#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel's operands, none of them optional"
)]
unsafe fn split_row_on<L: Lanes, E: Kept>(
    shape: HeadShape,
    norms: HeadNorms<'_>,
    angles: (&[f32], &[f32]),
    slot: usize,
    qkv: *mut f32,
    queries: *mut f32,
    store: KvLayer,
    offset: usize,
) {
    let HeadShape {
        heads,
        kv_heads,
        head,
        padded,
        epsilon,
    } = shape;
    unsafe {
        for index in 0..heads {
            let from = qkv.add(index * head);
            if let Some((weight, _)) = norms {
                super::activation::norm_row_on::<L>(from, head, weight.as_ptr(), epsilon, from);
            }
            rotate::<L>(from, head / 2, angles);
            queries
                .add(index * padded)
                .copy_from_nonoverlapping(from, head);
        }
        for index in 0..kv_heads {
            let from = qkv.add((heads + index) * head);
            if let Some((_, weight)) = norms {
                super::activation::norm_row_on::<L>(from, head, weight.as_ptr(), epsilon, from);
            }
            rotate::<L>(from, head / 2, angles);
            let page = offset + index * store.head_stride;
            let to = store.keys.cast::<E::Stored>().add(page + slot);
            let mut narrowed = [E::Stored::default(); LANES];
            for first in (0..head).step_by(LANES) {
                let count = LANES.min(head - first);
                narrow::<L, E>(from.add(first), count, &mut narrowed);
                for (d, &key) in narrowed[..count].iter().enumerate() {
                    *to.add((first + d) * LANES) = key;
                }
            }
            let from = qkv.add((heads + kv_heads + index) * head);
            let values = store.values.cast::<E::Stored>().add(page + slot * padded);
            let mut zeros = L::splat(0.0);
            for first in (0..head).step_by(LANES) {
                let count = LANES.min(head - first);
                narrow::<L, E>(from.add(first), count, &mut narrowed);
                values
                    .add(first)
                    .copy_from_nonoverlapping(narrowed.as_ptr(), count);
                // Zero times what is no number, or too large for f16, is no number.
                zeros = E::load::<L>(narrowed.as_ptr()).mul_add(L::splat(0.0), zeros);
            }
            if sum(zeros) != 0.0 {
                // Attention mixes whole pages, and those who do not see this position would mix it with
                // a weight of zero. A key that is no number tells those who see it, and no others.
                let nothing = L::splat(0.0);
                for first in (0..head).step_by(LANES) {
                    E::store(nothing, narrowed.as_mut_ptr());
                    let count = LANES.min(head - first);
                    values
                        .add(first)
                        .copy_from_nonoverlapping(narrowed.as_ptr(), count);
                }
                E::store(L::splat(f32::NAN), narrowed.as_mut_ptr());
                *to = narrowed[0];
            }
        }
    }
}

/// Up to sixteen values as they are stored.
#[inline(always)]
unsafe fn narrow<L: Lanes, E: Kept>(from: *const f32, count: usize, to: &mut [E::Stored; LANES]) {
    unsafe {
        let values = if count == LANES {
            L::load(from)
        } else {
            let mut values = [0.0; LANES];
            values.as_mut_ptr().copy_from_nonoverlapping(from, count);
            L::load(values.as_ptr())
        };
        E::store(values, to.as_mut_ptr());
    }
}

/// Rotates component `i` with component `i + half`, the layout of Hugging Face checkpoints.
#[inline(always)]
unsafe fn rotate<L: Lanes>(head: *mut f32, half: usize, (cosines, sines): (&[f32], &[f32])) {
    let whole = half / LANES * LANES;
    unsafe {
        for i in (0..whole).step_by(LANES) {
            let (a, b) = (L::load(head.add(i)), L::load(head.add(half + i)));
            let cosine = L::load(cosines.as_ptr().add(i));
            let sine = L::load(sines.as_ptr().add(i));
            a.mul(cosine).sub(b.mul(sine)).store(head.add(i));
            b.mul(cosine).add(a.mul(sine)).store(head.add(half + i));
        }
        for i in whole..half {
            let (a, b) = (*head.add(i), *head.add(half + i));
            *head.add(i) = a * cosines[i] - b * sines[i];
            *head.add(half + i) = b * cosines[i] + a * sines[i];
        }
    }
}
