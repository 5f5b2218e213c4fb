//! Attention that shares passes between queries is the same to the byte.

use std::num::NonZeroUsize;

use aligner_checkpoint::Rope;

use super::{super::Isa, *};
use crate::{
    kernels::{HeadShape, KvStore, Place, split_heads},
    rope::RopeTable,
};

const HEAD: usize = 72;
const PADDED: usize = 80;

fn noise(len: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
    (0..len).map(value).collect()
}

/// A sequence of one layer in pages that do not follow each other.
struct Sequence {
    kv_heads: usize,
    len: usize,
    /// `[kv head][position][component]`
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Sequence {
    fn new(kv_heads: usize, len: usize) -> Self {
        let values = |seed| noise(kv_heads * len * HEAD, seed);
        let (keys, values) = (values(1), values(2));
        Self {
            kv_heads,
            len,
            keys,
            values,
        }
    }

    fn store(&self, precision: KvPrecision) -> (KvStore, Vec<u32>) {
        let count = self.len.div_ceil(LANES) as u32;
        let pages: Vec<u32> = (0..count).rev().collect();
        let mut store = KvStore::new(precision, 1, pages.len(), self.kv_heads, PADDED);
        let layer = store.layer(0);
        for (index, (&key, &value)) in self.keys.iter().zip(&self.values).enumerate() {
            let (place, d) = (index / HEAD, index % HEAD);
            let (head, position) = (place / self.len, place % self.len);
            let page =
                pages[position / LANES] as usize * layer.page_stride + head * layer.head_stride;
            let slot = position % LANES;
            for (to, at, value) in [
                (layer.keys, page + d * LANES + slot, key),
                (layer.values, page + slot * PADDED + d, value),
            ] {
                // SAFETY: within a page that the store has.
                unsafe {
                    match precision {
                        KvPrecision::F32 => *to.cast::<f32>().add(at) = value,
                        KvPrecision::F16 => {
                            *to.cast::<half::f16>().add(at) = half::f16::from_f32(value);
                        }
                    }
                }
            }
        }
        (store, pages)
    }

    /// What the last `rows` positions attend to, a row for each.
    fn attended(
        &self,
        isa: Isa,
        precision: KvPrecision,
        group: usize,
        softcap: Option<f32>,
        queries: &[f32],
        rows: usize,
    ) -> Vec<f32> {
        let (mut store, pages) = self.store(precision);
        let heads = self.kv_heads * group;
        let mut padded = vec![0.0; rows * heads * PADDED];
        for (to, from) in padded.chunks_mut(PADDED).zip(queries.chunks(HEAD)) {
            to[..HEAD].copy_from_slice(from);
        }
        let part = Attend {
            row: 0,
            rows,
            start: self.len - rows,
            pages: &pages,
        };
        let shape = AttentionShape {
            heads,
            kv_heads: self.kv_heads,
            head: HEAD,
            padded: PADDED,
            scale: 0.3,
            softcap,
        };
        let mut pool = Pool::new(NonZeroUsize::MIN);
        let mut out = vec![0.0; rows * heads * HEAD];
        attend(
            &mut pool,
            isa.floats,
            shape,
            None,
            &[part],
            &padded,
            store.layer(0),
            &mut Aligned::zeroed(0),
            &mut out,
        );
        out
    }
}

#[test]
fn a_key_too_large_for_f16_leaves_those_who_see_it_without_numbers_and_the_others_alone() {
    let (rows, at) = (40, 21);
    let queries = vec![0.25; rows * HEAD];
    let clean = Sequence::new(1, rows);
    for isa in Isa::available() {
        for softcap in [None, Some(5.0)] {
            let attended = |sequence: &Sequence| {
                sequence.attended(isa, KvPrecision::F16, 1, softcap, &queries, rows)
            };
            let expected = attended(&clean);
            for component in [1e6, -1e6] {
                let mut large = Sequence::new(1, rows);
                large.keys[at * HEAD + 3] = component;
                let out = attended(&large);
                let (before, after) = out.split_at(at * HEAD);
                assert_eq!(before, &expected[..before.len()], "{component} on {isa}");
                let none = after.iter().all(|value| value.is_nan());
                assert!(none, "{component} with {softcap:?} on {isa}");
            }
        }
    }
}

/// What 40 positions see of each other through a window, where the value of position 21 has this component.
fn seen_through(isa: Isa, precision: KvPrecision, window: usize, component: f32) -> Vec<f32> {
    let (rows, at) = (40, 21);
    let mut qkv = noise(rows * 3 * HEAD, 5);
    qkv[at * 3 * HEAD + 2 * HEAD + 3] = component;
    let mut rope = RopeTable::new(Rope::plain(10_000.0, HEAD));
    rope.extend(rows);
    let pages: Vec<u32> = (0..rows.div_ceil(LANES) as u32).rev().collect();
    let places: Vec<Place> = (0..rows)
        .map(|position| Place {
            position: position as u32,
            page: pages[position / LANES],
        })
        .collect();
    let mut store = KvStore::new(precision, 1, pages.len(), 1, PADDED);
    let mut pool = Pool::new(NonZeroUsize::MIN);
    let shape = HeadShape {
        heads: 1,
        kv_heads: 1,
        head: HEAD,
        padded: PADDED,
        epsilon: 1e-5,
    };
    let mut queries = vec![0.0; rows * PADDED];
    split_heads(
        &mut pool,
        isa.floats,
        shape,
        None,
        &rope,
        &places,
        &mut qkv,
        &mut queries,
        store.layer(0),
    );
    let shape = AttentionShape {
        heads: 1,
        kv_heads: 1,
        head: HEAD,
        padded: PADDED,
        scale: 0.3,
        softcap: None,
    };
    let part = Attend {
        row: 0,
        rows,
        start: 0,
        pages: &pages,
    };
    let mut out = vec![0.0; rows * HEAD];
    attend(
        &mut pool,
        isa.floats,
        shape,
        Some(window),
        &[part],
        &queries,
        store.layer(0),
        &mut Aligned::zeroed(0),
        &mut out,
    );
    out
}

#[test]
fn a_value_too_large_to_be_stored_leaves_those_who_see_it_without_numbers_and_the_others_alone() {
    for isa in Isa::available() {
        for (precision, components) in [
            (KvPrecision::F16, &[8e5, -8e5, f32::NAN][..]),
            (KvPrecision::F32, &[f32::INFINITY, f32::NAN]),
        ] {
            let window = 6;
            let expected = seen_through(isa, precision, window, 0.25);
            for &component in components {
                let out = seen_through(isa, precision, window, component);
                for (position, row) in out.chunks(HEAD).enumerate() {
                    let case = format!("{component} at {position} on {isa}");
                    if (21..21 + window).contains(&position) {
                        assert!(row.iter().all(|value| value.is_nan()), "{case}");
                    } else {
                        assert_eq!(row, &expected[position * HEAD..][..HEAD], "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_shares_a_pass_changes_nothing_on_any_instruction_set() {
    let (kv_heads, rows) = (2, 7);
    let sequence = Sequence::new(kv_heads, 53);
    for precision in [KvPrecision::F32, KvPrecision::F16] {
        for group in 1..=9 {
            let row = kv_heads * group * HEAD;
            let queries = noise(rows * row, 3);
            let first = Isa::available()[0];
            let expected = sequence.attended(first, precision, group, None, &queries, rows);
            for isa in Isa::available() {
                for count in 1..=rows {
                    let last = &queries[(rows - count) * row..];
                    let got = sequence.attended(isa, precision, group, None, last, count);
                    let wanted = &expected[(rows - count) * row..];
                    assert!(got == wanted, "{count} rows of {group} heads on {isa}");
                }
            }
        }
    }
}
