//! From the joint query-key-value product to rotated queries and the sequence's pages.

use super::{Floats, LANES, Pool, Shared, for_each_isa, lanes::Lanes};
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
    (keys, values, page_stride): (&mut [f32], &mut [f32], usize),
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
    let (keys, values) = (Shared::of(keys), Shared::of(values));
    pool.run(chunks, &|chunk, _| {
        let (first, last) = (chunk * rows / chunks, (chunk + 1) * rows / chunks);
        for (row, place) in (first..last).zip(&places[first..last]) {
            let offset = place.page as usize * page_stride;
            // SAFETY: chunks own disjoint rows, and every row its own slot of a page.
            unsafe {
                split_row(
                    isa,
                    shape,
                    norms,
                    rope.at(place.position as usize),
                    place.position as usize % LANES,
                    qkv.at(row * width),
                    queries.at(row * shape.heads * shape.padded),
                    keys.at(offset),
                    values.at(offset),
                );
            }
        }
    });
}

for_each_isa! {
    #[expect(clippy::too_many_arguments, reason = "a kernel's operands, none of them optional")]
    unsafe fn split_row(
        shape: HeadShape,
        norms: HeadNorms<'_>,
        angles: (&[f32], &[f32]),
        slot: usize,
        qkv: *mut f32,
        queries: *mut f32,
        keys: *mut f32,
        values: *mut f32,
    ) = split_row_on
}

#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel's operands, none of them optional"
)]
unsafe fn split_row_on<L: Lanes>(
    shape: HeadShape,
    norms: HeadNorms<'_>,
    angles: (&[f32], &[f32]),
    slot: usize,
    qkv: *mut f32,
    queries: *mut f32,
    keys: *mut f32,
    values: *mut f32,
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
            let to = keys.add(index * LANES * padded + slot);
            for d in 0..head {
                *to.add(d * LANES) = *from.add(d);
            }
            let from = qkv.add((heads + kv_heads + index) * head);
            let to = values.add((index * LANES + slot) * padded);
            to.copy_from_nonoverlapping(from, head);
        }
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
